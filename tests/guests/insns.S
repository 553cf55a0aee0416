/*
 * insns: sections in each of which a known number of instructions retires.
 *
 * 32-bit code in ring 0, with paging.  Each section is a window of the statistics, begun and ended by
 * hypercall, whose name ends with the number: "loop:300".  The numbers were counted by hand: an instruction that
 * faults does not retire, `int n` does, and a `rep` is one instruction however often it is interrupted and resumed.
 *
 * In `ticks`, timer interrupts come at any time; each runs a handler of TICK_LENGTH instructions, and the
 * number of interrupts goes to -debugcon, as four bytes.  isa-debug-exit ends the run.
 */

#include "common.inc"

#define STACK           0x9000
#define IDT             0xA000
#define PAGE_DIR        0xB000
#define PAGE_TABLE      0xC000
#define NAME            0xD000                  /* of the window: hypercalls do not read ROM */
#define TICKS           0xD100
#define CODE            0xE000                  /* code that overwrites itself */
#define SOURCE          0x10000
#define TARGET          0x30000
#define ABSENT          0x31000                 /* a page of the target that is not there until missed */
#define PORT            PORT_FREE
#define NAME_LENGTH     24

/* Present, writable, accessed, dirty. */
#define PAGE_FLAGS      0x63

#define VECTOR_DB       1
#define VECTOR_BP       3
#define VECTOR_OF       4
#define VECTOR_UD       6
#define VECTOR_GP       13
#define VECTOR_PF       14
#define VECTOR_TICK     0x20
#define VECTOR_INT      0x30
#define VECTORS         0x31                    /* the IDT ends here */

#define EFLAGS_TF       0x100
#define TICK_LENGTH     6

/* guest-shim/ABI.md: calls 18 and 19. */
#define BEGIN           0x92000000
#define END             0x93000000

.macro  magic
        .byte   0x0F, 0x1F, 0x80, 'P', 0x32, 0x90, 0x90
.endm

.macro  window call
        mov     $NAME, %edx
        mov     $NAME_LENGTH, %ecx
        mov     $\call, %eax
        magic
.endm

/* The name ends with how many instructions retire from here to the call of `end`. */
.macro  begin name
        .pushsection .rodata
.Lname\@:
        .ascii  "\name"
        .fill   NAME_LENGTH - (. - .Lname\@), 1, ' '
        .popsection
        mov     $.Lname\@, %esi
        mov     $NAME, %edi
        mov     $NAME_LENGTH, %ecx
        rep movsb
        window  BEGIN
.endm

.macro  end                                     /* 3 instructions, and the call, which is not in it */
        window  END
.endm

.macro  gate vector, handler
        mov     $\handler, %eax
        mov     %ax, IDT + 8 * \vector
        movw    $SEL_CODE32, IDT + 8 * \vector + 2
        movw    $0x8E00, IDT + 8 * \vector + 4
        shr     $16, %eax
        mov     %ax, IDT + 8 * \vector + 6
.endm

reset_vector_to start
define_gdt

        .code16
start:
        cli
        cld
        real_segments
        enter_protected
        mov     $STACK, %esp
        gate    VECTOR_DB, only_return
        gate    VECTOR_BP, only_return
        gate    VECTOR_OF, only_return
        gate    VECTOR_UD, skip_two
        gate    VECTOR_GP, skip_two_with_code
        gate    VECTOR_PF, map_page
        gate    VECTOR_TICK, tick
        gate    VECTOR_INT, only_return
        lidt    idtr

        /* One page table: the first 4 MiB where they are. */
        mov     $PAGE_TABLE, %edi
        mov     $PAGE_FLAGS, %eax
.Lmap:  stosl
        add     $0x1000, %eax
        cmp     $0x400000, %eax
        jb      .Lmap
        movl    $PAGE_TABLE + PAGE_FLAGS, PAGE_DIR
        mov     $PAGE_DIR, %eax
        mov     %eax, %cr3
        mov     %cr0, %eax
        or      $CR0_PG, %eax
        mov     %eax, %cr0

        begin   "nothing:3"
        end

        begin   "straight:13"
        .rept   5
        nop
        inc     %ebx
        .endr
        end

        begin   "loop:3004"
        mov     $1000, %ebx
1:      nop
        dec     %ebx
        jnz     1b
        end

        /* Each leaves a block in the middle.  UD2 does not retire; its handler does. */
        begin   "faults:504"                    /* 1 + 100 * (nop, 2 of the handler, dec, jnz) + 3 */
        mov     $100, %ebx
1:      nop
        ud2
        dec     %ebx
        jnz     1b
        end

        /* Software interrupts retire, their IRETs too. */
        begin   "ints:1004"                     /* 1 + 100 * (3 of these and their IRETs, 4 others) + 3 */
        mov     $100, %ebx
1:      int3
        int     $VECTOR_INT
        mov     $0x7FFFFFFF, %eax
        inc     %eax
        into
        dec     %ebx
        jnz     1b
        end

        begin   "into-untaken:304"
        mov     $100, %ebx
1:      into                                    /* DEC has left no overflow */
        dec     %ebx
        jnz     1b
        end

        /* `int n` after the end of the IDT is a #GP: the instruction has not retired. */
        begin   "int-refused:504"               /* 1 + 100 * (3 of the handler, dec, jnz) + 3 */
        mov     $100, %ebx
