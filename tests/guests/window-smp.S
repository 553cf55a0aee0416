/*
 * window-smp: every CPU does port I/O by instructions and by hypercalls, in a window of the statistics.
 *
 * The boot CPU begins the window `all` while the others wait. Then each CPU, in 16-bit code, ROUNDS times:
 *
 *      1 x out dx,al           port 0x5010
 *      1 x hypercall outb      port 0x5020
 *      1 x rep outsb           port 0x5010, 3 elements
 *
 * When all are done, the boot CPU ends the window, executes 10 x out dx,al to 0x5010, begins it again,
 * executes 1 more and exits. Before that, it makes the accesses of smp.inc once. If hypercalls are unanswered, the
 * guest does everything else.
 */

#include "common.inc"
#include "smp.inc"

#define ROUNDS          20000
#define PORT_OUT        (PORT_FREE + 0x10)
#define PORT_CALL       (PORT_FREE + 0x20)

/* The calls: guest-shim/ABI.md. */
#define CALL(number, operand, port)     (0x80000000 | (number) << 24 | (operand) << 16 | (port))
#define OUTB            4
#define BEGIN           18
#define END             19

#define RUNS            0x510                   /* dword: the window has begun */

reset_vector_to bsp_entry
define_gdt

.macro  call_ word
        mov     $\word, %eax
        .byte   0x67, 0x0F, 0x1F, 0x80, 'P', 0x16, 0x90, 0x90
.endm

.macro  window number
        mov     $name, %edx
        mov     $name_end - name, %ecx
        call_   CALL(\number, 0, 0)
.endm

name:   .ascii  "all"
name_end:

        .code16
cpu_main:
        cld
        test    %ebp, %ebp
        jnz     1f
        window  BEGIN
        movl    $1, RUNS
1:      pause
        cmpl    $1, RUNS
        jne     1b

        mov     $ROUNDS, %edi
        mov     $PORT_OUT, %dx
2:      out     %al, %dx
        call_   CALL(OUTB, 0x5A, PORT_CALL)
        mov     %bx, %si
        mov     $3, %cx
        rep outsb
        dec     %edi
        jnz     2b

        lock incl SMP_DONE
        test    %ebp, %ebp
        jnz     rest
3:      pause
        mov     SMP_DONE, %eax
        cmp     SMP_CPUS, %eax
        jne     3b
        window  END
        mov     $PORT_OUT, %dx
        mov     $10, %di
4:      out     %al, %dx
        dec     %di
        jnz     4b
        window  BEGIN
        mov     $PORT_OUT, %dx
        out     %al, %dx
        exit_with EXIT_PASS
rest:   halt_forever
