/*
 * forms: all 24 port instructions in every mode.  The number of executions is known.
 *
 * Each CPU runs the 24 forms in 16-bit code (real mode), then in 32-bit code (protected mode), then
 * in 64-bit code if CPUID 80000001h EDX bit 29 says that there is long mode.
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
 * There is no other port access in a run.  No device serves the ports: reads return all ones, which
 * is checked.  Interrupts stay off.  The exit status of QEMU is 1 if all checks passed, 3 if one
 * failed: then EBP holds the form, and the counts are meaningless.
 *
 * Most executions of a form are one plain instruction in a loop, at the symbol <form>_<mode>.plain
 * (rep_insw_32.plain).  The others are variants, each at its own site: prefixes without effect, the
 * direction flag, the count 0.  See forms-body.inc.
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
#include "forms-shared.inc"

reset_vector_to bsp_entry
define_gdt

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

        unless_long_mode no_long_mode

        enter_long PML4
#define MODE 64
#include "forms-body.inc"
#undef MODE
        jmp     finish_64

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
