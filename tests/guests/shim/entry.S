/*
 * From the reset vector to `guest`. If BITS is 16: in real mode, where all data segments begin at 0 and
 * have 4 GiB. If it is 32 or 64: in protected or 64-bit mode with paging on. Each page of the first
 * megabyte is identity-mapped by an entry in `pages`, and marked as accessed and dirty.
 */

#include "common.inc"

#define PAGE            4096
#define PRESENT         0x3                     /* and writable */
#define USED            0x60                    /* accessed and dirty */

reset_vector_to start
define_gdt

        .code16
start:
        cli
        cld
        real_segments
        enter_protected
        clear_bss
        mov     $stack_top, %esp

#if BITS == 16
        ljmp    $SEL_CODE16, $ROM(1f)
        .code16
1:      mov     %cr0, %eax
        and     $~CR0_PE, %eax
        mov     %eax, %cr0
        ljmp    $ROM_SEGMENT, $ROM(2f)
2:      real_segments                           /* bases change, limits stay */
        calll   guest
        halt_forever
#else
        /* Entries are of 4 bytes, or of 8 whose upper half is zero. */
        mov     $pages, %edi
        mov     $(PRESENT | USED), %eax
1:      mov     %eax, (%edi)
        add     $(BITS / 8), %edi
        add     $PAGE, %eax
        test    $0x100000, %eax
        jz      1b
#if BITS == 64
        movl    $pages + (PRESENT | USED), table_2
        movl    $table_2 + (PRESENT | USED), table_3
        movl    $table_3 + (PRESENT | USED), table_4
        enter_long table_4
#else
        movl    $pages + (PRESENT | USED), table_2
        mov     $table_2, %eax
        mov     %eax, %cr3
        mov     %cr0, %eax
        or      $CR0_PG, %eax
        mov     %eax, %cr0
#endif
        call    guest
        halt_forever
#endif

        .section .bss
        .balign PAGE
        .globl  pages
pages:  .skip   PAGE
#if BITS != 16
table_2:
        .skip   PAGE
#endif
#if BITS == 64
table_3:
        .skip   PAGE
table_4:
        .skip   PAGE
#endif
        .skip   16384
stack_top:
