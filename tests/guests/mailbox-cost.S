/*
 * mailbox-cost: how long port I/O takes by instruction and through a mailbox, in turn.
 *
 * In 64-bit code, through four levels of page tables with pages of 4 KiB, as a kernel would.  For each
 * of ROUNDS rounds these are timed by RDTSC, in this order:
 *
 *      out %al, %dx            on PORT_QEMU            SCALARS times
 *      in  %dx, %al            on PORT_QEMU            SCALARS times
 *      mailbox outb            on PORT_OWN             SCALARS times
 *      mailbox inb             on PORT_OWN             SCALARS times
 *
 * A call is what a shim makes of it: the word that was there is kept, the call stored, the instruction, the
 * answer loaded, and what was there stored; an answer that is not OK ends the guest with status 3.  PORT_QEMU is 0xe0, where
 * `-device pc-testdev` has a latch; PORT_OWN is 0x5000, where the plugin has one.  The times, 64 bits
 * each, little-endian, go to -debugcon as they are; then isa-debug-exit ends QEMU.  A program reads them:
 * qemu-scripts/bench.
 */

#include "common.inc"

#define ROUNDS          31
#define SCALARS         20000
#define PORT_QEMU       0xE0
#define PORT_OWN        PORT_FREE

#define STACK           0x2000
#define TIMES           0x4000
#define MAILBOX         0x6000
#define PML4            0x10000
#define PDPT            0x11000
#define PAGE_DIR        0x12000
#define PAGE_TABLE      0x13000

/* Present, writable, accessed, dirty. */
#define PAGE_FLAGS      0x63

/* The words of the calls: guest-shim/ABI.md. */
#define CALL(number, operand, port)     (0x80000000 | (number) << 24 | (operand) << 16 | (port))
#define INB             1
#define OUTB            4
#define REGISTER        14
#define KEY             0x6d61696c626f7821

.macro  magic   what
        .byte   0x0F, 0x1F, 0x80, \what, 0x64, 0x90, 0x90
.endm

reset_vector_to start
define_gdt

.macro  begin
        rdtsc
        shl     $32, %rdx
        lea     (%rdx, %rax), %r8
.endm

.macro  end
        rdtsc
        shl     $32, %rdx
        add     %rdx, %rax
        sub     %r8, %rax
        mov     %rax, (%r9)
        add     $8, %r9
.endm

/* SCALARS executions of an instruction with DX = port. */
.macro  timed_instruction port, insn:vararg
        begin
        mov     $\port, %edx
        mov     $SCALARS, %r10d
.Linsn\@:
        \insn
        dec     %r10d
        jnz     .Linsn\@
        end
.endm

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
        cli
        cld
        real_segments
        mov     $STACK, %esp
        enter_protected

        mov     $PML4, %edi
        mov     $4 * 4096 / 4, %ecx
        xor     %eax, %eax
        rep stosl
        movl    $PDPT | PAGE_FLAGS, PML4
        movl    $PAGE_DIR | PAGE_FLAGS, PDPT
        movl    $PAGE_TABLE | PAGE_FLAGS, PAGE_DIR
        mov     $PAGE_FLAGS, %eax
        xor     %ecx, %ecx
1:      mov     %eax, PAGE_TABLE(, %ecx, 8)
        add     $4096, %eax
        inc     %ecx
        cmp     $512, %ecx
        jb      1b
        enter_long PML4

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

        mov     $TIMES, %esi
        mov     %r9d, %ecx
        sub     %esi, %ecx
        mov     $PORT_DEBUGCON, %edx
        rep outsb
        exit_with EXIT_PASS
failed:
        exit_with EXIT_FAIL
