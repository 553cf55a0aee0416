/*
 * Strings of many elements, which a device may get all at once: a program, a debugger or a fault
 * handler must see the same as when each element is moved alone.
 */
#include "lib/harness.h"

#define BUFFER ((u8 *)0x100000)
#define ROOM 0x60000u
#define VALUE 0x44332211u
#define MANY 300

enum { ACCESSED = 1 << 5, DIRTY = 1 << 6 };

static struct {
    int form, ring, down, traps;
    u32 start, count, hits, ticks, within;
    u32 absent, fault_at;
    u8 *at;
} t;

static u32 step(u32 elements) {
    u32 bytes = elements * bytes_of(t.form);
    return t.down ? -bytes : bytes;
}

static struct frame registers(u32 flags) {
    struct frame frame = start_in(t.ring, flags | (t.down ? EFLAGS_DF : 0), code[0]);
    frame.edx = LATCH;
    frame.ecx = t.count;
    frame.esi = frame.edi = t.start;
    return frame;
}

/* Its lowest and its last byte; bytes around it must stay as they are. */
static u32 lowest(void) { return t.down ? t.start + step(t.count - 1) : t.start; }
static u32 behind(void) { return lowest() + t.count * bytes_of(t.form); }

/* Before: no element is like the next. */
static void fill(void) {
    for (u32 at = lowest() - 8; at < behind() + 8; at++)
        *(u8 *)at = is_in(t.form) ? 0xee : (u8)(at * 7 + (at >> 8));
    set_latch(VALUE);
}

/* After: `moved` elements, and nothing else. */
static void check_moved(u32 moved) {
    u32 size = bytes_of(t.form);
    u32 first = moved ? t.down ? t.start + step(moved - 1) : t.start : 0;
    if (is_in(t.form)) {
        for (u32 at = lowest() - 8; at < behind() + 8; at++) {
            int is_moved = moved && at >= first && at < first + moved * size;
            check(*(u8 *)at == (is_moved ? (u8)(VALUE >> 8 * ((at - first) % size)) : 0xee));
        }
        return;
    }
    u32 mask = size == 4 ? ~0u : (1u << 8 * size) - 1, latch = get_latch(), last = VALUE;
    for (u32 byte = 0; moved && byte < size; byte++) {
        u32 at = t.start + step(moved - 1) + byte;
        last = (last & ~(0xffu << 8 * byte)) | (u32)(u8)(at * 7 + (at >> 8)) << 8 * byte;
    }
    check(latch == ((last & mask) | (VALUE & ~mask)));
}

static void check_frame(const struct frame *frame, u32 moved) {
    check(frame->ecx == t.count - moved);
    check(frame->edi == t.start + (is_in(t.form) ? step(moved) : 0));
    check(frame->esi == t.start + (is_in(t.form) ? 0 : step(moved)));
    check((frame->eflags & EFLAGS_DF) == (t.down ? EFLAGS_DF : 0u));
}

static void touch(u8 *from, u32 bytes) {
    for (u32 i = 0; i < bytes; i += PAGE / 2)
        ((volatile u8 *)from)[i] = ((volatile u8 *)from)[i];
}

/* ---- As long as QEMU's pauses, and longer, up and down, at every alignment ---- */

static void whole(u32 count, u32 start) {
    trial++;
    t.count = count;
    t.start = start;
    fill();
    struct frame frame = registers(EFLAGS_IOPL3);
    run_one(&frame, code[0], t.form, LATCH, unexpected);
    check(frame.vector == VECTOR_END);
    check_frame(&frame, count);
    expect(t.form, 1, 1, 1, count, 0);
    check_moved(count);
}

static void lengths(void) {
    static const u32 counts[] = {15, 16, 17, 18, 19, 1000, 4096, 4097};
    static const u32 long_counts[] = {0xffff, 0x10000, 0x10001, 0x10002, 0x10003, 0x10012};
    u32 middle = (u32)BUFFER + ROOM / 2;
    for (t.ring = 0; t.ring <= 3; t.ring += 3)
        for (t.down = 0; t.down < 2; t.down++)
            for (u32 i = 0; i < sizeof counts / 4; i++)
                for (u32 offset = 0; offset < 4; offset++)
                    whole(counts[i], middle - (t.down ? 0 : 64) + offset);
    t.ring = 0;
    for (t.down = 0; t.down < 2; t.down++)
        for (u32 i = 0; i < sizeof long_counts / 4; i++) {
            u32 bytes = long_counts[i] * bytes_of(t.form);
            whole(long_counts[i], (u32)BUFFER + 61 + (t.down ? bytes : 0));
        }
    t.down = 0;
}

