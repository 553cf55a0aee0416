/*
 * The guest's handler of #VE: the TDX module tells what was intercepted, so nothing is decoded (Linux has it in
 * arch/x86/coco/tdx/tdx.c). Strings are refused: a guest for TDX has loops in their place.
 */
#include "guest.h"

struct ve_info {
    u32 reason, qualification, length;
};

/* TDG.VP.VEINFO.GET. Until it is called, another #VE would be a #DF. */
static inline struct ve_info get_info(void)
{
    struct ve_info info;
    __asm__ volatile("int %[vector]"
                     : "=a"(info.reason), "=d"(info.qualification), "=c"(info.length)
                     : [vector] "i"(VECTOR_VE_INFO));
    return info;
}

static int handle_io(struct guest_frame *frame, u32 qualification)
{
    if (qualification & QUALIFICATION_STRING)
        return 0;
    u32 size = (qualification & QUALIFICATION_SIZE) + 1;
    u32 port = qualification >> QUALIFICATION_PORT;
    /* What an instruction of this size reads and writes of EAX. */
    u32 mask = ~0u >> (32 - 8 * size);
    if (qualification & QUALIFICATION_IN)
        frame->eax = (frame->eax & ~mask) | (io_hypercall(IO_READ, port, size, 0) & mask);
    else
        io_hypercall(IO_WRITE, port, size, frame->eax & mask);
    return 1;
}

void ve_handler(struct guest_frame *frame)
{
    struct ve_info info = get_info();

    if (info.reason != IO_FUNCTION || !handle_io(frame, info.qualification))
        __asm__ volatile("mov %0, %%ebp; int %1" ::"i"(VECTOR_VE << 8), "i"(VECTOR_DONE));
    frame->eip += info.length;
}
