/*
 * all-at-once: every CPU does everything that pvio serves, endlessly, so that requests from outside meet it all.
 *
 * Each round of a CPU, in 16-bit code:
 *
 *      1 x out dx,al, 1 x in al,dx     port 0x5010
 *      1 x rep outsb, 32 elements      port 0x5000
 *      1 x rep insb, 32 elements       port 0x5010
 *      hypercalls by registers         outb to 0x5011, outsb of 32 elements to 0x5000, begin and end of its window
 *      hypercalls by its mailbox       outb to 0x5010, inb from 0x5010
 *
 * Every 256 rounds a CPU registers its mailbox again, and the boot CPU asks for a dump and wakes CPUs that were plugged
 * in meanwhile: these join in.
 */

#include "common.inc"
#include "smp.inc"
#include <pvio16.inc>

#define PORT_STREAM     PORT_FREE
#define PORT_LATCH      (PORT_FREE + 0x10)
#define ELEMENTS        32

/* In the CPU's own area, whose upper end is its stack. */
#define WORD            0
#define KEY             8
#define NAME            64
#define BUFFER          128

reset_vector_to bsp_entry
define_gdt

        .code16
cpu_main:
        cld
        movl    $0x75706300, NAME(%bx)          /* "\0cpu" ... */
        mov     %ebp, %eax
        add     $'0', %al
        mov     %al, NAME(%bx)                  /* "0cpu" */
register_box:
        movl    $0x20646573, KEY(%bx)
        movl    $0x6c616572, KEY + 4(%bx)
        movl    $PVIO_WORD(PVIO_CALL_REGISTER, 0, 0), WORD(%bx)
        mov     %ebx, %edx
        pvio_register_mailbox
        mov     $256, %cx
round:  push    %cx

        mov     $PORT_LATCH, %dx
        out     %al, %dx
        in      %dx, %al
        mov     $PORT_STREAM, %dx
        lea     BUFFER(%bx), %si
        mov     $ELEMENTS, %cx
        rep outsb
        mov     $PORT_LATCH, %dx
        lea     BUFFER(%bx), %di
        mov     $ELEMENTS, %cx
        rep insb

        mov     $0x55, %al
        pvio_outb PORT_LATCH + 1
        lea     BUFFER(%bx), %si
        mov     $ELEMENTS, %cx
        pvio_outsb PORT_STREAM
        lea     NAME(%ebx), %edx
        mov     $4, %ecx
        pvio_call PVIO_CALL_BEGIN
        lea     NAME(%ebx), %edx
        mov     $4, %ecx
        pvio_call PVIO_CALL_END

        movl    $PVIO_WORD(PVIO_CALL_OUTB, 0x33, PORT_LATCH), WORD(%bx)
        pvio_doorbell
        movl    $PVIO_WORD(PVIO_CALL_INB, 0, PORT_LATCH), WORD(%bx)
        pvio_doorbell

        pop     %cx
        dec     %cx
        jnz     round
        test    %ebp, %ebp
        jnz     register_box

        pvio_call PVIO_CALL_DUMP
        enter_protected
        movl    $ICR_SIPI_OTHERS, APIC_ICR
        leave_protected
        jmp     register_box
