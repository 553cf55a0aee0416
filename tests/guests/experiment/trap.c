/*
 * The trap: the guest has executed an `in` or `out` for which its ring has no permission, and the processor
 * has raised #GP (SDM Vol. 1, 19.5.2, "I/O Permission Bit Map"; Vol. 3A 6.15, "Interrupt 13").
 */
#include "monitor.h"

enum how { HERE, BY_USER, BY_USER_POSTED };

static __attribute__((always_inline)) inline int perform(struct frame *frame, u32 operation, u32 port,
                                                         const struct string *string, enum how how)
{
    if (how == HERE)
        return emulate(frame, operation, port, string);
    u32 elements = 1;
    if (string && string->repeat)
        elements = string->address16 ? frame->ecx & 0xffff : frame->ecx;
    user_begin(frame->eip, elements);
    if (how == BY_USER_POSTED)
        return emulate_posted(frame, operation, port, string);
    /* A string that faults has had the elements before. */
    int done = emulate_user(frame, operation, port, string);
    user_finish();
    return done;
}

static __attribute__((always_inline)) inline int carry_out(struct frame *frame, int checked, enum how how)
{
    struct io io;

    /* I/O without permission has the error code 0; with another, this is about a segment or a gate. */
    if (frame->error != 0)
        return 0;
    const u8 *code = fetch(frame);
    if (!code)
        return 0;

    u32 available = LONGEST;
    if (checked) {
        /* Only what was checked is looked at: an instruction may lie on two pages. */
        u32 in_page = 4096 - (frame->eip & 4095);
        if (!may_execute(frame->eip, frame->cs & 3))
            return 0;
        available = in_page < LONGEST ? in_page : LONGEST;
    }
    int length = decode(code, available, &io);
    if (length == 0) {
        if (!may_execute(frame->eip + available, frame->cs & 3))
            return 0;
        length = decode(code, LONGEST, &io);
    }
    if (length < 0)
        return 0;

    u32 port = io.immediate ? io.port : frame->edx & 0xffff;
    if (io.operation < OP_INS) {
        perform(frame, io.operation, port, 0, how);
    } else {
        struct string string = string_of(frame, &io);
        if (!perform(frame, io.operation, port, &string, how))
            return 0;
    }

    /* It has retired: on to the next, and what the processor does then. RF ends with an instruction (SDM
     * Vol. 3A 17.3.1.1); TF traps after it (17.3.1.4). */
    frame->eip += length;
    frame->eflags &= ~FLAGS_RF;
    if (frame->eflags & FLAGS_TF)
        reflect(frame, VECTOR_DB, 0, 0);
    return 1;
}

/* Kleen: the processor has fetched the instruction, so it has checked the page. */
void general_protection(struct frame *frame)
{
    if (!carry_out(frame, 0, HERE))
        reflect(frame, VECTOR_GP, 1, frame->error);
}

/* Amsden: the page tables are looked at. */
void general_protection_checked(struct frame *frame)
{
    if (!carry_out(frame, 1, HERE))
        reflect(frame, VECTOR_GP, 1, frame->error);
}

/* The device is in user space, as QEMU's are under KVM. */
void general_protection_user(struct frame *frame)
{
    if (!carry_out(frame, 0, BY_USER))
        reflect(frame, VECTOR_GP, 1, frame->error);
}

/* So it is, but writes are posted. */
void general_protection_posted(struct frame *frame)
{
    if (!carry_out(frame, 0, BY_USER_POSTED))
        reflect(frame, VECTOR_GP, 1, frame->error);
}
