/*
 * shared-io: all CPUs use shared devices and one private device each, at the same time.
 *
 * It needs, for up to four CPUs (`i` is the number of one):
 *
 *      stream@0x5000           all write to it: letter 'A' + i by out, 'a' + i by rep outsb
 *      latch@0x5010-0x5013     one device, with a byte for each CPU
 *      latch@0x5100-0x5103     one device for each CPU, at 0x5100 + 0x10 * i
 *
 * Each CPU, in 16-bit code, ROUNDS times; all at DX:
 *
 *      1 x out dx,al           0x5000
 *      1 x rep outsb           0x5000, 8 elements
 *      1 x out dx,al           0x5010 + i      } must
 *      1 x in al,dx            0x5010 + i      } read back
 *      1 x out dx,eax          0x5100 + 0x10i  } must
 *      1 x in eax,dx           0x5100 + 0x10i  } read back
 *
 * The boot CPU also makes, once, the accesses of smp.inc, and 1 x out imm8,al to port 0xf4.  QEMU's exit status
 * is 3 if a CPU has read another value than it had written.
 */

#include "common.inc"

#define ROUNDS          5000
#define ELEMENTS        8
#define PORT_STREAM     PORT_FREE
#define PORT_BYTES      (PORT_FREE + 0x10)
#define PORT_OWN        (PORT_FREE + 0x100)

#define FAILED          0x510                   /* dword: a check has failed */
#define SMP_BSP_SETUP   movl $0, FAILED

reset_vector_to bsp_entry
define_gdt

#include "smp.inc"

        .code16
        .globl  cpu_main
cpu_main:
        cld
        /* The text for rep outsb lies at the lower end of the CPU's own area; EBX is its address. */
        mov     %ebx, %edi
        lea     'a'(%ebp), %eax
        mov     $ELEMENTS, %cx
        rep stosb

        mov     $ROUNDS, %edi
round:
        mov     $PORT_STREAM, %dx
        lea     'A'(%ebp), %eax
        out     %al, %dx
        mov     %ebx, %esi
        mov     $ELEMENTS, %cx
        rep outsb

        lea     PORT_BYTES(%ebp), %edx
        mov     %edi, %eax
        out     %al, %dx
        mov     %al, %cl
        in      %dx, %al
        cmp     %al, %cl
        jne     failed

        mov     %ebp, %edx
        shl     $4, %edx
        add     $PORT_OWN, %edx
        imul    $0x01234567, %edi, %eax
        out     %eax, %dx
        mov     %eax, %ecx
        in      %dx, %eax
        cmp     %eax, %ecx
        jne     failed

        dec     %edi
        jnz     round
        jmp     done
failed:
        movl    $1, FAILED
done:
        lock incl SMP_DONE
        test    %ebp, %ebp
        jnz     rest
1:      pause
        mov     SMP_DONE, %eax
        cmp     SMP_CPUS, %eax
        jne     1b
        cmpl    $0, FAILED
        jne     2f
        exit_with EXIT_PASS
2:      exit_with EXIT_FAIL
rest:
        halt_forever
