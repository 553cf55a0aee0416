/*
 * calls-mailbox-large32, calls-mailbox-large64: what only a large mailbox has. Its size, alignment and reserved fields;
 * calls that only it takes; fields that a call must not change; addresses and counts of 64 bits in every mode.
 */
#include "lib/window-box.h"

#define KEY           0x6c61726765206b65ull
#define REGISTER_BIG  (PVIO_UNANSWERED | PVIO_CALL_REGISTER_LARGE << PVIO_CALL_SHIFT)
#define ANY_SITE      0xfedcba9876543210ull

static volatile struct pvio_mailbox *large;

/* What it is around: move_to() knows of small ones. */
static void check_page(void) {
    const u8 *const page = page_of_box();
    for (u32 i = 0; i < PAGE; i++)
        if (i - ((word)box & (PAGE - 1)) >= sizeof *large)
            check_same(page[i], MARK);
    check(are_tables_saved());
}

static u32 register_large_by(const struct caller *by, word linear, u64 key) {
    move_to(linear);
    large = (volatile struct pvio_mailbox *)box;
    large->address = large->count = large->site = ANY_SITE;
    large->reserved[0] = large->reserved[1] = large->reserved[2] = 0;
    return register_word(by, box, linear, REGISTER_BIG, key);
}

static void be_large(word linear) {
    check_same(register_large_by(&ring_0, linear, KEY), PVIO_VERSION);
    check(large->value & PVIO_FEATURE_LARGE_MAILBOX);
    check(large->address == ANY_SITE && large->count == ANY_SITE && large->site == ANY_SITE);
    check_heard(box);
    check_page();
}

/* Posts a call, which must leave the site and what is reserved. */
static u32 post(const struct caller *by, u32 word_, u64 address, u64 count) {
    u32 value = 0x87654321;
    trial++;
    large->address = address;
    large->count = count;
    large->site = ANY_SITE + trial;
    large->reserved[0] = large->reserved[1] = large->reserved[2] = trial;
    const u32 answer = post_by(by, box, word_, &value);
    check_same(large->site, ANY_SITE + trial);
    check(large->reserved[0] == trial && large->reserved[1] == trial && large->reserved[2] == trial);
    check_same(value, 0x87654321);
    return answer;
}

static void post_for_status(const struct caller *by, u32 status, u32 word_, u64 address, u64 count) {
    check_same(post(by, word_, address, count), status_word(status));
    check_same(large->address, address);
    check_same(large->count, count);
    check_page();
}

/* ---- Registration ---- */

static void alignment(void) {
    be_large(window.begin + PAGE);
    volatile struct small_box *const first = box;
    for (u32 offset = 16; offset < PAGE; offset += offset == 48 ? PAGE - 64 - 48 - 16 : 16) {
        const word linear = window.begin + 2 * PAGE + offset;
        if (offset % 64 == 0)
            continue;
        check_same(register_large_by(&ring_0, linear, KEY), REGISTER_BIG);
        check_same(box->value, 0x87654321);
        check_page();
        check_heard(first);
    }
    /* The last one of a page, and the first. */
    be_large(window.begin + 3 * PAGE - 64);
    be_large(window.begin + 3 * PAGE);
}

static void reserved_fields(void) {
    be_large(window.begin + PAGE);
    volatile struct small_box *const first = box;
    for (u32 bit = 0; bit < 192; bit++) {
        move_to(window.begin + 2 * PAGE + 0x40);
        large = (volatile struct pvio_mailbox *)box;
        for (u32 i = 0; i < 3; i++)
            large->reserved[i] = i == bit / 64 ? 1ull << bit % 64 : 0;
        check_same(register_word(&ring_0, box, box_linear, REGISTER_BIG, KEY), status_word(PVIO_STATUS_ARGUMENT));
        check_heard(first);
    }
    check_same(register_large_by(&ring_0, window.begin + 2 * PAGE, 0), status_word(PVIO_STATUS_ARGUMENT));
    check_heard(first);
    for (u32 bit = 0; bit < 24; bit++) {
        move_to(window.begin + 2 * PAGE);
        check_same(register_word(&ring_0, box, box_linear, REGISTER_BIG ^ 1u << bit, KEY), REGISTER_BIG ^ 1u << bit);
        check_heard(first);
    }
}

/* A small one in the same place takes no strings, whatever is behind it. */
static void small_and_large(void) {
    be_large(window.begin + PAGE);
    post_for_status(&ring_0, PVIO_STATUS_OK, pvio_call_word(PVIO_CALL_OUTSB, 0, LATCH), window.middle, 0);
    check_same(register_word(&ring_0, box, box_linear, REGISTER_WORD, KEY), PVIO_VERSION);
    for (u8 call = PVIO_CALL_INSB; call <= PVIO_CALL_FILE_FINISH; call++)
        if (call != PVIO_CALL_RELEASE)
            post_for_status(&ring_0, PVIO_STATUS_UNKNOWN, pvio_call_word(call, 0, 0), window.middle, 1);
    be_large(window.begin + PAGE);
    check_same(post(&ring_0, pvio_call_word(PVIO_CALL_RELEASE, 0, 0), ANY_SITE, ANY_SITE), 0);
    check_unanswered(box);
}

