/*
 * The trap: the guest has executed an `in` or `out` for which its ring has no permission, and the processor
 * has raised #GP (SDM Vol. 1, 19.5.2, "I/O Permission Bit Map"; Vol. 3A 6.15, "Interrupt 13").
 */
#include "monitor.h"

static inline int carry_out(struct frame *frame, int checked)
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
        emulate(frame, io.operation, port, 0);
    } else {
        struct string string = string_of(frame, &io);
        if (!emulate(frame, io.operation, port, &string))
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
    if (!carry_out(frame, 0))
        reflect(frame, VECTOR_GP, 1, frame->error);
}

/* Amsden: the page tables are looked at. */
void general_protection_checked(struct frame *frame)
{
    if (!carry_out(frame, 1))
        reflect(frame, VECTOR_GP, 1, frame->error);
}
