/*
 * Missing pages: those of the first, a middle and the last element of a string, and that of the
 * instruction itself. The handler maps the page and resumes, or gives up.
 *
 * The CPU guarantees (SDM Vol. 2B, "REP/REPE/REPZ/REPNE/REPNZ"; Vol. 3A, "Restarting a Program or
 * Task After an Exception or Interrupt"): at the fault, ECX, ESI and EDI refer to the element that
 * faulted, all elements before it are done and none after it, and the instruction can be restarted.
 */
#include "lib/harness.h"

#define VALUE 0x44332211u
#define ELEMENTS 7

/* Where elements lie: the one that faults at the start of the page, or reaching into it from the one
 * before, or, downwards, at its end. */
enum layout { ALIGNED, CROSSING, DOWN, LAYOUTS };
/* The fault of the page, and its repair. */
enum outcome { RESUMED, GIVEN_UP, REFUSED_WRITE, OUTCOMES };

static struct {
    int form, ring;
    enum layout layout;
    enum outcome outcome;
    u32 count, fault_at;
    u32 start, faults_left;
} t;

static u32 step(u32 elements) {
    u32 bytes = elements * bytes_of(t.form);
    return t.layout == DOWN ? -bytes : bytes;
}

static int on_fault(struct frame *frame) {
    u32 size = bytes_of(t.form);
    check(frame->vector == VECTOR_PF);
    u32 write = is_in(t.form) ? 2 : 0, present = t.outcome == REFUSED_WRITE;
    check(frame->error == (present | write | (t.ring ? 4 : 0)));
    check(frame->eip == (u32)code[0]);
    check(frame->eflags & EFLAGS_RF);
    check((fault_address & ~(PAGE - 1u)) == (u32)data[1]);

    u32 at = is_in(t.form) ? frame->edi : frame->esi;
    check(at == t.start + step(t.fault_at));
    check(is_rep(t.form) ? frame->ecx == t.count - t.fault_at : frame->ecx == t.count);
    /* Not an element more is in memory than there should be. */
    if (is_in(t.form) && t.layout == ALIGNED && t.fault_at) {
        check(*(u8 *)(at - size) == (u8)VALUE);
    }
    map(data[1], PRESENT);
    for (u32 i = 0; is_in(t.form) && i < size && at + i >= (u32)data[1]; i++)
        check(*(u8 *)(at + i) == 0);
    return t.outcome != GIVEN_UP;
}

static struct frame registers(void) {
    u32 flags = EFLAGS_IOPL3 | (t.layout == DOWN ? EFLAGS_DF : 0);
    struct frame frame = start_in(t.ring, flags, code[0]);
    frame.edx = LATCH;
    frame.ecx = t.count;
    frame.esi = frame.edi = t.start;
    return frame;
}

static void check_all_moved(const struct frame *frame) {
    u32 size = bytes_of(t.form);
    u32 mask = size == 4 ? ~0u : (1u << 8 * size) - 1, latch = get_latch();
    check(frame->vector == VECTOR_END);
    check(is_rep(t.form) ? frame->ecx == 0 : frame->ecx == t.count);
    check((is_in(t.form) ? frame->edi : frame->esi) == t.start + step(t.count));
    for (u32 i = 0; is_in(t.form) && i < t.count; i++) {
        u32 at = t.start + step(i);
        for (u32 byte = 0; byte < size; byte++)
            check(*(u8 *)(at + byte) == (u8)(VALUE >> 8 * byte));
    }
    if (!is_in(t.form))
        check(latch == ((0x77665544u & mask) | (VALUE & ~mask)));
}

