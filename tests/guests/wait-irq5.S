/*
 * wait-irq5: the driver of a device at port 0x300 that raises IRQ 5 some time after each write.
 *
 *      device=KIND@0x300:...:irq=5  device=debug-exit@0xf4
 *
 * Ten times, the guest writes a number, halts until the interrupt, and reads the device in the handler: it must have
 * the number less 1.  The last `out` tells debug-exit how many times that was so.
 */

#include "common.inc"
#include "irq.inc"

#define DEVICE          0x300
#define ROUNDS          10
#define FIRST           100                     /* the number of the first round */

reset_vector_to start

        .code16
        .globl  start
start:
        cli
        real_segments
        mov     $0x8000, %sp
        open_irq handler

        mov     $DEVICE, %dx
        xor     %bx, %bx                        /* the number of rounds that were right */
        mov     $ROUNDS, %cx
next:
        mov     %cl, %al
        add     $FIRST, %al
        mov     %al, %ah
        movw    $0, INTERRUPTS                  /* in this round */
        out     %al, %dx
wait:
        sti
        hlt
        cli
        cmpw    $0, INTERRUPTS
        je      wait
        loop    next

        mov     %bl, %al
        out     %al, $PORT_EXIT
        halt_forever

handler:
        in      %dx, %al
        inc     %al
        cmp     %ah, %al
        jne     1f
        inc     %bx
1:      incw    INTERRUPTS
        outb    EOI, PORT_PIC1
        iret
