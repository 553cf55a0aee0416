/*
 * Permission for port I/O: ring 3 under IOPL 0 and the I/O permission bitmap of the TSS (SDM Vol. 1, "I/O Permission
 * Bit Map"), and under IOPL 3, where the bitmap is not used.
 *
 * All 16 patterns of four ports, each range of 1, 2 or 4 ports in them, every kind of instruction. A
 * wide access needs all of its ports. One that is refused changes neither registers, memory nor latch.
 */
#include "lib/harness.h"

#define VALUE 0x44332211u
#define MARK 0xa5a5a5a5u
#define COUNT 3

static u32 mask(u32 size) { return size == 4 ? ~0u : (1u << 8 * size) - 1; }

static int permit_and_resume(struct frame *frame) {
    check(frame->vector == VECTOR_GP && frame->error == 0);
    check(frame->eflags & EFLAGS_RF);
    forbid(0);
    return 1;
}

static struct {
    int form, iopl3, permitted, resumes;
    u32 port, count;
} t;

static void check_effect(const struct frame *frame, int moved) {
    u32 size = bytes_of(t.form), shift = 8 * (t.port - LATCH), elements = moved ? t.count : 0;
    u32 low = mask(size), latch = VALUE, eax = MARK;
    if (moved && shift % (8 * size))
        return; /* What a latch makes of an access across its grain is its own affair. */
    if (is_in(t.form) && !is_string(t.form) && moved)
        eax = (MARK & ~low) | (VALUE >> shift & low);
    if (!is_in(t.form) && elements)
        latch = (VALUE & ~(low << shift)) | (MARK & low) << shift;
    check(frame->eax == eax);
    check(get_latch() == latch);
    const u8 *byte = data[0];
    for (u32 i = 0; i < (COUNT + 1) * size; i++, byte++) {
        int written = is_string(t.form) && is_in(t.form) && i < elements * size;
        check(*byte == (u8)(written ? VALUE >> (shift + 8 * (i % size)) : MARK));
    }
    u32 gone = is_string(t.form) ? elements * size : 0;
    check(frame->edi == (u32)data[0] + (is_in(t.form) ? gone : 0));
    check(frame->esi == (u32)data[0] + (is_in(t.form) ? 0 : gone));
    check(frame->ecx == (is_rep(t.form) && moved ? 0 : t.count));
    check(frame->edx == t.port);
}

static void one(u32 pattern) {
    trial++;
    set_latch(VALUE);
    for (u32 i = 0; i < (COUNT + 1) * 4; i++)
        data[0][i] = (u8)MARK;
    forbid(pattern);

    struct frame frame = start_in(3, t.iopl3 ? EFLAGS_IOPL3 : 0, code[0]);
    frame.eax = MARK;
    frame.ecx = t.count;
    frame.edx = t.port;
    frame.esi = frame.edi = (u32)data[0];
    run_one(&frame, code[0], t.form, (u8)t.port, t.resumes ? permit_and_resume : leave);

    int moved = t.permitted || t.resumes;
    check(exceptions == !t.permitted);
    if (moved) {
        check(frame.vector == VECTOR_END);
    } else {
        check(frame.vector == VECTOR_GP && frame.error == 0);
        check(frame.eip == (u32)code[0]);
    }
    check_effect(&frame, moved);
    int silent = !is_string(t.form) || t.count == 0;
    expect(t.form, t.iopl3 || !silent, 1, moved, moved ? t.count : 0, !moved);
}

void guest(void) {
    for (u32 pattern = 0; pattern < 16; pattern++)
        for (t.form = 0; t.form < FORMS; t.form++)
            for (t.port = LATCH; t.port + bytes_of(t.form) <= LATCH + 4; t.port++)
                for (t.iopl3 = 0; t.iopl3 < 2; t.iopl3++) {
                    u32 needed = ((1u << bytes_of(t.form)) - 1) << (t.port - LATCH);
                    t.permitted = t.iopl3 || !(pattern & needed);
                    for (t.resumes = 0; t.resumes <= !t.permitted; t.resumes++)
                        for (u32 zero = 0; zero <= (u32)is_rep(t.form); zero++) {
                            t.count = zero ? 0 : is_rep(t.form) ? COUNT : 1;
                            one(pattern);
                        }
                }
}