static void one(void) {
    u32 size = bytes_of(t.form), page = (u32)data[1];
    trial++;
    u32 element = t.layout == ALIGNED ? page
        : t.layout == CROSSING        ? page - size + 1
                                      : page + PAGE - size;
    t.start = element - step(t.fault_at);
    set_latch(VALUE);
    for (u32 i = 0; i < sizeof data / 4; i++)
        ((u32 *)data)[i] = 0;
    if (!is_in(t.form)) /* the last element is the one that stays in the latch */
        for (u32 byte = 0; byte < size; byte++)
            *(u8 *)(t.start + step(t.count - 1) + byte) = (u8)(0x77665544u >> 8 * byte);

    map(data[1], t.outcome == REFUSED_WRITE ? READ_ONLY : ABSENT);
    struct frame frame = registers();
    run_one(&frame, code[0], t.form, LATCH, on_fault);
    check(exceptions == 1);
    int done = t.outcome != GIVEN_UP;
    expect(t.form, 1, 1, done, done ? t.count : t.fault_at, !done);
    if (!done) {
        /* The same once more, from the beginning, is another attempt. There is other I/O between, without
         * which a QEMU that reports no exceptions cannot tell one from the other. */
        check(frame.vector == VECTOR_PF);
        set_latch(VALUE);
        frame = registers();
        run_one(&frame, code[0], t.form, LATCH, unexpected);
        expect(t.form, 1, 1, 1, t.count, 0);
    }
    check_all_moved(&frame);
}

static void strings(void) {
    for (t.form = INS; t.form < FORMS; t.form++)
        for (t.ring = 0; t.ring <= 3; t.ring += 3)
            for (u32 layout = 0; layout < LAYOUTS; layout++)
                for (u32 outcome = 0; outcome < OUTCOMES; outcome++) {
                    t.layout = layout;
                    t.outcome = outcome;
                    if (outcome == REFUSED_WRITE && !is_in(t.form))
                        continue;
                    if (layout == CROSSING && bytes_of(t.form) == 1)
                        continue;
                    t.count = is_rep(t.form) ? ELEMENTS : 1;
                    for (t.fault_at = 0; t.fault_at < t.count; t.fault_at += ELEMENTS / 2)
                        one();
                }
}

/* ---- Every page of the data is absent: one rep, a fault for each page, one attempt. ---- */

static int next_page(struct frame *frame) {
    check(frame->vector == VECTOR_PF);
    map((void *)(fault_address & ~(PAGE - 1u)), PRESENT);
    return 1;
}

static void many_faults(int form) {
    trial++;
    set_latch(VALUE);
    for (int page = 0; page < 4; page++)
        map(data[page], ABSENT);
    struct frame frame = start_in(0, 0, code[0]);
    frame.edx = LATCH;
    frame.ecx = sizeof data / bytes_of(form);
    frame.esi = frame.edi = (u32)data;
    u32 count = frame.ecx;
    run_one(&frame, code[0], form, LATCH, next_page);
    check(exceptions == 4 && frame.ecx == 0 && frame.vector == VECTOR_END);
    check((is_in(form) ? frame.edi : frame.esi) == (u32)data + sizeof data);
    expect(form, 1, 1, 1, count, 0);
}

/* ---- The instruction's own page: a fault on fetching it is no attempt, for nothing has begun. ---- */

static int gives_up;

static int fetch_fault(struct frame *frame) {
    check(frame->vector == VECTOR_PF);
    check((frame->error & ~0x10u) == 0);
    check((fault_address & ~(PAGE - 1u)) == (u32)code[1]);
    map(code[1], PRESENT);
    return !gives_up;
}

static void fetch(int form, u32 before) {
    trial++;
    u8 *at = code[1] - before;
    u32 length = encode(at, form, LATCH);
    encode_end(at + length);
    if (before >= length)
        return;
    /* Unknown to QEMU, then known but gone; and each once more for nothing. */
    for (u32 round = 0; round < 4; round++) {
        gives_up = round == 1 || round == 2;
        map(code[1], ABSENT);
        struct frame frame = start_in(0, 0, at);
        frame.edx = LATCH;
        frame.ecx = 2;
        frame.esi = frame.edi = (u32)data;
        run(&frame, fetch_fault);
        check(exceptions == 1);
        check(frame.vector == (gives_up ? VECTOR_PF : VECTOR_END));
        if (gives_up)
            check(frame.eip == (u32)at);
        int ran = !gives_up;
        expect(form, 1, ran, ran, ran ? (is_rep(form) ? 2 : 1) : 0, 0);
    }
    map(code[1], PRESENT);
}

void guest(void) {
    strings();
    for (int form = INS; form < FORMS; form++)
        if (is_rep(form))
            many_faults(form);
    for (int form = 0; form < FORMS; form++)
        for (u32 before = 0; before < 3; before++)
            fetch(form, before);
}
