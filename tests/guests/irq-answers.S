/*
 * irq-answers: reads and writes a device that interrupts before each answer, from real mode.
 *
 *      device=socket@0x300:irq=5:path=...  device=debug-exit@0xf4
 *
 * Makes 500 `in` and 500 `out` with interrupts on. After each access, before the next instruction, the interrupt of
 * this access must have been counted. Then a `rep insb` of 10,000 bytes, which must all be 5Ah; there, interrupts may be
 * fewer. The last `out` gives the verdict to debug-exit: 42, or the number of the part that failed.
 */

#include "common.inc"
#include "irq.inc"

#define PORT_DEVICE     0x300
#define ACCESSES        500
#define STRING          10000
#define BUFFER          0x1000
#define BYTE            0x5A
#define PASSED          42

reset_vector_to start

.macro  accesses part, insn:vararg
        movw    $0, INTERRUPTS
        xor     %cx, %cx
.Laccess\@:
        inc     %cx
        mov     $PORT_DEVICE, %dx
        \insn
        mov     INTERRUPTS, %si
        mov     $\part, %bl
        cmp     %cx, %si
        jne     verdict
        cmp     $ACCESSES, %cx
        jb      .Laccess\@
.endm

        .code16
        .globl  start
start:
        cli
        cld
        real_segments
        mov     $0x8000, %sp
        open_irq handler
        sti
        accesses 1, in %dx, %al
        accesses 2, out %al, %dx

        mov     $BUFFER, %di
        mov     $STRING, %cx
        mov     $PORT_DEVICE, %dx
        rep insb
        mov     $BUFFER, %di
        mov     $STRING, %cx
        mov     $BYTE, %al
        mov     $3, %bl
        repe scasb
        jne     verdict
        mov     $PASSED, %bl
verdict:
        cli
        mov     %bl, %al
        out     %al, $PORT_EXIT
        halt_forever

handler:
        push    %ax
        incw    INTERRUPTS
        outb    EOI, PORT_PIC1
        pop     %ax
        iret
