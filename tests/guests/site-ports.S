/*
 * site-ports: one instruction accesses many ports; each CPU begins with a different port.
 *
 * CPU n, in 16-bit code, at the site `probe`: 300 x `in al,dx` at the ports 0x5000 .. 0x512b, beginning at
 * 0x5000 + 64 n and wrapping around; the first port once, the second twice and so on. Then, at the site `string`,
 * `rep outsb` of 5 elements at port 0x5200 and of 7 at port 0x5201.
 *
 * When all are done, the boot CPU, in the window `late`: 3 x `in al,dx` at 0x512b and 2 x at 0x5000, at
 * `probe`. It also makes the accesses of smp.inc before, and the exit after. If hypercalls are unanswered, there is no
 * window.
 */

#include "common.inc"
#include "smp.inc"

#define PORTS           300
#define APART           64                      /* the first ports of two CPUs */
#define PORT_STRING     (PORT_FREE + 0x200)

/* The calls: guest-shim/ABI.md. */
#define CALL(number)    (0x80000000 | (number) << 24)
#define BEGIN           18
#define END             19

reset_vector_to bsp_entry
define_gdt

.macro  window number
        mov     $name, %edx
        mov     $name_end - name, %ecx
        mov     $CALL(\number), %eax
        .byte   0x67, 0x0F, 0x1F, 0x80, 'P', 0x16, 0x90, 0x90
.endm

        .code16
        /* Reads port DX, CX times. */
probe:  in      %dx, %al
        loop    probe
        ret

        /* Writes CX elements to port DX. */
write:
        mov     %bx, %si
string: rep outsb
        ret

cpu_main:
        cld
        imul    $APART, %bp, %di                /* from the first port */
        xor     %si, %si                        /* ports done */
1:      mov     %di, %dx
        add     $PORT_FREE, %dx
        mov     %si, %cx
        inc     %cx
        call    probe
        inc     %di
        cmp     $PORTS, %di
        jb      2f
        xor     %di, %di
2:      inc     %si
        cmp     $PORTS, %si
        jb      1b

        mov     $PORT_STRING, %dx
        mov     $5, %cx
        call    write
        inc     %dx
        mov     $7, %cx
        call    write

        lock incl SMP_DONE
        test    %ebp, %ebp
        jnz     rest
3:      pause
        mov     SMP_DONE, %eax
        cmp     SMP_CPUS, %eax
        jne     3b
        window  BEGIN
        mov     $PORT_FREE + PORTS - 1, %dx
        mov     $3, %cx
        call    probe
        mov     $PORT_FREE, %dx
        mov     $2, %cx
        call    probe
        window  END
        exit_with EXIT_PASS
rest:   halt_forever

name:   .ascii  "late"
name_end:
