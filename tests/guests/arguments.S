/*
 * arguments: writes the arguments that `pvio test` has for it to COM1, and ends.
 *
 * They are in the file opt/pvio/arguments of QEMU's fw_cfg.  The directory, item 19h, has the number of files, then
 * 64 bytes for each: size, item (both big-endian), two bytes, name (QEMU, docs/specs/fw_cfg.rst).  Without the file,
 * the guest writes nothing and fails.
 */

#include "common.inc"

#define FW_CFG_FILES    0x19
#define ENTRY           0x1000                  /* where an entry of the directory is read to */
#define ENTRY_SIZE      64
#define NAME            8
#define PORT_COM1       0x3F8

reset_vector_to start
define_gdt

        .code16
        .globl  start
start:
        cli
        cld
        enter_protected
        mov     $0x8000, %esp
        mov     $PORT_FW_CFG_SEL, %edx
        mov     $FW_CFG_FILES, %eax
        out     %ax, %dx
        call    read_number
        mov     %eax, %ebp                      /* files left */

next:
        test    %ebp, %ebp
        jz      missing
        dec     %ebp
        mov     $ENTRY, %edi
        mov     $ENTRY_SIZE, %ecx
        mov     $PORT_FW_CFG, %edx
        rep insb
        mov     $ENTRY + NAME, %esi
        mov     $name, %edi
        mov     $name_end - name, %ecx
        repe cmpsb
        jne     next

        mov     ENTRY, %ebx
        bswap   %ebx                            /* size */
        movzwl  ENTRY + 4, %eax
        xchg    %al, %ah
        mov     $PORT_FW_CFG_SEL, %edx
        out     %ax, %dx
copy:
        test    %ebx, %ebx
        jz      done
        dec     %ebx
        mov     $PORT_FW_CFG, %edx
        in      %dx, %al
        mov     $PORT_COM1, %edx
        out     %al, %dx
        jmp     copy
done:
        mov     $'\n', %al
        mov     $PORT_COM1, %edx
        out     %al, %dx
        exit_with EXIT_PASS
missing:
        exit_with EXIT_FAIL

/* Reads a big-endian number of the item. */
read_number:
        push    $0
        mov     %esp, %edi
        mov     $4, %ecx
        mov     $PORT_FW_CFG, %edx
        rep insb
        pop     %eax
        bswap   %eax
        ret

name:   .asciz  "opt/pvio/arguments"
name_end:
