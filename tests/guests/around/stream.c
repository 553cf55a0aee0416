/*
 * A file of 1 MiB through a pair of ports, `stream@0x300:in=FILE:out=FILE`: in by rep insb, insw and
 * insd, out by rep outsb, outsw and outsd, through timer interrupts, page faults and single steps. The
 * test compares the files, so it detects an element that was lost or moved twice.
 */
#include "lib/harness.h"

#define BUFFER ((u8 *)0x100000)
#define MEGABYTE 0x100000u
#define STREAM 0x300

static struct {
    u32 interrupts, faults, steps;
} seen;

/* Whatever comes: a page is absent until it is touched. */
static int disturbed(struct frame *frame) {
    switch (frame->vector) {
    case VECTOR_TIMER:
        seen.interrupts++;
        timer_done();
        break;
    case VECTOR_PF:
        seen.faults++;
        map((void *)(fault_address & ~(PAGE - 1u)), PRESENT);
        break;
    case VECTOR_DB:
        seen.steps++;
        break;
    default:
        return 0;
    }
    return 1;
}

static void move(int form, u32 from, u32 to, u32 disturbance) {
    trial++;
    for (u32 at = from & ~(PAGE - 1u); at < to; at += PAGE)
        map(BUFFER + at, ABSENT);
    struct frame frame = start_in(0, disturbance, code[0]);
    frame.edx = STREAM;
    frame.ecx = (to - from) / bytes_of(form);
    frame.esi = frame.edi = (u32)BUFFER + from;
    u32 count = frame.ecx;
    run_one(&frame, code[0], form, 0, disturbed);
    check(frame.vector == VECTOR_END && frame.ecx == 0);
    check((is_in(form) ? frame.edi : frame.esi) == (u32)BUFFER + to);
    expect(form, 1, 1, 1, count, 0);
}

static void move_all(int kind) {
    seen.interrupts = seen.faults = seen.steps = 0;
    /* Each part but the first begins off the grain, so that elements lie across pages. */
    move(kind, 0, 0x80001, EFLAGS_IF);
    move(kind + 1, 0x80001, 0xc0003, EFLAGS_IF);
    move(kind + 2, 0xc0003, 0xffff3, EFLAGS_IF);
    move(kind, 0xffff3, MEGABYTE - 8, 0);
    move(kind, MEGABYTE - 8, MEGABYTE, EFLAGS_TF);
    check(seen.faults >= MEGABYTE / PAGE && seen.interrupts > 0 && seen.steps >= 8);
}

static u32 bytes_left(void) {
    u32 left;
    __asm__ volatile("inl %%dx, %%eax" : "=a"(left) : "d"(STREAM + 4));
    expect(IN_DX + 2, 1, 1, 1, 1, 0);
    return left;
}

void guest(void) {
    check(bytes_left() == MEGABYTE);
    timer_start(100000, 1);
    move_all(REP_INS);
    check(bytes_left() == 0);
    move_all(REP_OUTS);
    timer_stop();
}
