/*
 * shim-16: pvio's hypercalls from real mode, in segments that do not begin at 0. If no host answers, the same
 * program uses the instructions. README.md lists every call.
 */

#include "common.inc"
#include <pvio16.inc>

#define LATCH           0x5000
#define STREAM          0x300
#define STREAM_LEFT     0x304
#define COM1            0x3F8
#define CMOS            0x70
#define IDE             0x1F0

#define BYTES           4095                    /* as shim/shim.c: the same file */
#define WORDS           2048
#define LONGS           2048

#define DATA_SEGMENT    0x1230
#define BUFFER          0x0010
#define RECORDS         0x8000
#define SECTOR          512
#define CALLED          0x9000
#define INSTRUCTED      0x9800

reset_vector_to start

.macro  expect register, value
        cmp     $\value, \register
        jne     failed
.endm

/* Both ways, the same. */
.macro  expect_same in_call, port, register, saved
        \in_call \port
        mov     \register, \saved
        mov     $\port, %dx
        in      %dx, \register
        cmp     \saved, \register
        jne     failed
.endm

/* The answer of a call: `status` if there is a host. */
.macro  expect_answer status
        shr     $PVIO_CALL_SHIFT, %eax
        or      %bp, %ax                        /* all ones if unanswered */
        mov     $\status, %dx
        or      %bp, %dx
        cmp     %dx, %ax
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

        /* ---- Probe: BP is 0 if calls are answered, else all ones. */
        xor     %edx, %edx
        pvio_call PVIO_CALL_PROBE
        mov     %eax, %ebx
        sar     $31, %ebx
        mov     %bx, %bp
        jnz     scalars
        expect  %eax, PVIO_VERSION
        expect  %edx, (PVIO_FEATURE_EVERY_PORT | PVIO_FEATURE_MEMORY | PVIO_FEATURE_MAILBOX | PVIO_FEATURE_LARGE_MAILBOX | PVIO_FEATURE_COMPACT_BATCH)

scalars:
        /* Without the plugin there is no latch; both ways still read the same. */
        mov     $0x44332211, %eax
        pvio_outl LATCH
        expect  %eax, 0x44332211                /* which an `out` keeps */
        expect_same pvio_inl, LATCH, %eax, %ebx
        mov     $0x1234BBAA, %eax
        pvio_outw (LATCH + 2)
        expect_same pvio_inw, (LATCH + 2), %ax, %bx
        mov     $0x99, %al
        pvio_outb (LATCH + 1)
        expect  %al, 0x99
        expect_same pvio_inb, (LATCH + 1), %al, %bl
        pvio_inl LATCH
        cmp     $0xFFFFFFFF, %eax
        je      qemus_devices
        expect  %eax, 0xBBAA9911

        /* ---- The whole of the stream, and back. */
        mov     $STREAM_LEFT, %dx
        in      %dx, %eax
        expect  %eax, (BYTES + 2 * WORDS + 4 * LONGS)
        mov     $BUFFER, %di
        mov     $BYTES, %cx
        pvio_insb STREAM
        expect  %cx, 0
        expect  %di, (BUFFER + BYTES)
        mov     $WORDS, %cx
        pvio_insw STREAM
        mov     $LONGS, %cx
        pvio_insl STREAM
        expect  %di, (BUFFER + BYTES + 2 * WORDS + 4 * LONGS)
        mov     $BUFFER, %si
        mov     $BYTES, %cx
        pvio_outsb STREAM
        mov     $WORDS, %cx
        pvio_outsw STREAM
        mov     $LONGS, %cx
        pvio_outsl STREAM
        expect  %cx, 0
        expect  %si, (BUFFER + BYTES + 2 * WORDS + 4 * LONGS)

        /* ---- A batch, if it is answered. */
        test    %bp, %bp
        jnz     qemus_devices
        mov     $ROM(records), %si
        mov     $RECORDS, %di
        mov     $(16 * 2), %cx
        rep movsb %cs:(%si), %es:(%di)
        mov     $RECORDS, %di
        mov     $2, %cx
        pvio_batch
        expect  %eax, 0
        expect  %ecx, 0
        expect  %edx, ((DATA_SEGMENT << 4) + RECORDS + 32)
        cmpl    $0x50000004, %es:(%di)
        jne     failed
        cmpl    $0x50000001, %es:16(%di)
        jne     failed
        cmpl    $0x77, %es:20(%di)
        jne     failed

        /* The same by compact records. */
        mov     $ROM(compact_records), %si
        mov     $RECORDS, %di
        mov     $(8 * 2), %cx
        rep movsb %cs:(%si), %es:(%di)
        mov     $RECORDS, %di
        mov     $2, %cx
        pvio_batch_compact
        expect  %eax, 0
        expect  %ecx, 0
        expect  %edx, ((DATA_SEGMENT << 4) + RECORDS + 16)
        cmpl    $0x79, %es:12(%di)
        jne     failed