/* ---- Calls ---- */

static void every_caller(void) {
    static const struct caller *const all[] = {&ring_0, &ring_1, &ring_2, &ring_0_16,
#if BITS == 64
        &ring_0_32, &ring_3_32,
#else
        &virtual_8086,
#endif
        &ring_3, &ring_3_16, 0};
    static const u8 bytes[3] = {0x11, 0x22, 0x33};
    const u32 outs = pvio_call_word(PVIO_CALL_OUTSB, 0, LATCH);
    for (const struct caller *const *by = all; *by; by++) {
        theme = (*by)->name;
        be_large(window.begin + PAGE);
        pvio_native_outl(0, LATCH);
        if (is_user(*by)) {
            check_same(post(*by, outs, (word)bytes, 3), outs);
            check(large->address == (word)bytes && large->count == 3);
            check_same(in_32(LATCH), 0);
            continue;
        }
        check_same(post(*by, outs, (word)bytes, 3), 0);
        check(large->address == (word)bytes + 3 && large->count == 0);
        check_same(in_32(LATCH), 0x33);
        /* Outside 64-bit code the upper halves are not ignored. */
        for (u32 bit = 32; bit < 64 && (*by)->bits != 64; bit++) {
            post_for_status(*by, PVIO_STATUS_ADDRESS, outs, (word)bytes | 1ull << bit, 3);
            post_for_status(*by, PVIO_STATUS_ADDRESS, outs, (word)bytes, 3 | 1ull << bit);
        }
        check_same(in_32(LATCH), 0x33);
        check_page();
    }
    theme = paging->name;
}

static void numbers(void) {
    be_large(window.begin + PAGE);
    for (u32 call = 0; call < 128; call++) {
        const u32 word_ = pvio_call_word((u8)call, 0, 0);
        if (call == PVIO_CALL_REGISTER_LARGE || call > PVIO_CALL_FILE_FINISH || call == PVIO_CALL_REGISTER)
            post_for_status(&ring_0, PVIO_STATUS_UNKNOWN, word_, ANY_SITE, ANY_SITE);
        /* Fields that a call does not take are left alone. */
        if (call == PVIO_CALL_INB || call == PVIO_CALL_OUTB) {
            check_same(post(&ring_0, word_ | LATCH, ANY_SITE, ~ANY_SITE) >> PVIO_CALL_SHIFT, 0);
            check(large->address == ANY_SITE && large->count == ~ANY_SITE);
        }
        if (call != PVIO_CALL_OUTB && call >= PVIO_CALL_INB && call <= PVIO_CALL_RELEASE && call != PVIO_CALL_REGISTER)
            post_for_status(&ring_0, PVIO_STATUS_ARGUMENT, word_ | 1u << PVIO_OPERAND_SHIFT, window.middle, 1);
    }
    for (u32 call = PVIO_CALL_INSB; call <= PVIO_CALL_OUTSL; call++)
        post_for_status(&ring_0, PVIO_STATUS_OK, pvio_call_word((u8)call, 0, LATCH), ANY_SITE, 0);
}

/* A string may even be in the mailbox: afterwards it has the answer, and all else that came from the device. */
static void string_over_mailbox(void) {
    be_large(window.begin + PAGE);
    pvio_native_outl(0x44332211, LATCH);
    large->address = box_linear;
    large->count = 16;
    box->word = pvio_call_word(PVIO_CALL_INSL, 0, LATCH);
    ring_by(&ring_0);
    count_answer(pvio_call_word(PVIO_CALL_INSL, 0, LATCH), box->word);
    check_same(box->word, 0);
    check_same(box->value, 0x44332211);
    check_same(box->key, 0x4433221144332211);
    check_same(large->address, (u64)box_linear + 64);
    check_same(large->count, 0);
    check_same(large->site, 0x4433221144332211);
    check_page();
    /* The key is another now. */
    post_in_vain(&ring_0, box, pvio_call_word(PVIO_CALL_PROBE, 0, 0));
    box->key = KEY;
    check_heard(box);
}

void guest(void) {
    use_paging(pagings + (BITS == 32 ? 3 : 0), 0);
    answered[PVIO_CALL_PROBE] += !(answer_in_real_mode & PVIO_UNANSWERED);
    /* Where 16 and 32-bit code reaches. */
    open_window_at(1, 0xc0000000);
    save_tables();
    /* qemu-system-i386 has no large ones. */
    const u32 is_declined = register_large_by(&ring_0, window.begin + PAGE, KEY) == status_word(PVIO_STATUS_DECLINED);
    tell("declined", is_declined);
    if (is_declined) {
        be_registered(window.begin + PAGE, KEY);
        tell_answers();
        return;
    }
    alignment();
    reserved_fields();
    small_and_large();
    every_caller();
    numbers();
    string_over_mailbox();
    tell_answers();
}
