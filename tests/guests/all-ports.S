/*
 * all-ports: reads and writes each of the 65,536 ports in each of the three sizes, and then ends by a triple fault.
 *
 *      65,536 x in al,dx  in ax,dx  in eax,dx  out dx,al  out dx,ax  out dx,eax
 *
 *      device=null@0-0xffff
 *
 * Without the device, some port of the machine's would end it earlier.
 */

#include "common.inc"

reset_vector_to start

        .code16
        .globl  start
start:
        cli
        xor     %edx, %edx
1:      in      %dx, %al
        in      %dx, %ax
        in      %dx, %eax
        out     %al, %dx
        out     %ax, %dx
        out     %eax, %dx
        inc     %dx
        jnz     1b
        lidt    %cs:ROM(no_interrupts)
        ud2

no_interrupts:
        .word   0
        .long   0
