#include "tables.h"

/*
 * The map of physical memory:
 *
 *      0x100000    page tables: those in use, and those under construction; a copy at SAVED
 *      0x400000    frames of 4 KiB
 *      0x1000000   frames of 2 and 4 MiB; those of 1 GiB are 0 and 0x40000000
 */
#define TABLES      0x100000u
#define ROOM        0x80000u
#define SAVED       (TABLES + 2 * ROOM + 0x20000u) /* elsewhere in QEMU's TLB, which has 64 places or more */
#define SMALL       0x400000u
#define LARGE       0x1000000u
#define LARGE_BIT   0x80u
#define ADDRESS     0x000ffffffffff000ull
#define EVERYTHING  (P | W | U | A | D)

#if BITS == 32
const struct paging pagings[] = {
    {"no paging", 0, 10, 4, 0, 1 << 0, SMALL + 4 * PAGE},
    {"32-bit paging", 2, 10, 4, 0, 1 << 1, 0xc0000000},
    {"32-bit paging, PSE", 2, 10, 4, CR4_PSE, 1 << 1 | 1 << 2, 0xc0000000},
    {"PAE paging", 3, 9, 8, CR4_PAE, 1 << 1 | 1 << 2, 0x80000000},
    {"", 0, 0, 0, 0, 0, 0},
};
#else
const struct paging pagings[] = {
    {"4-level paging", 4, 9, 8, CR4_PAE, 1 << 1 | 1 << 2 | 1 << 3, 0xffff900000000000},
    {"5-level paging", 5, 9, 8, CR4_PAE | CR4_LA57, 1 << 1 | 1 << 2 | 1 << 3, 0xff3a000000000000},
    {"", 0, 0, 0, 0, 0, 0},
};
#endif

const struct paging *paging;
struct window window;
static word cr3, tables_end;

static u64 read_entry(word at) {
    return paging->entry_size == 8 ? *(volatile u64 *)at : *(volatile u32 *)at;
}

static void write_entry(word at, u64 entry) {
    if (paging->entry_size == 8)
        *(volatile u64 *)at = entry;
    else
        *(volatile u32 *)at = (u32)entry;
}

static word new_table(void) {
    const word table = tables_end;
    tables_end += PAGE;
    check(tables_end <= cr3 + ROOM);
    fill((void *)table, 0, PAGE);
    return table;
}

/* Returns the entry; makes missing tables above it. They need not be present. */
word entry_address(word linear, int level) {
    word table = cr3;
    for (int above = paging->levels;; above--) {
        const u32 shift = 12u + paging->index_bits * (u32)(above - 1);
        const word at = table + (linear >> shift & ((1u << paging->index_bits) - 1)) * paging->entry_size;
        if (above == level)
            return at;
        if (!read_entry(at))
            write_entry(at, new_table() | (has_rights(above) ? EVERYTHING & ~D : P));
        table = (word)(read_entry(at) & ADDRESS);
    }
}

u64 get_entry(word linear, int level) { return read_entry(entry_address(linear, level)); }
void set_entry(word linear, int level, u64 entry) { write_entry(entry_address(linear, level), entry); }

void map(word linear, u64 physical, int level, u32 bits) {
    set_entry(linear, level, physical | P | bits | (level > 1 ? LARGE_BIT : 0));
}

void flush(void) {
    word bits;
    if (paging->levels)
        __asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(bits) : : "memory");
}

/* The end of the guest's own memory: its frames, those of 1 GiB included. */
#define REACH (BITS == 64 ? 0x80000000u : 0x2000000u)

void use_paging(const struct paging *kind, word more_cr4) {
    const u32 bits = W | A | D;
    theme = kind->name;
#if BITS == 32
    paging_off();
#endif
    paging = kind;
    cr3 = tables_end = cr3 == TABLES ? TABLES + ROOM : TABLES;
    if (!kind->levels)
        return;
    new_table();
    const int large = kind->leaf_levels >> 2 & 1;
    word at = 0;
    for (; at < (large ? SMALL : 2 * SMALL); at += PAGE)
        map(at, at, 1, at == (word)code_page ? U | A | D : bits); /* a call of ring 3 must not overwrite it */
    for (; large && at < REACH; at += (word)page_size(2))
        map(at, at, 2, bits);
    switch_paging(cr3, kind->cr4 | more_cr4);
}

void save_tables(void) {
    const u64 *from = (const u64 *)cr3;
    for (u64 *to = (u64 *)SAVED; from < (const u64 *)tables_end; from++, to++)
        *to = *from;
}

int are_tables_saved(void) {
    const volatile u64 *saved = (const volatile u64 *)SAVED;
    for (const volatile u64 *now = (const volatile u64 *)cr3; now < (const volatile u64 *)tables_end; now++, saved++)
        if (*now != *saved)
            return 0;
    return 1;
}

/* ---- The window ---- */

void open_window(int level) { open_window_at(level, (word)paging->middle); }

void open_window_at(int level, word middle) {
    static const u8 order[][8] = {{5, 2, 7, 0, 3, 6, 1, 4}, {2, 0, 3, 1}, {1, 0}};
    window.level = level;
    window.shift = level ? 12u + paging->index_bits * (u32)(level - 1) : 12;
    window.size = page_size(level);
    window.pages = level < 2 ? 8 : level == 2 ? 4 : 2;
    window.middle = middle;
    window.begin = window.middle - (word)window.size * (u32)(window.pages / 2);
    for (int page = 0; page < window.pages; page++) {
        const word linear = window.begin + (word)window.size * (u32)page;
        if (!level) {
            window.frames[page] = linear;
            continue;
        }
        const u64 frame = order[level - 1][page];
        window.frames[page] = level == 1 ? SMALL + 2 * PAGE * frame : level == 2 ? LARGE + window.size * frame : window.size * frame;
        map(linear, window.frames[page], level, EVERYTHING);
    }
    flush();
}

u8 *direct(word linear) {
    const word offset = linear - window.begin;
    if (offset >= window.size * (u32)window.pages)
        return (u8 *)linear;
    return (u8 *)(word)(window.frames[offset >> window.shift] + (offset & (window.size - 1)));
}
