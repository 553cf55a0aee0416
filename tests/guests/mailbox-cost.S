/*
 * mailbox-cost: times port I/O by instruction and through a mailbox, alternately.
 *
 * In 64-bit code, through four levels of page tables with pages of 4 KiB, as a kernel would.  For each
 * of ROUNDS rounds these are timed by RDTSC, in this order:
 *
 *      out %al, %dx            on PORT_QEMU            SCALARS times
 *      in  %dx, %al            on PORT_QEMU            SCALARS times
 *      mailbox outb            on PORT_OWN             SCALARS times
 *      mailbox inb             on PORT_OWN             SCALARS times
 *
 * A call does what a shim does: it saves the mailbox's word, stores the call, executes the instruction, loads the
 * answer, and restores the word; an answer that is not OK ends the guest with status 3.  PORT_QEMU is 0xe0, where
 * `-device pc-testdev` has a latch; PORT_OWN is 0x5000, where the plugin has one.  The times, 64 bits
 * each, little-endian, go to -debugcon in binary; then isa-debug-exit ends QEMU.  qemu-scripts/bench reads
 * them.
 */

#include "cost.inc"

#define MAILBOX         0x6000

#define REGISTER        14
#define KEY             0x6d61696c626f7821

reset_vector_to start
define_gdt

/* SCALARS calls; an answer of status OK is below 1 << 24. */
.macro  timed_call word
        begin
        mov     $MAILBOX, %ebx
        mov     $SCALARS, %r10d
.Lcall\@:
        mov     (%rbx), %ecx
        movl    $\word, (%rbx)
        magic   'Q'
        mov     (%rbx), %eax
        mov     %ecx, (%rbx)
        test    $0xFF000000, %eax
        jnz     failed
        dec     %r10d
        jnz     .Lcall\@
        end
.endm

        .code16
        .globl  start
start:
        enter_64_bit

        mov     $KEY, %rax
        mov     %rax, MAILBOX + 8
        movl    $CALL(REGISTER, 0, 0), MAILBOX
        mov     $MAILBOX, %edx
        magic   'R'
        testl   $0xFF000000, MAILBOX
        jnz     failed

        mov     $TIMES, %r9d
        mov     $ROUNDS, %r15d
round:
        timed_instruction PORT_QEMU, out %al, %dx
        timed_instruction PORT_QEMU, in %dx, %al
        timed_call CALL(OUTB, 0x5A, PORT_OWN)
        timed_call CALL(INB, 0, PORT_OWN)
        dec     %r15d
        jnz     round

        pass_with_times
failed:
        exit_with EXIT_FAIL
