/*
 * From the reset vector to `begin` in C, in 32-bit protected mode without paging, or in 64-bit mode where
 * BITS is 64; and trials: `enter` jumps from the guest's own code to the tested instruction,
 * `trap` in world.c handles the end of the trial.
 */

#include "common.inc"
#include "selectors.h"
#include <pvio.h>

#define VECTORS 64

#define OTHERS          3
#define OTHERS_STACK    4096

#if BITS == 64
#define WORD            8
#define GENERAL         16                      /* registers, with a place that RSP would have */
#define FRAME           (GENERAL + 7)
#else
#define WORD            4
#define GENERAL         8
#define FRAME           (GENERAL + 11)          /* with what only virtual-8086 mode has */
#endif

reset_vector_to start
define_gdt

        .code16
start:
        cli
        cld
        real_segments
        /* The only call from real mode: the guest never returns to it. */
        mov     $PVIO_UNANSWERED, %ebx
        mov     %ebx, %eax
        .byte   PVIO_MAGIC_16
        mov     %eax, %ebp
        enter_protected
        clear_bss
        mov     %ebp, answer_in_real_mode
        mov     $own_stack_top, %esp
#if BITS == 64
        /* 1 GiB at its own address, until there are better tables. */
        movl    $boot_directory + 3, boot_pointers
        movl    $boot_pointers + 3, boot_root
        mov     $boot_directory, %edi
        mov     $0x83, %eax
1:      mov     %eax, (%edi)
        add     $8, %edi
        add     $0x200000, %eax
        cmp     $0x40000000, %eax
        jb      1b
        enter_long boot_root
#endif
        call    begin
        halt_forever

#if BITS == 64
/*
 * void switch_paging(word cr3, word cr4): the number of levels can be changed outside long mode alone, so
 * this goes through 32-bit code without paging. Everything here is at its own address, below 4 GiB.
 */
        .code64
        .globl  switch_paging
switch_paging:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        pushq   $CODE0_32
        pushq   $1f
        lretq
        .code32
1:      mov     %cr0, %eax
        and     $~CR0_PG, %eax
        mov     %eax, %cr0
        mov     %esi, %cr4
        mov     %edi, %cr3
        or      $CR0_PG, %eax
        mov     %eax, %cr0
        ljmp    $CODE0, $2f
        .code64
2:      pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
#endif

/*
 * void enter(struct frame *frame): loads all registers from *frame and goes there, in the ring and
 * mode it says. Returns when `trap` says so, with the registers that belong to the caller as they were.
 *
 * The frame goes to the top of the trial's stack first: from there IRET takes it, and there the CPU
 * puts the next one, whichever ring it comes from (the TSS has the same top).
 */
        .globl  enter
#if BITS == 64
        .code64
enter:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, way_back
        mov     %rdi, %rsi
        mov     $trial_stack_top - FRAME * WORD, %edi
        mov     %rdi, %rsp
        mov     $FRAME, %ecx
        rep movsq
go_on:
        .irp    register, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rbx, rdx, rcx, rax
        pop     %\register
        .endr
        add     $2 * WORD, %rsp                 /* vector and error code */
        iretq
#else
        .code32
enter:
        mov     4(%esp), %eax
        push    %ebx
        push    %ebp
        push    %esi
        push    %edi
        mov     %esp, way_back
        mov     %eax, %esi
        mov     $trial_stack_top - FRAME * WORD, %edi
        mov     %edi, %esp
        mov     $FRAME, %ecx
        rep movsl
go_on:
        popal
        add     $2 * WORD, %esp
        iretl
#endif

vector_entries VECTORS

/* int trap(struct frame *): returns whether the trial continues. */
arrive:
#if BITS == 64
        .irp    register, rax, rcx, rdx, rbx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
        push    %\register
        .endr
        cld
        mov     %rsp, %rdi
        mov     %rsp, %rbx
        and     $~15, %rsp                      /* as C wants it */
        call    trap
        mov     %rbx, %rsp
        test    %eax, %eax
        jnz     go_on
        mov     way_back, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
#else
        pushal
        cld
        mov     $DATA3, %eax                    /* virtual-8086 mode leaves none */
        mov     %eax, %ds
        mov     %eax, %es
        mov     %esp, %eax
        push    %eax
        call    trap
        add     $WORD, %esp
        test    %eax, %eax
        jnz     go_on
        mov     way_back, %esp
        pop     %edi
        pop     %esi
        pop     %ebp
        pop     %ebx
        ret
#endif

/*
 * Other CPUs, where they are started: each has a number, from 1 on, and a stack, and in 64-bit code the page
 * tables that the first began with; there are no gates for its exceptions.
 */
        .section .entry, "ax"
        .code16
        cli
        real_segments
        enter_protected
        cmpl    $0, others_wanted
        je      rewrite
        mov     $1, %ebx
        lock xadd %ebx, others_here
        inc     %ebx
        imul    $OTHERS_STACK, %ebx, %esp
        add     $others_stacks, %esp
#if BITS == 64
        enter_long boot_root
        mov     %ebx, %edi
#else
        push    %ebx
#endif
        call    other
        halt_forever

/*
 * Or a second one writes pieces of some records over pieces of others, without end and without regard. It has
 * no paging, and no stack.
 */
        .text
        .code32
rewrite:
        cmpl    $0, moving_at
        jne     move
        mov     $1, %eax
1:      imul    $1664525, %eax                  /* a linear congruential generator: the upper bits are good */
        add     $1013904223, %eax
        mov     %eax, %ebx
        shr     $10, %ebx
        and     $4 * 1024 - 1, %ebx             /* which of the words of four pages */
        mov     %ebx, %ecx
        shr     $10, %ecx
        mov     rewritten_frames(, %ecx, 4), %edi
        mov     %eax, %edx
        shr     $24, %edx                       /* from which record: the same field of it */
        shl     $2, %edx
        mov     %ebx, %ecx
        and     $3, %ecx
        or      %ecx, %edx
        mov     rewritten_from(, %edx, 4), %edx
        and     $1023, %ebx
        mov     %edx, (%edi, %ebx, 4)
        incl    rewrites
        jmp     1b

/* Or it gives four entries of page tables now one content and now another. */
move:
        mov     $1, %eax
1:      imul    $1664525, %eax
        add     $1013904223, %eax
        mov     %eax, %ebx
        shr     $29, %ebx                       /* which entry, and which of its contents */
        mov     %ebx, %ecx
        shr     $1, %ecx
        mov     moving_at(, %ecx, 4), %edi
        mov     moving_to(, %ebx, 4), %edx
        mov     %edx, (%edi)
        incl    rewrites
        jmp     1b

        .section .bss
        .balign 4096
        .globl  moving_at, moving_to
moving_at:
        .skip   16
moving_to:
        .skip   32
        .globl  rewritten_from, rewritten_frames, rewrites, others_wanted, others_here
rewritten_from:                                 /* 256 records */
        .skip   4096
rewritten_frames:
        .skip   16
rewrites:
        .skip   16
others_wanted:
        .skip   16
others_here:
        .skip   16
others_stacks:
        .skip   OTHERS * OTHERS_STACK
        .balign 4096
#if BITS == 64
boot_root:
        .skip   4096
boot_pointers:
        .skip   4096
boot_directory:
        .skip   4096
#endif
        .globl  answer_in_real_mode
answer_in_real_mode:
        .skip   16
way_back:
        .skip   16
        .skip   16384
own_stack_top:
        .skip   16384
        .globl  trial_stack_top
trial_stack_top:
