/* Finds the string of an `ins` or `outs`. */
#include "monitor.h"

static u32 selector(const struct frame *frame, u32 segment)
{
    u32 value;
    switch (segment) {
    case SEGMENT_ES:
        return frame->es;
    case SEGMENT_CS:
        return frame->cs;
    case SEGMENT_SS:
        return frame->ss;
    case SEGMENT_DS:
        return frame->ds;
    /* Entry has left these as they were. */
    case SEGMENT_FS:
        __asm__ volatile("mov %%fs, %0" : "=r"(value));
        return value;
    default:
        __asm__ volatile("mov %%gs, %0" : "=r"(value));
        return value;
    }
}

struct string string_of(const struct frame *frame, const struct io *io)
{
    /* INS writes to ES, with any prefix (SDM Vol. 2, "INS"). */
    u32 segment = io->operation < OP_OUTS ? SEGMENT_ES : io->segment;
    struct string string = {
        .repeat = io->repeat,
        .address16 = io->address16,
        /* A selector of 0 to 3 may be loaded and not be used (SDM Vol. 3A 3.4.2). */
        .valid = selector(frame, segment) > 3,
        /* All others that a guest can load end here: flat, for ring 1 and for ring 3. */
        .limit = MONITOR_BASE - 1,
    };
    return string;
}

const struct string whole_string = {
    .repeat = 1,
    .address16 = 0,
    .limit = MONITOR_BASE - 1,
    .valid = 1,
};
