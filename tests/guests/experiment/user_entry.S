/* From the monitor to user space, and back. */
#include "machine.h"

#define SAVED (8 + 5) * 4                       /* PUSHA's registers, and what an interrupt pushes */

        .text
/*
 * exit_to_user(): runs user space until its `int $VECTOR_RUN`. Its registers lie at the end of a stack of their
 * own, where that interrupt has pushed them: the guest's are on the monitor's.
 */
        .globl  exit_to_user
exit_to_user:
        push    %ebp
        push    %ebx
        push    %esi
        push    %edi
        mov     %esp, monitor_esp
        movl    $user_saved_end, task + 4       /* TSS.ESP0 */
        mov     $user_saved_end - SAVED, %esp
        mov     $DATA2, %eax
        mov     %eax, %ds
        mov     %eax, %es
        popal
        iretl

        .globl  run_entry
run_entry:
        pushal
        mov     $DATA0, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     monitor_esp, %esp
        movl    $monitor_stack + MONITOR_STACK, task + 4
        cld
        pop     %edi
        pop     %esi
        pop     %ebx
        pop     %ebp
        ret

/* user_start(): user space as it is before its first exit. */
        .section .text.harness, "ax"
        .globl  user_start
user_start:
        movl    $user_main, user_saved_end - 20
        movl    $CODE2, user_saved_end - 16
        movl    $FLAGS_ONE, user_saved_end - 12
        movl    $user_stack_end, user_saved_end - 8
        movl    $DATA2, user_saved_end - 4
        jmp     exit_to_user

        .bss
        .balign 16
        .skip   SAVED
user_saved_end:
        .skip   4096
user_stack_end:
monitor_esp:
        .skip   4

        .section .note.GNU-stack, "", @progbits
