/*
 * Hypercalls: the guest passes the number of the operation in a register. The numbers are those that `decode`
 * returns.
 */
#include "monitor.h"
#include "protocol.h"

/*
 * By `int $VECTOR_CALL`, a gate that the guest's ring may use (SDM Vol. 3A 6.12.1.2), and by VMMCALL: EBX the
 * operation, the rest as the instruction has it. A string is carried out as a whole. There is no such
 * operation: EBX is -1.
 */
void hypercall(struct frame *frame)
{
    if (frame->ebx >= OPERATIONS ||
        !emulate(frame, frame->ebx, frame->edx & 0xffff, &whole_string))
        frame->ebx = -1;
}

/*
 * By SYSENTER, which leaves in the guest's ECX and EDX where it came from, because SYSEXIT wants that there
 * (SDM Vol. 2, "SYSEXIT"): EBX is the operation and, in its upper half, the port; of a string ESI is the
 * address and EDI the count, and all are done with.
 */
void fast_hypercall(struct frame *frame)
{
    frame->ecx = frame->edi;
    frame->edi = frame->esi;
    if ((frame->ebx & 0xffff) >= OPERATIONS ||
        !emulate(frame, frame->ebx & 0xffff, frame->ebx >> 16, &whole_string))
        frame->ebx = -1;
    /* Entry has put these there. */
    frame->ecx = frame->esp;
    frame->edx = frame->eip;
}

/* TDG.VP.VMCALL<Instruction.IO>, which the TDX module passes on: see protocol.h. EBX is the status. */
void io_call(struct frame *frame)
{
    u32 size = frame->ecx;

    if (frame->ebx != IO_FUNCTION || !size || size > 4 || size & (size - 1) || frame->esi > IO_WRITE) {
        frame->ebx = -1;
        return;
    }
    u32 operation = (frame->esi == IO_WRITE ? OP_OUT : OP_IN) + (size == 4 ? 2 : size - 1);
    emulate(frame, operation, frame->edx & 0xffff, 0);
    frame->ebx = 0;
}

/* Many operations: ESI the records, EBX how many. EBX becomes the number of those that were carried out. */
void batch(struct frame *frame)
{
    struct record *record = (struct record *)frame->esi;
    u32 count = frame->ebx;
    struct frame work;

    frame->ebx = 0;
    if (count > BATCH_RECORDS || frame->esi > MONITOR_BASE - count * sizeof *record)
        return;
    work.eflags = FLAGS_ONE;
    for (; frame->ebx < count; record++, frame->ebx++) {
        u32 operation = record->operation;
        work.eax = work.esi = work.edi = record->value;
        work.ecx = record->count;
        if (operation >= OPERATIONS || !emulate(&work, operation, record->port, &whole_string))
            return;
        if (operation < OP_OUT)
            record->value = work.eax;
    }
}
