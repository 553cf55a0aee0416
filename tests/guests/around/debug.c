/*
 * Debugging through port I/O: single steps, I/O breakpoints, instruction breakpoints (SDM Vol. 3B,
 * "Debug Exceptions").
 *
 * How often QEMU stops within a rep, and what a rep does at an I/O breakpoint, depends on QEMU: these
 * numbers are reported as `observed`, and must be the same for QEMU's device and for pvio's.
 */
#include "lib/harness.h"

#define VALUE 0x44332211u
#define ELEMENTS 5

enum { DR6_BP0 = 1 << 0, DR6_BS = 1 << 14, DR7_G0 = 1 << 1, DR7_IO = 2 << 16 };

static void set_dr0(u32 address, u32 dr7) {
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"(address), "r"(dr7));
}

static u32 take_dr6(void) {
    u32 dr6;
    __asm__ volatile("mov %%dr6, %0; mov %1, %%dr6" : "=r"(dr6) : "r"(0));
    return dr6 & (0xf | DR6_BS);
}

static struct {
    int form;
    u32 count, length, hits;
    u32 dr6;
    u8 *at;
} t;

static struct frame registers(u32 eflags) {
    struct frame frame = start_in(0, eflags, code[0]);
    frame.edx = LATCH;
    frame.ecx = t.count;
    frame.esi = frame.edi = (u32)data;
    return frame;
}

static void check_done(const struct frame *frame) {
    u32 size = bytes_of(t.form), bytes = is_string(t.form) ? t.count * size : 0;
    check(frame->vector == VECTOR_END);
    check(frame->ecx == (is_rep(t.form) ? 0 : t.count));
    check(frame->edi == (u32)data + (is_in(t.form) ? bytes : 0));
    check(frame->esi == (u32)data + (is_in(t.form) ? 0 : bytes));
    for (u32 i = 0; is_in(t.form) && i < bytes; i++)
        check(data[0][i] == (u8)(VALUE >> 8 * (i % size)));
}

/* ---- Single steps: a nop, the instruction twice, a nop, the end. ---- */

static int on_step(struct frame *frame) {
    check(frame->vector == VECTOR_DB);
    check(take_dr6() == DR6_BS);
    if (!t.hits++)
        check(frame->eip == (u32)code[0] + 1); /* after the nop, before the instruction */
    return 1;
}

static void step(int form, u32 count) {
    trial++;
    set_latch(VALUE);
    t.form = form;
    t.count = count;
    t.hits = 0;
    u8 *at = code[0];
    *at++ = 0x90;
    at += encode(at, form, LATCH);
    *at++ = 0x90;
    encode_end(at);
    struct frame frame = registers(EFLAGS_TF);
    run(&frame, on_step);
    check_done(&frame);
    check(t.hits == exceptions);
    /* A rep of no elements is a step too. */
    check(is_rep(form) ? t.hits >= 2 + (count ? count : 1) : t.hits == 3);
    observe("steps", t.hits);
    expect(form, 1, 1, 1, is_string(form) && !is_rep(form) ? 1 : is_rep(form) ? count : 1, 0);
}

/* The debugger that follows clears TF in the middle of a rep: the rest runs freely. */
static int step_twice(struct frame *frame) {
    check(frame->vector == VECTOR_DB);
    check(take_dr6() == DR6_BS);
    if (++t.hits == 2)
        frame->eflags &= ~(u32)EFLAGS_TF;
    return 1;
}

static void step_into(int form) {
    trial++;
    set_latch(VALUE);
    t.form = form;
    t.count = ELEMENTS;
    t.hits = 0;
    struct frame frame = registers(EFLAGS_TF);
    run_one(&frame, code[0], form, LATCH, step_twice);
    check_done(&frame);
    check(t.hits == 2);
    expect(form, 1, 1, 1, ELEMENTS, 0);
}

/* ---- I/O breakpoints: a trap after the access, on any of the ports that it covers. ---- */

static int on_io(struct frame *frame) {
    check(frame->vector == VECTOR_DB);
    t.dr6 |= take_dr6();
    if (!t.hits++ && !is_rep(t.form))
        check(frame->eip == (u32)t.at + t.length);
    return 1;
}

