/*
 * Hypercalls: the guest passes the number of the operation in a register. The numbers are those that `decode`
 * returns.
 */
#include "monitor.h"

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
