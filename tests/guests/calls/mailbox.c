/*
 * calls-mailbox32, calls-mailbox64: the mailbox of one CPU, by the C header and by hand.
 *
 * If a mailbox can be registered, the guest checks its answers, and that only word and value change. On any other
 * machine, the header's functions do the same by registers or by instruction. `registered` reports the status of the
 * first registration.
 */
#include "lib/strings.h"
#include "lib/window-box.h"

#define KEY 0x6b657900796b6579ull

static struct pvio_mailbox mailbox;
static u32 features_of_host;

/* ---- Through the header ---- */

#define IDLE_WORD  0x00654321
#define IDLE_VALUE 0x10fedcba

#define IDLE_REST  0x0f1e2d3c4b5a6978ull

static void check_idle(void) {
    const volatile struct pvio_mailbox *const idle = &mailbox;
    check_same(idle->word, IDLE_WORD);
    check_same(idle->value, IDLE_VALUE);
    check_same(idle->address, IDLE_REST);
    check_same(idle->count, ~IDLE_REST);
    check_same(idle->site, 0);
    check((idle->reserved[0] | idle->reserved[1] | idle->reserved[2]) == 0);
}

/* Makes a call of the header's, which is answered in the mailbox, or in registers. */
static int has_host, is_called;
#define made(CALL, expression)                                                                     \
    (answered[PVIO_CALL_##CALL] += has_host || is_called, trial++, (expression))

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

/* Each element is read once and written once, by call or by instruction. */
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
    for (const u32 end = given + 100 * 14; given < end;) {
        const u32 at = given;
        made(OUTB, pvio_mailbox_outb(&mailbox, sequence(at), STREAM));
        made(OUTW, pvio_mailbox_outw(&mailbox, (u16)(sequence(at + 1) | sequence(at + 2) << 8), STREAM));
        made(OUTL, pvio_mailbox_outl(&mailbox, sequence(at + 3) | sequence(at + 4) << 8 | sequence(at + 5) << 16 | (u32)sequence(at + 6) << 24, STREAM));
        given += 7;
        check_idle();
    }
}

/* Each string is one call, or one instruction. */
static void strings(void) {
    static u8 bytes[4 * 50];
    for (u32 count = 1; count <= 50; count += 7) {
        for (u32 width = 1; width <= 4; width *= 2) {
            fill(bytes, 0, sizeof bytes);
            if (width == 1)
                made(INSB, pvio_mailbox_insb(&mailbox, STREAM, bytes, count));
            else if (width == 2)
                made(INSW, pvio_mailbox_insw(&mailbox, STREAM, bytes, count));
            else
                made(INSL, pvio_mailbox_insl(&mailbox, STREAM, bytes, count));
            for (u32 i = 0; i < count * width; i++)
                check_same(bytes[i], next(1));
            for (u32 i = 0; i < sizeof bytes; i++)
                bytes[i] = i < count * width ? sequence(given + i) : 0;
            if (width == 1)
                made(OUTSB, pvio_mailbox_outsb(&mailbox, STREAM, bytes, count));
            else if (width == 2)
                made(OUTSW, pvio_mailbox_outsw(&mailbox, STREAM, bytes, count));
            else
                made(OUTSL, pvio_mailbox_outsl(&mailbox, STREAM, bytes, count));
            given += count * width;
            check_idle();
        }
    }
    check_same(in_32(LEFT), STREAM_SIZE - taken);
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
        stream(), strings();
    qemus_devices();
}

/* ---- By hand ---- */

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

    /* Calls that a mailbox cannot make, and numbers without a call. */
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
        post_in_vain(&ring_0, box, pvio_call_word((u8)call, 0, LATCH) & ~PVIO_UNANSWERED);

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

/* These numbers are no calls by registers. */
static void by_registers(void) {
    static const u8 calls[] = {PVIO_CALL_REGISTER, PVIO_CALL_RELEASE, PVIO_CALL_REGISTER_LARGE};
    for (u32 i = 0; i < sizeof calls; i++) {
        const u8 call = calls[i];
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
        __asm__ volatile("leaq 1f(%%rip), %0; pushf; orl %1, (%%rsp); popf; " PVIO_BYTES_(PVIO_DOORBELL) "; 1: pushf; andl %2, (%%rsp); popf"
                         : "=&r"(behind) : "i"(FLAGS_TF), "i"(~FLAGS_TF) : "memory", "cc");
#else
        __asm__ volatile("movl $1f, %0; pushf; orl %1, (%%esp); popf; " PVIO_BYTES_(PVIO_DOORBELL) "; 1: pushf; andl %2, (%%esp); popf"
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
    open_window(1);
    save_tables();
    answers();
    by_registers();
    step_over_ring();
    /* The one in the window is released by being replaced. */
}

void guest(void) {
    use_paging(pagings + (BITS == 32 ? 3 : 0), 0);
    /* A call leaves what it finds. */
    BOX(&mailbox)->word = IDLE_WORD;
    BOX(&mailbox)->value = IDLE_VALUE;
    mailbox.address = IDLE_REST;
    mailbox.count = ~IDLE_REST;

    is_called = pvio_probe(0) != 0;
    /* Another has been made before anything else. */
    answered[PVIO_CALL_PROBE] += 2 * (u32)is_called;

    /* Nobody knows of it yet. */
    scalars();
    check_same(pvio_mailbox_release(&mailbox), PVIO_STATUS_UNANSWERED);

    const u32 status = pvio_mailbox_register(&mailbox, KEY, &features_of_host);
    check_idle();
    tell("registered", status);
    has_host = status == PVIO_STATUS_OK;
    check_same(!!(features_of_host & PVIO_FEATURE_MAILBOX), (u32)has_host);
    /* A host that refuses a large one is asked for a small one. */
    answered[PVIO_CALL_REGISTER_LARGE] += status != PVIO_STATUS_UNANSWERED;
    answered[PVIO_CALL_REGISTER] += status != PVIO_STATUS_UNANSWERED && !has_host;
    scalars();
    if (has_host) {
        by_hand();
        /* And once more through the header. */
        check_same(made(REGISTER_LARGE, pvio_mailbox_register(&mailbox, KEY, &features_of_host)), PVIO_STATUS_OK);
        scalars();
        check_same(made(RELEASE, pvio_mailbox_release(&mailbox)), PVIO_STATUS_OK);
        check_idle();
        has_host = 0;
    }
    check_same(pvio_mailbox_release(&mailbox), PVIO_STATUS_UNANSWERED);
    scalars();
    check_idle();
    tell_answers();
    tell("taken", taken);
    tell("given", given);
}
