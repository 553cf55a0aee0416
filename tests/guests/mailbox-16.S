/*
 * mailbox-16: the mailbox from real mode, in segments that do not begin at 0. If no host answers, the same program
 * uses the instructions. README.md lists every call.
 */

#include "common.inc"
#include <pvio16.inc>

#define LATCH           0x5000

#define DATA_SEGMENT    0x1230
#define BOX             0x0040
#define WORD            (BOX + 0)
#define VALUE           (BOX + 4)
#define KEY             (BOX + 8)

reset_vector_to start

.macro  expect register, value
        cmp     $\value, \register
        jne     failed
.endm

.macro  expectl place, value
        cmpl    $\value, \place
        jne     failed
.endm

/* Rings the mailbox. ZF if the call was executed, which needs BP = 0. */
.macro  post word
        movl    $\word, WORD
        pvio_doorbell
        mov     WORD, %eax
        call    judge
.endm

        .code16
        .globl  start
start:
        cli
        cld
        real_segments
        mov     $0x8000, %sp
        mov     $DATA_SEGMENT, %ax
        mov     %ax, %ds

        /* Nobody knows of it yet. */
        movl    $0x20646573, KEY
        movl    $0x6c616572, KEY + 4
        mov     $0xFFFF, %bp
        post    PVIO_WORD(PVIO_CALL_PROBE, 0, 0)

        /* ---- Registered? BP is 0 if so, else all ones. */
        mov     $PVIO_WORD(PVIO_CALL_REGISTER, 0, 0), %eax
        mov     %eax, WORD
        mov     $(DATA_SEGMENT * 16 + BOX), %edx
        mov     $0x01234567, %ecx
        pvio_register_mailbox
        expect  %eax, PVIO_WORD(PVIO_CALL_REGISTER, 0, 0)
        expect  %edx, (DATA_SEGMENT * 16 + BOX)
        expect  %ecx, 0x01234567
        mov     WORD, %ebx
        sar     $31, %ebx
        mov     %bx, %bp
        jnz     scalars
        expectl WORD, PVIO_VERSION
        testl   $PVIO_FEATURE_MAILBOX, VALUE
        jz      failed

scalars:
        movl    $0x44332211, VALUE
        post    PVIO_WORD(PVIO_CALL_OUTL, 0, LATCH)
        je      1f
        mov     $LATCH, %dx
        mov     $0x44332211, %eax
        out     %eax, %dx
1:      movl    $0xBBAA, VALUE
        post    PVIO_WORD(PVIO_CALL_OUTW, 0, LATCH + 2)
        je      1f
        mov     $(LATCH + 2), %dx
        mov     $0xBBAA, %ax
        out     %ax, %dx
1:      post    PVIO_WORD(PVIO_CALL_OUTB, 0x99, LATCH + 1)
        je      1f
        mov     $(LATCH + 1), %dx
        mov     $0x99, %al
        out     %al, %dx
1:      mov     $LATCH, %dx
        in      %dx, %eax
        expect  %eax, 0xBBAA9911

        post    PVIO_WORD(PVIO_CALL_INL, 0, LATCH)
        jne     released
        expectl VALUE, 0xBBAA9911
        post    PVIO_WORD(PVIO_CALL_INW, 0, LATCH + 1)
        expectl WORD, 0xAA99
        post    PVIO_WORD(PVIO_CALL_INB, 0, LATCH + 3)
        expectl WORD, 0xBB
        expectl VALUE, 0xBBAA9911
        post    PVIO_WORD(PVIO_CALL_RELEASE, 0, 0)
        expectl WORD, 0

released:
        mov     $0xFFFF, %bp
        post    PVIO_WORD(PVIO_CALL_INB, 0, LATCH)
        expectl KEY, 0x20646573
        expectl KEY + 4, 0x6c616572
        exit_with EXIT_PASS

failed:
        exit_with EXIT_FAIL

/* EAX: what is in a mailbox after a ring. It must be an answer, and OK, or a call still. */
judge:
        test    %bp, %bp
        jnz     1f
        test    $0xFF000000, %eax               /* ZF */
        jnz     failed
        ret
1:      test    %eax, %eax
        jns     failed
        test    %bp, %bp                        /* not 0 */
        ret
