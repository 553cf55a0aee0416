/*
 * port-cost: times `in` and `out` on two ports, alternately.
 *
 * For each of ROUNDS rounds loops of ACCESSES accesses are timed by RDTSC, in this order:
 *
 *      out %al, %dx    to PORT_QEMU
 *      out %al, %dx    to PORT_OTHER
 *      in  %dx, %al    from PORT_QEMU
 *      in  %dx, %al    from PORT_OTHER
 *      out %al, %dx    to PORT_OTHER, which is loaded into DX before each: known when it is translated
 *      in  %dx, %al    from PORT_OTHER, the same
 *      out %al, $imm8  to PORT_IMM8
 *      in  $imm8, %al  from PORT_IMM8
 *
 * PORT_QEMU is 0xe0, where `-device pc-testdev` has a latch; PORT_OTHER is 0x5000, where the user
 * puts a device to compare; no device serves PORT_IMM8.  The times, 64 bits each, little-endian, go
 * to -debugcon in binary; then isa-debug-exit ends QEMU.  qemu-scripts/bench reads them.
 */

#include "common.inc"

#define ROUNDS          31
#define ACCESSES        20000
#define PORT_QEMU       0xE0
#define PORT_OTHER      PORT_FREE
#define PORT_IMM8       0xEC

#define STACK           0x2000
#define TIMES           0x4000

reset_vector_to start
define_gdt

/* Times ACCESSES executions of `insn` with DX = port, and appends the time at EDI. */
.macro  timed   port, insn:vararg
        mov     $\port, %edx
        mov     %edx, %ebx
        mov     $ACCESSES, %ecx
        rdtsc
        mov     %eax, %esi
        mov     %edx, %ebp
        mov     %ebx, %edx
.Laccess\@:
        \insn
        dec     %ecx
        jnz     .Laccess\@
        rdtsc
        sub     %esi, %eax
        sbb     %ebp, %edx
        stosl
        mov     %edx, %eax
        stosl
.endm

/* The port is known within the block. */
.macro  known   insn:vararg
        mov     $PORT_OTHER, %edx
        \insn
.endm

        .code16
        .globl  start
start:
        cli
        cld
        real_segments
        mov     $STACK, %esp
        enter_protected
        mov     $TIMES, %edi

        movl    $ROUNDS, STACK
round:
        timed   PORT_QEMU, out %al, %dx
        timed   PORT_OTHER, out %al, %dx
        timed   PORT_QEMU, in %dx, %al
        timed   PORT_OTHER, in %dx, %al
        timed   PORT_OTHER, known out %al, %dx
        timed   PORT_OTHER, known in %dx, %al
        timed   PORT_OTHER, out %al, $PORT_IMM8
        timed   PORT_OTHER, in $PORT_IMM8, %al
        decl    STACK
        jnz     round

        mov     $TIMES, %esi
        mov     %edi, %ecx
        sub     %esi, %ecx
        mov     $PORT_DEBUGCON, %edx
        rep outsb
        exit_with EXIT_PASS
