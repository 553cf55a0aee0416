/*
 * From the reset vector to `guest`, Rust in 64-bit mode, with vector registers for the compiler and a
 * page-fault handler for the strings: what is at PAGED is absent until it is touched.
 */

#include "common.inc"

#define PAGED           0x200000                /* what the second entry of the page directory maps */
#define PAGED_PAGES     16
#define PRESENT_WRITE   0x3
#define PAGE_2M         0x80

#define CR0_MP          (1 << 1)
#define CR0_EM          (1 << 2)
#define CR4_OSFXSR      (1 << 9)
#define CR4_OSXMMEXCPT  (1 << 10)

#define PAGE_FAULT      14

reset_vector_to start
define_gdt

        .code16
start:
        cli
        cld
        real_segments
        enter_protected
        clear_bss
        movl    $pdpt + PRESENT_WRITE, pml4
        movl    $page_directory + PRESENT_WRITE, pdpt
        movl    $PAGE_2M | PRESENT_WRITE, page_directory
        movl    $paged_table + PRESENT_WRITE, page_directory + 8
        enter_long pml4
        mov     %cr0, %rax
        and     $~CR0_EM, %rax
        or      $CR0_MP, %rax
        mov     %rax, %cr0
        mov     %cr4, %rax
        or      $CR4_OSFXSR | CR4_OSXMMEXCPT, %rax
        mov     %rax, %cr4
        lidt    idtr
        mov     $stack_top, %esp                /* 16-aligned before the call, as the ABI wants it */
        call    guest
        halt_forever

/*
 * Maps the page that was touched, if it is one of those at PAGED, to its own frame: what was in it is
 * in it again.  Any other fault is a mistake.  (There is no red zone to heed: build says so.)
 */
page_fault:
        push    %rax
        push    %rcx
        mov     %cr2, %rax
        sub     $PAGED, %rax
        shr     $12, %rax
        cmp     $PAGED_PAGES, %rax
        jae     .Lmistake
        mov     %eax, %ecx
        shl     $12, %ecx
        add     $paged_frames + PRESENT_WRITE, %ecx
        cmpq    $0, paged_table(, %rax, 8)      /* present, and yet a fault */
        jne     .Lmistake
        mov     %rcx, paged_table(, %rax, 8)
        incl    page_faults
        pop     %rcx
        pop     %rax
        add     $8, %rsp                        /* the error code */
        iretq
.Lmistake:
        exit_with EXIT_FAIL

        .balign 8
idt:    .skip   PAGE_FAULT * 16, 0
        .word   ROM(page_fault), SEL_CODE64, 0x8E00, ROM_BASE >> 16
        .quad   0
idt_end:
        .word   0
idtr:   .word   idt_end - idt - 1
        .quad   idt

/* What compilers call by themselves, and a libc would have. */
        .globl  memcpy, memmove, memset, memcmp, bcmp
memmove:
        mov     %rdi, %rax
        sub     %rsi, %rax
        cmp     %rdx, %rax                      /* does the end of the source lie in the target? */
        jae     memcpy
        mov     %rdi, %rax
        mov     %rdx, %rcx
        lea     -1(%rdi, %rdx), %rdi
        lea     -1(%rsi, %rdx), %rsi
        std
        rep movsb
        cld
        ret
memcpy:
        mov     %rdi, %rax
        mov     %rdx, %rcx
        rep movsb
        ret
memset:
        mov     %rdi, %r8
        mov     %esi, %eax
        mov     %rdx, %rcx
        rep stosb
        mov     %r8, %rax
        ret
memcmp:
bcmp:
        mov     %rdx, %rcx
        xor     %eax, %eax
        test    %rcx, %rcx
        jz      1f
        repe cmpsb
        movzbl  -1(%rdi), %ecx
        movzbl  -1(%rsi), %eax
        sub     %ecx, %eax
1:      ret

        .section .bss
        .balign 4096
pml4:           .skip 4096
pdpt:           .skip 4096
page_directory: .skip 4096
        .globl  paged_table
paged_table:    .skip 4096
paged_frames:   .skip PAGED_PAGES * 4096
                .skip 0x8000
stack_top:
        .globl  page_faults
page_faults:    .skip 4
