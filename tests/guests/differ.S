/*
 * differ: runs programs that a test has put into memory, each with its own mode, registers and flags, and
 * stores the results in memory.
 *
 * A program is a record (differ.inc) with up to 56 bytes of code.  It ends by `int $0x30`, or by an
 * exception: in every mode, a trap handler of this guest then stores the registers, the flags and the
 * vector.  The runner itself is 32-bit code, and paging is off while it selects a program; its only
 * port access is the last one, which ends QEMU.  Interrupts stay off.
 */

#include "common.inc"
#include "differ.inc"

reset_vector_to start

        .code16
start:  cli
        cld
        real_segments
        mov     $RUNNER_STACK, %esp

        /* The real-mode vectors. */
        xor     %di, %di
        mov     $ROM(traps_real), %ax
1:      mov     %ax, (%di)
        movw    $ROM_SEGMENT, 2(%di)
        add     $8, %ax
        add     $4, %di
        cmp     $4 * VECTORS, %di
        jb      1b

        enter_protected
        lidt    idtr_32

        /*
         * One TSS for all: the stack of ring 0 is where a 32-bit TSS has it, the first of the
         * interrupt stacks where a 64-bit TSS has it, and the bitmap is at one place in both.
         */
        movl    $TRAP_STACK, TSS + 0x04         /* ESP0 */
        movl    $SEL_DATA32, TSS + 0x08         /* SS0 */
        movl    $TRAP_STACK, TSS + 0x24         /* IST1 */
        movl    $0x68 << 16, TSS + 0x64         /* the bitmap, all zeros, follows */
        mov     $SEL_TSS, %eax
        ltr     %ax

/* ---- The runner --------------------------------------------------------------------------------- */

next:   mov     $RUNNER_STACK, %esp
        mov     NEXT_RECORD, %esi
        mov     $WORK, %edi
        mov     $RECORD_SIZE / 4, %ecx
        rep movsl
        mov     %esi, NEXT_RECORD
        mov     $CODE, %esi                     /* what is there stays there, and QEMU's translation of it */
        mov     CODE_AT, %edi
        mov     $CODE_SIZE / 4, %ecx
        repe cmpsl
        je      1f
        mov     $CODE, %esi
        mov     CODE_AT, %edi
        mov     $CODE_SIZE / 4, %ecx
        rep movsl
1:
        mov     $RESULT, %edi
        xor     %eax, %eax
        mov     $RESULT_SIZE / 4, %ecx
        rep stosl
        mov     RUNNER, %eax
        jmp     *runners(, %eax, 4)

/* Back from a program, by way of a trap.  Flat segments, everything else is unknown. */
finish: cld
        mov     $RUNNER_STACK, %esp
        mov     %cr0, %eax
        and     $~CR0_PG, %eax
        mov     %eax, %cr0
        lidt    idtr_32
        mov     $RESULT, %esi
        mov     NEXT_RESULT, %edi
        mov     $RESULT_SIZE / 4, %ecx
        rep movsl
        mov     $WINDOWS, %ebx
1:      mov     (%ebx), %esi
        mov     4(%ebx), %ecx
        rep movsb
        add     $8, %ebx
        cmp     $WINDOWS + 8 * WINDOWS_COUNT, %ebx
        jb      1b
        mov     %edi, NEXT_RESULT
        decl    PROGRAMS_LEFT
        jnz     next
        exit_with EXIT_PASS

/* ---- Into each mode ----------------------------------------------------------------------------- */

        .code32
run_real:
        leave_protected
        .code16
        lidtl   %cs:ROM(idtr_real)
        mov     $FRAME, %esp
        popal
        popl    %gs
        popl    %fs
        popl    %es
        popl    %ds
        lssl    %ss:STACK, %esp                 /* the same place, by the program's own SS */
        iretl

        .code32
run_virtual:
        call    use_pages
        mov     $FRAME, %esp
        popal
        add     $16, %esp                       /* IRET itself loads the segments */
        iretl

run_protected:
        call    use_pages
        mov     $FRAME, %esp
        popal
        popl    %gs
        popl    %fs
        popl    %es
        popl    %ds
        lssl    %ss:STACK, %esp
        iretl

/* Entries of protected mode, if there are any: long mode, which they would lead into, is off. */
use_pages:
        cmpl    $0, PROTECTED_PAGES
        je      1f
        mov     $MSR_EFER, %ecx
        rdmsr
        and     $~EFER_LME, %eax
        wrmsr
        mov     %cr4, %eax
        or      $CR4_PAE, %eax
        mov     %eax, %cr4
        mov     PROTECTED_PAGES, %eax
        mov     %eax, %cr3
        mov     %cr0, %eax
        or      $CR0_PG, %eax
        mov     %eax, %cr0
1:      ret

