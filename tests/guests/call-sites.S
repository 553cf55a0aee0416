/*
 * call-sites: hypercalls from known places, in 16, 32 and 64-bit code, with frame pointers.
 *
 * In each mode, once:
 *
 *      top -> driver -> port_out       three times: outb, which states the return address in driver as its site
 *      top -> write                    twice: outb by registers, outb by the mailbox
 *      top -> bulk                     once: outsb of STRING bytes, and a batch of outb, outb, inb
 *
 * In 64-bit code, top also calls write four times at another linear address of the same page.
 *
 * The large mailbox is registered once, in real mode.  At the end: 1 x out imm8,al port 0xf4.  Calls by registers may
 * have no answer.
 *
 * The counts are in tests/tests/suite/counting/call_sites.rs.
 */

#include "common.inc"

#define STRING          20
#define BOX             0x5F00                  /* a multiple of its size, 64 */
#define BOX_WORD        (BOX + 0)
#define BOX_KEY         (BOX + 8)
#define BOX_ADDRESS     (BOX + 16)
#define BOX_COUNT       (BOX + 24)
#define BOX_SITE        (BOX + 32)
#define BUFFER          0x6000
#define BATCH           0x6100
#define STACK           0x7000
#define PML4            0x8000
#define PDPT            0x9000
#define PAGE_DIR        0xA000
#define USED            0x27                    /* present, writable, user, accessed */
#define USED_LARGE      0xE7                    /* ... dirty, large */
#define ALIAS           0x200000                /* shows the memory at 0 */

/* The numbers of calls, and the fields of a call word (guest-shim/ABI.md). */
#define CALL_INB        1
#define CALL_OUTB       4
#define CALL_OUTSB      10
#define CALL_BATCH      13
#define CALL_REGISTER_LARGE 22
#define WORD(call, operand, port) (0x80000000 | (call) << 24 | (operand) << 16 | (port))
#define PENDING         0x80

        .text
        define_gdt

        .code16
        .globl  start, register_io
start:
        real_segments
        mov     $STACK, %esp
        cld
        movl    $0x20646573, BOX_KEY
        movl    $0x6c616572, BOX_KEY + 4
        movl    $WORD(CALL_REGISTER_LARGE, 0, 0), BOX_WORD
        mov     $BOX, %edx
register_io:
        .byte   0x67, 0x0f, 0x1f, 0x80, 'R', 0x16, 0x90, 0x90
        testl   $0x80000000, BOX_WORD
        jnz     unheard
#define MODE 16
#include "call-sites-body.inc"
#undef MODE

        enter_protected
#define MODE 32
#include "call-sites-body.inc"
#undef MODE

        movl    $PDPT | USED, PML4
        movl    $PAGE_DIR | USED, PDPT
        movl    $USED_LARGE, PAGE_DIR
        movl    $USED_LARGE, PAGE_DIR + 8       /* ALIAS */
        enter_long PML4
        mov     $STACK, %rsp
#define MODE 64
#include "call-sites-body.inc"
#undef MODE

        exit_with EXIT_PASS

        .code16
unheard:
        exit_with EXIT_FAIL

        reset_vector_to start
