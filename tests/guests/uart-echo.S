/*
 * uart-echo: sends back what a 16550 at port 0x2f8 receives, by polling, until it receives the letter q.
 *
 *      device=uart16550@0x2f8:...  device=debug-exit@0xf4
 *
 * Then it ends with status 42.
 */

#include "common.inc"

#define DATA            0x2F8
#define LINE_STATUS     (DATA + 5)
#define MODEM_CONTROL   (DATA + 4)
#define DATA_READY      0x01
#define THR_EMPTY       0x20
#define DTR_RTS         0x03
#define STATUS          42

reset_vector_to start

        .code16
        .globl  start
start:
        cli
        cld
        real_segments
        mov     $0x8000, %sp
        mov     $MODEM_CONTROL, %dx
        mov     $DTR_RTS, %al
        out     %al, %dx

1:      mov     $LINE_STATUS, %dx
        in      %dx, %al
        test    $DATA_READY, %al
        jz      1b
        mov     $DATA, %dx
        in      %dx, %al
        call    send
        cmp     $'q', %al
        jne     1b
        mov     $STATUS, %al
        out     %al, $PORT_EXIT
        halt_forever

/* Sends AL. Destroys DX. */
send:
        push    %ax
        mov     $LINE_STATUS, %dx
1:      in      %dx, %al
        test    $THR_EMPTY, %al
        jz      1b
        pop     %ax
        mov     $DATA, %dx
        out     %al, %dx
        ret
