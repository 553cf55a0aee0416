/*
 * forms-aliases: the loops of forms-body.inc, each at several linear addresses of the same pages.
 *
 * Each CPU runs the loops in the order of the table `steps`:
 *
 *      16-bit code     real mode, then protected mode and virtual-8086 mode with paging
 *      32-bit code     ring 0 with several segment bases, ring 3 with IOPL 3
 *      64-bit code     if there is long mode
 *
 * QEMU's translation of a page has one segment base, so the aliases of a segment differ in EIP.  The
 * addresses and the numbers of runs are in tests/tests/suite/counting/aliases.rs.
 *
 * Once per run, the BSP: 1 x out dx,ax port 0x510, 2 x in al,dx port 0x511, 1 x out imm8,al port 0xf4.
 */

#include "common.inc"

#define PAGE_DIR_32     0x10000
#define PAGE_TABLE_LOW  0x11000                 /* 0 to 4 MiB */
#define PAGE_TABLE_16   0x12000                 /* WINDOW_16 */
#define PML4            0x13000
#define PDPT            0x14000
#define PAGE_DIR_64     0x15000
#define SMP_BSP_SETUP   call build_page_tables

/* User and supervisor may use every page. */
#define USED            0x67
#define USED_LARGE      0xE7
#define CR4_PSE         (1 << 4)

/* Page n of these windows is page n modulo 4 of the ROM, where forms_16 is. */
#define WINDOW_16       0x40000000
#define WINDOW_V86      0xA0000
#define WINDOW_V86_END  0xC0000
#define STRIDE_16       0x4000

/* These windows show the memory at 0. */
#define ALIAS_32        0x80000000
#define OTHER_32        0xC0000000
#define ALIAS_64        0x100000000             /* the same low 32 bits */
#define OTHER_64        0x555500000000
#define HIGH_64         0xFFFFFFFF80000000

/* Each CPU has a GDT and a TSS whose bitmap permits all ports, in 16 KiB. */
#define WORLDS          0x20000
#define WORLD_SIZE      0x4000
#define TSS             0x100                   /* offset in its world */
#define TSS_LIMIT       (0x68 + 0x2000)

#define SEL_TSS         0x30
#define SEL_CODE3       0x3B
#define SEL_DATA3       0x43
#define SEL_ODD_16      0x48                    /* base WINDOW_16 - ODD_16 */
#define ODD_16          0x340
#define SEL_ODD_32      0x50                    /* base ODD_32 */
#define ODD_32          0x80001230
#define SEL_WRAPS_32    0x58                    /* base WRAPS_32 */
#define WRAPS_32        0xF0000010

#define EFLAGS_V86      0x23002                 /* VM, IOPL 3 */
#define EFLAGS_RING_3   0x3002                  /* IOPL 3 */
#define EFLAGS_RING_0   0x2
#define VECTOR_DONE     0x30

#include "smp.inc"
#include "forms-shared.inc"

reset_vector_to bsp_entry

        .balign 8
gdt:    .quad   0                               /* the first six as in common.inc */
        .quad   0x00CF9B000000FFFF
        .quad   0x00CF93000000FFFF
        .quad   0x00209B0000000000
        .quad   0x00009B0F0000FFFF
        .quad   0x000093000000FFFF
        .quad   0                               /* SEL_TSS: each CPU's own */
        .quad   0x00CFFB000000FFFF              /* SEL_CODE3 */
        .quad   0x00CFF3000000FFFF              /* SEL_DATA3 */
        .quad   0x3F009BFFFCC0FFFF              /* SEL_ODD_16 */
        .quad   0x80CF9B001230FFFF              /* SEL_ODD_32 */
        .quad   0xF0CF9B000010FFFF              /* SEL_WRAPS_32 */
gdt_end:
        .word   0
gdtr:   .word   gdt_end - gdt - 1
        .long   gdt

#define STEP            (LEFT + 4)              /* the index of the next step */

/* ---- The loops.  The first is in .entry, so that all of it is in the ROM's first four pages. ------ */

        .section .entry, "ax"
#define MODE 16
#include "forms-body.inc"
#undef MODE
        int     $VECTOR_DONE

        .text
#define MODE 32
#include "forms-body.inc"
#undef MODE
        int     $VECTOR_DONE

#define MODE 64
#include "forms-body.inc"
#undef MODE
        int     $VECTOR_DONE

/* ---- Real mode, then the other modes ------------------------------------------------------------------- */

        .code16
cpu_main:
        xor     %ebp, %ebp                      /* the number of the form */
        movw    $ROM(done_real), 4 * VECTOR_DONE
        movw    $ROM_SEGMENT, 4 * VECTOR_DONE + 2
        jmp     forms_16

done_real:
        enter_protected
        lea     CPU_AREA_SIZE(%ebx), %esp

        mov     %ebx, %edx                      /* EDX: the CPU's world */
        sub     $CPU_AREAS, %edx
        imul    $WORLD_SIZE / CPU_AREA_SIZE, %edx
        add     $WORLDS, %edx
        mov     %edx, %edi
        xor     %eax, %eax
        mov     $WORLD_SIZE / 4, %ecx
        rep stosl
        mov     %edx, %edi
        mov     $gdt, %esi
        mov     $(gdt_end - gdt) / 4, %ecx
        rep movsl
        lea     TSS(%edx), %eax
        shl     $16, %eax
        or      $TSS_LIMIT, %eax
        mov     %eax, SEL_TSS(%edx)
        mov     %edx, %eax
        shr     $16, %eax
        or      $0x8900, %eax
        mov     %eax, SEL_TSS + 4(%edx)
        mov     %esp, TSS + 4(%edx)
        movl    $SEL_DATA32, TSS + 8(%edx)
        movw    $0x68, TSS + 0x66(%edx)
        movb    $0xFF, TSS + TSS_LIMIT(%edx)
        push    %edx
        pushw   $gdt_end - gdt - 1
        lgdt    (%esp)
        add     $6, %esp
        mov     $SEL_TSS, %eax
        ltr     %ax
        lidt    idtr_32

        mov     %cr4, %eax
        or      $CR4_PSE, %eax
        mov     %eax, %cr4
        mov     $PAGE_DIR_32, %eax
        mov     %eax, %cr3
        mov     %cr0, %eax
        or      $CR0_PG, %eax
        mov     %eax, %cr0
        movl    $0, STEP(%ebx)

/* The start of the next step, from a finished loop or from the beginning. */
done_32:
        mov     $SEL_DATA32, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %fs
        mov     %eax, %gs
        mov     %eax, %ss
        lea     CPU_AREA_SIZE(%ebx), %esp
        mov     STEP(%ebx), %eax
        incl    STEP(%ebx)
        jmp     *steps(, %eax, 4)

/* Jumps into a loop by IRET.  The sum of the last two operands may exceed 32 bits. */
.macro  at_ring_0 selector, eip, distance:vararg
        mov     $\eip, %eax
        add     $\distance, %eax
        push    $EFLAGS_RING_0
        push    $\selector
        push    %eax
        iretl
.endm

.macro  at_ring_3 eip, distance:vararg
        mov     $SEL_DATA3, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %fs
        mov     %eax, %gs
        mov     %esp, %eax
        push    $SEL_DATA3
        push    %eax
        push    $EFLAGS_RING_3
        push    $SEL_CODE3
        push    $\eip
        addl    $\distance, (%esp)
        iretl
.endm

.macro  at_v86  selector, distance:vararg
        mov     %esp, %eax
        push    $0                              /* GS FS DS ES SS */
        push    $0
        push    $0
        push    $0
        push    $0
        push    %eax
        push    $EFLAGS_V86
        push    $\selector
        push    $ROM(forms_16) + \distance
        iretl
.endm

odd_16_first:   at_ring_0 SEL_ODD_16, forms_16, ODD_16 - ROM_BASE
odd_16_second:  at_ring_0 SEL_ODD_16, forms_16, ODD_16 - ROM_BASE + STRIDE_16
odd_16_third:   at_ring_0 SEL_ODD_16, forms_16, ODD_16 - ROM_BASE + 2 * STRIDE_16
v86_first:      at_v86  0xA000, 0
v86_second:     at_v86  0xA000, STRIDE_16
v86_odd_first:  at_v86  0xAFF8, 0x80
v86_odd_second: at_v86  0xAFF8, 0x80 + STRIDE_16
flat_home:      at_ring_0 SEL_CODE32, forms_32, 0
flat_alias:     at_ring_0 SEL_CODE32, forms_32, ALIAS_32
flat_other:     at_ring_0 SEL_CODE32, forms_32, OTHER_32
odd_32_alias:   at_ring_0 SEL_ODD_32, forms_32, ALIAS_32 - ODD_32
odd_32_other:   at_ring_0 SEL_ODD_32, forms_32, OTHER_32 - ODD_32
wraps_32_alias: at_ring_0 SEL_WRAPS_32, forms_32, ALIAS_32 - WRAPS_32
wraps_32_other: at_ring_0 SEL_WRAPS_32, forms_32, OTHER_32 - WRAPS_32
ring_3_home:    at_ring_3 forms_32, 0
ring_3_alias:   at_ring_3 forms_32, ALIAS_32