/* ---- A page that is not there, far into it; and pages that have not been used yet ---- */

static int on_fault(struct frame *frame) {
    check(frame->vector == VECTOR_PF && frame->eip == (u32)code[0]);
    check((frame->eflags & EFLAGS_RF) && (fault_address & ~(PAGE - 1u)) == t.absent);
    check_frame(frame, t.fault_at);
    t.hits++;
    map((void *)t.absent, PRESENT);
    return t.hits < 3;
}

/* The number of elements moved before one reaches into the page. */
static u32 before(u32 page) {
    u32 size = bytes_of(t.form);
    for (u32 element = 0;; element++) {
        u32 at = t.start + step(element);
        if (at + size > page && at < page + PAGE)
            return element;
    }
}

static void fault(u32 page, int offset, int gives_up) {
    trial++;
    u32 size = bytes_of(t.form);
    t.count = 3 * PAGE / size;
    t.start = t.down ? (u32)data[3] + PAGE - 64 - offset : (u32)data[0] + 64 + offset;
    touch(data[0], sizeof data);
    fill();
    t.absent = (u32)data[page];
    t.fault_at = before(t.absent);
    t.hits = gives_up ? 2 : 0;
    map(data[page], ABSENT);
    struct frame frame = registers(EFLAGS_IOPL3);
    run_one(&frame, code[0], t.form, LATCH, on_fault);
    check(exceptions == 1);
    u32 moved = gives_up ? t.fault_at : t.count;
    check_frame(&frame, moved);
    expect(t.form, 1, 1, !gives_up, moved, gives_up);
    check_moved(moved);
}

static void faults(void) {
    for (t.ring = 0; t.ring <= 3; t.ring += 3)
        for (t.down = 0; t.down < 2; t.down++)
            for (u32 page = 0; page < 4; page++)
                for (int offset = 0; offset < 4; offset++)
                    for (int gives_up = 0; gives_up < 2; gives_up++)
                        fault(page, offset, gives_up);
    t.ring = t.down = 0;
}

/* Pages that a string goes through are accessed, and dirty if it writes; others stay as they were. */
static void fresh(u32 used, u32 before) {
    trial++;
    t.count = PAGE / bytes_of(t.form);
    t.start = (u32)data[0] + 2048;
    touch(data[0], sizeof data);
    fill();
    for (u32 page = 0; page < 4; page++)
        if (page >= used)
            map(data[page], PRESENT | before);
    struct frame frame = registers(0);
    run_one(&frame, code[0], t.form, LATCH, unexpected);
    check_frame(&frame, t.count);
    u32 bits = ACCESSED | (is_in(t.form) ? DIRTY : 0);
    for (u32 page = used; page < 2; page++)
        check((mapping(data[page]) & (ACCESSED | DIRTY)) == bits);
    for (u32 page = 2; page < 4; page++)
        check((mapping(data[page]) & (ACCESSED | DIRTY)) == before);
    expect(t.form, 1, 1, 1, t.count, 0);
    check_moved(t.count);
}

/* ---- A debugger ---- */

enum { DR6_BP0 = 1 << 0, DR6_BS = 1 << 14, DR7_G0 = 1 << 1, DR7_WRITE = 1 << 16, DR7_IO = 2 << 16 };
enum { DR7_ACCESS = 3 << 16 };

static void set_dr0(u32 address, u32 dr7) {
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7; mov %2, %%dr6"
                     :
                     : "r"(address), "r"(dr7), "r"(0));
}

static int on_debug(struct frame *frame) {
    check(frame->vector == VECTOR_DB);
    if (t.traps && t.hits < t.count)
        check_frame(frame, t.hits + 1);
    if (!t.hits++)
        observe("elements left at the first trap", frame->ecx);
    return 1;
}

