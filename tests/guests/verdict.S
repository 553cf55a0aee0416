/*
 * verdict: runs the script in its image, for tests of verdicts.
 *
 * The script is at offset 0xE000 of the image, where a test replaces it; the script in this file logs a line and
 * exits with code 0.  A script is a sequence of steps, each
 *
 *      byte    the action: a number below, or the number of a control hypercall (guest-shim/ABI.md)
 *      byte    its operand
 *      word    the length of its text
 *      text
 *
 * Hypercalls (16 exit, 17 log, 18 begin, 19 end, ...) are made with the operand, and the text as address
 * and count; the answers are ignored.  All of it is 32-bit code without paging.
 */

#include "common.inc"

#define SCRIPT          0xE000

#define STEP_HALT       0                       /* for ever */
#define STEP_FAULT      1                       /* three times, which resets the machine */
#define STEP_OFF        2                       /* ACPI soft off, as in poweroff.S */
#define STEP_DEBUG_EXIT 3                       /* the operand to isa-debug-exit */
#define STEP_SPIN       4                       /* for ever, without a rest */
#define STEP_SERIAL     5                       /* the text to COM1 */
#define STEP_USER       6                       /* from here on in ring 3, where a halt is a fault */
#define STEP_CONSOLE    7                       /* the text to port 0xE9 */

#define CALL_EXIT       16
#define CALL_LOG        17
#define LEVEL_INFO      2

#define PORT_COM1       0x3F8
#define PORT_CONSOLE    0xE9
#define STACK           0x2000
#define SEL_USER_CODE   0x0B
#define SEL_USER_DATA   0x13

reset_vector_to start
define_gdt

        .code16
        .globl  start
start:
        cli
        cld
        enter_protected
        mov     $STACK, %esp
        mov     $script, %esi

        /* One step: EBX what, EBP its operand, EDX and ECX its text; ESI points after it. */
step:
        movzbl  (%esi), %ebx
        movzbl  1(%esi), %ebp
        movzwl  2(%esi), %ecx
        lea     4(%esi), %edx
        lea     (%edx, %ecx), %esi
        cmp     $CALL_EXIT, %ebx
        jae     hypercall
        jmp     *steps(, %ebx, 4)

hypercall:
        mov     %ebx, %eax
        shl     $8, %eax
        or      %ebp, %eax
        shl     $16, %eax
        or      $0x80000000, %eax
        .byte   0x0F, 0x1F, 0x80, 'P', 0x32, 0x90, 0x90
        cmp     $CALL_EXIT, %ebx                /* QEMU ends when it is ready */
        jne     step
halt:   halt_forever

spin:   jmp     spin

serial:
        mov     %esi, %edi
        mov     %edx, %esi
        mov     $PORT_COM1, %edx
write:
        rep outsb
        mov     %edi, %esi
        jmp     step

console:
        mov     %esi, %edi
        mov     %edx, %esi
        mov     $PORT_CONSOLE, %edx
        jmp     write

user:
        lgdt    user_gdtr
        mov     $SEL_USER_DATA, %eax
        mov     %eax, %ds
        push    %eax
        push    $STACK
        pushf
        push    $SEL_USER_CODE
        push    $step
        iret

fault:
        lidt    no_idt
        ud2

debug_exit:
        mov     %ebp, %eax
        exit_with_al

off:
        mov     $PORT_PCI_ADDR, %edx
        mov     $0x80000B40, %eax               /* PIIX4's power management: PMBASE */
        out     %eax, %dx
        mov     $PORT_PCI_DATA, %edx
        mov     $0x601, %eax
        out     %eax, %dx
        mov     $PORT_PCI_ADDR, %edx
        mov     $0x80000B80, %eax               /* PMREGMISC */
        out     %eax, %dx
        mov     $PORT_PCI_DATA, %edx
        mov     $1, %al
        out     %al, %dx
        mov     $0x604, %edx                    /* PMCNTRL */
        mov     $0x2000, %eax
        out     %ax, %dx
        halt_forever

        .balign 4
steps:  .long   halt, fault, off, debug_exit, spin, serial, user, console
no_idt: .word   0
        .long   0

        .balign 8
user_gdt:
        .quad   0
        .quad   0x00CFFB000000FFFF              /* SEL_USER_CODE: as SEL_CODE32, for ring 3 */
        .quad   0x00CFF3000000FFFF              /* SEL_USER_DATA */
user_gdtr:
        .word   . - user_gdt - 1
        .long   user_gdt

        .org    SCRIPT
        .globl  script
script:
        .byte   CALL_LOG, LEVEL_INFO
        .word   2f - 1f
1:      .ascii  "all is well"
2:      .byte   CALL_EXIT, 0
        .word   0
