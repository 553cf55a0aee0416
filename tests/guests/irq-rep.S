/*
 * irq-rep: string I/O that is interrupted and restarted, and other I/O under interrupts.
 *
 * A rep that is interrupted between two elements is restarted by the IRET, with the remaining count in the
 * registers (SDM Vol. 2B, "REP/REPE/REPZ/REPNE/REPNZ"): it starts more often than it executes.  QEMU
 * (10.0 to 11.1) checks for interrupts inside a rep, and always restarts the rep there, only when the remaining
 * count is a multiple of 65,536; with -icount, after each element.  Here the PIT interrupts at 4 kHz:
 *
 *      20 rounds in 16-bit code (real mode),      n =  60,000: one start each, unless -icount
 *       5 rounds in 32-bit code (protected mode), n = 200,000: four starts each, with interrupts between
 *
 * Each round is
 *
 *      1 x rep insb            port 0x50f0     n accesses; all ones must arrive
 *      1 x rep outsb           port 0x5150     n accesses
 *      1000 x out dx,al        port 0x5090
 *      1000 x in al,dx         port 0x5030
 *
 * (0x5000 + 0x10 * form, as in forms.S).  All other accesses are `out imm8,al`:
 *
 *      16-bit code     1 x port 0x20, 4 x 0x21         the first PIC
 *                      1 x port 0xa0, 4 x 0xa1         the second PIC
 *                      1 x port 0x43, 2 x 0x40         the PIT
 *      both            ticks x port 0x20               EOI, exactly one per interrupt
 *      32-bit code     length of the text x port 0xe9  -debugcon gets "ticks=114 inside=26\n"
 *                      1 x port 0xf4                   exit
 *
 * `ticks` is the number of interrupts that the handlers counted, in both modes; `inside` is the number of those
 * that came between the first and the last element of a rep.  QEMU's exit status is 1 if all checks passed; 3
 * if a rep left wrong registers or memory, or if no interrupt came inside a rep: then the run proves nothing.
 */

#include "common.inc"

#define ROUNDS_16       20
#define ELEMENTS_16     60000
#define BUFFER_16       0x1400                  /* .. 0xFE60, below 64 KiB */
#define ROUNDS_32       5
#define ELEMENTS_32     200000
#define BUFFER_32       0x10000                 /* .. 0x40D40 */
#define SCALARS         1000

#define TICKS           0x500                   /* dwords */
#define INSIDE          0x504
#define COUNT           0x508                   /* what the present rep began with */
#define STACK           0x1400                  /* grows down from here */

#define FORM_PORT(f)    (PORT_FREE + 0x10 * (f))
#define PORT_IN         FORM_PORT(3)
#define PORT_OUT        FORM_PORT(9)
#define PORT_REP_IN     FORM_PORT(15)
#define PORT_REP_OUT    FORM_PORT(21)

#define MSR_APIC_BASE   0x1B
#define APIC_BASE_ENABLE (1 << 11)

/* 8259A: cascade at IRQ 2, vectors behind those of the exceptions, only IRQ 0 open. */
#define VECTOR_BASE     0x20
#define ICW1_ICW4       0x11
#define ICW4_8086       0x01
#define EOI             0x20

/* 8254: 1,193,182 Hz / 298 = 4,004 Hz from channel 0 as a rate generator. */
#define PIT_CHANNEL0    (PORT_PIT + 0)
#define PIT_CONTROL     (PORT_PIT + 3)
#define PIT_CH0_MODE2   0x34
#define PIT_DIVISOR     298

reset_vector_to start
define_gdt

.macro  outb    value, port
        mov     $\value, %al
        out     %al, $\port
.endm

/* The rounds of one mode, the same source for both.  Interrupts are on.  Destroys all but EBX, ESP. */
.macro  rounds  mode, rounds, elements, buffer
        mov     $\rounds, %ebp
.Lround\@:
        mov     $\buffer, %edi                  /* ins must have something to overwrite */
        mov     $\elements, %ecx
        xor     %eax, %eax
        rep stosb

        mov     $\buffer, %edi
        mov     $\elements, %ecx
        mov     %ecx, COUNT
        mov     $PORT_REP_IN, %dx
rep_insb_\mode:
        rep insb
        test    %ecx, %ecx
        jnz     fail_\mode
        cmp     $\buffer + \elements, %edi
        jne     fail_\mode

        mov     $\buffer, %edi
        mov     $\elements, %ecx
        mov     $0xFF, %al
        repe scasb
        jne     fail_\mode

        mov     $\buffer, %esi
        mov     $\elements, %ecx
        mov     $PORT_REP_OUT, %dx
rep_outsb_\mode:
        rep outsb
        test    %ecx, %ecx
        jnz     fail_\mode
        cmp     $\buffer + \elements, %esi
        jne     fail_\mode

        mov     $SCALARS, %ecx
        mov     $PORT_OUT, %dx
out_dx_al_\mode:
        out     %al, %dx
        dec     %ecx
        jnz     out_dx_al_\mode
        mov     $SCALARS, %ecx
        mov     $PORT_IN, %dx
