/*
 * smp-cost: times `out` on all CPUs at once, each on a separate port.
 *
 * In each of ROUNDS rounds, the boot CPU starts all CPUs, and measures by RDTSC until the last one is done. Each
 * CPU executes, in 16-bit code, ACCESSES times
 *
 *      out %al, %dx    to 0x5000 + 0x10 * its number
 *
 * where the user puts the devices to measure. The times, 64 bits each, little-endian, go to
 * -debugcon in binary; then isa-debug-exit ends QEMU.  qemu-scripts/bench reads them.
 */

#include "common.inc"
#include "smp.inc"

#define ROUNDS          101
#define ACCESSES        10000

#define ROUND           0x510                   /* dword: the round that may begin */
#define BEGAN           0x518                   /* 64 bits: when it did */
#define TIMES           0xC000                  /* above the CPUs' areas, below 64 KiB */

reset_vector_to bsp_entry
define_gdt

        .code16
cpu_main:
        cld
        shl     $4, %bp                         /* the ports are 16 apart */
        xor     %edi, %edi
        mov     $TIMES, %si
round:
        inc     %edi
        test    %bp, %bp
        jnz     1f
        movl    $0, SMP_DONE
        rdtsc
        mov     %eax, BEGAN
        mov     %edx, BEGAN + 4
        mov     %edi, ROUND
1:      pause
        cmp     ROUND, %edi
        jne     1b

        lea     PORT_FREE(%bp), %dx
        mov     $ACCESSES, %ecx
2:      out     %al, %dx
        dec     %ecx
        jnz     2b

        lock incl SMP_DONE
        test    %bp, %bp
        jnz     4f
3:      pause
        mov     SMP_DONE, %eax
        cmp     SMP_CPUS, %eax
        jne     3b
        rdtsc
        sub     BEGAN, %eax
        sbb     BEGAN + 4, %edx
        mov     %eax, (%si)
        mov     %edx, 4(%si)
        add     $8, %si
4:      cmp     $ROUNDS, %edi
        jb      round
        test    %bp, %bp
        jnz     rest

        mov     %si, %cx
        mov     $TIMES, %si
        sub     %si, %cx
        mov     $PORT_DEBUGCON, %dx
        rep outsb
        exit_with EXIT_PASS
rest:   halt_forever
