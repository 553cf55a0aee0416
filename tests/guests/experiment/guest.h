/* The guest's own handlers and functions. This code is the guest's, and lies within its segments. */
#pragma once

#include "protocol.h"

/* What guest_entry.S pushes, and below it what an exception pushes within one ring (SDM Vol. 3A 6.12.1). */
struct guest_frame {
    u32 edi, esi, ebp, unused, ebx, edx, ecx, eax; /* PUSHA's order */
    u32 error;                                     /* of #VC: the exit code */
    u32 eip, cs, eflags;
};

void ve_handler(struct guest_frame *frame);
void vc_handler(struct guest_frame *frame);

/* guest_insn.c: from the bytes of an instruction to exit information without the port in DX. Returns the length,
 * or -1 if it is no port I/O. */
int io_information(const u8 *code, u32 *information, int *port_in_dx);

/* guest_calls.c: one port access by hypercall. Returns the value that was read. */
u32 io_hypercall(u32 direction, u32 port, u32 size, u32 value);
