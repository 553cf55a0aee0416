/*
 * Interrupts around port I/O: in the shadow of STI, within a long rep; and an `ins` over its own code.
 */
#include "lib/harness.h"

#define BUFFER ((u8 *)0x100000)
#define MEGABYTE 0x100000u

static u32 ticks, inside, left;
static struct {
    int form;
    u8 *at;
    u32 length, count;
} t;

/* ---- `sti; out; cli` with the timer pending ---- */

/* SDM Vol. 2B, "STI": after the instruction that follows, and before the CLI. */
static int on_pending(struct frame *frame) {
    check(frame->vector == VECTOR_TIMER);
    /* QEMU comes back to a rep that followed STI to find that nothing is left of it. */
    if (!is_rep(t.form) || frame->eip != (u32)t.at + 1)
        check(frame->eip == (u32)t.at + 1 + t.length);
    check(frame->ecx == !is_rep(t.form));
    ticks++;
    timer_done();
    return 1;
}

static void pend(void) {
    timer_start(1000, 0);
    while (!timer_pending())
        ;
}

static void shadow(int form) {
    enum { ROUNDS = 50 };
    trial++;
    t.form = form;
    t.at = code[0];
    t.length = encode(t.at + 1, form, LATCH);
    t.at[0] = 0xfb; /* sti */
    t.at[1 + t.length] = 0xfa; /* cli */
    encode_end(t.at + 2 + t.length);
    ticks = 0;
    for (u32 round = 1; round <= ROUNDS; round++) {
        pend();
        struct frame frame = start_in(0, 0, t.at);
        frame.edx = LATCH;
        frame.ecx = 1;
        frame.esi = frame.edi = (u32)data;
        run(&frame, on_pending);
        check(frame.vector == VECTOR_END && ticks == round);
    }
    observe("interrupts after the shadow of sti", ticks);
    expect(form, 1, ROUNDS, ROUNDS, ROUNDS, 0);
}

/* ---- A timer within a rep of 1 MiB ---- */

static int on_tick(struct frame *frame) {
    check(frame->vector == VECTOR_TIMER);
    ticks++;
    if (frame->eip == (u32)t.at && frame->ecx && frame->ecx < t.count) {
        inside++;
        left = frame->ecx;
    }
    timer_done();
    return 1;
}

/* True if there was an interrupt within. */
static u32 long_rep(int form) {
    u32 size = bytes_of(form);
    trial++;
    t.form = form;
    t.at = code[0];
    t.count = MEGABYTE / size;
    for (u32 i = 0; i < MEGABYTE; i++)
        BUFFER[i] = is_in(form) ? 0 : (u8)(0xc0 + i % size);
    set_latch(0x44332211);
    ticks = inside = 0;
    timer_start(100000, 1);
    struct frame frame = start_in(0, EFLAGS_IF, t.at);
    frame.edx = LATCH;
    frame.ecx = t.count;
    frame.esi = frame.edi = (u32)BUFFER;
    run_one(&frame, t.at, form, LATCH, on_tick);
    timer_stop();
    check(frame.vector == VECTOR_END && frame.ecx == 0);
    check((is_in(form) ? frame.edi : frame.esi) == (u32)BUFFER + MEGABYTE);
    tell("interrupts within a rep of 1 MiB", inside);
    if (inside)
        tell("elements left at the last", left);
    for (u32 i = 0; is_in(form) && i < MEGABYTE; i++)
        check(BUFFER[i] == (u8)(0x44332211u >> 8 * (i % size)));
    expect(form, 1, 1, 1, t.count, 0);
    if (!is_in(form)) {
        u32 mask = size == 4 ? ~0u : (1u << 8 * size) - 1;
        check(get_latch() == ((0x44332211u & ~mask) | (0xc3c2c1c0u & mask)));
    }
    return inside;
}

/* A device that takes many elements at once may be done before the timer is. */
static void interrupted_rep(int form) {
    enum { MOST = 1000 };
    u32 rounds = 0;
    while (!long_rep(form))
        check(++rounds < MOST);
}

/* ---- An `ins` over its own code: with the bytes that are there, and with others ---- */

static void over_itself(int form) {
    enum { ROUNDS = 100 };
    trial++;
    u8 *at = code[0] + 0x100;
    for (u32 round = 0; round < ROUNDS; round++) {
        u32 length = encode(at, form, LATCH);
        encode_end(at + length);
        /* The latch holds the old contents. Every other round writes elsewhere in the page. */
        set_latch(*(u32 *)at);
        struct frame frame = start_in(0, 0, at);
        frame.edx = LATCH;
        frame.ecx = 1;
        frame.edi = (u32)at + (round % 2 ? 0x80 : 0);
        run(&frame, unexpected);
        check(frame.vector == VECTOR_END);
        check(frame.edi == (u32)at + (round % 2 ? 0x80 : 0) + bytes_of(form));
        check(at[length] == 0xcd && at[length + 1] == VECTOR_END);
    }
    expect(form, 1, ROUNDS, ROUNDS, ROUNDS, 0);
}

/* A rep that fills the rest of its own page, three elements at a time. */
static void beside_itself(int form) {
    enum { ROUNDS = 100, COUNT = 3 };
    trial++;
    u8 *at = code[0] + 0x100;
    encode_end(at + encode(at, form, LATCH));
    set_latch(0x90909090);
    for (u32 round = 0; round < ROUNDS; round++) {
        struct frame frame = start_in(0, 0, at);
        frame.edx = LATCH;
        frame.ecx = COUNT;
        frame.edi = (u32)at + 0x20;
        run(&frame, unexpected);
        check(frame.vector == VECTOR_END && frame.ecx == 0);
        check(frame.edi == (u32)at + 0x20 + COUNT * bytes_of(form));
    }
    expect(form, 1, ROUNDS, ROUNDS, ROUNDS * COUNT, 0);
}

/* The next instruction becomes another before it runs: `int $END` after a `ud2`. */
static void over_the_next(void) {
    enum { ROUNDS = 100 };
    trial++;
    u8 *at = code[0] + 0x200;
    set_latch(0x9090); /* nop; nop */
    for (u32 round = 0; round < ROUNDS; round++) {
        u32 length = encode(at, INS + 1, LATCH);
        at[length] = 0x0f;
        at[length + 1] = 0x0b;
        encode_end(at + length + 2);
        struct frame frame = start_in(0, 0, at);
        frame.edx = LATCH;
        frame.edi = (u32)at + length;
        run(&frame, unexpected);
        check(frame.vector == VECTOR_END && frame.eip == (u32)at + length + 4);
    }
    expect(INS + 1, 1, ROUNDS, ROUNDS, ROUNDS, 0);
}

void guest(void) {
    for (int form = 0; form < FORMS; form++)
        shadow(form);
    for (int form = REP_INS; form < OUTS; form++)
        interrupted_rep(form);
    for (int form = REP_OUTS; form < FORMS; form++)
        interrupted_rep(form);
    for (int form = INS; form < OUTS; form++) {
        over_itself(form);
        if (is_rep(form))
            beside_itself(form);
    }
    over_the_next();
}
