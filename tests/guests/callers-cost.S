/*
 * callers-cost: a million accesses from 64-bit code with paging and eight callers, to measure the cost of call chains.
 *
 * 1,000,000 x out dx,al port 0x5000, then 1 x out imm8,al port 0xf4.
 */

#include "common.inc"

#define COUNT           1000000
#define CALLERS         8
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
        enter_protected
        movl    $PDPT | USED, PML4
        movl    $PAGE_DIR | USED, PDPT
        movl    $USED_LARGE, PAGE_DIR
        enter_long PML4
        mov     $STACK, %rsp
        xor     %ebp, %ebp
        mov     $CALLERS - 1, %edi
        call    nested
        exit_with EXIT_PASS

/* Calls itself until there are as many frames as wanted. */
nested:
        push    %rbp
        mov     %rsp, %rbp
        sub     $32, %rsp
        dec     %edi
        js      1f
        call    nested
        leave
        ret
1:      mov     $PORT_FREE, %dx
        mov     $COUNT, %ecx
2:      out     %al, %dx
        dec     %ecx
        jnz     2b
        leave
        ret

        reset_vector_to start