1:      int     $VECTORS
        dec     %ebx
        jnz     1b
        end

        begin   "rep:14"
        mov     $SOURCE, %esi                   /* 3 */
        mov     $TARGET, %edi
        mov     $1000, %ecx
        rep movsb
        mov     $TARGET, %edi                   /* 2 */
        xor     %ecx, %ecx
        rep stosl                               /* of nothing: one */
        mov     $SOURCE, %esi                   /* 3 */
        mov     $PORT, %edx
        mov     $140000, %ecx                   /* QEMU pauses after 65,536 */
        rep outsb
        end

        /* A page in the middle is missed: the handler maps it, and the `rep` resumes. */
        movl    $0, PAGE_TABLE + (ABSENT >> 12) * 4
        invlpg  ABSENT
        begin   "page-fault:12"                 /* 3 + rep + 5 of the handler + 3 */
        mov     $SOURCE, %esi
        mov     $TARGET, %edi
        mov     $6000, %ecx
        rep movsb
        end

        /* A jump that misses its operand retires when it is tried again. */
        movl    $1f, ABSENT + 0x200
        movl    $0, PAGE_TABLE + (ABSENT >> 12) * 4
        invlpg  ABSENT
        begin   "branch-fault:9"                /* 5 of the handler, jmp + 3 */
        jmp     *(ABSENT + 0x200)
1:      end

        /* A jump to an absent page, at the jump's own offset: the jump retires, and its target is missed. */
        movw    $0xE0FF, CODE + 0x300           /* jmp *%eax */
        movw    $0xE1FF, ABSENT + 0x300         /* jmp *%ecx */
        movl    $0, PAGE_TABLE + (ABSENT >> 12) * 4
        invlpg  ABSENT
        begin   "same-offset:14"                /* 6 + 5 of the handler + 3 */
        mov     $ABSENT + 0x300, %eax
        mov     $1f, %ecx
        mov     $CODE + 0x300, %edx
        jmp     *%edx
1:      end

        /* An instruction that overwrites its own block: QEMU starts it twice. */
        mov     $self_start, %esi
        mov     $CODE, %edi
        mov     $self_end - self_start, %ecx
        rep movsb
        begin   "self-modifying:507"            /* 3 + 100 * 5 + ret + 3 */
        mov     $100, %ebx
        mov     $CODE, %eax
        call    *%eax
        end

        /* TF: a debug trap after each instruction, whose handler returns. */
        begin   "debug-traps:26"
        pushf                                   /* 3 */
        orl     $EFLAGS_TF, (%esp)
        popf
        nop                                     /* 2 */
        mov     $SOURCE, %esi                   /* 2 each, with the IRET of the trap after it */
        mov     $TARGET, %edi
        mov     $4, %ecx
        rep movsb                               /* 1, 4 traps, and one when QEMU finds the count 0 */
        pushf                                   /* 2 each */
        andl    $~EFLAGS_TF, (%esp)
        popf                                    /* the trap is of what TF was before it: 2 */
        end

        /* The timer at some kHz, through long `rep`s and jumps to themselves. */
        call    start_timer
        begin   "ticks:2506"
        sti
        mov     $500, %ebx
1:      mov     $TARGET, %edi
        mov     $20000, %ecx
        rep stosb
        dec     %ebx
        jnz     1b
        cli
        end
        movl    $TICKS, %esi
        mov     $4, %ecx
        mov     $PORT_DEBUGCON, %edx
        rep outsb
        exit_with EXIT_PASS

/* Moved to CODE.  The MOV writes the immediate of the instruction after it. */
self_start:
1:      mov     %bl, CODE + (self_target - self_start) + 1
self_target:
        mov     $0, %al
        nop
        dec     %ebx
        jnz     1b
        ret
self_end:

only_return:
        iretl

skip_two:
        addl    $2, (%esp)
        iretl

skip_two_with_code:
        add     $4, %esp
        addl    $2, (%esp)
        iretl

map_page:
        add     $4, %esp
        movl    $ABSENT + PAGE_FLAGS, PAGE_TABLE + (ABSENT >> 12) * 4
        invlpg  ABSENT
        nop
        iretl

tick:
        incl    TICKS                           /* TICK_LENGTH */
        push    %eax
        mov     $0x20, %al
        out     %al, $PORT_PIC1
        pop     %eax
        iretl

.macro  outb    value, port
        mov     $\value, %al
        out     %al, $\port
.endm

/* 8259A at VECTOR_TICK with only IRQ 0 open; 8254 at 4 kHz.  See irq-rep.S. */
start_timer:
        mov     $0x1B, %ecx                     /* no local APIC: the PIC's interrupts come as they are */
        rdmsr
        and     $~(1 << 11), %eax
        wrmsr
        movl    $0, TICKS
        outb    0x11, PORT_PIC1
        outb    VECTOR_TICK, PORT_PIC1 + 1
        outb    0x04, PORT_PIC1 + 1
        outb    0x01, PORT_PIC1 + 1
        outb    0xFE, PORT_PIC1 + 1
        outb    0xFF, PORT_PIC2 + 1
        outb    0x34, PORT_PIT + 3
        outb    298 & 0xFF, PORT_PIT
        outb    298 >> 8, PORT_PIT
        ret

        .section .rodata
        .balign 8
idtr:   .word   VECTORS * 8 - 1
        .long   IDT
