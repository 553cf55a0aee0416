/*
 * calls-mailbox-random32, calls-mailbox-random64: many random words through mailboxes in many places, right ones
 * and wrong ones, on four latches and on ports without a device. A model computes what each must do.
 *
 * If calls by registers are answered, all counts are reset on the way, and some of the calls are in a window.
 */
#include "lib/post.h"

#define CALLS  240000u
#define PLACES 16

static u64 state;

static u64 any(void) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1dull;
}

static u32 below(u32 limit) { return (u32)(any() >> 33) % limit; }

/* ---- What should be in the latches ---- */

#define LATCHES 4
#define NOBODY  0x5200
static u8 latches[LATCHES][4];

static u32 mask_of(u32 width) { return width == 4 ? ~0u : (1u << 8 * width) - 1; }

static u32 model(u32 number, u8 *at, u32 value) {
    const u32 width = 1u << (number - 1) % 3;
    u32 read = 0;
    for (u32 i = 0; i < width; i++) {
        if (number >= PVIO_CALL_OUTB && at)
            at[i] = (u8)(value >> 8 * i);
        read |= (u32)(at ? at[i] : 0xff) << 8 * i;
    }
    return read & mask_of(width);
}

/* ---- The mailboxes, of which one is registered, or none ---- */

static struct small_box mailboxes[PLACES];
static volatile struct small_box *registered;
static u64 keys[PLACES];

static void move(void) {
    const u32 place = below(PLACES);
    keys[place] = any() | 1;
    check_same(register_word(&ring_0, BOX(&mailboxes[place]), (word)&mailboxes[place], REGISTER_WORD, keys[place]), PVIO_VERSION);
    registered = BOX(&mailboxes[place]);
}

/* Rings the mailbox as it is in memory, and checks the result. */
static void one(void) {
    volatile struct small_box *const box = below(16) && registered ? registered : BOX(&mailboxes[below(PLACES)]);
    const u32 number = below(8) ? 1 + below(6) : below(128);
    const u32 is_scalar = number >= PVIO_CALL_INB && number <= PVIO_CALL_OUTL;
    const u32 width = is_scalar ? 1u << (number - 1) % 3 : 1;
    const u32 latch = below(LATCHES + 1);
    /* Without a device, QEMU 11.1 reads zeros if the access is unaligned. */
    const u32 offset = latch < LATCHES ? below(5 - width) : 0;
    const u32 operand = number == PVIO_CALL_OUTB || !below(16) ? below(256) : 0;
    const u32 port = is_scalar || !below(16) ? latch < LATCHES ? LATCH + 0x10 * latch + offset : NOBODY + offset : 0;
    const u32 is_call = below(32) != 0, has_key = below(32) != 0;
    const u32 asked = is_call << 31 | number << PVIO_CALL_SHIFT | operand << PVIO_OPERAND_SHIFT | port;
    const u64 key = keys[box - BOX(mailboxes)];
    const u32 before = (u32)any();
    u32 word_expected = asked, value_expected = before;

    trial++;
    box->key = has_key ? key : key ^ 1ull << below(64);
    box->value = before;
    box->word = asked;
    if (box == registered && is_call && has_key) {
        const u32 value = number == PVIO_CALL_OUTB ? operand : before;
        u8 *const at = latch < LATCHES ? latches[latch] + offset : 0;
        if (!is_scalar && number != PVIO_CALL_PROBE && number != PVIO_CALL_RELEASE)
            word_expected = status_word(PVIO_STATUS_UNKNOWN);
        else if ((operand && number != PVIO_CALL_OUTB) || (port && !is_scalar))
            word_expected = status_word(PVIO_STATUS_ARGUMENT);
        else if (number == PVIO_CALL_PROBE)
            word_expected = PVIO_VERSION;
        else if (number == PVIO_CALL_RELEASE)
            word_expected = 0, registered = 0;
        else if (number >= PVIO_CALL_OUTB)
            word_expected = 0, model(number, at, value);
        else if (number == PVIO_CALL_INL)
            word_expected = 0, value_expected = model(number, at, 0);
        else
            word_expected = model(number, at, 0);
    }
    __asm__ volatile(PVIO_BYTES_(PVIO_DOORBELL) : : : "memory");
    count_answer(asked, box->word);
    check_same(box->word, word_expected);
    if (number == PVIO_CALL_PROBE && word_expected == PVIO_VERSION)
        check(box->value & PVIO_FEATURE_MAILBOX);
    else
        check_same(box->value, value_expected);
    box->word = 0;
    box->key = key;
}

static void many(u32 calls) {
    for (u32 i = 0; i < calls; i++) {
        if (!below(registered ? 4096 : 8))
            move();
        one();
    }
    for (u32 latch = 0; latch < LATCHES; latch++)
        check_same(in_32((u16)(LATCH + 0x10 * latch)), model(PVIO_CALL_INL, latches[latch], 0));
}

static u32 all_answered(void) {
    u32 all = 0;
    for (u32 call = 0; call < 128; call++)
        all += answered[call];
    return all;
}

void guest(void) {
    state = 0x2545f4914f6cdd1dull ^ BITS;
    use_paging(pagings + (BITS == 32 ? 3 : 0), 0);
    answered[PVIO_CALL_PROBE] += !(answer_in_real_mode & PVIO_UNANSWERED);
    many(CALLS / 4);
    if (pvio_reset() == PVIO_STATUS_OK) {
        fill(answered, 0, sizeof answered);
        fill(wrong, 0, sizeof wrong);
    }
    many(CALLS / 4);
    const u32 has_window = pvio_begin("some") == PVIO_STATUS_OK;
    answered[PVIO_CALL_BEGIN] += has_window;
    const u32 before = all_answered();
    many(CALLS / 4);
    if (has_window) {
        check_same(pvio_end("some"), PVIO_STATUS_OK);
        tell("in the window", all_answered() - before);
        answered[PVIO_CALL_END]++;
    }
    many(CALLS / 4);
    tell_answers();
}
