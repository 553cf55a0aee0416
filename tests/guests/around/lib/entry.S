/*
 * From the reset vector to `guest` in 32-bit protected mode.  `enter` jumps from the guest's own code to
 * the tested instruction; `trap` in harness.c handles the end of the trial.
 */

#include "common.inc"

#define VECTORS 64

reset_vector_to start
define_gdt

        .code16
start:
        cli
        cld
        real_segments
        enter_protected
        clear_bss
        mov     $own_stack_top, %esp
        call    begin
        halt_forever

/*
 * void enter(struct frame *frame): loads all registers from *frame and goes there, in ring 0 or 3.
 * Returns when `trap` says so.  EBX, EBP, ESI and EDI belong to the caller.
 *
 * The frame goes to the top of the trial's stack first: from there IRET takes it, and there the CPU
 * puts the next one, whichever ring it comes from (TSS.ESP0 is the same top).
 */
        .code32
        .globl  enter
enter:
        mov     4(%esp), %eax
        push    %ebx
        push    %ebp
        push    %esi
        push    %edi
        mov     %esp, way_back
        mov     %eax, %esi
        mov     $trial_stack_top - 15 * 4, %edi
        mov     %edi, %esp
        mov     $15, %ecx
        rep movsl
go_on:
        popal
        add     $8, %esp                        /* vector and error code */
        iretl

vector_entries VECTORS

arrive:
        pushal
        cld
        mov     %esp, %eax
        push    %eax
        call    trap                            /* int trap(struct frame *): returns whether the trial continues */
        add     $4, %esp
        test    %eax, %eax
        jnz     go_on
        mov     way_back, %esp
        pop     %edi
        pop     %esi
        pop     %ebp
        pop     %ebx
        ret

        .section .bss
        .balign 16
way_back:
        .skip   16
        .skip   16384
own_stack_top:
        .skip   16384
        .globl  trial_stack_top
trial_stack_top:
