/*
 * Performs an operation on the guest's registers and memory. Every mechanism ends here. The operation's number may
 * have come from an instruction or from a register; from here on there is no
 * difference.
 */
#include "monitor.h"

/* A 16-bit address or count is the low half of the register; the other half stays. */
static u32 low_part(const struct string *string) { return string->address16 ? 0xffff : ~0u; }
static u32 replace(u32 old, u32 new, u32 mask) { return (old & ~mask) | (new & mask); }

/*
 * INS and OUTS, and REP (SDM Vol. 2, "INS", "OUTS", "REP"). The guest's registers say after each element how
 * far it has come, so that it can resume there after any stop.
 */
static inline int string_io(struct frame *frame, u32 out, u32 size, u32 port,
                            const struct string *string)
{
    u32 mask = low_part(string);
    u32 step = frame->eflags & FLAGS_DF ? -size : size;
    u32 left = string->repeat ? frame->ecx & mask : 1;
    u32 *index = out ? &frame->esi : &frame->edi;

    for (; left > 0; left--) {
        u32 offset = *index & mask;
        if (!string->valid || offset > string->limit - (size - 1))
            return 0;
        if (out) {
            u32 value = size == 1 ? *(u8 *)offset : size == 2 ? *(u16 *)offset : *(u32 *)offset;
            device_out(port, size, value);
        } else {
            /* What the device gives is gone: first see whether there is room for it. A fault here is the
             * guest's (see `exception` in main.c), which then comes back to this element. */
            __asm__ volatile("orb $0, %0" : "+m"(*(u8 *)offset));
            __asm__ volatile("orb $0, %0" : "+m"(*(u8 *)(offset + size - 1)));
            u32 value = device_in(port, size);
            if (size == 1)
                *(u8 *)offset = value;
            else if (size == 2)
                *(u16 *)offset = value;
            else
                *(u32 *)offset = value;
        }
        *index = replace(*index, *index + step, mask);
        if (string->repeat)
            frame->ecx = replace(frame->ecx, left - 1, mask);
    }
    return 1;
}

int emulate(struct frame *frame, u32 operation, u32 port, const struct string *string)
{
    switch (operation) {
    case OP_IN + 0:
        frame->eax = replace(frame->eax, device_in(port, 1), 0xff);
        return 1;
    case OP_IN + 1:
        frame->eax = replace(frame->eax, device_in(port, 2), 0xffff);
        return 1;
    case OP_IN + 2:
        frame->eax = device_in(port, 4);
        return 1;
    case OP_OUT + 0:
        device_out(port, 1, frame->eax & 0xff);
        return 1;
    case OP_OUT + 1:
        device_out(port, 2, frame->eax & 0xffff);
        return 1;
    case OP_OUT + 2:
        device_out(port, 4, frame->eax);
        return 1;
    case OP_INS + 0:
        return string_io(frame, 0, 1, port, string);
    case OP_INS + 1:
        return string_io(frame, 0, 2, port, string);
    case OP_INS + 2:
        return string_io(frame, 0, 4, port, string);
    case OP_OUTS + 0:
        return string_io(frame, 1, 1, port, string);
    case OP_OUTS + 1:
        return string_io(frame, 1, 2, port, string);
    default: /* OP_OUTS + 2 */
        return string_io(frame, 1, 4, port, string);
    }
}
