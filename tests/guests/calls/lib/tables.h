/*
 * Page tables of every kind, and a window in them: adjacent pages whose frames are not adjacent, around an
 * address at which each level begins a new table. What an entry of each level there specifies applies only to
 * the upper half of the window.
 */
#pragma once

#include "world.h"

struct paging {
    const char *name;
    u8 levels, index_bits, entry_size;
    word cr4;
    /* The sizes of pages: the levels at which an entry may be one's, as bits. */
    u8 leaf_levels;
    u64 middle; /* of the window */
};

/* The last of them has levels 0 and a middle of 0: no paging. */
extern const struct paging pagings[];

#define P 1u
#define W 2u
#define U 4u
#define A 0x20u
#define D 0x40u

/* Bits of CR4. */
#define CR4_PSE  (1u << 4)
#define CR4_PAE  (1u << 5)
#define CR4_LA57 (1u << 12)
#define CR4_SMAP (1u << 21)
#define CR4_PKE  (1u << 22)
#define CR4_PKS  (1u << 24)

/* The settings in force. */
extern const struct paging *paging;

/* Makes tables in which memory is at its own address, for ring 0 and accessed; then paging is on, or off. */
void use_paging(const struct paging *kind, word more_cr4);

/* Bytes of a page of that level, whose entries are the leaves. */
static inline u64 page_size(int level) { return level ? 1ull << (12 + paging->index_bits * (level - 1)) : PAGE; }

/* True if an entry of the level has rights and an accessed bit: PAE's four pointers have not. */
static inline int has_rights(int level) { return paging->levels != 3 || level != 3; }

/* The entry of an address at a level, and where it is; one that leads to tables, or is a leaf. Setting one makes no entry of
 * the TLB out of date that is not flushed. */
word entry_address(word linear, int level);
u64 get_entry(word linear, int level);
void set_entry(word linear, int level, u64 entry);

/* Maps a page of a level's size, with bits besides P. */
void map(word linear, u64 physical, int level, u32 bits);

void flush(void);

/* True if the tables are byte by byte the same as when they were saved. */
void save_tables(void);
int are_tables_saved(void);

/* ---- The window ---- */

struct window {
    int level; /* of its pages */
    int pages;
    u32 shift; /* of the size */
    word begin, middle;
    u64 size; /* of a page */
    u64 frames[8];
};
extern struct window window;

/* Maps the window with pages of that level, of all rights, accessed and dirty: once in the same tables. */
void open_window(int level);
/* The same elsewhere. */
void open_window_at(int level, word middle);

/* The address of a byte of the window, or another, that the tested entries do not affect. */
u8 *direct(word linear);
