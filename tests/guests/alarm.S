/*
 * alarm: the driver of plugin/examples/socket-device/alarm.py, from real mode.
 *
 *      device=socket@0x300:irq=5:path=...  device=debug-exit@0xf4
 *
 * Sets the alarm three times, for 1, 2 and 3 ms, and each time halts until its interrupt has come. The handler reads the
 * device, which lowers the line, and adds up how often it has rung. The last `out` gives that sum, 3, to debug-exit.
 */

#include "common.inc"
#include "irq.inc"

#define PORT_ALARM      0x300
#define ALARMS          3
#define RINGS           0x504

reset_vector_to start

        .code16
        .globl  start
start:
        cli
        cld
        real_segments
        mov     $0x8000, %sp
        movb    $0, RINGS
        open_irq handler

        xor     %bx, %bx
next:   inc     %bx
        mov     $PORT_ALARM, %dx
        mov     %bl, %al
        sti
        out     %al, %dx
1:      cli
        cmp     INTERRUPTS, %bx
        je      2f
        sti                                     /* no interrupt comes between this and the HLT */
        hlt
        jmp     1b
2:      cmp     $ALARMS, %bx
        jb      next

        mov     RINGS, %al
        out     %al, $PORT_EXIT
        halt_forever

handler:
        push    %ax
        push    %dx
        mov     $PORT_ALARM, %dx
        in      %dx, %al
        add     %al, RINGS
        incw    INTERRUPTS
        outb    EOI, PORT_PIC1
        pop     %dx
        pop     %ax
        iret
