/*
 * wait-irq5: the driver of a device at port 0x300 that raises IRQ 5 some time after each write.
 *
 *      device=KIND@0x300:...:irq=5  device=debug-exit@0xf4
 *
 * Ten times, the guest writes a number, halts until the interrupt, and reads the device in the handler: it must have
 * the number less 1.  The last `out` tells debug-exit how many times that was so.
 */

#include "common.inc"

#define DEVICE          0x300
#define ROUNDS          10
#define FIRST           100                     /* the number of the first round */
#define IRQ             5
#define VECTOR_BASE     0x20
#define VECTOR          (VECTOR_BASE + IRQ)
#define EOI             0x20
#define ICW1_ICW4       0x11
#define ICW4_8086       0x01
#define MSR_APIC_BASE   0x1B
#define APIC_BASE_ENABLE (1 << 11)

reset_vector_to start

.macro  outb value, port
        mov     $(\value), %al
        out     %al, $(\port)
.endm

        .code16
        .globl  start
start:
        cli
        real_segments
        mov     $0x8000, %sp
        movw    $ROM(handler), 4 * VECTOR
        movw    $ROM_SEGMENT, 4 * VECTOR + 2

        /* Switched off, the local APIC lets the PIC's interrupts through (see irq-rep.S). */
        mov     $MSR_APIC_BASE, %ecx
        rdmsr
        and     $~APIC_BASE_ENABLE, %eax
        wrmsr
        outb    ICW1_ICW4, PORT_PIC1
        outb    VECTOR_BASE, PORT_PIC1 + 1
        outb    1 << 2, PORT_PIC1 + 1           /* ICW3: a slave at IRQ 2 */
        outb    ICW4_8086, PORT_PIC1 + 1
        outb    ~(1 << IRQ) & 0xFF, PORT_PIC1 + 1

        mov     $DEVICE, %dx
        xor     %bx, %bx                        /* the number of rounds that were right */
        mov     $ROUNDS, %cx
next:
        mov     %cl, %al
        add     $FIRST, %al
        mov     %al, %ah
        xor     %si, %si                        /* the number of interrupts in this round */
        out     %al, %dx
wait:
        sti
        hlt
        cli
        test    %si, %si
        jz      wait
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
1:      inc     %si
        mov     $EOI, %al
        out     %al, $PORT_PIC1
        iret
