/*
 * calls-mailbox32, calls-mailbox64: the mailbox of one CPU, through the C header and by hand.
 *
 * Where a mailbox can be registered: what it answers, to whom, when it is heard no more, what may be one, and
 * that nothing changes but word and value. Elsewhere, on any machine: the header's functions do the same by
 * registers, or by instruction. `registered` tells the status of the first registration.
 */
#include "lib/post.h"
#include "lib/strings.h"

#define KEY 0x6b657900796b6579ull

static struct pvio_mailbox mailbox;

/* ---- Through the header ---- */

#define IDLE_WORD  0x00654321
#define IDLE_VALUE 0x10fedcba

static void check_idle(void) {
    check_same(BOX(&mailbox)->word, IDLE_WORD);
    check_same(BOX(&mailbox)->value, IDLE_VALUE);
}

/* Makes a call of the header's, which is answered in the mailbox, or in registers. */
static int is_heard, is_called;
#define made(CALL, expression)                                                                     \
    (answered[PVIO_CALL_##CALL] += is_heard || is_called, trial++, (expression))

static void latch(void) {
    static const u32 values[] = {0x44332211, 0, 0xffffffff, 0x80000000, 0x7f000001};
    for (u32 i = 0; i < sizeof values / sizeof *values; i++) {
        const u32 value = values[i];
        made(OUTL, pvio_mailbox_outl(&mailbox, value, LATCH));
        check_same(pvio_native_inl(LATCH), value);
        check_same(made(INL, pvio_mailbox_inl(&mailbox, LATCH)), value);
        for (u16 at = 0; at < 4; at++)
            check_same(made(INB, pvio_mailbox_inb(&mailbox, LATCH + at)), (u8)(value >> 8 * at));
        for (u16 at = 0; at < 4; at += 2)
            check_same(made(INW, pvio_mailbox_inw(&mailbox, LATCH + at)), (u16)(value >> 8 * at));
        made(OUTW, pvio_mailbox_outw(&mailbox, 0xbbaa, LATCH + 2));
        check_same(pvio_native_inl(LATCH), (value & 0xffff) | 0xbbaa0000);
        made(OUTB, pvio_mailbox_outb(&mailbox, 0x99, LATCH + 1));
        check_same(pvio_native_inl(LATCH), (value & 0xff) | 0xbbaa9900);
        check_idle();
    }
}

static u32 next(u32 width) {
    u32 value = 0;
    for (u32 i = 0; i < width; i++)
        value |= (u32)sequence(taken++) << 8 * i;
    return value;
}

/* Each element comes once, and goes once, whichever way. */
static void stream(void) {
    for (u32 i = 0; i < 100; i++) {
        check_same(made(INB, pvio_mailbox_inb(&mailbox, STREAM)), next(1));
        check_same(pvio_native_inw(STREAM), next(2));
        check_same(made(INL, pvio_mailbox_inl(&mailbox, STREAM)), next(4));
        check_same(pvio_native_inb(STREAM), next(1));
        check_same(made(INW, pvio_mailbox_inw(&mailbox, STREAM)), next(2));
        check_same(in_32(LEFT), STREAM_SIZE - taken);
        check_idle();
    }
    while (given < taken) {
        const u32 at = given;
        made(OUTB, pvio_mailbox_outb(&mailbox, sequence(at), STREAM));
        made(OUTW, pvio_mailbox_outw(&mailbox, (u16)(sequence(at + 1) | sequence(at + 2) << 8), STREAM));
        made(OUTL, pvio_mailbox_outl(&mailbox, sequence(at + 3) | sequence(at + 4) << 8 | sequence(at + 5) << 16 | (u32)sequence(at + 6) << 24, STREAM));
        given += 7;
        check_idle();
    }
}

/* QEMU's, which some hosts cannot reach: then it is by instruction. */
static void qemus_devices(void) {
    for (u8 index = 0x10; index < 0x20; index++) {
        made(OUTB, pvio_mailbox_outb(&mailbox, index, 0x70));
        const u8 called = made(INB, pvio_mailbox_inb(&mailbox, 0x71));
        pvio_native_outb(index, 0x70);
        check_same(pvio_native_inb(0x71), called);
    }
    for (u32 offset = 0; offset < 0x40; offset += 4) {
        made(OUTL, pvio_mailbox_outl(&mailbox, 0x80000000 | offset, 0xcf8));
        const u32 called = made(INL, pvio_mailbox_inl(&mailbox, 0xcfc));
        check_same(pvio_native_inl(0xcf8), 0x80000000 | offset);
        check_same(pvio_native_inl(0xcfc), called);
        check_same(made(INW, pvio_mailbox_inw(&mailbox, 0xcfe)), called >> 16);
        check_same(made(INB, pvio_mailbox_inb(&mailbox, 0xcfd)), (u8)(called >> 8));
    }
    made(OUTW, pvio_mailbox_outw(&mailbox, 0x1234, 0x80));
    /* Nobody is there. */
    check_same(made(INL, pvio_mailbox_inl(&mailbox, 0x5200)), 0xffffffff);
    check_idle();
}

static void scalars(void) {
    /* Without the plugin there may be no latch, and no stream. */
    pvio_native_outl(0x12345678, LATCH);
    if (in_32(LATCH) == 0x12345678)
        latch();
    if (in_32(LEFT) == STREAM_SIZE - taken)
        stream();
    qemus_devices();
}

/* ---- By hand: in the window's second page, among marks ---- */

#define MARK 0x5a
static volatile struct pvio_mailbox *box;
static word box_linear;
static u32 features_of_host;

static u8 *page_of_box(void) { return (u8 *)((word)box & ~(word)(PAGE - 1)); }

static void move_to(word linear) {
    box_linear = linear;
    box = BOX(direct(linear));
    fill(page_of_box(), MARK, PAGE);
}

static void check_marks(void) {
    const u8 *const page = page_of_box();
    for (u32 i = 0; i < PAGE; i++)
        if (i - ((word)box & (PAGE - 1)) >= sizeof *box)
            check_same(page[i], MARK);
    check(are_tables_saved());
}

static u32 register_here(u64 key) { return register_word(&ring_0, box, box_linear, REGISTER_WORD, key); }

static void be_registered(word linear, u64 key) {
    move_to(linear);
    check_same(register_here(key), PVIO_VERSION);
    check_same(box->value, features_of_host);
    check_heard(box);
    check_marks();
}

static void answers(void) {
    u32 value = 0;
    be_registered(window.begin + PAGE + 0x7f0, KEY);
    check_same(post_by(&ring_0, box, pvio_call_word(PVIO_CALL_PROBE, 0, 0), &value), PVIO_VERSION);
    check_same(value, features_of_host);

    /* Values: the bits that a call takes and gives, and the others. */
    value = 0xfedcba98;
    check_same(post_by(&ring_0, box, pvio_call_word(PVIO_CALL_OUTL, 0, LATCH), &value), 0);
    check_same(value, 0xfedcba98);
    value = 0xaaaa5555;
    check_same(post_by(&ring_0, box, pvio_call_word(PVIO_CALL_OUTW, 0, LATCH), &value), 0);
    check_same(value, 0xaaaa5555);
    check_same(in_32(LATCH), 0xfedc5555);
    post_for(0, box, pvio_call_word(PVIO_CALL_OUTB, 0x66, LATCH));
    check_same(in_32(LATCH), 0xfedc5566);
    post_for(0x66, box, pvio_call_word(PVIO_CALL_INB, 0, LATCH));
    post_for(0x5566, box, pvio_call_word(PVIO_CALL_INW, 0, LATCH));
    value = 1;
    check_same(post_by(&ring_0, box, pvio_call_word(PVIO_CALL_INL, 0, LATCH), &value), 0);
    check_same(value, 0xfedc5566);

    /* What does not come through a mailbox, or is nothing. */
    for (u32 call = 0; call < 128; call++)
        if (call > PVIO_CALL_OUTL && call != PVIO_CALL_RELEASE)
            post_for(status_word(PVIO_STATUS_UNKNOWN), box, pvio_call_word((u8)call, 0, 0));
    for (u8 call = 0; call <= PVIO_CALL_OUTL; call++)
        if (call != PVIO_CALL_OUTB)
            post_for(status_word(PVIO_STATUS_ARGUMENT), box, pvio_call_word(call, 1, call ? LATCH : 0));
    post_for(status_word(PVIO_STATUS_ARGUMENT), box, pvio_call_word(PVIO_CALL_PROBE, 0, 1));
    post_for(status_word(PVIO_STATUS_ARGUMENT), box, pvio_call_word(PVIO_CALL_RELEASE, 0, 1));
    post_for(status_word(PVIO_STATUS_ARGUMENT), box, pvio_call_word(PVIO_CALL_RELEASE, 1, 0));
    check_same(in_32(LATCH), 0xfedc5566);
    check_marks();

    /* No call: bit 31 is clear. */
    for (u32 call = 0; call < 128; call++)
        post_in_vain(&ring_0, box, pvio_call_word((u8)call, 0, LATCH) & ~PVIO_UNHEARD);

    /* Another key, by one bit. */
    for (u32 bit = 0; bit < 64; bit++) {
        box->key = KEY ^ 1ull << bit;
        post_in_vain(&ring_0, box, pvio_call_word(PVIO_CALL_OUTB, 0x77, LATCH));
        box->key = KEY;
    }
    check_same(in_32(LATCH), 0xfedc5566);
    check_heard(box);
    check_marks();
}

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
            check_unheard(box);
        } else {
            for (u8 call = 0; call <= PVIO_CALL_DUMP; call++)
                post_in_vain(*by, box, pvio_call_word(call, 0, LATCH));
            check_same(in_32(LATCH), 0);
            check_heard(box);
        }

        /* A second one is registered by 16 and 32-bit code where these reach: below 4 GiB. */
        volatile struct pvio_mailbox *const first = box;
        static struct pvio_mailbox low;
        const u32 answer = register_word(*by, BOX(&low), (word)&low, REGISTER_WORD, KEY + 1);
        check_same(answer, is_kernel ? PVIO_VERSION : REGISTER_WORD);
        if (is_kernel) {
            check_heard(BOX(&low));
            check_unheard(first);
        } else {
            check_same(BOX(&low)->value, 0x87654321);
            check_unheard(BOX(&low));
            check_heard(first);
        }
        check_marks();
    }
    theme = paging->name;
}

