/*
 * From the bytes of an instruction in 32-bit code to an operation.
 *
 * One table says for each byte whether it is a prefix, one of the twelve opcodes of port I/O (SDM Vol. 2,
 * "IN", "OUT", "INS", "OUTS"), or neither. It has all prefixes of 32-bit code (2.1.1,
 * "Instruction Prefixes"), in any number and order, except LOCK, with which the processor
 * raises #UD, which never reaches this code.
 *
 * Nothing here depends on the machine: the tests also compile this file for the host.
 */
#include "monitor.h"

enum {
    /* Bits 0-1: what it is. */
    OTHER = 0,
    OPCODE = 1,
    PREFIX = 2,
    /* An opcode: bit 2, the operand has the operand size instead of 8 bits; bit 3, the port is in the
     * next byte; bits 4-7, the operation for 8 bits. */
    SIZED = 1 << 2,
    IMMEDIATE = 1 << 3,
    OPERATION = 4,
    /* A prefix: bits 4-6, which. Segments are numbered as in an instruction's sreg field (B.1.4.4). */
    WHICH = 4,
    OPERAND_SIZE = 6,
    ADDRESS_SIZE = 7,
    REPEAT = 8,
};

#define OP(operation, flags) (OPCODE | (operation) << OPERATION | (flags))
#define PRE(which) (PREFIX | (which) << WHICH)

static const u8 meaning[256] = {
    [0x26] = PRE(SEGMENT_ES),
    [0x2e] = PRE(SEGMENT_CS),
    [0x36] = PRE(SEGMENT_SS),
    [0x3e] = PRE(SEGMENT_DS),
    [0x64] = PRE(SEGMENT_FS),
    [0x65] = PRE(SEGMENT_GS),
    [0x66] = PRE(OPERAND_SIZE),
    [0x67] = PRE(ADDRESS_SIZE),
    [0xf2] = PRE(REPEAT), /* REPNE means REP here, as the processor takes it */
    [0xf3] = PRE(REPEAT),
    [0x6c] = OP(OP_INS, 0),
    [0x6d] = OP(OP_INS, SIZED),
    [0x6e] = OP(OP_OUTS, 0),
    [0x6f] = OP(OP_OUTS, SIZED),
    [0xe4] = OP(OP_IN, IMMEDIATE),
    [0xe5] = OP(OP_IN, IMMEDIATE | SIZED),
    [0xe6] = OP(OP_OUT, IMMEDIATE),
    [0xe7] = OP(OP_OUT, IMMEDIATE | SIZED),
    [0xec] = OP(OP_IN, 0),
    [0xed] = OP(OP_IN, SIZED),
    [0xee] = OP(OP_OUT, 0),
    [0xef] = OP(OP_OUT, SIZED),
};

int decode(const u8 *code, u32 available, struct io *io)
{
    u32 operand16 = 0;

    io->repeat = 0;
    io->address16 = 0;
    io->segment = SEGMENT_DS;
    for (u32 at = 0; at < available;) {
        u32 byte = meaning[code[at++]];
        if (byte & OPCODE) {
            io->immediate = (byte & IMMEDIATE) != 0;
            if (io->immediate) {
                if (at == available)
                    break;
                io->port = code[at++];
            }
            io->operation = (byte >> OPERATION) + (byte & SIZED ? 2 - operand16 : 0);
            io->length = at;
            return at;
        }
        if (byte == OTHER)
            return -1;
        switch (byte >> WHICH) {
        case OPERAND_SIZE:
            operand16 = 1;
            break;
        case ADDRESS_SIZE:
            io->address16 = 1;
            break;
        case REPEAT:
            io->repeat = 1;
            break;
        default:
            io->segment = byte >> WHICH; /* of several the last one counts */
        }
    }
    /* More than LONGEST bytes are no instruction: the processor raises #GP for that, so it comes here. */
    return available < LONGEST ? 0 : -1;
}
