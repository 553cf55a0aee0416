/* Entries of the part that stands for a processor: see processor.c. */
#include "entry.inc"

        .text
        .globl  gp_ve_entry
gp_ve_entry:
        save
        call    virtualization_exception
        jmp     processor_resume

        .globl  gp_vc_entry
gp_vc_entry:
        save
        call    communication_exception
        jmp     processor_resume

        .globl  ve_info_entry
ve_info_entry:
        push    $0
        save
        call    get_ve_info
processor_resume:
        restore
        add     $4, %esp
        iretl

        .section .note.GNU-stack, "", @progbits