run_long:
        enter_long PML4
        .code64
        lidt    idtr_64
        mov     FRAME_GS, %gs
        mov     FRAME_FS, %fs
        mov     FRAME_ES, %es
        mov     FRAME_DS, %ds
        mov     REGISTERS + 0x00, %rax
        mov     REGISTERS + 0x08, %rcx
        mov     REGISTERS + 0x10, %rdx
        mov     REGISTERS + 0x18, %rbx
        mov     REGISTERS + 0x28, %rbp
        mov     REGISTERS + 0x30, %rsi
        mov     REGISTERS + 0x38, %rdi
        mov     REGISTERS + 0x40, %r8
        mov     REGISTERS + 0x48, %r9
        mov     REGISTERS + 0x50, %r10
        mov     REGISTERS + 0x58, %r11
        mov     REGISTERS + 0x60, %r12
        mov     REGISTERS + 0x68, %r13
        mov     REGISTERS + 0x70, %r14
        mov     REGISTERS + 0x78, %r15
        mov     $LONG_FRAME, %esp
        iretq

/* ---- And back ----------------------------------------------------------------------------------- */

        .code16
        .balign 8
traps_real:
        .set    vector, 0
        .rept   VECTORS
        .balign 8
        pushw   $vector
        jmp     trapped_real
        .set    vector, vector + 1
        .endr

/* The registers that no trap handler has touched, by the first letter of their names. */
        .macro  save_registers width
        mov     %\width\()cx, RESULT + 0x08
        mov     %\width\()dx, RESULT + 0x10
        mov     %\width\()bx, RESULT + 0x18
        mov     %\width\()bp, RESULT + 0x28
        mov     %\width\()si, RESULT + 0x30
        mov     %\width\()di, RESULT + 0x38
        .endm

trapped_real:                                   /* on the stack: vector, IP, CS, FLAGS */
        pushl   %eax
        mov     $0, %ax
        mov     %ax, %ds
        popl    RESULT + 0x00
        save_registers e
        popw    RESULT_VECTOR
        popw    RESULT_RIP
        popw    RESULT_CS
        popw    RESULT_FLAGS
        mov     %esp, RESULT + 0x20
        enter_protected
        jmp     finish

        .macro  push_missing_error_code vector
        .if     !(\vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17 || \vector == 21)
        push    $0
        .endif
        .endm

        .code32
        .balign 16
traps_32:
        .set    vector, 0
        .rept   VECTORS
        .balign 16
        push_missing_error_code vector
        push    $vector
        jmp     trapped_32
        .set    vector, vector + 1
        .endr

trapped_32:                                     /* vector, error, EIP, CS, EFLAGS */
        push    %eax
        mov     $SEL_DATA32, %eax
        mov     %eax, %ds
        mov     %eax, %es
        popl    RESULT + 0x00
        save_registers e
        popl    RESULT_VECTOR
        popl    RESULT_ERROR
        popl    RESULT_RIP
        popl    RESULT_CS
        popl    RESULT_FLAGS
        mov     %esp, RESULT + 0x20
        testl   $1 << 17, RESULT_FLAGS
        jz      1f
        popl    RESULT + 0x20                   /* from virtual-8086 mode: its own ESP */
1:      mov     $SEL_DATA32, %eax
        mov     %eax, %ss
        jmp     finish

        .code64
        .balign 16
traps_64:
        .set    vector, 0
        .rept   VECTORS
        .balign 16
        push_missing_error_code vector
        push    $vector
        jmp     trapped_64
        .set    vector, vector + 1
        .endr

trapped_64:                                     /* vector, error, RIP, CS, RFLAGS, RSP, SS */
        mov     %rax, RESULT + 0x00
        save_registers r
        mov     %r8,  RESULT + 0x40
        mov     %r9,  RESULT + 0x48
        mov     %r10, RESULT + 0x50
        mov     %r11, RESULT + 0x58
        mov     %r12, RESULT + 0x60
        mov     %r13, RESULT + 0x68
        mov     %r14, RESULT + 0x70
        mov     %r15, RESULT + 0x78
        popq    RESULT_VECTOR
        popq    RESULT_ERROR
        popq    RESULT_RIP
        popq    RESULT_CS
        popq    RESULT_FLAGS
        popq    RESULT + 0x20
        mov     %cr2, %rax
        mov     %rax, RESULT_CR2
        ljmpl   *out_of_long
        .code32
leaving_long:
        mov     %cr0, %eax
        and     $~CR0_PG, %eax
        mov     %eax, %cr0
        mov     $SEL_DATA32, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        jmp     finish

/* ---- Tables ------------------------------------------------------------------------------------- */

        .balign 8
runners:
        .long   run_real, run_virtual, run_protected, run_long
out_of_long:
        .long   leaving_long
        .word   SEL_CODE32

        .balign 8
idt_32: .set    vector, 0                       /* for every ring: virtual-8086 mode is ring 3 */
        .rept   VECTORS
        .word   ROM(traps_32) + 16 * vector, SEL_CODE32, 0xEE00, ROM_BASE >> 16
        .set    vector, vector + 1
        .endr
idt_64: .set    vector, 0                       /* all on the first interrupt stack */
        .rept   VECTORS
        .word   ROM(traps_64) + 16 * vector, SEL_CODE64, 0x8E01, ROM_BASE >> 16
        .quad   0
        .set    vector, vector + 1
        .endr

idtr_real:
        .word   4 * VECTORS - 1
        .long   0
idtr_32:
        .word   8 * VECTORS - 1
        .long   idt_32
idtr_64:
        .word   16 * VECTORS - 1
        .quad   idt_64

/* The GDT is in RAM, from the test: the bases of the programs' segments are its business. */
gdtr:   .word   0xFFF
        .long   GDT
