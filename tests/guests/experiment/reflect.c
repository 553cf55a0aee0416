/*
 * The guest's own exceptions: the guest's handler gets the exception, as if the processor had delivered it in
 * the guest's ring (SDM Vol. 3A 6.12.1: flags, CS, EIP and the error code on the stack in use).
 */
#include "monitor.h"

/* The guest's IDT, as far as a monitor must know it. 0: it has no handler. */
u32 guest_handlers[32];

static int push(struct frame *frame, u32 value)
{
    u32 esp = frame->esp - 4;
    if (esp > MONITOR_BASE - 4)
        return 0;
    *(u32 *)esp = value;
    frame->esp = esp;
    return 1;
}

void reflect(struct frame *frame, u32 vector, int has_error, u32 error)
{
    u32 eflags = frame->eflags;
    int fits = push(frame, eflags) && push(frame, frame->cs) && push(frame, frame->eip);

    if (fits && has_error)
        fits = push(frame, error);
    if (!fits || !guest_handlers[vector]) {
        /* A guest that cannot take its own exception is at its end, as a machine is by a triple fault. */
        extern _Noreturn void guest_is_lost(const struct frame *frame, u32 vector);
        guest_is_lost(frame, vector);
    }
    frame->eflags = eflags & ~(FLAGS_TF | FLAGS_RF);
    frame->eip = guest_handlers[vector];
}
