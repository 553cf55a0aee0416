/*
 * day: the timer's interrupt makes an access, TICKS times, 18.2 times a second; 1,573,042 are a day.
 *
 *      TICKS x out dx,al       port 0x5000
 *
 * TICKS is the dword at 0x600, which `-device loader` puts there.  Then the guest says so and waits: the host looks at
 * QEMU's memory and ends it.
 *
 *      2 x out imm8,al         debugcon, after TICKS
 */

#define IRQ             0

#include "common.inc"
#include "irq.inc"

#define PIT             0x40
#define TICKS           0x600

reset_vector_to start

        .code16
        .globl  start
start:
        cli
        real_segments
        mov     $0x8000, %sp
        open_irq handler
        outb    0x34, PIT + 3                   /* channel 0, both bytes, mode 2 */
        outb    0, PIT                          /* 65,536 */
        outb    0, PIT
        mov     TICKS, %ebx
        mov     $PORT_FREE, %dx
wait:
        sti
        hlt
        jmp     wait

handler:
        out     %al, %dx
        outb    EOI, PORT_PIC1
        dec     %ebx
        jz      end
        iret
end:
        outb    '!', PORT_DEBUGCON
        outb    '\n', PORT_DEBUGCON
halted:
        hlt
        jmp     halted
