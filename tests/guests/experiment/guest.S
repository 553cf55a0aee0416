/*
 * The guest: one loop for each cell of the experiment. They differ only in their middle, so the difference between
 * a loop and the loop of `nothing` is the cost of the loop's operations.
 *
 *      stack   the number of iterations, then the address to jump to at the end
 *      EBP     a rolling sum of the values that were read; 0 at the start
 *
 * The code does not depend on its ring: `in` and `out` execute in ring 0, and are trapped in ring 1 or by SVM.
 */
#include "machine.h"

#define SCALARS 12      /* the first cells, of one element in registers */
#define ONE_ELEMENT 24  /* the first cells of one element */
#define BUFFER 2048     /* 512 elements of 32 bits */

/* guest-shim/ABI.md: bit 31, the call in bits 24-30, the operand in 16-23, the port. */
#define CALL(number) (0x80000000 | (number) << 24 | DEVICE_PORT)

.macro  magic what='P'
        .byte   0x0F, 0x1F, 0x80, \what, 0x32, 0x90, 0x90
.endm

/* No loop lies on two pages: QEMU does not link translations across pages. */
.macro  head name, count
        .balign 256
        .globl  \name
\name:
1:      mov     (%esp), %eax
        mov     $DEVICE_PORT, %edx
        mov     $\count, %ecx
        mov     $out_buffer, %esi
        mov     $in_buffer, %edi
.endm

/* Of what is in EAX only what an `in` has read is the same by every mechanism. */
.macro  tail op
        .if     \op == OP_IN
        movzbl  %al, %eax
        .elseif \op == OP_IN + 1
        movzwl  %ax, %eax
        .elseif \op == OP_IN + 2
        mov     %eax, %eax
        .else
        mov     $0, %eax
        .endif
        rol     $1, %ebp
        xor     %eax, %ebp
        decl    (%esp)
        jnz     1b
        pop     %eax
        ret
.endm

/* ---- The instruction itself: for native, the traps and svm-ioio. ---- */

.macro  direct cell, count, op, insn
        head    direct_\cell, \count
        .if     \cell >= 24 && (\cell - 24) % 6 < 3
2:      \insn                                   /* a plain string instruction moves one element */
        dec     %ecx
        jnz     2b
        .else
        \insn
        .endif
        tail    \op
.endm

/* ---- A number in a register and a way into the monitor: for int and svm-vmmcall. ---- */

.macro  by_number kind, cell, count, op, way:vararg
        head    \kind\()_\cell, \count
        mov     $\op, %ebx
        \way
        tail    \op
.endm

/* ---- pvio's hypercall (guest-shim/ABI.md). ---- */

.macro  pvio cell, count, op
        head    pvio_\cell, \count
        .if     \op < OP_OUT                    /* calls 1 to 3: inb, inw, inl */
        mov     $CALL(1 + \op), %eax
        magic
        test    $0xFF000000, %eax
        jnz     unanswered
        .if     \op == OP_IN + 2
        mov     %edx, %eax
        .endif
        .elseif \op == OP_OUT                   /* call 4: outb, what is written beside it */
        movzbl  %al, %eax
        shl     $16, %eax
        or      $CALL(4), %eax
        magic
        shr     $24, %eax
        jnz     unanswered
        .elseif \op < OP_INS                    /* calls 5 and 6: outw, outl */
        mov     %eax, %edx
        mov     $CALL(1 + \op), %eax
        magic
        shr     $24, %eax
        jnz     unanswered
        .else                                   /* calls 7 to 12: insb ... outsl */
        .if     \op < OP_OUTS
        mov     %edi, %edx
        .else
        mov     %esi, %edx
        .endif
        mov     $CALL(1 + \op), %eax
        magic
        shr     $24, %eax
        jnz     unanswered
        .endif
        tail    \op
.endm

/* ---- The same through the mailbox, which is left as it was found: one element. ---- */

