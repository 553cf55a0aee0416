/*
 * Entry into the monitor and exit from it: entry saves the state that the processor does not save, and exit restores
 * it. These instructions are the cost of a mechanism, whatever operation it performs.
 */
#include "entry.inc"

        .text
/* #GP: the error code is there (SDM Vol. 3A 6.13). An interrupt gate: interrupts stay off. */
        .globl  gp_entry
gp_entry:
        save
        call    general_protection
        jmp     resume

        .globl  gp_checked_entry
gp_checked_entry:
        save
        call    general_protection_checked
        jmp     resume

        .globl  gp_user_entry
gp_user_entry:
        save
        call    general_protection_user
        jmp     resume

        .globl  gp_posted_entry
gp_posted_entry:
        save
        call    general_protection_posted
        jmp     resume

/* The hypercalls by `int`: no error code. */
.macro  call_by_int entry, function
        .globl  \entry
\entry:
        push    $0
        save
        call    \function
        jmp     resume
.endm
        call_by_int io_call_entry, io_call
        call_by_int ghcb_entry, ghcb_call
        call_by_int batch_entry, batch

/* `int $VECTOR_CALL`. */
        .globl  call_entry
call_entry:
        push    $0
        save
        call    hypercall
        .globl  resume
resume:
        restore
        add     $4, %esp                        /* the error code */
        iretl                                   /* SDM Vol. 2, "IRET": to the outer ring, with its stack */

/*
 * SYSENTER (SDM Vol. 3A 5.8.7): ESP is MSR 175h's, nothing is saved. The guest has put its stack pointer into
 * ECX and the place to return to into EDX, which is where SYSEXIT takes them from.
 */
        .globl  sysenter_entry
sysenter_entry:
        push    $DATA3
        push    %ecx
        pushf
        push    $CODE3
        push    %edx
        push    $0
        save
        call    fast_hypercall
        restore
        sysexit

/*
 * svm_run(): lets the guest of svm.c run until it is done. VMRUN (APM Vol. 2, 15.5.1) loads and saves RAX,
 * RSP, RIP and RFLAGS; the other registers are here. #VMEXIT comes out behind it, with GIF 0 (15.17).
 */
        .globl  svm_run
svm_run:
        push    %ebp
        push    %ebx
        push    %esi
        push    %edi
1:      mov     svm_frame + 8, %edi
        mov     svm_frame + 12, %esi
        mov     svm_frame + 16, %ebp
        mov     svm_frame + 24, %ebx
        mov     svm_frame + 28, %edx
        mov     svm_frame + 32, %ecx
        mov     $vmcb, %eax
        vmrun   %eax
        mov     %edi, svm_frame + 8
        mov     %esi, svm_frame + 12
        mov     %ebp, svm_frame + 16
        mov     %ebx, svm_frame + 24
        mov     %edx, svm_frame + 28
        mov     %ecx, svm_frame + 32
        cld
        call    svm_exit                        /* whether it goes on */
        test    %eax, %eax
        jnz     1b
        stgi
        pop     %edi
        pop     %esi
        pop     %ebx
        pop     %ebp
        ret

/* The rest is not on the way of any operation. */
        .section .text.harness, "ax"

/*
 * run_guest(eip, esp, cs, ss): lets a guest run in an outer ring until it is done: by IRET, which is how a
 * processor gets there (SDM Vol. 3A 5.8.6). EFLAGS: IOPL 0, interrupts off.
 */
        .globl  run_guest
run_guest:
        push    %ebp
        push    %ebx
        push    %esi
        push    %edi
        mov     %esp, harness_esp
        mov     20(%esp), %ebx                  /* the fourth argument, on the stack */
        push    %ebx
        push    %edx
        push    $FLAGS_ONE
        push    %ecx
        push    %eax
        xor     %ebp, %ebp
        mov     %ebx, %ds
        mov     %ebx, %es
        iretl

/* `int $VECTOR_DONE`: returns to the caller of run_guest. */
        .globl  done_entry
done_entry:
        mov     $DATA0, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %ebp, guest_result
        mov     harness_esp, %esp
        cld
        pop     %edi
        pop     %esi
        pop     %ebx
        pop     %ebp
        ret

/* run_native(eip, esp): the same code as a guest's, in ring 0. */
        .globl  run_native
run_native:
        push    %ebp
        push    %ebx
        push    %esi
        push    %edi
        mov     %esp, harness_esp
        mov     %edx, %esp
        xor     %ebp, %ebp
        jmp     *%eax
        .globl  native_done
native_done:
        mov     %ebp, guest_result
        mov     harness_esp, %esp
        pop     %edi
        pop     %esi
        pop     %ebx
        pop     %ebp
        ret

/* All exceptions that have no entry above. */
        .set    vector, 0
        .rept   32
        .balign 16
        .if     vector == 0
        .globl  exceptions
exceptions:
        .endif
        .if     vector != 8 && (vector < 10 || vector > 14) && vector != 17
        push    $0
        .endif
        push    $vector
        jmp     1f
        .set    vector, vector + 1
        .endr
1:      popl    %ss:exception_vector            /* DS may still be the guest's */
        save
        call    exception
        jmp     resume

/* A monitor that must not go on where it was, but with the guest: its frame is at the top of the stack. */
        .globl  leave_to_guest
leave_to_guest:
        mov     %eax, %esp
        jmp     resume

        .bss
        .balign 4
harness_esp:
        .skip   4
        .globl  guest_result
guest_result:
        .skip   4
        .globl  exception_vector
exception_vector:
        .skip   4

        .section .note.GNU-stack, "", @progbits
