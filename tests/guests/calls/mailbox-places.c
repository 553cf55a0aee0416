/*
 * calls-mailbox-places32, calls-mailbox-places64: which code may use the doorbell and register, which memory may be a
 * mailbox, and what ends a registration.
 */
#include "lib/window-box.h"

#define KEY 0x706c616365206b79ull

/* ---- Who rings, and who registers ---- */

static void callers(void) {
    static const struct caller *const all[] = {&ring_0, &ring_1, &ring_2, &ring_0_16,
#if BITS == 64
        &ring_0_32, &ring_3_32,
#else
        &virtual_8086,
#endif
        &ring_3, &ring_3_16, 0};
    for (const struct caller *const *by = all; *by; by++) {
        const int is_kernel = !is_user(*by);
        u32 value = 0x01020304;
        theme = (*by)->name;
        be_registered(window.begin + PAGE, KEY);
        pvio_native_outl(0, LATCH);
        if (is_kernel) {
            check_same(post_by(*by, box, pvio_call_word(PVIO_CALL_OUTL, 0, LATCH), &value), 0);
            check_same(post_by(*by, box, pvio_call_word(PVIO_CALL_INW, 0, LATCH), &value), 0x0304);
            check_same(in_32(LATCH), 0x01020304);
            check_same(post_by(*by, box, pvio_call_word(PVIO_CALL_RELEASE, 0, 0), &value), 0);
            check_unanswered(box);
        } else {
            for (u8 call = 0; call <= PVIO_CALL_DUMP; call++)
                post_in_vain(*by, box, pvio_call_word(call, 0, LATCH));
            check_same(in_32(LATCH), 0);
            check_heard(box);
        }

        /* A second one is registered by 16 and 32-bit code where these reach: below 4 GiB. */
        volatile struct small_box *const first = box;
        static struct small_box low;
        const u32 answer = register_word(*by, BOX(&low), (word)&low, REGISTER_WORD, KEY + 1);
        check_same(answer, is_kernel ? PVIO_VERSION : REGISTER_WORD);
        if (is_kernel) {
            check_heard(BOX(&low));
            check_unanswered(first);
        } else {
            check_same(BOX(&low)->value, 0x87654321);
            check_unanswered(BOX(&low));
            check_heard(first);
        }
        check_marks();
    }
    theme = paging->name;
}

/* ---- What may be a mailbox, and when it is one no more ---- */

static const struct small_box in_rom = {REGISTER_WORD, 0x87654321, KEY};

/* It is not taken, and the one that was before is still there. */
static void refuse(volatile struct small_box *here, word linear, u32 word_, u64 key) {
    check_same(register_word(&ring_0, here, linear, word_, key), word_);
    check_same(here->value, 0x87654321);
    check_heard(box);
}

/* The same with a page whose entry lacks a bit, which nothing may set. */
static void refuse_page(word linear, int level, u64 clear) {
    const u64 good = get_entry(linear, level), bad = good & ~clear;
    volatile struct small_box *const here = BOX(direct(linear));
    set_entry(linear, level, bad);
    flush();
    refuse(here, linear, REGISTER_WORD, KEY);
    check_same(get_entry(linear, level), bad);
    set_entry(linear, level, good);
    flush();
}