in_al_dx_\mode:
        in      %dx, %al
        dec     %ecx
        jnz     in_al_dx_\mode

        dec     %ebp
        jnz     .Lround\@
.endm

/*
 * IRQ 0.  Was it a rep that is interrupted, and has it begun?  Then CS:IP points at F3 6C (rep insb)
 * or F3 6E (rep outsb), and the counter is not any more what it was.
 */
.macro  tick_handler mode
tick_\mode:
        pushl   %eax
        pushl   %ebp
        mov     %esp, %ebp
        incl    TICKS
        .if     \mode == 16
        movzwl  8(%ebp), %eax
        .else
        mov     8(%ebp), %eax
        .endif
        mov     %cs:(%eax), %ax
        and     $~0x02, %ah                     /* 6E becomes 6C */
        cmp     $0x6CF3, %ax
        jne     .Loutside\@
        cmp     COUNT, %ecx
        je      .Loutside\@
        incl    INSIDE
.Loutside\@:
        outb    EOI, PORT_PIC1
        popl    %ebp
        popl    %eax
        iret
.endm

        .code16
        .globl  start
start:
        cli
        cld
        real_segments
        mov     $STACK, %esp
        movl    $0, TICKS
        movl    $0, INSIDE
        movl    $0, COUNT

        movw    $ROM(tick_16), 4 * VECTOR_BASE
        movw    $ROM_SEGMENT, 4 * VECTOR_BASE + 2

        /*
         * The local APIC comes out of reset with LINT0, where the PIC is wired to, masked.  Switched off
         * altogether, it lets LINT0 through as plain INTR (SDM Vol. 3A 11.4.3, "Enabling or Disabling the
         * Local APIC").
         */
        mov     $MSR_APIC_BASE, %ecx
        rdmsr
        and     $~APIC_BASE_ENABLE, %eax
        wrmsr

        outb    ICW1_ICW4, PORT_PIC1
        outb    VECTOR_BASE, PORT_PIC1 + 1
        outb    1 << 2, PORT_PIC1 + 1           /* ICW3: a slave at IRQ 2 */
        outb    ICW4_8086, PORT_PIC1 + 1
        outb    ~(1 << 0) & 0xFF, PORT_PIC1 + 1
        outb    ICW1_ICW4, PORT_PIC2
        outb    VECTOR_BASE + 8, PORT_PIC2 + 1
        outb    2, PORT_PIC2 + 1                /* ICW3: its number */
        outb    ICW4_8086, PORT_PIC2 + 1
        outb    0xFF, PORT_PIC2 + 1

        outb    PIT_CH0_MODE2, PIT_CONTROL
        outb    PIT_DIVISOR & 0xFF, PIT_CHANNEL0
        outb    PIT_DIVISOR >> 8, PIT_CHANNEL0

        sti
        rounds  16, ROUNDS_16, ELEMENTS_16, BUFFER_16
        cli

        enter_protected
        lidt    idtr
        sti
        rounds  32, ROUNDS_32, ELEMENTS_32, BUFFER_32
        cli

        mov     $text_ticks, %esi
        call    print
        mov     TICKS, %eax
        call    print_decimal
        mov     $text_inside, %esi
        call    print
        mov     INSIDE, %eax
        call    print_decimal
        mov     $text_end, %esi
        call    print

        cmpl    $0, INSIDE
        je      fail_32
        exit_with EXIT_PASS

fail_32:
        exit_with EXIT_FAIL

/* ESI = text that ends with a 0 byte. */
1:      out     %al, $PORT_DEBUGCON
print:  lodsb
        test    %al, %al
        jnz     1b
        ret

/* EAX in decimal, without leading zeros. */
print_decimal:
        mov     $10, %ebx
        xor     %ecx, %ecx
1:      xor     %edx, %edx
        div     %ebx
        push    %edx
        inc     %ecx
        test    %eax, %eax
        jnz     1b
2:      pop     %eax
        add     $'0', %al
        out     %al, $PORT_DEBUGCON
        loop    2b
        ret

tick_handler 32

        .code16
fail_16:
        exit_with EXIT_FAIL
tick_handler 16

text_ticks:     .asciz "ticks="
text_inside:    .asciz " inside="
text_end:       .asciz "\n"

/*
 * The IDT, constant and in ROM like the GDT: one 32-bit interrupt gate (SDM Vol. 3A 6.11 before 2023,
 * 7.11 after, "IDT Descriptors"), all other vectors absent.  An exception is a triple fault.
 */
        .balign 8
idt:    .fill   VECTOR_BASE, 8, 0
        .word   tick_32 - ROM_BASE              /* the ROM is at F0000h: this half of the offset, */
        .word   SEL_CODE32
        .word   0x8E00                          /* present, DPL 0, 32-bit interrupt gate */
        .word   ROM_BASE >> 16                  /* and that half */
idt_end:
        .word   0
idtr:   .word   idt_end - idt - 1
        .long   idt