/* ---- What may be a mailbox, and when it is one no more ---- */

static const struct pvio_mailbox in_rom = {REGISTER_WORD, 0x87654321, KEY};

/* It is not taken, and the one that was before is still there. */
static void refuse(volatile struct pvio_mailbox *here, word linear, u32 word_, u64 key) {
    check_same(register_word(&ring_0, here, linear, word_, key), word_);
    check_same(here->value, 0x87654321);
    check_heard(box);
}

/* The same with a page whose entry lacks something, which nobody may set. */
static void refuse_page(word linear, int level, u64 clear) {
    const u64 good = get_entry(linear, level), bad = good & ~clear;
    volatile struct pvio_mailbox *const here = BOX(direct(linear));
    set_entry(linear, level, bad);
    flush();
    refuse(here, linear, REGISTER_WORD, KEY);
    check_same(get_entry(linear, level), bad);
    set_entry(linear, level, good);
    flush();
}

static void what_may_be_one(void) {
    static struct pvio_mailbox elsewhere[2];
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
    check_same(((const volatile struct pvio_mailbox *)&in_rom)->word, REGISTER_WORD);
    check_heard(box);
    const u64 frame = get_entry(page, 1);
    static const u32 no_ram[] = {0xa0000, 0xfee00000, 0x70000000, 0xfffff000};
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

    /* Where a supervisor may write a read-only page, he may register it. */
    set_entry(page, 1, frame & ~(u64)W);
    flush();
    check_same(register_word(&ring_0, BOX(direct(page)), page, REGISTER_WORD, KEY + 2), PVIO_VERSION);
    check_heard(BOX(direct(page)));
    check_unheard(box);
    set_entry(page, 1, frame);
    flush();

    /* The last one in a page, of every kind of page. */
    be_registered(window.begin + 2 * PAGE - 16, KEY);
}

