/*
 * panic: a few port accesses, then a report to `-device pvpanic` that the guest has panicked.
 *
 *      100 x out imm8,al       port 0x80
 *        1 x rep insb          port 0x5000, 100 elements
 *        1 x out dx,al         port 0x505        pvpanic: bit 0, "a guest panic has happened"
 */

#include "common.inc"

#define PORT_PANIC      0x505
#define BUFFER          0x8000

reset_vector_to start

        .code16
start:
        cli
        cld
        real_segments
        mov     $100, %cx
1:      out     %al, $PORT_POST
        loop    1b
        mov     $PORT_FREE, %dx
        mov     $BUFFER, %di
        mov     $100, %cx
        rep insb
        mov     $PORT_PANIC, %dx
        mov     $1, %al
        out     %al, %dx
        halt_forever
