/*
 * read-until: reads a port until it gives 2Ah, from real mode.
 *
 *      1 or more x in al,dx       port 0x300
 *      as many x out imm8,al      port 0xe9: -debugcon gets each byte
 *      1 x out imm8,al            port 0xf4: exit
 */

#include "common.inc"

#define PORT_DEVICE     0x300
#define LAST            0x2A

reset_vector_to start

        .code16
        .globl  start
start:
        cli
        real_segments
1:      mov     $PORT_DEVICE, %dx
        in      %dx, %al
        out     %al, $PORT_DEBUGCON
        cmp     $LAST, %al
        jne     1b
        exit_with EXIT_PASS