.macro  mailbox cell, count, op
        head    mailbox_\cell, \count
        mov     mailbox, %ebx
        .if     \op < OP_OUT
        .if     \op == OP_IN + 2
        mov     mailbox + 4, %esi
        .endif
        movl    $CALL(1 + \op), mailbox
        magic   'Q'
        mov     mailbox, %eax
        test    $0xFF000000, %eax
        jnz     unanswered
        .if     \op == OP_IN + 2
        mov     mailbox + 4, %eax
        mov     %esi, mailbox + 4
        .endif
        .else
        .if     \op == OP_OUT
        movzbl  %al, %eax
        shl     $16, %eax
        or      $CALL(4), %eax
        mov     %eax, mailbox
        .else
        mov     mailbox + 4, %esi
        mov     %eax, mailbox + 4
        movl    $CALL(1 + \op), mailbox
        .endif
        magic   'Q'
        mov     mailbox, %eax
        shr     $24, %eax
        jnz     unanswered
        .if     \op != OP_OUT
        mov     %esi, mailbox + 4
        .endif
        .endif
        mov     %ebx, mailbox
        tail    \op
.endm

/* ---- SYSENTER, whose ways of passing registers are its own: see fast_hypercall. ---- */

.macro  fast cell, count, op
        head    sysenter_\cell, \count
        .if     \op >= OP_INS
        .if     \op < OP_OUTS
        mov     %edi, %esi
        .endif
        mov     %ecx, %edi
        .endif
        mov     $(\op | DEVICE_PORT << 16), %ebx
        mov     %esp, %ecx
        mov     $2f, %edx
        sysenter
2:      tail    \op
.endm

#include "today.inc"

        .text
.macro  cell number, count, op, insn:vararg
        direct  \number, \count, \op, "\insn"
        by_number int, \number, \count, \op, int $VECTOR_CALL
        called  \number, \count, \op
        .if     \number >= SCALARS
        unrolled \number, \count, \op
        .endif
        .if     \number < ONE_ELEMENT
        batched \number, \count, \op
        .endif
        pvio    \number, \count, \op
        .if     \number < SCALARS
        mailbox \number, \count, \op
        .endif
        /* The same four forms as the paper's: out dx,al; in al,dx; rep outsb; rep insb. */
        .if     \number == 3 || \number == 9 || \number == 15 || \number == 21 || \number == 27 || \number == 33
        fast    \number, \count, \op
        by_number vmmcall, \number, \count, \op, vmmcall
        .endif
.endm

        cell    0, 1, OP_IN + 0, in $DEVICE_PORT, %al
        cell    1, 1, OP_IN + 1, in $DEVICE_PORT, %ax
        cell    2, 1, OP_IN + 2, in $DEVICE_PORT, %eax
        cell    3, 1, OP_IN + 0, in %dx, %al
        cell    4, 1, OP_IN + 1, in %dx, %ax
        cell    5, 1, OP_IN + 2, in %dx, %eax
        cell    6, 1, OP_OUT + 0, out %al, $DEVICE_PORT
        cell    7, 1, OP_OUT + 1, out %ax, $DEVICE_PORT
        cell    8, 1, OP_OUT + 2, out %eax, $DEVICE_PORT
        cell    9, 1, OP_OUT + 0, out %al, %dx
        cell    10, 1, OP_OUT + 1, out %ax, %dx
        cell    11, 1, OP_OUT + 2, out %eax, %dx
        cell    12, 1, OP_INS + 0, insb
        cell    13, 1, OP_INS + 1, insw
        cell    14, 1, OP_INS + 2, insl
        cell    15, 1, OP_INS + 0, rep insb
        cell    16, 1, OP_INS + 1, rep insw
        cell    17, 1, OP_INS + 2, rep insl
        cell    18, 1, OP_OUTS + 0, outsb
        cell    19, 1, OP_OUTS + 1, outsw
        cell    20, 1, OP_OUTS + 2, outsl
        cell    21, 1, OP_OUTS + 0, rep outsb
        cell    22, 1, OP_OUTS + 1, rep outsw
        cell    23, 1, OP_OUTS + 2, rep outsl
        cell    24, 512, OP_INS + 0, insb
        cell    25, 512, OP_INS + 1, insw
        cell    26, 512, OP_INS + 2, insl
        cell    27, 512, OP_INS + 0, rep insb
        cell    28, 512, OP_INS + 1, rep insw
        cell    29, 512, OP_INS + 2, rep insl
        cell    30, 512, OP_OUTS + 0, outsb
        cell    31, 512, OP_OUTS + 1, outsw
        cell    32, 512, OP_OUTS + 2, outsl
        cell    33, 512, OP_OUTS + 0, rep outsb
        cell    34, 512, OP_OUTS + 1, rep outsw
        cell    35, 512, OP_OUTS + 2, rep outsl

