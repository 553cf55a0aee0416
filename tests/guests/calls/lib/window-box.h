/*
 * A mailbox in the window, surrounded by known bytes: neither these bytes nor the page tables may change.
 */
#pragma once

#include "post.h"

#define MARK 0x5a
static volatile struct small_box *box;
static word box_linear;

static inline u8 *page_of_box(void) { return (u8 *)((word)box & ~(word)(PAGE - 1)); }

static inline void move_to(word linear) {
    box_linear = linear;
    box = BOX(direct(linear));
    fill(page_of_box(), MARK, PAGE);
}

static inline void check_marks(void) {
    const u8 *const page = page_of_box();
    for (u32 i = 0; i < PAGE; i++)
        if (i - ((word)box & (PAGE - 1)) >= sizeof *box)
            check_same(page[i], MARK);
    check(are_tables_saved());
}

static inline u32 register_here(u64 key) { return register_word(&ring_0, box, box_linear, REGISTER_WORD, key); }

static inline void be_registered(word linear, u64 key) {
    move_to(linear);
    check_same(register_here(key), PVIO_VERSION);
    check(box->value & PVIO_FEATURE_MAILBOX);
    check_heard(box);
    check_marks();
}
