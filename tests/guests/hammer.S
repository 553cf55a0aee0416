/*
 * hammer: every CPU does port I/O of all kinds endlessly, for tests of the ways to end a run.
 *
 * Each round of a CPU, in 16-bit code, all at DX:
 *
 *      1 x out dx,al           port 0x5000
 *      1 x in al,dx            port 0x5000
 *      1 x rep outsb           port 0x5000, 200 elements
 *      1 x rep insb            port 0x5000, 200 elements
 *      1 x outsb               port 0x5000
 *
 * Once per run the boot CPU makes the accesses of smp.inc.  After ROUNDS rounds it makes the hypercall `exit`, and
 * continues if that is unanswered.
 */

#include "common.inc"
#include "smp.inc"

#define ROUNDS          2000
#define ELEMENTS        200
#define BUFFER          0x8000                  /* in the areas of missing CPUs */

/* The call: guest-shim/ABI.md. */
#define CALL_EXIT       (0x80000000 | 16 << 24)

reset_vector_to bsp_entry
define_gdt

        .code16
cpu_main:
        cld
        mov     $ROUNDS, %ebx
        mov     $PORT_FREE, %dx
round:  out     %al, %dx
        in      %dx, %al
        mov     $BUFFER, %si
        mov     $ELEMENTS, %cx
        rep outsb
        mov     $BUFFER, %di
        mov     $ELEMENTS, %cx
        rep insb
        outsb
        test    %ebp, %ebp
        jnz     round
        dec     %ebx
        jnz     round
        mov     $CALL_EXIT, %eax
        .byte   0x67, 0x0F, 0x1F, 0x80, 'P', 0x16, 0x90, 0x90
        jmp     round
