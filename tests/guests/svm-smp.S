/*
 * svm-smp: on every CPU a hypervisor (AMD's SVM, APM Vol. 2, chapter 15) and its guest. Give QEMU
 * `-cpu max,+svm`; up to four CPUs.
 *
 * Each of ROUNDS times the guest of each CPU executes, in 32-bit code,
 *
 *      1 x out dx,al           port 0x5000     which the I/O permission map intercepts: it never retires
 *      1 x out dx,al           port 0x5010     which it does not
 *
 * and the hypervisor makes it resume after the first.  Once per run there are also the accesses of smp.inc, and the exit.
 */

#include "common.inc"

#define ROUNDS          30000
#define PORT_TAKEN      PORT_FREE
#define PORT_LEFT       (PORT_FREE + 0x10)

#define VMCBS           0x20000                 /* for each CPU a VMCB, and a page for its own state */
#define IOPM            0x40000                 /* 3 pages */
#define IOPM_SIZE       0x3000

#define MSR_VM_HSAVE_PA 0xC0010117
#define EFER_SVME       (1 << 12)

/* Intercepts, the high half of which has VMRUN and VMMCALL; and what a guest is left for. */
#define IOIO            (1 << 27)
#define VMRUN_VMMCALL   ((1 << 0) | (1 << 1))
#define EXIT_IOIO       0x7B
#define EXIT_VMMCALL    0x81

#define SMP_BSP_SETUP                   \
        mov     $IOPM, %edi;            \
        mov     $IOPM_SIZE, %ecx;       \
        xor     %eax, %eax;             \
        rep stosb;                      \
        movb    $1, IOPM + PORT_TAKEN / 8

#include "smp.inc"

reset_vector_to bsp_entry
define_gdt

        .code16
cpu_main:
        enter_protected
        mov     $MSR_EFER, %ecx
        rdmsr
        or      $EFER_SVME, %eax
        wrmsr
        mov     %eax, %esi

        imul    $0x2000, %ebp, %ebx
        add     $VMCBS, %ebx
        lea     0x1000(%ebx), %eax
        xor     %edx, %edx
        mov     $MSR_VM_HSAVE_PA, %ecx
        wrmsr
        mov     %ebx, %edi
        mov     $0x1000, %ecx
        xor     %eax, %eax
        rep stosb

        movl    $IOIO, 0x0C(%ebx)
        movl    $VMRUN_VMMCALL, 0x10(%ebx)
        movl    $IOPM, 0x40(%ebx)
        movl    $1, 0x58(%ebx)                  /* ASID */
        movl    $SEL_CODE32 | 0xC9B << 16, 0x410(%ebx)
        movl    $-1, 0x414(%ebx)
        movl    $SEL_DATA32 | 0xC93 << 16, 0x420(%ebx)
        movl    $-1, 0x424(%ebx)
        mov     %esi, 0x4D0(%ebx)               /* EFER */
        mov     %cr0, %eax
        mov     %eax, 0x558(%ebx)
        movl    $0x400, 0x560(%ebx)             /* DR7, DR6 */
        movl    $0xFFFF0FF0, 0x568(%ebx)
        movl    $2, 0x570(%ebx)                 /* RFLAGS */
        movl    $guest, 0x578(%ebx)

        mov     $ROUNDS, %ecx
        xor     %esi, %esi
        mov     $PORT_TAKEN, %edx
1:      mov     %ebx, %eax
        vmrun
        stgi
        mov     0x70(%ebx), %eax
        cmp     $EXIT_IOIO, %eax
        jne     2f
        inc     %esi
        mov     0x80(%ebx), %eax                /* EXITINFO2: after the instruction */
        mov     %eax, 0x578(%ebx)
        jmp     1b
2:      cmp     $EXIT_VMMCALL, %eax
        jne     wrong
        cmp     $ROUNDS, %esi
        jne     wrong
        lock incl SMP_DONE
        test    %ebp, %ebp
        jnz     4f
3:      pause
        mov     SMP_DONE, %eax
        cmp     SMP_CPUS, %eax
        jne     3b
        exit_with EXIT_PASS
4:      halt_forever
wrong:  exit_with EXIT_FAIL

        .globl  guest
guest:
        out     %al, %dx
        mov     $PORT_LEFT, %edx
        out     %al, %dx
        mov     $PORT_TAKEN, %edx
        dec     %ecx
        jnz     guest
        vmmcall
