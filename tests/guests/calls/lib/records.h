/* What the guests for batches of either kind of record share: values, and a page that is not as it should be. */
#pragma once

#include "strings.h"

/* The next value of the sequence, of WIDTH bytes. */
static inline u32 next_value(u32 *place, u32 width) {
    u32 value = 0;
    for (u32 byte = 0; byte < width; byte++)
        value |= (u32)sequence((*place)++) << 8 * byte;
    return value;
}

enum fault { NOT_PRESENT, NOT_ACCESSED, NOT_DIRTY, READ_ONLY, SUPERVISORS, FAULTS };

static word spoiled;
static u64 good;

static inline void spoil(word page, enum fault fault) {
    static const u32 bits[FAULTS] = {P, A, D, W, U};
    spoiled = page;
    good = get_entry(page, 1);
    set_entry(page, 1, good & ~(u64)bits[fault]);
    flush();
}

static inline void mend(word error, word address) {
    (void)error;
    check((address & ~(word)(PAGE - 1)) == (spoiled & ~(word)(PAGE - 1)));
    set_entry(spoiled, 1, good & ~(u64)(A | D));
    flush();
}

static inline void touch(const struct caller *by, word address, int to_write) {
    on_page_fault = mend;
    touch_by(by, address, to_write);
    on_page_fault = 0;
}

static inline void heal(void) {
    set_entry(spoiled, 1, good);
    flush();
}
