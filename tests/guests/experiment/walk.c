/*
 * May the guest execute from a page? Amsden's check: "you have to verify protection in the page tables
 * mapping the page allows execution (P, !NX, and U/S check)".
 *
 * PAE paging (SDM Vol. 3A 4.4): four page-directory-pointer entries, a page directory, a page table. All
 * tables are mapped in the monitor at their physical addresses.
 */
#include "monitor.h"

#define PRESENT (1ull << 0)
#define USER (1ull << 2)
#define LARGE (1ull << 7)
#define NO_EXECUTE (1ull << 63)
#define ADDRESS 0x000ffffffffff000ull

#define CR4_SMEP (1 << 20)

static const u64 *table(u64 entry) { return (const u64 *)(u32)(entry & ADDRESS); }

int may_execute(u32 linear, u32 ring)
{
    u32 cr3, cr4;

    /* Bits 31:5 of CR3 are where the four entries are (table 4-7); they have no rights (table 4-8). */
    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    u64 directory_pointer = ((const u64 *)(cr3 & ~31u))[linear >> 30];
    if (!(directory_pointer & PRESENT))
        return 0;

    /* Bits 29:21 choose the directory's entry, which may map 2 MiB (tables 4-9, 4-10). */
    u64 entry = table(directory_pointer)[linear >> 21 & 511];
    u64 user = entry & USER;
    u64 no_execute = entry & NO_EXECUTE;
    if (!(entry & PRESENT))
        return 0;
    if (!(entry & LARGE)) {
        /* Bits 20:12 choose the page's (table 4-11). */
        entry = table(entry)[linear >> 12 & 511];
        if (!(entry & PRESENT))
            return 0;
        user &= entry;
        no_execute |= entry & NO_EXECUTE;
    }

    /* Rights, 4.6.1: NX at any level forbids (it is reserved, and so 0, where EFER.NXE is); user code needs
     * U/S at all levels; a supervisor, which rings 0 to 2 are, needs it not, and under SMEP must not. */
    if (no_execute)
        return 0;
    if (ring == 3)
        return user != 0;
    if (!user)
        return 1;
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    return !(cr4 & CR4_SMEP);
}