into_long:
        unless_long_mode no_long_mode
        mov     %cr0, %eax
        and     $~CR0_PG, %eax
        mov     %eax, %cr0
        enter_long PML4
        lidt    idtr_64

done_64:
        lea     CPU_AREA_SIZE(%ebx), %esp
        mov     STEP(%ebx), %eax
        incl    STEP(%ebx)
        mov     steps(, %eax, 4), %eax
        jmp     *%rax

.macro  at_64   distance:vararg
        mov     %rsp, %rax
        push    $SEL_DATA32
        push    %rax
        push    $EFLAGS_RING_0
        push    $SEL_CODE64
        movabs  $\distance, %rax
        add     $forms_64, %rax
        push    %rax
        iretq
.endm

long_home:      at_64   0
long_alias:     at_64   ALIAS_64
long_other:     at_64   OTHER_64
long_high:      at_64   HIGH_64

        .section .rodata
        .balign 8
steps:  .long   odd_16_first, odd_16_second, odd_16_third, odd_16_second
        .long   v86_first, v86_second, v86_second, v86_odd_second, v86_odd_first
        .long   flat_home, flat_alias, flat_other, flat_alias
        .long   odd_32_alias, odd_32_other, wraps_32_other, wraps_32_alias
        .long   ring_3_home, ring_3_alias, ring_3_alias
        .long   into_long
        .long   long_home, long_alias, long_high, long_other, long_high, long_alias
        .long   finish_64

        .balign 8
idt_32: .fill   VECTOR_DONE, 8, 0
        .word   ROM(done_32), SEL_CODE32, 0xEE00, ROM_BASE >> 16
idt_64: .fill   2 * VECTOR_DONE, 8, 0
        .word   ROM(done_64), SEL_CODE64, 0x8E00, ROM_BASE >> 16
        .quad   0
idtr_32:
        .word   8 * VECTOR_DONE + 7
        .long   idt_32
idtr_64:
        .word   16 * VECTOR_DONE + 15
        .quad   idt_64
        .text

/* ---- The end ---------------------------------------------------------------------------------------- */

        .code64
finish_64:
        finish

        .code32
no_long_mode:
        mov     %edi, %ebx
        finish

/* ---- Page tables ------------------------------------------------------------------------------------ */

build_page_tables:
        mov     $PAGE_DIR_32, %edi
        mov     $6 * 4096 / 4, %ecx
        xor     %eax, %eax
        rep stosl

        xor     %ecx, %ecx                      /* identity, except for the windows */
1:      mov     %ecx, %eax
        shl     $12, %eax
        or      $USED, %eax
        mov     %eax, PAGE_TABLE_LOW(, %ecx, 4)
        mov     %ecx, %eax
        and     $3, %eax
        shl     $12, %eax
        or      $ROM_BASE | USED, %eax
        mov     %eax, PAGE_TABLE_16(, %ecx, 4)
        cmp     $WINDOW_V86 >> 12, %ecx
        jb      2f
        cmp     $WINDOW_V86_END >> 12, %ecx
        jae     2f
        mov     %eax, PAGE_TABLE_LOW(, %ecx, 4)
2:      inc     %ecx
        cmp     $1024, %ecx
        jb      1b

        movl    $PAGE_TABLE_LOW | USED, PAGE_DIR_32
        movl    $PAGE_TABLE_16 | USED, PAGE_DIR_32 + (WINDOW_16 >> 22) * 4
        movl    $USED_LARGE, PAGE_DIR_32 + (ALIAS_32 >> 22) * 4
        movl    $USED_LARGE, PAGE_DIR_32 + (OTHER_32 >> 22) * 4

        movl    $PDPT | USED, PML4
        movl    $PDPT | USED, PML4 + ((OTHER_64 >> 39) & 511) * 8
        movl    $PDPT | USED, PML4 + ((HIGH_64 >> 39) & 511) * 8
        movl    $PAGE_DIR_64 | USED, PDPT
        movl    $PAGE_DIR_64 | USED, PDPT + ((ALIAS_64 >> 30) & 511) * 8
        movl    $PAGE_DIR_64 | USED, PDPT + ((OTHER_64 >> 30) & 511) * 8
        movl    $PAGE_DIR_64 | USED, PDPT + ((HIGH_64 >> 30) & 511) * 8
        movl    $USED_LARGE, PAGE_DIR_64
        ret
