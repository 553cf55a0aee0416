/*
 * Calls through a mailbox without the functions of pvio.h: the guest sets and checks the mailbox's contents itself,
 * and counts the calls for the test.
 */
#pragma once

#include "tables.h"
#include "../../words.h"

/* The calls that were answered, by number: all, and those that were wrong. */
static u32 answered[128], wrong[128];

/* A small mailbox. */
struct small_box {
    u32 word;
    u32 value;
    u64 key;
} __attribute__((aligned(16)));

#define BOX(at) ((volatile struct small_box *)(at))

static inline u32 status_word(u32 status) { return status << PVIO_CALL_SHIFT; }

/* Counts what was answered to a word. */
static inline void count_answer(u32 asked, u32 answer) {
    if (answer & PVIO_UNANSWERED || !(asked & PVIO_UNANSWERED))
        return;
    answered[asked >> PVIO_CALL_SHIFT & 0x7f]++;
    wrong[asked >> PVIO_CALL_SHIFT & 0x7f] += pvio_status(answer) > PVIO_STATUS_DECLINED;
}

/* Writes a call, rings as that caller, and returns the mailbox's word. Both words stay there. */
static inline u32 post_by(const struct caller *by, volatile struct small_box *box, u32 word_, u32 *value) {
    const u64 key = box->key;
    box->value = *value;
    box->word = word_;
    ring_by(by);
    check_same(box->key, key);
    *value = box->value;
    count_answer(word_, box->word);
    return box->word;
}

/* A call that must be answered so, and leave the value as it is. */
static inline void post_for(u32 expected, volatile struct small_box *box, u32 word_) {
    u32 value = 0x87654321;
    trial++;
    check_same(post_by(&ring_0, box, word_, &value), expected);
    check_same(value, 0x87654321);
}

/* Rings and restores everything, whatever call the mailbox has. */
static inline void post_in_vain(const struct caller *by, volatile struct small_box *box, u32 word_) {
    u32 value = 0x87654321;
    trial++;
    check_same(post_by(by, box, word_, &value), word_);
    check_same(value, 0x87654321);
}

/* The mailbox is this CPU's, if it answers a probe. */
static inline void check_heard(volatile struct small_box *box) {
    u32 value = 0x87654321;
    trial++;
    check_same(post_by(&ring_0, box, pvio_call_word(PVIO_CALL_PROBE, 0, 0), &value), PVIO_VERSION);
    check(value & PVIO_FEATURE_MAILBOX);
}

static inline void check_unanswered(volatile struct small_box *box) {
    post_in_vain(&ring_0, box, pvio_call_word(PVIO_CALL_PROBE, 0, 0));
}

/* Registers the mailbox as that caller, with a chosen word. Returns the mailbox's word. */
static inline u32 register_word(const struct caller *by, volatile struct small_box *box, word linear, u32 word_, u64 key) {
    trial++;
    box->key = key;
    box->value = 0x87654321;
    box->word = word_;
    register_by(by, linear);
    check_same(box->key, key);
    count_answer(word_, box->word);
    return box->word;
}

#define REGISTER_WORD (PVIO_UNANSWERED | PVIO_CALL_REGISTER << PVIO_CALL_SHIFT)

static inline void tell_answers(void) {
    for (u32 call = 0; call < 128; call++)
        if (answered[call]) {
            print("call ");
            print_number(call);
            put(' ');
            print_number(answered[call]);
            put(' ');
            print_number(wrong[call]);
            put('\n');
        }
}