/* It is the place in memory, whatever the page tables say later. */
static void pages_change(void) {
    be_registered(window.begin + 3 * PAGE + 0x230, KEY);
    const u64 entry = get_entry(box_linear, 1);
    set_entry(box_linear, 1, 0);
    flush();
    check_heard(box);
    map(box_linear, window.frames[5], 1, W);
    flush();
    volatile struct pvio_mailbox *const other_frame = BOX((word)window.frames[5] + 0x230);
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
    volatile struct pvio_mailbox *const first = box;
    /* Again, by the same key and by another, and elsewhere. */
    check_same(register_here(KEY), PVIO_VERSION);
    check_heard(box);
    check_same(register_here(1), PVIO_VERSION);
    check_heard(box);
    be_registered(window.begin + 2 * PAGE, 1ull << 63);
    check_unheard(first);
    check_heard(box);
    check_same(post_by(&ring_0, box, pvio_call_word(PVIO_CALL_RELEASE, 0, 0), &value), 0);
    check_same(value, 0x87654321);
    check_unheard(box);
    post_in_vain(&ring_0, box, pvio_call_word(PVIO_CALL_RELEASE, 0, 0));
    check_unheard(first);
    /* Nobody has one: a register without a word of register changes nothing. */
    check_same(register_word(&ring_0, box, box_linear, pvio_call_word(PVIO_CALL_INB, 0, LATCH), KEY), pvio_call_word(PVIO_CALL_INB, 0, LATCH));
    be_registered(window.begin + 2 * PAGE, KEY);
}

