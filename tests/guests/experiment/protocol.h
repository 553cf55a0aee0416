/* What guest and monitor agree on: the layouts and numbers of today's hypercalls. */
#pragma once

#include "machine.h"
#include "types.h"

/*
 * A port access by TDG.VP.VMCALL<Instruction.IO> (Intel's "Guest-Hypervisor Communication Interface", 3.9), in
 * registers of 32-bit code: EBX the function, which becomes the status, ECX the size, ESI the direction, EDX the
 * port, EAX the data.
 */
#define IO_FUNCTION 30 /* the exit reason of an I/O instruction (SDM Vol. 3D, appendix C) */
#define IO_READ 0
#define IO_WRITE 1

/* The exit qualification of an I/O instruction: SDM Vol. 3C, table 28-5. */
#define QUALIFICATION_SIZE 7 /* less one */
#define QUALIFICATION_IN (1 << 3)
#define QUALIFICATION_STRING (1 << 4)
#define QUALIFICATION_REPEAT (1 << 5)
#define QUALIFICATION_IMMEDIATE (1 << 6)
#define QUALIFICATION_PORT 16

/* The exit information of an I/O instruction: APM Vol. 2, 15.10.2. */
#define EXIT_CODE_IO 0x7b
#define EXIT_IN (1 << 0)
#define EXIT_STRING (1 << 2)
#define EXIT_REPEAT (1 << 3)
#define EXIT_SIZE 4 /* one bit for each of 1, 2 and 4 bytes */
#define EXIT_ADDRESS16 (1 << 7)
#define EXIT_ADDRESS32 (1 << 8)
#define EXIT_SEGMENT 10
#define EXIT_PORT 16

/*
 * The GHCB: AMD's "SEV-ES Guest-Hypervisor Communication Block Standardization", 2.6. The guest is 32-bit code, so
 * it uses the low halves of fields, and the high halves stay 0.
 */
struct ghcb {
    u8 reserved_1[0x1f8];
    u32 rax, rax_high;
    u8 reserved_2[0x390 - 0x200];
    u32 exit_code, exit_code_high;
    u32 exit_info_1, exit_info_1_high;
    u32 exit_info_2, exit_info_2_high;
    u32 scratch, scratch_high;
    u8 reserved_3[0x3f0 - 0x3b0];
    u8 valid[16]; /* a bit for each eight bytes above */
    u8 reserved_4[0x800 - 0x400];
    u8 buffer[2032];
    u8 reserved_5[10];
    u16 version;
    u32 usage;
};
_Static_assert(sizeof(struct ghcb) == 4096, "a page");
_Static_assert(__builtin_offsetof(struct ghcb, version) == 0xffa, "2.6");
extern struct ghcb ghcb;

#define GHCB_FIELD(field) (__builtin_offsetof(struct ghcb, field) / 8)
static inline void ghcb_set_valid(u32 field) { ghcb.valid[field / 8] |= 1 << field % 8; }
static inline int ghcb_is_valid(u32 field) { return ghcb.valid[field / 8] >> field % 8 & 1; }

/* An operation of a batch. The value of an `in` replaces `value`; a string has an address instead. */
struct record {
    u16 operation;
    u16 port;
    u32 value;
    u32 count;
    u32 reserved;
};
