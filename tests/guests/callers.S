/*
 * callers: functions that call one another, in 16, 32 and 64-bit code, with frame pointers.
 *
 * In each mode, once:
 *
 *      top -> outer -> middle -> inner         three times
 *      top -> middle -> inner                  once
 *      top -> outer -> leaf, top -> leaf       once each
 *
 * inner makes 1 x out dx,al and a rep outsb of STRING bytes on port 0x5000, leaf 1 x in al,imm8 of port 0x80. leaf has
 * no frame.  At the end: 1 x out imm8,al port 0xf4.
 *
 * The call graph is in tests/tests/suite/counting/callers.rs.
 */

#include "common.inc"

#define STRING          20
#define BUFFER          0x6000
#define STACK           0x7000
#define PML4            0x8000
#define PDPT            0x9000
#define PAGE_DIR        0xA000
#define USED            0x27                    /* present, writable, user, accessed */
#define USED_LARGE      0xE7                    /* ... dirty, large */

        .text
        define_gdt

        .code16
        .globl  start
start:
        real_segments
        mov     $STACK, %esp
        cld
#define MODE 16
#include "callers-body.inc"
#undef MODE

        enter_protected
#define MODE 32
#include "callers-body.inc"
#undef MODE

        movl    $PDPT | USED, PML4
        movl    $PAGE_DIR | USED, PDPT
        movl    $USED_LARGE, PAGE_DIR
        enter_long PML4
        mov     $STACK, %rsp
#define MODE 64
#include "callers-body.inc"
#undef MODE

        exit_with EXIT_PASS

        reset_vector_to start
