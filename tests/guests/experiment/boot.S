/*
 * From the boot loader to `start` in main.c. Multiboot 0.6.96: QEMU's -kernel and GRUB load the image, and
 * enter it in 32-bit protected mode, without paging, with EAX and EBX as below.
 */
#include "machine.h"

#define MULTIBOOT_HEADER 0x1BADB002
#define MULTIBOOT_FLAGS 3 /* pages aligned; memory's size wanted */

        .section .multiboot, "a"
        .balign 4
        .long   MULTIBOOT_HEADER, MULTIBOOT_FLAGS, -(MULTIBOOT_HEADER + MULTIBOOT_FLAGS)

        .text
        .globl  boot
boot:
        cli
        cld
        mov     $harness_stack_top, %esp
        lgdt    gdtr
        mov     $DATA0, %ecx
        mov     %ecx, %ds
        mov     %ecx, %es
        mov     %ecx, %fs
        mov     %ecx, %gs
        mov     %ecx, %ss
        ljmp    $CODE0, $1f
1:      mov     %ebx, %edx                      /* multiboot's information */
        call    start                           /* void start(u32 magic, const u32 *info) */
2:      cli
        hlt
        jmp     2b

        .section .rodata
gdtr:   .word   GDT_ENTRIES * 8 - 1
        .long   gdt

/*
 * SDM Vol. 3A 3.4.5. The segments of rings 1 and 3 end at MONITOR_BASE: limit 0x3ff pages. The accessed
 * bits are set already. All but the task's are constant.
 */
        .data
        .balign 8
        .globl  gdt
gdt:    .quad   0
        .quad   0x00CF9B000000FFFF              /* CODE0: 4 GiB */
        .quad   0x00CF93000000FFFF              /* DATA0 */
        .quad   0x00C0FB00000003FF              /* CODE3 */
        .quad   0x00C0F300000003FF              /* DATA3 */
        .quad   0x00C0BB00000003FF              /* CODE1 */
        .quad   0x00C0B300000003FF              /* DATA1 */
        .quad   0x00CFDB000000FFFF              /* CODE2: 4 GiB */
        .quad   0x00CFD3000000FFFF              /* DATA2 */
        .quad   0                               /* TASK: main.c */

        .bss
        .balign 16
        .skip   16384
harness_stack_top:
        .globl  monitor_stack                   /* its end is TSS.ESP0, and SYSENTER's */
monitor_stack:
        .skip   MONITOR_STACK

        .section .note.GNU-stack, "", @progbits
