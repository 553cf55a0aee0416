/*
 * One page of code at several linear addresses: its home, above ALIAS, and in a window. QEMU translates it once
 * for all of them until something writes to it. Any of them may come first.
 */
#include "lib/harness.h"

#define WINDOW 0x300000u
#define VALUE 0x44332211u
#define COUNT 5

/* Distances of the places from the code itself. */
static u32 distances[3];

static u32 random(void) {
    static u32 state;
    state = state * 1664525 + 1013904223;
    return state >> 16;
}

/* ---- Ring 3 under the bitmap: permitted, refused, or permitted by the handler ---- */

static int permit(struct frame *frame) {
    check(frame->vector == VECTOR_GP);
    forbid(0);
    return 1;
}

static void privilege(int form) {
    encode_end(code[0] + encode(code[0], form, LATCH));
    for (u32 round = 0; round < 60; round++) {
        trial++;
        u32 eip = (u32)code[0] + distances[random() % 3], choice = random() % 3;
        u32 count = !is_rep(form) ? 1 : random() % 4 ? COUNT : 0;
        set_latch(VALUE);
        forbid(choice ? 0xf : 0);
        struct frame frame = start_in(3, 0, (void *)eip);
        frame.ecx = count;
        frame.edx = LATCH;
        frame.esi = frame.edi = (u32)data[0];
        run(&frame, choice == 2 ? permit : leave);
        int moved = choice != 1, tells = is_string(form) && count;
        check(exceptions == (choice != 0));
        check(frame.vector == (moved ? VECTOR_END : VECTOR_GP));
        check(moved || frame.eip == eip);
        expect(form, tells, 1, (u32)moved, moved ? count : 0, !moved);
        expect_at(eip, form, tells, 1, (u32)moved);
    }
}

/*
 * ---- A `rep` that a fault interrupts. In its handler the same code runs at another address, with as many elements
 * as are left; the page is translated from there. Then it resumes. ----
 */

enum { VECTOR_INNER = 0x31 };

static struct {
    int form;
    u32 length, other;
    struct frame outer;
} t;

static u32 outer_stack[16], inner_stack[16];

/* Code that returns, and where to. */
static void put_code(void) { code[0][t.length = encode(code[0], t.form, LATCH)] = 0xc3; }

static int meanwhile(struct frame *frame) {
    if (frame->vector == VECTOR_INNER) {
        check(frame->ecx == 0);
        *frame = t.outer;
        return 1;
    }
    check(frame->vector == VECTOR_PF);
    map(data[1], PRESENT);
    t.outer = *frame;
    put_code();
    frame->eip = t.other;
    frame->eflags &= ~(u32)EFLAGS_RF;
    frame->esi = frame->edi = (u32)data[2];
    frame->esp = (u32)&inner_stack[8];
    return 1;
}

static void interrupted(int form) {
    t.form = form;
    put_code();
    encode_end(code[1]);
    code[1][2] = 0xcd, code[1][3] = VECTOR_INNER;
    for (u32 from = 0; from < 3; from++)
        for (u32 to = 0; to < 3; to++)
            for (u32 before = 0; before < COUNT; before += COUNT - 1) {
                trial++;
                u32 eip = (u32)code[0] + distances[from];
                t.other = (u32)code[0] + distances[to];
                if (from == to)
                    continue;
                set_latch(VALUE);
                map(data[1], ABSENT);
                outer_stack[8] = (u32)code[1];
                inner_stack[8] = (u32)code[1] + 2;
                struct frame frame = start_in(3, EFLAGS_IOPL3, (void *)eip);
                frame.ecx = COUNT;
                frame.edx = LATCH;
                frame.esi = frame.edi = (u32)data[1] - before * bytes_of(form);
                frame.esp = (u32)&outer_stack[8];
                run(&frame, meanwhile);
                check(frame.vector == VECTOR_END && frame.ecx == 0);
                expect(form, 1, 2, 2, COUNT + COUNT - before, 0);
                expect_at(eip, form, 1, 1, 1);
                expect_at(t.other, form, 1, 1, 1);
            }
}

/* ---- An instruction across two pages, of which the second is another in the window ---- */

static void across(int form) {
    u8 *at = code[1] - 1;
    encode_end(at + encode(at, form, LATCH));
    for (u32 i = 0; i < 16; i++)
        data[3][i] = code[1][i];
    if (form < IN_DX || (form >= OUT_IMM && form < OUT_DX))
        data[3][form % 3 == 1] = LATCH + 2 * (form % 3 != 2);
    for (u32 round = 0; round < 30; round++) {
        trial++;
        u32 eip = (u32)at + distances[random() % 3];
        set_latch(VALUE);
        struct frame frame = start_in(0, 0, (void *)eip);
        frame.ecx = is_rep(form) ? COUNT : 1;
        frame.edx = LATCH;
        frame.esi = frame.edi = (u32)data[0];
        frame.eax = 0x5a5a5a5a;
        run(&frame, unexpected);
        u32 moved = form % 3 == 0 ? 0xff : form % 3 == 1 ? 0xffff : ~0u;
        int in_window = eip >> 20 == WINDOW >> 20 && form < IN_DX && form != IN_IMM + 2;
        if (form < OUT_IMM)
            check((frame.eax & moved) == (VALUE >> (in_window ? 16 : 0) & moved));
        expect(form, 1, 1, 1, frame.ecx == 0 ? COUNT : 1, 0);
        expect_at(eip, form, 1, 1, 1);
    }
}

void guest(void) {
    distances[1] = ALIAS;
    distances[2] = WINDOW - (u32)code[0];
    show(code[0], WINDOW);
    show(data[3], WINDOW + PAGE);
    for (int form = 0; form < FORMS; form++) {
        privilege(form);
        if (is_rep(form))
            interrupted(form);
        across(form);
    }
}
