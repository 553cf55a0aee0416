/*
 * breaks: a guest for breakpoints at port accesses.  It runs until somebody ends QEMU, and needs
 * `-device pc-testdev`, whose port 0x2005 drives interrupt line 5.
 *
 * All code is 16-bit code, except the start.  Round n, n = 1, 2, ... 255, 0, 1 and so on:
 *
 *      1 x out dx,al           port 0x5000, value n            site `writes`
 *      1 x in al,dx            port 0x5000                     site `reads`
 *      1 x rep outsb           port 0x5010, 1 2 3 4 5          site `string`
 *      1 x out dx,al           port 0x2005, value 1            site `raises`: interrupt 5 comes after it
 *      1 x out dx,al           port 0x5020, value n            site `last`
 *
 * The handler of the interrupt executes an `out dx,al` to 0x2005, value 0, and an `out imm8,al` to 0x20.
 * The start programs the interrupt controllers: 4 x out imm8,al to 0x21, 4 to 0xa1, one each to 0x20 and 0xa0.
 */

#include "common.inc"

#define LINE            5
#define PORT_LINE       (0x2000 + LINE)
#define VECTOR_BASE     0x20
#define STACK           0x1400
#define ICW1_ICW4       0x11
#define ICW4_8086       0x01
#define EOI             0x20

#define MSR_APIC_BASE   0x1B
#define APIC_BASE_ENABLE (1 << 11)

reset_vector_to start

.macro  outb    value, port
        mov     $\value, %al
        out     %al, $\port
.endm

bytes:  .byte   1, 2, 3, 4, 5
bytes_end:

        .code16
handler:
        push    %ax
        push    %dx
        mov     $PORT_LINE, %dx
        xor     %al, %al
        out     %al, %dx
        outb    EOI, PORT_PIC1
        pop     %dx
        pop     %ax
        iret

start:  cli
        real_segments
        mov     $STACK, %esp
        /* Without the local APIC, the interrupt controllers reach the CPU directly. */
        mov     $MSR_APIC_BASE, %ecx
        rdmsr
        and     $~APIC_BASE_ENABLE, %eax
        wrmsr
        movw    $ROM(handler), 4 * (VECTOR_BASE + LINE)
        movw    $ROM_SEGMENT, 4 * (VECTOR_BASE + LINE) + 2
        outb    ICW1_ICW4, PORT_PIC1
        outb    VECTOR_BASE, PORT_PIC1 + 1
        outb    1 << 2, PORT_PIC1 + 1
        outb    ICW4_8086, PORT_PIC1 + 1
        outb    0xFF & ~(1 << LINE), PORT_PIC1 + 1
        outb    ICW1_ICW4, PORT_PIC2
        outb    VECTOR_BASE + 8, PORT_PIC2 + 1
        outb    2, PORT_PIC2 + 1
        outb    ICW4_8086, PORT_PIC2 + 1
        outb    0xFF, PORT_PIC2 + 1
        cld
        xor     %ebx, %ebx
        sti

round:  inc     %bl
        mov     $PORT_FREE, %dx
        mov     %bl, %al
        .globl  writes
writes: out     %al, %dx
        xor     %al, %al
        .globl  reads
reads:  in      %dx, %al
        .globl  after_reads
after_reads:
        mov     $PORT_FREE + 0x10, %dx
        mov     $ROM(bytes), %si
        mov     $bytes_end - bytes, %cx
        .globl  string
string: cs rep outsb
        .globl  after_string
after_string:
        mov     $PORT_LINE, %dx
        mov     $1, %al
        .globl  raises
raises: out     %al, %dx
        .globl  after_raises
after_raises:
        mov     $PORT_FREE + 0x20, %dx
        mov     %bl, %al
        .globl  last
last:   out     %al, %dx
        jmp     round
