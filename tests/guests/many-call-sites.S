/*
 * many-call-sites: makes hypercalls from more sites than have rows, each once.
 *
 *      SITES x outb            port 0x5000     by the mailbox, each with another site, from 0x100000 on
 *          1 x out imm8,al     port 0xf4       exit
 *
 * SITES is the dword at 0x600, which `-device loader` puts there.
 */

#include "common.inc"

#define SITES           0x600
#define BOX             0x1000
#define STACK           0x2000
#define FIRST_SITE      0x100000

reset_vector_to start
define_gdt

        .code16
start:
        cli
        real_segments
        mov     $STACK, %esp
        enter_protected
        movl    $0x20646573, BOX + 8
        movl    $0x6c616572, BOX + 12
        movl    $0x96000000, BOX                /* register a large mailbox */
        mov     $BOX, %edx
        .byte   0x0f, 0x1f, 0x80, 'R', 0x32, 0x90, 0x90
        mov     SITES, %ecx
        movl    $FIRST_SITE, BOX + 32
1:      movl    $0x84000000 | PORT_FREE, BOX    /* outb */
        .byte   0x0f, 0x1f, 0x80, 'Q', 0x32, 0x90, 0x90
        incl    BOX + 32
        dec     %ecx
        jnz     1b
        testl   $0x80000000, BOX
        jnz     unheard
        exit_with EXIT_PASS
unheard:
        exit_with EXIT_FAIL
