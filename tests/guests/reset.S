/*
 * reset: resets itself repeatedly, in the middle of port I/O, and reports at the end what it has done, because
 * memory survives a reset. Give QEMU two CPUs, and not -no-reboot.
 *
 * Each boot does the next of these steps:
 *
 *      1 time          an out, then ud2 without an IDT: a triple fault in ring 0
 *      1 time          an out in ring 3 that the TSS refuses, without an IDT: a triple fault by the out
 *      5 times         1000 x out, then 6 to the reset register of the chipset, 0xcf9
 *      5 times         1000 x out, then "pulse the reset line" to the keyboard controller, 0x64
 *      5 times         a rep insb of 47 MiB, in the middle of which the other CPU writes to 0xcf9
 *      then            reports the number that the test cannot know otherwise, and exits
 *
 * So there are 18 boots. In each, smp.inc makes its three accesses. The others are
 *
 *      out dx,al       port 0x5000     10,001, and one that is refused
 *      out dx,al       port 0xcf9      10
 *      out imm8,al     port 0x64       5
 *      rep insb        port 0x50f0     5 that do not end; their elements are counted by what is in memory
 *      rep outsb       port 0xe9       1 of 4 elements: that count, little-endian
 *      out imm8,al     port 0xf4       1
 */

#include "common.inc"

#define PORT_OUT        PORT_FREE
#define PORT_REP_IN     (PORT_FREE + 0xF0)
#define PORT_RESET      0xCF9
#define RESET_NOW       6
#define PORT_KEYBOARD   0x64
#define PULSE_RESET     0xFE

#define OUTS            1000
#define BUFFER          0x100000                /* .. 48 MiB; zeros at first, as QEMU gives it */
#define ELEMENTS        0x2F00000
#define RESET_AT        0x40000                 /* the other CPU's moment: when this element is there */

/* Data that survive a reset; they are valid if the first has its value. */
#define MAGIC           0x600
#define MAGIC_VALUE     0x6F697670
#define BOOTS           0x604
#define MOVED           0x608
#define REP_RUNS        0x610                   /* of this boot: the other CPU may look at the buffer */
#define TSS             0x1000

#define SMP_BSP_SETUP                           \
        movl    $0, REP_RUNS;                   \
        cmpl    $MAGIC_VALUE, MAGIC;            \
        je      .Lwas_here;                     \
        movl    $MAGIC_VALUE, MAGIC;            \
        movl    $0, BOOTS;                      \
        movl    $0, MOVED;                      \
.Lwas_here:                                     \
        incl    BOOTS

#include "smp.inc"

reset_vector_to bsp_entry
define_gdt

/* The same, with the segments of ring 3, and a TSS whose bitmap is behind its end. */
        .balign 8
gdt_3:  .quad   0
        .quad   0x00CF9B000000FFFF              /* SEL_CODE32 */
        .quad   0x00CF93000000FFFF              /* SEL_DATA32 */
        .quad   0x00CFFB000000FFFF
        .quad   0x00CFF3000000FFFF
        .quad   0x0000890000000067 | TSS << 16
gdt_3_end:
        .word   0
gdtr_3: .word   gdt_3_end - gdt_3 - 1
        .long   gdt_3
#define SEL_CODE_3      0x1B
#define SEL_DATA_3      0x23
#define SEL_TSS         0x28

no_idt: .word   0
        .long   0

        .code16
cpu_main:
        enter_protected
        cld
        test    %ebp, %ebp
        jnz     other

        /* The text that the previous boot has left in the buffer. */
        mov     $BUFFER, %edi
        mov     $ELEMENTS, %ecx
        mov     $0xFF, %al
        repe scasb
        je      fail
        dec     %edi
        sub     $BUFFER, %edi
        add     %edi, MOVED
        mov     %edi, %ecx
        mov     $BUFFER, %edi
        xor     %eax, %eax
        rep stosb

        mov     BOOTS, %ebx
        mov     $PORT_OUT, %edx
        cmp     $1, %ebx
        je      triple_fault
        cmp     $2, %ebx
        je      refused
        cmp     $7, %ebx
        jbe     chipset
        cmp     $12, %ebx
        jbe     keyboard
        cmp     $17, %ebx
        jbe     within_rep

        mov     $PORT_DEBUGCON, %edx
        mov     $MOVED, %esi
        mov     $4, %ecx
        rep outsb
        exit_with EXIT_PASS
fail:   exit_with EXIT_FAIL

triple_fault:
        lidt    no_idt
        out     %al, %dx
        ud2

refused:
        lidt    no_idt
        lgdt    gdtr_3
        movw    $0x68, TSS + 0x66               /* where the bitmap would be */
        mov     $SEL_TSS, %eax
        ltr     %ax
        push    $SEL_DATA_3
        push    $TSS
        push    $2                              /* EFLAGS: IOPL 0 */
        push    $SEL_CODE_3
        push    $1f
        iretl
1:      out     %al, %dx

chipset:
        mov     $OUTS, %ecx
1:      out     %al, %dx
        loop    1b
reset_now:
        mov     $PORT_RESET, %edx
        mov     $RESET_NOW, %al
        out     %al, %dx
        halt_forever

keyboard:
        mov     $OUTS, %ecx
1:      out     %al, %dx
        loop    1b
        mov     $PULSE_RESET, %al
        out     %al, $PORT_KEYBOARD
        halt_forever

within_rep:
        movl    $1, REP_RUNS
        mov     $PORT_REP_IN, %edx
        mov     $BUFFER, %edi
        mov     $ELEMENTS, %ecx
        rep insb
        jmp     fail

other:
1:      pause
        cmpl    $0, REP_RUNS
        je      1b
2:      pause
        cmpb    $0, BUFFER + RESET_AT
        je      2b
        jmp     reset_now