/* The loop with nothing in it. */
        head    nothing, 1
        tail    OP_OUT

/* How a guest ends: in ring 1 or 3, and under SVM. */
        .globl  guest_done, guest_halts
guest_done:
        int     $VECTOR_DONE
guest_halts:
        hlt

/* Nobody has answered a call, or not with OK: EBP says so. */
unanswered:
        mov     $0xDEADCA11, %ebp
        pop     %eax
        ret

/*
 * Trials of the monitor: code is put at `trial`, and runs up to the end after it. A handler of the
 * guest's says which exception it got, and is done.
 */
        .globl  guest_handler_gp, guest_handler_pf, guest_handler_db
guest_handler_gp:
        mov     $0x0D00, %ebp
        jmp     1f
guest_handler_pf:
        mov     $0x0E00, %ebp
1:      pop     %eax                            /* the error code */
        or      %eax, %ebp
        int     $VECTOR_DONE
guest_handler_db:
        mov     $0x0100, %ebp
        int     $VECTOR_DONE

.macro  table name, kind
        .globl  \name
        .balign 4
\name:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35
        .long   \kind\()_\n
        .endr
.endm
.macro  few name, kind
        .globl  \name
        .balign 4
\name:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35
        .if     \n == 3 || \n == 9 || \n == 15 || \n == 21 || \n == 27 || \n == 33
        .long   \kind\()_\n
        .else
        .long   0
        .endif
        .endr
.endm
.macro  scalars name, kind
        .globl  \name
        .balign 4
\name:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11
        .long   \kind\()_\n
        .endr
        .fill   36 - SCALARS, 4, 0
.endm
.macro  for_ve name
        .globl  \name
        .balign 4
\name:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11
        .long   direct_\n
        .endr
        .irp    n, 12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35
        .long   unrolled_\n
        .endr
.endm
.macro  ones name, kind
        .globl  \name
        .balign 4
\name:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23
        .long   \kind\()_\n
        .endr
        .fill   36 - ONE_ELEMENT, 4, 0
.endm
/* Writes: `out`, and `outs` of one and of 512 elements. */
.macro  writes name, kind
        .globl  \name
        .balign 4
\name:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35
        .if     (\n / 6) % 2
        .long   \kind\()_\n
        .else
        .long   0
        .endif
        .endr
.endm
        .section .tables, "a"
        table   direct_loops, direct
        table   int_loops, int
        table   pvio_loops, pvio
        scalars mailbox_loops, mailbox
        few     sysenter_loops, sysenter
        few     vmmcall_loops, vmmcall
        table   called_loops, called
        for_ve  ve_loops
        ones    batch_loops, batch
        writes  write_loops, direct

        .section .guest_data, "aw", @nobits
        .balign 4096
        .globl  guest_data_start, out_buffer, in_buffer, guest_stack, mailbox
guest_data_start:
out_buffer:
        .skip   4096
in_buffer:
        .skip   4096
guest_stack:
        .skip   4096
mailbox:
        .skip   4096
        .globl  ghcb, batch_records, batch_next
ghcb:   .skip   4096
batch_records:
        .skip   BATCH_RECORDS * RECORD
batch_next:
        .skip   4

        .section .guest_trial, "awx", @nobits
        .balign 4096
        .globl  trial
trial:
        .skip   8192

        .section .note.GNU-stack, "", @progbits