/* By registers there are no calls of these numbers. */
static void by_registers(void) {
    for (u8 call = PVIO_CALL_REGISTER; call <= PVIO_CALL_RELEASE; call++) {
        word dx = box_linear, cx = 1;
        const u32 asked = pvio_call_word(call, 0, 0), answer = call_by(&ring_0, asked, &dx, &cx);
        count_answer(asked, answer);
        check(answer == asked || answer == status_word(PVIO_STATUS_UNKNOWN));
        check(dx == box_linear && cx == 1);
    }
    check_heard(box);
}

/* ---- Single steps ---- */

static word steps[16];
static u32 step_count;

static void note_step(const struct frame *frame) {
    check_same(frame->vector, VECTOR_DB);
    if (step_count < 16)
        steps[step_count] = frame->ip;
    step_count++;
}

static void step_over_ring(void) {
    word behind;
    on_interrupt = note_step;
    for (u32 i = 1; i <= 10; i++) {
        const u32 byte = next(1);
        step_count = 0;
        box->word = pvio_call_word(PVIO_CALL_INB, 0, STREAM);
#if BITS == 64
        __asm__ volatile("leaq 1f(%%rip), %0; pushf; orl %1, (%%rsp); popf; " PVIO_BYTES_(PVIO_RING) "; 1: pushf; andl %2, (%%rsp); popf"
                         : "=&r"(behind) : "i"(FLAGS_TF), "i"(~FLAGS_TF) : "memory", "cc");
#else
        __asm__ volatile("movl $1f, %0; pushf; orl %1, (%%esp); popf; " PVIO_BYTES_(PVIO_RING) "; 1: pushf; andl %2, (%%esp); popf"
                         : "=&r"(behind) : "i"(FLAGS_TF), "i"(~FLAGS_TF) : "memory", "cc");
#endif
        count_answer(pvio_call_word(PVIO_CALL_INB, 0, STREAM), box->word);
        check_same(box->word, byte);
        check_same(in_32(LEFT), STREAM_SIZE - taken);
        /* Behind the ring, the pushf, the andl, and the popf. */
        check_same(steps[0], behind);
        check_same(step_count, 4);
    }
    on_interrupt = 0;
}

static void by_hand(void) {
    use_paging(pagings + (BITS == 32 ? 3 : 0), 0);
    open_window(1);
    save_tables();
    answers();
    callers();
    what_may_be_one();
    save_tables();
    pages_change();
    releases();
    by_registers();
    step_over_ring();
    /* The one in the window is released by being replaced. */
}

void guest(void) {
    use_paging(pagings + (BITS == 32 ? 3 : 0), 0);
    /* A call leaves what it finds. */
    BOX(&mailbox)->word = IDLE_WORD;
    BOX(&mailbox)->value = IDLE_VALUE;

    is_called = pvio_probe(0) != 0;
    /* Another has been made before anything else. */
    answered[PVIO_CALL_PROBE] += 2 * (u32)is_called;

    /* Nobody knows of it yet. */
    scalars();
    check_same(pvio_mailbox_release(&mailbox), PVIO_STATUS_UNHEARD);

    const u32 status = pvio_mailbox_register(&mailbox, KEY, &features_of_host);
    check_idle();
    tell("registered", status);
    is_heard = status == PVIO_STATUS_OK;
    check_same(!!(features_of_host & PVIO_FEATURE_MAILBOX), (u32)is_heard);
    answered[PVIO_CALL_REGISTER] += status != PVIO_STATUS_UNHEARD;
    scalars();
    if (is_heard) {
        by_hand();
        /* And once more through the header. */
        check_same(made(REGISTER, pvio_mailbox_register(&mailbox, KEY, &features_of_host)), PVIO_STATUS_OK);
        scalars();
        check_same(made(RELEASE, pvio_mailbox_release(&mailbox)), PVIO_STATUS_OK);
        check_idle();
        is_heard = 0;
    }
    check_same(pvio_mailbox_release(&mailbox), PVIO_STATUS_UNHEARD);
    scalars();
    check_idle();
    tell_answers();
    tell("taken", taken);
    tell("given", given);
}
