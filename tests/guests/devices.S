/*
 * devices: uses pvio's built-in devices from real mode, and checks what it reads.
 *
 *      device=stream@0x300:in=IN:out=OUT  device=console@0xe9-0xec:file=FILE  device=debug-exit@0xf4
 *      device=latch@0x310  device=latch@0x314  device=latch@0xfffe-0xffff
 *
 * IN has at most 32 KiB.  OUT becomes IN and "done", FILE two lines.  The last `out` gives the
 * verdict to debug-exit: 42, or the number of the check that failed.
 */

#include "common.inc"

#define STREAM          0x300
#define STREAM_LEFT     (STREAM + 4)
#define BEFORE_LATCH    0x30F                   /* no device */
#define LATCH           0x310                   /* two of four ports, side by side */
#define LATCH_2         0x314
#define LAST_LATCH      0xFFFE                  /* the last two ports that there are */
#define PASSED          42

#define BUFFER          0x1000
#define BUFFER_SIZE     0x8000

reset_vector_to start

/* Goes on if `register` is `value`, else ends with the number of the check. */
.macro  expect register, value
        .set    check, check + 1
        mov     $check, %bl
        cmp     $\value, \register
        jne     verdict
.endm
        .set    check, 0

.macro  out_to port, value, register
        mov     $\port, %dx
        mov     $\value, \register
        out     \register, %dx
.endm

.macro  in_from port, register
        mov     $\port, %dx
        in      %dx, \register
.endm

        .code16
        .globl  start
start:
        cli
        cld
        real_segments

        /* ---- stream: all of IN by one instruction, its end, all of it back to OUT. */
        in_from STREAM_LEFT, %eax
        mov     %eax, %ebp
        and     $~(BUFFER_SIZE - 1), %eax
        expect  %eax, 0                         /* it fits */
        in_from STREAM_LEFT, %al                /* a byte of the number is a byte of the number */
        mov     %ebp, %ecx
        sub     %cl, %al
        expect  %al, 0
        mov     $BUFFER, %di
        mov     $STREAM, %dx
        rep insb
        in_from STREAM_LEFT, %eax
        expect  %eax, 0
        in_from STREAM, %al
        expect  %al, 0xFF
        in_from STREAM, %eax
        expect  %eax, 0xFFFFFFFF
        mov     %ebp, %ecx
        mov     $BUFFER, %si
        rep outsb
        out_to  STREAM, 0x656E6F64, %eax        /* "done" */

        /* ---- console */
        in_from PORT_DEBUGCON, %al
        expect  %al, 0xE9
        mov     $ROM(message), %si
        mov     $(message_end - message), %cx
        rep outsb %cs:(%si), %dx
        out_to  PORT_DEBUGCON, 0x0A6B6F2E, %eax /* ".ok\n" */

        /* ---- latches: an access belongs to the device at its first port only. */
        out_to  LATCH, 0x13121110, %eax
        out_to  LATCH_2, 0x17161514, %eax
        in_from (LATCH + 1), %ax
        expect  %ax, 0x1211
        in_from (LATCH + 2), %eax
        expect  %eax, 0xFFFF1312
        out_to  (LATCH + 3), 0xDDCCBBAA, %eax
        in_from (LATCH + 3), %ax
        expect  %ax, 0xFFAA
        in_from LATCH_2, %eax
        expect  %eax, 0x17161514
        out_to  BEFORE_LATCH, 0xEEEE, %ax
        in_from LATCH, %al
        expect  %al, 0x10
        out_to  LAST_LATCH, 0xDDCCBBAA, %eax    /* beyond the last port */
        in_from LAST_LATCH, %eax
        expect  %eax, 0xFFFFBBAA

        /* ---- debug-exit */
        mov     $PASSED, %bl
verdict:
        mov     %bl, %al
        out     %al, $PORT_EXIT
        halt_forever

message:
        .ascii  "written by rep outsb\n"
        .ascii  "and"
message_end:
