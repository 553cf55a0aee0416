/*
 * The guest's handler of #VC: the exception tells only the exit code, so the guest decodes its own instruction
 * (Linux has it in arch/x86/coco/sev). The hypervisor gets the exit information in the GHCB, and the data: EAX, or
 * a string in the shared buffer.
 */
#include "guest.h"

static inline int exit_to_hypervisor(u32 information, u32 count)
{
    ghcb.version = 2;
    ghcb.usage = 0;
    ghcb.exit_code = EXIT_CODE_IO;
    ghcb.exit_info_1 = information;
    ghcb.exit_info_2 = count;
    ghcb_set_valid(GHCB_FIELD(exit_code));
    ghcb_set_valid(GHCB_FIELD(exit_info_1));
    ghcb_set_valid(GHCB_FIELD(exit_info_2));
    __asm__ volatile("int %0" ::"i"(VECTOR_GHCB) : "memory");
    /* The low half of exit_info_1: 0, or what the hypervisor complains about (2.7, table 7). */
    return ghcb.exit_info_1 == 0;
}

static void invalidate(void)
{
    ghcb.exit_code = 0;
    for (u32 part = 0; part < 4; part++)
        ((u32 *)ghcb.valid)[part] = 0;
}

/* All segments of the guest have base 0. */
static inline void copy(u8 *to, const u8 *from, u32 size)
{
    if (size == 1)
        *to = *from;
    else if (size == 2)
        *(u16 *)to = *(const u16 *)from;
    else
        *(u32 *)to = *(const u32 *)from;
}

/* Some elements of a string. Returns 1 if these were all, 0 if the instruction goes on, -1 on an error. */
static int string(struct guest_frame *frame, u32 information)
{
    u32 size = information >> EXIT_SIZE & 7, step = frame->eflags & FLAGS_DF ? -size : size;
    u32 mask = information & EXIT_ADDRESS16 ? 0xffff : ~0u;
    u32 wanted = information & EXIT_REPEAT ? frame->ecx & mask : 1;
    u32 *index = information & EXIT_IN ? &frame->edi : &frame->esi;
    u32 count = sizeof ghcb.buffer / size, offset = *index;

    if (wanted == 0)
        return 1;
    if (wanted < count)
        count = wanted;
    if (!(information & EXIT_IN))
        for (u32 at = 0; at < count; at++, offset += step)
            copy(ghcb.buffer + at * size, (u8 *)(offset & mask), size);
    ghcb.scratch = (u32)ghcb.buffer;
    ghcb_set_valid(GHCB_FIELD(scratch));
    if (!exit_to_hypervisor(information, count))
        return -1;
    if (information & EXIT_IN)
        for (u32 at = 0; at < count; at++, offset += step)
            copy((u8 *)(offset & mask), ghcb.buffer + at * size, size);
    *index = (*index & ~mask) | (offset & mask);
    if (information & EXIT_REPEAT)
        frame->ecx = (frame->ecx & ~mask) | (wanted - count);
    return wanted == count;
}

static int scalar(struct guest_frame *frame, u32 information)
{
    u32 size = information >> EXIT_SIZE & 7, mask = ~0u >> (32 - 8 * size);

    ghcb.rax = information & EXIT_IN ? 0 : frame->eax & mask;
    ghcb_set_valid(GHCB_FIELD(rax));
    if (!exit_to_hypervisor(information, 0))
        return -1;
    if (information & EXIT_IN) {
        if (!ghcb_is_valid(GHCB_FIELD(rax)))
            return -1;
        frame->eax = (frame->eax & ~mask) | (ghcb.rax & mask);
    }
    return 1;
}

void vc_handler(struct guest_frame *frame)
{
    u32 information;
    int port_in_dx, length = -1, done = -1;

    if (frame->error == EXIT_CODE_IO)
        length = io_information((const u8 *)frame->eip, &information, &port_in_dx);
    if (length > 0) {
        if (port_in_dx)
            information |= frame->edx << EXIT_PORT;
        invalidate();
        done = information & EXIT_STRING ? string(frame, information) : scalar(frame, information);
    }
    if (done < 0)
        __asm__ volatile("mov %0, %%ebp; int %1" ::"i"(VECTOR_VC << 8), "i"(VECTOR_DONE));
    if (done)
        frame->eip += length;
}
