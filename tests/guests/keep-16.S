/*
 * keep-16: the macros pvio_keep_* of pvio16.inc change only the registers that their instructions change,
 * whether the calls are answered or not. See README.md.
 */

#include "common.inc"
#include <pvio16.inc>

#define LATCH           0x5000

#define DATA_SEGMENT    0x1230
#define SOURCE          0x0100
#define TARGET          0x0200
#define COUNT           3

/* The values of the registers, and every arithmetic flag. */
#define EAX             0x81828384
#define EBX             0x91929394
#define ECX             (0xA1A20000 | COUNT)
#define EDX             0xB1B2B3B4
#define ESI             (0xC1C20000 | SOURCE)
#define EDI             (0xD1D20000 | TARGET)
#define EBP             0xE1E2E3E4
#define FLAGS           0x08D7

/* Their values afterwards. */
#define AFTER_EAX       0x00
#define AFTER_EBX       0x04
#define AFTER_ECX       0x08
#define AFTER_EDX       0x0C
#define AFTER_ESI       0x10
#define AFTER_EDI       0x14
#define AFTER_EBP       0x18
#define AFTER_FLAGS     0x1C

reset_vector_to start

.macro  expect place, value
        cmpl    $(\value), \place
        jne     failed
.endm

/* ANSWER: the bits of EAX that may change. LEFT: CX. SI, DI: by how much these advance. */
.macro  keeps operation, port, answer=0, left=COUNT, si=0, di=0
        mov     $EAX, %eax
        mov     $EBX, %ebx
        mov     $ECX, %ecx
        mov     $EDX, %edx
        mov     $ESI, %esi
        mov     $EDI, %edi
        mov     $EBP, %ebp
        pushw   $FLAGS
        popfw
        \operation \port
        mov     %eax, AFTER_EAX
        mov     %ebx, AFTER_EBX
        mov     %ecx, AFTER_ECX
        mov     %edx, AFTER_EDX
        mov     %esi, AFTER_ESI
        mov     %edi, AFTER_EDI
        mov     %ebp, AFTER_EBP
        pushfl
        popl    AFTER_FLAGS
        mov     AFTER_EAX, %eax
        and     $(0xFFFFFFFF ^ \answer), %eax
        cmp     $(EAX & (0xFFFFFFFF ^ \answer)), %eax
        jne     failed
        expect  AFTER_EBX, EBX
        expect  AFTER_ECX, (0xA1A20000 | \left)
        expect  AFTER_EDX, EDX
        expect  AFTER_ESI, ESI + \si
        expect  AFTER_EDI, EDI + \di
        expect  AFTER_EBP, EBP
        expect  AFTER_FLAGS, FLAGS
        cmp     $0x8000, %sp
        jne     failed
.endm

/* The answer is what the instruction reads. */
.macro  expect_answer register, place
        mov     $LATCH, %dx
        in      %dx, \register
        cmp     \register, \place
        jne     failed
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
        mov     %ax, %es
        mov     $SOURCE, %di
        mov     $(4 * COUNT), %cx
1:      mov     %cl, %al
        stosb
        loop    1b

        keeps   pvio_keep_outl, LATCH
        keeps   pvio_keep_inl, LATCH, answer=0xFFFFFFFF
        expect_answer %eax, AFTER_EAX
        keeps   pvio_keep_outw, LATCH
        keeps   pvio_keep_inw, LATCH, answer=0xFFFF
        expect_answer %ax, AFTER_EAX
        keeps   pvio_keep_outb, LATCH
        keeps   pvio_keep_inb, LATCH, answer=0xFF
        expect_answer %al, AFTER_EAX
        keeps   pvio_keep_outsb, LATCH, left=0, si=COUNT
        keeps   pvio_keep_outsw, LATCH, left=0, si=(2 * COUNT)
        keeps   pvio_keep_outsl, LATCH, left=0, si=(4 * COUNT)
        keeps   pvio_keep_insl, LATCH, left=0, di=(4 * COUNT)
        expect_answer %eax, TARGET + 8
        keeps   pvio_keep_insw, LATCH, left=0, di=(2 * COUNT)
        keeps   pvio_keep_insb, LATCH, left=0, di=COUNT
        expect_answer %al, TARGET + 2
        exit_with EXIT_PASS

failed:
        exit_with EXIT_FAIL
