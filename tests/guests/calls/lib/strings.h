/*
 * Strings of port I/O by hypercall. At every moment it is known which elements must have been moved.
 *
 * The stream's input and output are one sequence of bytes that does not repeat: if an element is lost or
 * moved twice, all elements after it are wrong. The test compares the file that was written.
 */
#pragma once

#include "tables.h"

/* The byte at a place of the sequence; tests/tests/suite/hypercalls/memory.rs has the same. */
static inline u8 sequence(u32 place) { return (u8)((place * 0x9e3779b1u) >> 24); }

/* The number of its bytes that the stream has to give. */
#define STREAM_SIZE (8u << 20)

/* The numbers of bytes that it has given and received; the same of the latch. */
extern u32 taken, given, latched;

struct string {
    u8 call; /* PVIO_CALL_INSB ... PVIO_CALL_OUTSL */
    u16 port; /* STREAM or LATCH */
    const struct caller *by;
    word address;
    u32 count;
    u32 moved; /* elements up to now */
    u32 begins; /* where in the sequence */
};

static inline u32 width_of(u8 call) { return 1u << (call - 1) % 3; }
static inline int is_in(u8 call) { return (call - 1) / 3 % 2 == 0; }

/* Runs TRIALS from ring 0, and with paging from ring 3, under each kind of paging, with a window of the smallest pages. */
void from_each_ring(void (*trials)(const struct caller *by));

/* Puts marks where elements will be put, or the elements themselves where they are taken, and marks around. */
void lay_out(struct string *string);

/*
 * Makes one call for what is left, after which `moves` elements more must have been moved, and nothing else
 * have happened: not in memory, not in the device, not in the page tables. Its status.
 */
u32 call_string(struct string *string, u32 moves);

/*
 * Makes a call of any kind that must be answered with that status and do nothing: not to address and count, nor
 * to devices or page tables.
 */
void call_in_vain(const struct caller *by, u32 call_word, word address, word count, u32 status);

static inline int is_done(const struct string *string) { return string->moved == string->count; }
static inline word next_of(const struct string *string) { return string->address + string->moved * width_of(string->call); }
