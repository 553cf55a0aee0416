/*
 * forms: every port instruction there is, in every mode, a number of times that is known.
 *
 * Each CPU runs the 24 forms in 16-bit code (real mode), then in 32-bit code (protected mode), then,
 * if CPUID 80000001h EDX bit 29 says that there is a long mode, in 64-bit code.
 *
 * With   f     the form, 0 to 23, in the order of forms-body.inc,
 *        base  100 in 16-bit, 200 in 32-bit, 300 in 64-bit code,
 *        n     the elements of a rep: f - 14, that is 1 2 3 for rep insb/w/d, 7 8 9 for rep outsb/w/d,
 *
 * each CPU makes, for each form and mode:
 *
 *        executions = base + f
 *        accesses   = base + f                   for forms without rep
 *                     (base + f - 1) * n         for the rep forms: one execution has count 0
 *
 * at port  0xec                  the six imm8 forms (one row per direction and size)
 *          0x5000 + 0x10 * f     all others
 *
 * and, once per run, by the BSP:
 *
 *        16-bit code     1 x out dx,ax   port 0x510      fw_cfg: select "number of CPUs"
 *                        2 x in al,dx    port 0x511      fw_cfg: the answer
 *        at the end      1 x out imm8,al port 0xf4       exit; from 64-bit code (32-bit without long mode)
 *
 * That is all: there is no other port access in a run.  Nothing is behind the ports (reads give all
 * ones, and this is checked); interrupts stay off.  The exit status of QEMU is 1 if all was well, 3
 * if a check failed: then EBP tells the form to a debugger, and the counts mean nothing.
 *
 * Most executions of a form are one plain instruction in a loop, at the symbol <form>_<mode>.plain
 * (rep_insw_32.plain); the others, at sites of their own, are the variants: prefixes that change
 * nothing, the direction flag, the count 0.  See forms-body.inc.
 */

#include "common.inc"

/* Identity map of the first 2 MiB, built by the BSP while it is alone. */
#define PML4            0x10000
#define PDPT            0x11000
#define PAGE_DIR        0x12000
#define PRESENT_WRITE   0x3
#define PAGE_2M         0x80
#define SMP_BSP_SETUP   call build_page_tables

#include "smp.inc"

reset_vector_to bsp_entry
define_gdt

/* What ins must overwrite, and only where it must. */
#define FILL            0xA5
#define BUFFER_SIZE     128                     /* at EBX, the lower end of the CPU's own memory */
#define START           64                      /* strings begin in the middle: both directions fit */
#define UNTOUCHED_ECX   0x1234                  /* for string instructions without rep */
#define HIGH_GARBAGE    0xABCD0000              /* what 16-bit addressing must ignore and keep */
#define LEFT            BUFFER_SIZE             /* behind the buffer: executions still to do */

#define IMM8_PORT       0xEC                    /* 4 bytes that neither pc, debugcon nor pc-testdev uses */

        .code16
cpu_main:
        xor     %ebp, %ebp                      /* from here on EBP is the number of the form */
#define MODE 16
#include "forms-body.inc"
#undef MODE

        enter_protected
#define MODE 32
#include "forms-body.inc"
#undef MODE

        mov     $0x80000000, %eax
        mov     %ebx, %edi                      /* CPUID overwrites EBX */
        cpuid
        cmp     $0x80000001, %eax
        jb      no_long_mode
        mov     $0x80000001, %eax
        cpuid
        test    $CPUID_LM, %edx
        jz      no_long_mode
        mov     %edi, %ebx

        enter_long PML4
#define MODE 64
#include "forms-body.inc"
#undef MODE
        jmp     finish_64

/*
 * The end.  All CPUs report; the BSP, whose memory is the lowest, waits for them and exits, the
 * others halt.  The same source serves both modes.
 */
.macro  finish
        lock incl SMP_DONE
        cmp     $CPU_AREAS, %ebx
        jne     .Lap\@
        mov     SMP_CPUS, %ecx
.Lwait\@:
        pause
        cmp     %ecx, SMP_DONE
        jne     .Lwait\@
        exit_with EXIT_PASS
.Lap\@:
        halt_forever
.endm

        .code64
finish_64:
        finish

        .code32
no_long_mode:
        mov     %edi, %ebx
finish_32:
        finish

build_page_tables:
        mov     $PML4, %edi
        mov     $3 * 4096 / 4, %ecx
        xor     %eax, %eax
        rep stosl
        movl    $PDPT | PRESENT_WRITE, PML4
        movl    $PAGE_DIR | PRESENT_WRITE, PDPT
        movl    $PAGE_2M | PRESENT_WRITE, PAGE_DIR
        ret
