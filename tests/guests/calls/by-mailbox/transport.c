/*
 * The calls of guests that make them one at a time, through a large mailbox instead of registers. Linked with such a
 * guest, these functions replace those of lib/world.c.
 */
#include "../lib/world.h"

#define KEY  0x7472616e73706f72ull
#define SITE 0x7369746520697320ull

static struct pvio_mailbox mailbox;

/* User code has no mailbox. */
int can_call(const struct caller *by) { return !is_user(by); }

static void register_mailbox(void) {
    static int is_registered;
    volatile struct pvio_mailbox *const box = &mailbox;
    if (is_registered)
        return;
    is_registered = 1;
    box->key = KEY;
    box->word = pvio_call_word(PVIO_CALL_REGISTER_LARGE, 0, 0);
    register_by(&ring_0, (word)&mailbox);
    check_same(box->word, PVIO_VERSION);
    check(box->value & PVIO_FEATURE_LARGE_MAILBOX);
}

/* DX is value and address: only one of them may change. */
u32 call_by(const struct caller *by, u32 call_word, word *dx, word *cx) {
    volatile struct pvio_mailbox *const box = &mailbox;
    const word whole = by->bits == 64 ? ~(word)0 : 0xffffffff;
    const u32 number = call_word >> PVIO_CALL_SHIFT & 0x7f, value = (u32)*dx;
    const word address = *dx & whole, count = *cx & whole;
    const int gives_value = number == PVIO_CALL_INL || number == PVIO_CALL_PROBE;

    register_mailbox();
    /* It would succeed. */
    if (number == PVIO_CALL_RELEASE && call_word & PVIO_UNANSWERED)
        return (u32)PVIO_STATUS_UNKNOWN << PVIO_CALL_SHIFT;
    box->value = value;
    box->address = address;
    box->count = count;
    box->site = SITE;
    box->word = call_word;
    ring_by(by);
    const u32 answer = box->word;
    check_same(box->key, KEY);
    check_same(box->site, SITE);
    check((box->reserved[0] | box->reserved[1] | box->reserved[2]) == 0);
    if (gives_value)
        check_same(box->address, address);
    else
        check_same(box->value, value);
    *dx = gives_value ? box->value : (word)box->address;
    *cx = (word)box->count;
    return answer;
}