static void debugged(u32 flags, u32 address, u32 dr7) {
    trial++;
    t.count = MANY;
    t.start = (u32)data[0] + 32;
    t.traps = flags != 0;
    fill();
    t.hits = 0;
    set_dr0(address, dr7);
    struct frame frame = registers(flags);
    run_one(&frame, code[0], t.form, LATCH, on_debug);
    set_dr0(0, 0);
    check(frame.vector == VECTOR_END);
    u32 moved = ((is_in(t.form) ? frame.edi : frame.esi) - t.start) / bytes_of(t.form);
    observe("traps", t.hits);
    observe("elements moved", moved);
    observe("elements left", frame.ecx);
    expect(t.form, 1, 1, frame.ecx == 0, moved, 0);
    check_moved(moved);
}

/* ---- Interrupts: in the shadow of STI, and in a long one ---- */

static int on_pending(struct frame *frame) {
    check(frame->vector == VECTOR_TIMER);
    observe("elements left at the interrupt", frame->ecx);
    timer_done();
    return 1;
}

static void shadow(void) {
    trial++;
    t.count = MANY;
    t.start = (u32)data[0] + 32;
    fill();
    timer_start(1000, 0);
    while (!timer_pending())
        ;
    code[0][0] = 0xfb; /* sti */
    encode_end(code[0] + 1 + encode(code[0] + 1, t.form, LATCH));
    struct frame frame = registers(0);
    run(&frame, on_pending);
    check_frame(&frame, MANY);
    expect(t.form, 1, 1, 1, MANY, 0);
    check_moved(MANY);
}

/* ---- An `ins` that writes to its own page ---- */

/* Up to just before it, or from just after its end. */
static void beside_itself(u32 from, u32 bytes) {
    trial++;
    t.count = bytes / bytes_of(t.form);
    t.start = from;
    fill();
    u8 *at = code[1] + 0x400;
    encode_end(at + encode(at, t.form, LATCH));
    struct frame frame = registers(0);
    frame.eip = (u32)at;
    run(&frame, unexpected);
    check(frame.vector == VECTOR_END);
    check_frame(&frame, t.count);
    expect(t.form, 1, 1, 1, t.count, 0);
    check_moved(t.count);
}

/* Over the instruction that follows: a `ud2` becomes `nop`s before it runs. */
static void over_the_next(void) {
    trial++;
    u32 size = bytes_of(t.form);
    u8 *at = code[1];
    u32 length = encode(at, t.form, LATCH);
    at[length] = 0x0f;
    at[length + 1] = 0x0b;
    encode_end(at + length + 2);
    t.count = 0x100;
    t.start = (u32)at + length;
    set_latch(0x90909090); /* nop */
    struct frame frame = registers(0);
    frame.eip = (u32)at;
    encode_end(at + length + t.count * size);
    run(&frame, unexpected);
    check(frame.vector == VECTOR_END && frame.eip == (u32)at + length + t.count * size + 2);
    check_frame(&frame, t.count);
    expect(t.form, 1, 1, 1, t.count, 0);
}

void guest(void) {
    touch(BUFFER, ROOM);
    for (t.form = REP_INS; t.form < FORMS; t.form++) {
        if (!is_rep(t.form))
            continue;
        lengths();
        faults();
        for (u32 used = 0; used < 3; used++) {
            fresh(used, 0);
            fresh(used, ACCESSED);
        }
        touch(data[0], sizeof data);
        debugged(EFLAGS_TF, 0, 0);
        debugged(0, LATCH, DR7_G0 | DR7_IO);
        debugged(0, LATCH + 8, DR7_G0 | DR7_IO);
        debugged(0, (u32)data[0] + 1024, DR7_G0 | DR7_WRITE);
        debugged(0, (u32)data[0] + 200, DR7_G0 | DR7_ACCESS);
        shadow();
        if (is_in(t.form)) {
            touch(code[0], sizeof code);
            beside_itself((u32)code[0] + 0x10, 0x13e8);
            beside_itself((u32)code[1] + 0x420, 0x400);
            over_the_next();
        }
    }
}