/* `port`: where the breakpoint is; its length is that of the access. */
static void io_breakpoint(int form, u32 port) {
    u32 size = bytes_of(form), dr7_length = (size - 1) << 18;
    int covered = port == LATCH;
    trial++;
    set_latch(VALUE);
    t.form = form;
    t.count = is_rep(form) ? ELEMENTS : 1;
    t.hits = t.dr6 = 0;
    take_dr6();
    t.at = code[0];
    t.length = encode(t.at, form, LATCH);
    encode_end(t.at + t.length);
    set_dr0(port, DR7_G0 | DR7_IO | dr7_length);
    struct frame frame = registers(0);
    run(&frame, on_io);
    set_dr0(0, 0);
    check(frame.vector == VECTOR_END);
    check((t.hits > 0) == covered && t.dr6 == (covered ? (u32)DR6_BP0 : 0));
    if (!is_rep(form)) {
        check(t.hits == (u32)covered);
        check_done(&frame);
        expect(form, 1, 1, 1, 1, 0);
        return;
    }
    /* A CPU traps after each element and resumes. QEMU (10.0 to 11.1) resumes after the instruction: one
     * element is moved and not counted down, and the rep never completes. */
    u32 moved = ((is_in(form) ? frame.edi : frame.esi) - (u32)data) / size;
    observe("I/O breakpoints in a rep", t.hits);
    observe("elements moved", moved);
    observe("elements left", frame.ecx);
    expect(form, 1, 1, frame.ecx == 0, moved, 0);
}

/* ---- Instruction breakpoints: a fault before the instruction; RF lets it pass. ---- */

static int on_instruction(struct frame *frame) {
    check(frame->vector == VECTOR_DB);
    check(take_dr6() == DR6_BP0);
    check(frame->eip == (u32)t.at);
    check(frame->ecx == t.count && frame->edi == (u32)data && frame->esi == (u32)data);
    t.hits++;
    frame->eflags |= EFLAGS_RF;
    return 1;
}

static int on_loop(struct frame *frame) {
    check(frame->vector == VECTOR_DB && frame->eip == (u32)t.at);
    check(take_dr6() == DR6_BP0);
    t.hits++;
    frame->eflags |= EFLAGS_RF;
    return 1;
}

static void instruction_breakpoint(int form) {
    trial++;
    set_latch(VALUE);
    t.form = form;
    t.count = is_rep(form) ? ELEMENTS : 1;
    t.hits = 0;
    t.at = code[0] + 1;
    code[0][0] = 0x90;
    encode_end(t.at + encode(t.at, form, LATCH));
    for (u32 round = 1; round <= 3; round++) {
        set_dr0((u32)t.at, DR7_G0);
        struct frame frame = registers(0);
        run(&frame, on_instruction);
        set_dr0(0, 0);
        check_done(&frame);
        check(t.hits == round);
        expect(form, 1, 1, 1, t.count, 0);
    }
}

/* A loop straight back to the instruction: each time round, the breakpoint comes from where the CPU has
 * just been. */
static void breakpoint_in_a_loop(int form) {
    enum { ROUNDS = 5 };
    trial++;
    t.form = form;
    t.hits = 0;
    u8 *at = t.at = code[0];
    at += encode(at, form, LATCH);
    *at++ = 0x4b; /* dec %ebx */
    *at++ = 0x75; /* jnz */
    *at = (u8)(t.at - (at + 1));
    encode_end(at + 1);
    set_dr0((u32)t.at, DR7_G0);
    struct frame frame = start_in(0, 0, t.at);
    frame.edx = LATCH;
    frame.ebx = ROUNDS;
    frame.esi = frame.edi = (u32)data;
    run(&frame, on_loop);
    set_dr0(0, 0);
    check(frame.vector == VECTOR_END && frame.ebx == 0 && t.hits == ROUNDS);
    expect(form, 1, ROUNDS, ROUNDS, ROUNDS, 0);
}

void guest(void) {
    for (int form = 0; form < FORMS; form++) {
        step(form, 1);
        if (is_rep(form)) {
            step(form, 0);
            step(form, ELEMENTS);
            step_into(form);
        }
        io_breakpoint(form, LATCH);
        io_breakpoint(form, LATCH + 8);
        instruction_breakpoint(form);
        if (!is_rep(form))
            breakpoint_in_a_loop(form);
    }
}
