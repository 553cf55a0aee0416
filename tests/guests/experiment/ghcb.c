/*
 * The hypervisor's side of the GHCB: a guest under SEV-ES has put an operation there, and made a VMGEXIT. All
 * fields are the guest's, so they are checked before use ("SEV-ES Guest-Hypervisor Communication Block
 * Standardization", 4.1.4).
 */
#include "monitor.h"
#include "protocol.h"

/* Errors of exit_info_1 and exit_info_2: 4.1. */
enum { MALFORMED = 2 };
enum { USAGE = 3, NOT_VALID = 4, EXIT_CODE = 5, SCRATCH = 1 };

static void refuse(u32 why)
{
    ghcb.exit_info_1 = MALFORMED;
    ghcb.exit_info_2 = why;
}

static void string_io(u32 operation, u32 information, u32 size)
{
    u32 count = ghcb.exit_info_2, start = ghcb.scratch;

    if (!ghcb_is_valid(GHCB_FIELD(scratch)) || count > sizeof ghcb.buffer / size || start < (u32)ghcb.buffer ||
        start > (u32)ghcb.buffer + sizeof ghcb.buffer - count * size) {
        refuse(SCRATCH);
        return;
    }
    struct frame frame;
    frame.eflags = FLAGS_ONE;
    frame.ecx = count;
    frame.esi = frame.edi = start;
    emulate(&frame, operation, information >> EXIT_PORT, &whole_string);
    ghcb.exit_info_1 = 0;
}

void ghcb_call(struct frame *guest)
{
    (void)guest; /* an encrypted guest's registers are not the hypervisor's to see */
    if (ghcb.usage != 0) {
        refuse(USAGE);
        return;
    }
    if (!ghcb_is_valid(GHCB_FIELD(exit_code)) || !ghcb_is_valid(GHCB_FIELD(exit_info_1)) ||
        !ghcb_is_valid(GHCB_FIELD(exit_info_2))) {
        refuse(NOT_VALID);
        return;
    }
    u32 information = ghcb.exit_info_1, size = information >> EXIT_SIZE & 7;
    /* One of the three bits. */
    if (ghcb.exit_code != EXIT_CODE_IO || !size || size & (size - 1)) {
        refuse(EXIT_CODE);
        return;
    }
    u32 operation = size == 4 ? 2 : size - 1;
    if (information & EXIT_STRING) {
        string_io(operation + (information & EXIT_IN ? OP_INS : OP_OUTS), information, size);
        return;
    }
    if (!(information & EXIT_IN) && !ghcb_is_valid(GHCB_FIELD(rax))) {
        refuse(NOT_VALID);
        return;
    }
    struct frame frame;
    frame.eax = ghcb.rax;
    emulate(&frame, operation + (information & EXIT_IN ? OP_IN : OP_OUT), information >> EXIT_PORT, 0);
    ghcb.rax = frame.eax;
    ghcb_set_valid(GHCB_FIELD(rax));
    ghcb.exit_info_1 = 0;
}
