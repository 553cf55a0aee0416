/*
 * The guest's entries of #VE and #VC: its registers are saved and restored around a handler in C. The stack and the
 * segments are those of the code that was interrupted, which runs in the same ring.
 */
#include "machine.h"

        .text
        .globl  guest_handler_ve, guest_handler_vc
guest_handler_ve:
        push    $0                              /* #VE has no error code */
        pushal
        cld
        mov     %esp, %eax
        call    ve_handler
        jmp     1f
guest_handler_vc:                               /* the error code is the exit code */
        pushal
        cld
        mov     %esp, %eax
        call    vc_handler
1:      popal
        add     $4, %esp
        iretl

        .section .note.GNU-stack, "", @progbits