static void what_may_be_one(void) {
    static struct small_box elsewhere[2];
    const word page = window.begin + 6 * PAGE;
    be_registered(window.begin + PAGE + 0x10, KEY);
    for (u32 i = 1; i < 16; i++) {
        volatile u8 *const bytes = (volatile u8 *)elsewhere;
        refuse(BOX(bytes + i), (word)(bytes + i), REGISTER_WORD, KEY);
    }
    for (u32 bit = 0; bit < 32; bit++)
        refuse(BOX(elsewhere), (word)elsewhere, REGISTER_WORD ^ 1u << bit, KEY);
    refuse(BOX(elsewhere), (word)elsewhere, 0, KEY);

    /* A key of 0 is answered, and the mailbox that was before is still there. */
    check_same(register_word(&ring_0, BOX(elsewhere), (word)elsewhere, REGISTER_WORD, 0), status_word(PVIO_STATUS_ARGUMENT));
    check_same(BOX(elsewhere)->value, 0x87654321);
    check_heard(box);

    for (int level = 1; level <= paging->levels; level++) {
        refuse_page(page, level, P);
        if (has_rights(level)) {
            refuse_page(page, level, A);
            set_write_protection(1);
            refuse_page(page, level, W);
            set_write_protection(0);
        }
    }
    refuse_page(page, 1, D);

    /* Nothing can be written there: ROM, and where nothing is. */
    check_same(in_rom.word, REGISTER_WORD);
    trial++;
    register_by(&ring_0, (word)&in_rom);
    check_same(((const volatile struct small_box *)&in_rom)->word, REGISTER_WORD);
    check_heard(box);
    const u64 frame = get_entry(page, 1);
    static const u32 no_ram[] = {0xfec00000, 0xfee00000, 0x70000000, 0xfffff000};
    for (u32 i = 0; i < sizeof no_ram / sizeof *no_ram; i++) {
        map(page, no_ram[i], 1, W | U | A | D);
        flush();
        trial++;
        register_by(&ring_0, page);
        check_heard(box);
    }
    set_entry(page, 1, frame);
    flush();
    check_marks();

    /* If a supervisor may write a read-only page, it may register it. */
    set_entry(page, 1, frame & ~(u64)W);
    flush();
    check_same(register_word(&ring_0, BOX(direct(page)), page, REGISTER_WORD, KEY + 2), PVIO_VERSION);
    check_heard(BOX(direct(page)));
    check_unanswered(box);
    set_entry(page, 1, frame);
    flush();

    /* The last one in a page, of every kind of page. */
    be_registered(window.begin + 2 * PAGE - 16, KEY);
}

/* The place in memory counts, even if the page tables change later. */
static void pages_change(void) {
    be_registered(window.begin + 3 * PAGE + 0x230, KEY);
    const u64 entry = get_entry(box_linear, 1);
    set_entry(box_linear, 1, 0);
    flush();
    check_heard(box);
    map(box_linear, window.frames[5], 1, W);
    flush();
    volatile struct small_box *const other_frame = BOX((word)window.frames[5] + 0x230);
    other_frame->word = box->word = pvio_call_word(PVIO_CALL_PROBE, 0, 0);
    other_frame->key = KEY;
    check_heard(box);
    check_same(other_frame->word, pvio_call_word(PVIO_CALL_PROBE, 0, 0));
    set_entry(box_linear, 1, entry);
    flush();
    check_heard(box);
}

static void releases(void) {
    u32 value = 0x87654321;
    be_registered(window.begin + PAGE + 0x20, KEY);
    volatile struct small_box *const first = box;
    /* Again, by the same key and by another, and elsewhere. */
    check_same(register_here(KEY), PVIO_VERSION);
    check_heard(box);
    check_same(register_here(1), PVIO_VERSION);
    check_heard(box);
    be_registered(window.begin + 2 * PAGE, 1ull << 63);
    check_unanswered(first);
    check_heard(box);
    check_same(post_by(&ring_0, box, pvio_call_word(PVIO_CALL_RELEASE, 0, 0), &value), 0);
    check_same(value, 0x87654321);
    check_unanswered(box);
    post_in_vain(&ring_0, box, pvio_call_word(PVIO_CALL_RELEASE, 0, 0));
    check_unanswered(first);
    /* Nobody has one: a register without a word of register changes nothing. */
    check_same(register_word(&ring_0, box, box_linear, pvio_call_word(PVIO_CALL_INB, 0, LATCH), KEY), pvio_call_word(PVIO_CALL_INB, 0, LATCH));
    be_registered(window.begin + 2 * PAGE, KEY);
}

void guest(void) {
    use_paging(pagings + (BITS == 32 ? 3 : 0), 0);
    answered[PVIO_CALL_PROBE] += !(answer_in_real_mode & PVIO_UNANSWERED);
    open_window(1);
    save_tables();
    callers();
    what_may_be_one();
    pages_change();
    releases();
    tell_answers();
}
