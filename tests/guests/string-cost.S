/*
 * string-cost: times `rep outsb` and `rep insb` of 64 KiB on two ports, alternately.
 *
 * For each of ROUNDS rounds four strings of BYTES bytes are timed by RDTSC, in this order:
 *
 *      rep outsb       to PORT_QEMU
 *      rep outsb       to PORT_OTHER
 *      rep insb        from PORT_QEMU
 *      rep insb        from PORT_OTHER
 *
 * PORT_QEMU is 0xe0, where `-device pc-testdev` has a latch; PORT_OTHER is 0x5000, where the user
 * puts a device to compare.  The times, 64 bits each, little-endian, go to -debugcon as
 * binary values; then isa-debug-exit ends QEMU.  qemu-scripts/bench reads them.
 */

#include "common.inc"

#define ROUNDS          31
#define BYTES           0x10000
#define PORT_QEMU       0xE0
#define PORT_OTHER      PORT_FREE

#define STACK           0x2000
#define TIMES           0x4000
#define BUFFER          0x20000

reset_vector_to start
define_gdt

/* Times `insn` on BYTES bytes of the buffer with DX = port, and appends the time at what STACK - 8 holds. */
.macro  timed   port, insn:vararg
        rdtsc
        mov     %eax, %ebx
        mov     %edx, %ebp
        mov     $BUFFER, %esi
        mov     $BUFFER, %edi
        mov     $BYTES, %ecx
        mov     $\port, %edx
        \insn
        rdtsc
        sub     %ebx, %eax
        sbb     %ebp, %edx
        mov     STACK - 8, %edi
        stosl
        mov     %edx, %eax
        stosl
        mov     %edi, STACK - 8
.endm

        .code16
        .globl  start
start:
        cli
        cld
        real_segments
        mov     $STACK, %esp
        enter_protected
        movl    $TIMES, STACK - 8

        movl    $ROUNDS, STACK
round:
        timed   PORT_QEMU, rep outsb
        timed   PORT_OTHER, rep outsb
        timed   PORT_QEMU, rep insb
        timed   PORT_OTHER, rep insb
        decl    STACK
        jnz     round

        mov     $TIMES, %esi
        mov     STACK - 8, %ecx
        sub     %esi, %ecx
        mov     $PORT_DEBUGCON, %edx
        rep outsb
        exit_with EXIT_PASS
