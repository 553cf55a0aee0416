/*
 * call-cost: times port I/O by instruction and by hypercall, alternately.
 *
 * In 64-bit code, through four levels of page tables with pages of 4 KiB, as a kernel would.  For each
 * of ROUNDS rounds these are timed by RDTSC, in this order:
 *
 *      out %al, %dx            on PORT_QEMU            SCALARS times
 *      in  %dx, %al            on PORT_QEMU            SCALARS times
 *      hypercall outb          on PORT_OWN             SCALARS times
 *      hypercall inb           on PORT_OWN             SCALARS times
 *      hypercall outb          on PORT_QEMU            SCALARS times
 *      hypercall inb           on PORT_QEMU            SCALARS times
 *      rep outsb               on PORT_QEMU            STRING bytes
 *      rep insb                on PORT_QEMU            STRING bytes
 *      hypercall outsb         on PORT_OWN             STRING bytes
 *      hypercall insb          on PORT_OWN             STRING bytes
 *      hypercall batch         of BATCH times outb on PORT_OWN, including filling the records, BATCHES times
 *
 *      hypercall batch_compact of the same, with compact records
 *
 * A call does what a shim does: it loads EAX, executes the instruction, and checks the answer; an answer that
 * is not OK ends the guest with status 3.  PORT_QEMU is 0xe0, where `-device pc-testdev` has a latch;
 * PORT_OWN is 0x5000, where the plugin has one.  The times, 64 bits each, little-endian, go to -debugcon
 * in binary; then isa-debug-exit ends QEMU.  qemu-scripts/bench reads them.
 */

#include "cost.inc"

#define STRING          65536
#define BATCH           64
#define BATCHES         300

#define RECORDS         0x8000
#define BUFFER          0x40000

#define INSB            7
#define OUTSB           10
#define BATCH_CALL      13
#define BATCH_COMPACT   23

reset_vector_to start
define_gdt

/* SCALARS calls; an answer of status OK is below 1 << 24. */
.macro  timed_call word
        begin
        mov     $SCALARS, %r10d
.Lcall\@:
        mov     $\word, %eax
        magic
        test    $0xFF000000, %eax
        jnz     failed
        dec     %r10d
        jnz     .Lcall\@
        end
.endm

.macro  timed_string register, insn
        begin
        mov     $PORT_QEMU, %edx
        mov     $BUFFER, %\register
        mov     $STRING, %ecx
        rep \insn
        end
.endm

.macro  timed_string_call word
        begin
        mov     $\word, %eax
        mov     $BUFFER, %edx
        mov     $STRING, %ecx
        magic
        or      %ecx, %eax
        jnz     failed
        end
.endm

        .code16
        .globl  start
start:
        enter_64_bit

        mov     $TIMES, %r9d
        mov     $ROUNDS, %r15d
round:
        timed_instruction PORT_QEMU, out %al, %dx
        timed_instruction PORT_QEMU, in %dx, %al
        timed_call CALL(OUTB, 0x5A, PORT_OWN)
        timed_call CALL(INB, 0, PORT_OWN)
        timed_call CALL(OUTB, 0x5A, PORT_QEMU)
        timed_call CALL(INB, 0, PORT_QEMU)
        timed_string esi, outsb
        timed_string edi, insb
        timed_string_call CALL(OUTSB, 0, PORT_OWN)
        timed_string_call CALL(INSB, 0, PORT_OWN)

        begin
        mov     $BATCHES, %r10d
batch:
        mov     $RECORDS, %edi
        mov     $BATCH, %ecx
        mov     $0x5A << 32 | PORT_OWN << 16 | 0x80 << 8 | OUTB, %rax
        xor     %edx, %edx
2:      mov     %rax, (%rdi)
        mov     %rdx, 8(%rdi)
        add     $16, %rdi
        dec     %ecx
        jnz     2b
        mov     $CALL(BATCH_CALL, 0, 0), %eax
        mov     $RECORDS, %edx
        mov     $BATCH, %ecx
        magic
        or      %ecx, %eax
        jnz     failed
        dec     %r10d
        jnz     batch
        end

        begin
        mov     $BATCHES, %r10d
compact_batch:
        mov     $RECORDS, %edi
        mov     $BATCH, %ecx
        mov     $0x5A << 32 | PORT_OWN << 16 | OUTB, %rax
3:      mov     %rax, (%rdi)
        add     $8, %rdi
        dec     %ecx
        jnz     3b
        mov     $CALL(BATCH_COMPACT, 0, 0), %eax
        mov     $RECORDS, %edx
        mov     $BATCH, %ecx
        magic
        or      %ecx, %eax
        jnz     failed
        dec     %r10d
        jnz     compact_batch
        end

        dec     %r15d
        jnz     round

        pass_with_times
failed:
        exit_with EXIT_FAIL