qemus_devices:
        /* ---- COM1: a line by calls, a line by instructions. */
        push    %ds
        push    %cs
        pop     %ds
        mov     $ROM(called), %si
1:      lodsb
        pvio_outb COM1
        cmp     $'\n', %al
        jne     1b
        mov     $ROM(instructed), %si
        mov     $COM1, %dx
1:      lodsb
        out     %al, %dx
        cmp     $'\n', %al
        jne     1b
        pop     %ds

        /* ---- CMOS */
        mov     $0x10, %cl
1:      mov     %cl, %al
        pvio_outb CMOS
        expect_same pvio_inb, (CMOS + 1), %al, %bl
        inc     %cl
        cmp     $0x20, %cl
        jb      1b

        /* ---- PCI: Intel's 440FX, of `-machine pc` */
        mov     $0x80000000, %eax
        pvio_outl PORT_PCI_ADDR
        expect_same pvio_inl, PORT_PCI_ADDR, %eax, %ebx
        expect_same pvio_inl, PORT_PCI_DATA, %eax, %ebx
        expect  %eax, 0x12378086
        expect_same pvio_inw, (PORT_PCI_DATA + 2), %ax, %bx
        expect_same pvio_inb, (PORT_PCI_DATA + 1), %al, %bl

        /* ---- Sector 3 of a disk, if there is one. */
        mov     $(IDE + 6), %dx
        mov     $0xE0, %al
        out     %al, %dx
        mov     $(IDE + 7), %dx
        in      %dx, %al
        cmp     $0x50, %al
        jne     control
        mov     $1, %al
        pvio_outb (IDE + 2)
        mov     $3, %al
        pvio_outb (IDE + 3)
        mov     $0, %al
        pvio_outb (IDE + 4)
        mov     $0, %al
        pvio_outb (IDE + 5)
        mov     $0x20, %al                      /* read */
        pvio_outb (IDE + 7)
        call    wait_for_data
        mov     $CALLED, %di
        mov     $(SECTOR / 2), %cx
        pvio_insw IDE
        mov     $(IDE + 2), %dx
        mov     $1, %al
        out     %al, %dx
        inc     %dx
        mov     $3, %al
        out     %al, %dx
        mov     $(IDE + 7), %dx
        mov     $0x20, %al
        out     %al, %dx
        call    wait_for_data
        mov     $INSTRUCTED, %di
        mov     $(SECTOR / 2), %cx
        mov     $IDE, %dx
        rep insw
        mov     $CALLED, %si
        mov     $INSTRUCTED, %di
        mov     $SECTOR, %cx
        repe cmpsb
        jne     failed
        cmpl    $0x150E0700, CALLED             /* 7 times the offset: what the test has put there */
        jne     failed

        /* ---- A line, a window, the end. */
control:
        push    %cs
        pop     %ds
        mov     $ROM(hello), %si
        mov     $(hello_end - hello), %cx
        pvio_text PVIO_CALL_LOG, PVIO_LEVEL_INFO
        expect_answer PVIO_STATUS_OK
        mov     $5, %cx                         /* "hello" */
        pvio_text PVIO_CALL_BEGIN
        expect_answer PVIO_STATUS_OK
        mov     $0x55, %al
        pvio_outb PORT_POST
        mov     $5, %cx
        pvio_text PVIO_CALL_END
        expect_answer PVIO_STATUS_OK
        mov     $5, %cx
        pvio_text PVIO_CALL_END
        expect_answer PVIO_STATUS_STATE
        pvio_call 99
        expect_answer PVIO_STATUS_UNKNOWN
        pvio_exit 0
        exit_with EXIT_PASS                     /* unanswered */

failed:
        exit_with EXIT_FAIL

wait_for_data:
        mov     $(IDE + 7), %dx
1:      in      %dx, %al
        test    $0x80, %al                      /* busy */
        jnz     1b
        and     $9, %al                         /* data request, no error */
        cmp     $8, %al
        jne     failed
        ret

        .balign 16
records:
        .byte   PVIO_CALL_OUTB, PVIO_RECORD_PENDING
        .word   LATCH
        .long   0x77
        .quad   0
        .byte   PVIO_CALL_INB, PVIO_RECORD_PENDING
        .word   LATCH
        .long   0
        .quad   0
compact_records:
        .byte   PVIO_CALL_OUTB, 0
        .word   LATCH
        .long   0x79
        .byte   PVIO_CALL_INB, 0
        .word   LATCH
        .long   0
called: .ascii  "by hypercall\n"
instructed:
        .ascii  "by instruction\n"
hello:  .ascii  "hello from real mode"
hello_end:
