/*
 * uart-flood: sends 4 MiB to a 16550 at port 0x2f8, as fast as it can, and ends with status 42.
 *
 *      device=uart16550@0x2f8:...  device=debug-exit@0xf4
 *
 * First it waits until it receives a byte, which shows that somebody is at the far end.
 */

#include "common.inc"

#define DATA            0x2F8
#define LINE_STATUS     (DATA + 5)
#define DATA_READY      0x01
#define STATUS          42

reset_vector_to start

        .code16
        .globl  start
start:
        cli
        cld
        real_segments
        mov     $LINE_STATUS, %dx
1:      in      %dx, %al
        test    $DATA_READY, %al
        jz      1b

        mov     $DATA, %dx
        mov     $1024, %bx
1:      xor     %si, %si
        mov     $4096, %cx
        rep outsb
        dec     %bx
        jnz     1b
        mov     $STATUS, %al
        out     %al, $PORT_EXIT
        halt_forever
