/*
 * dongle: the driver of the dongle of docs/devices.md, from real mode.
 *
 *      device=script@0x378-0x37a:file=SCRIPT  device=debug-exit@0xf4
 *
 * Each round sends a key and receives the dongle's answer, bit by bit: first by instructions, then by hypercalls, which
 * become instructions where nobody answers them. The last `out` gives the verdict to debug-exit: 42, or the number of
 * the round that failed.
 */

#include "common.inc"
#include <pvio16.inc>

#define DATA            0x378
#define STATUS          0x379
#define CONTROL         0x37A
#define ACK_SHIFT       6
#define SECRET          0x5A
#define PASSED          42

/* What the dongle has after a byte. */
#define AFTER(old, byte) ((((old) << 1) ^ (byte) ^ SECRET) & 0xFF)
#define ANSWER          AFTER(AFTER(AFTER(0, 'k'), 'e'), 'y')

reset_vector_to start

/* Adds the bit in AL to the answer in BH. */
.macro  add_bit
        shr     $ACK_SHIFT, %al
        and     $1, %al
        shl     $1, %bh
        or      %al, %bh
.endm

.macro  expect_answer round
        mov     $\round, %bl
        cmp     $ANSWER, %bh
        jne     verdict
.endm

        .code16
        .globl  start
start:
        cli
        cld
        real_segments
        mov     $0x8000, %sp
        mov     $0x1000, %di
        movl    $('k' | ('e' << 8) | ('y' << 16)), (%di)

        /* ---- by instructions: a string, and single bytes. */
        mov     %di, %si
        mov     $3, %cx
        mov     $DATA, %dx
        rep outsb
        mov     $STATUS, %dx
        xor     %bx, %bx
        mov     $8, %cx
1:      in      %dx, %al
        add_bit
        loop    1b
        expect_answer 1

        /* ---- the answer again, as one string. */
        mov     $0x1000, %si
        mov     $3, %cx
        mov     $DATA, %dx
        rep outsb
        mov     $STATUS, %dx
        mov     $0x1010, %di
        mov     $8, %cx
        rep insb
        mov     $0x1010, %si
        xor     %bx, %bx
        mov     $8, %cx
1:      lodsb
        add_bit
        loop    1b
        expect_answer 2

        /* ---- by hypercalls. */
        mov     $0x1000, %si
        mov     $3, %cx
        pvio_outsb DATA
        xor     %bx, %bx
        mov     $8, %bp
1:      pvio_inb STATUS
        add_bit
        dec     %bp
        jnz     1b
        expect_answer 3

        /* ---- 16 and 32 bits: the script's value is cut to the access. */
        mov     $CONTROL, %dx
        mov     $0x0C, %al
        out     %al, %dx
        mov     $4, %bl
        in      %dx, %ax                        /* the second byte is beyond the last port */
        cmp     $0xFFFF, %ax
        jne     verdict
        mov     $DATA, %dx
        in      %dx, %ax
        cmp     $0x00FF, %ax
        jne     verdict
        mov     $PASSED, %bl
verdict:
        mov     %bl, %al
        out     %al, $PORT_EXIT
        halt_forever
