/*
 * The guest's decoder for #VC: from its own instruction to the exit information that a hypervisor without access
 * to the guest's memory needs. A loop takes the prefixes, a switch the opcode.
 *
 * Linux does the same with its decoder for all instructions, which is larger. Nothing here depends on the machine:
 * the tests also compile this file for the host.
 */
#include "guest.h"

#define LONGEST 15 /* bytes of an instruction (SDM Vol. 2, 2.3.11) */

enum { SEGMENT_ES, SEGMENT_CS, SEGMENT_SS, SEGMENT_DS, SEGMENT_FS, SEGMENT_GS };

int io_information(const u8 *code, u32 *information, int *port_in_dx)
{
    u8 bytes[LONGEST + 1];
    u32 segment = SEGMENT_DS, info = 0, wide = 4, address = EXIT_ADDRESS32, at = 0, opcode;

    /* Linux copies as much, too: the rest of the page may be all that there is. */
    __builtin_memcpy(bytes, code, LONGEST);
    for (;; at++) {
        if (at == LONGEST)
            return -1;
        opcode = bytes[at];
        if (opcode == 0x66)
            wide = 2;
        else if (opcode == 0x67)
            address = EXIT_ADDRESS16;
        else if (opcode == 0xf2 || opcode == 0xf3)
            info |= EXIT_REPEAT;
        else if ((opcode & 0xe7) == 0x26)
            segment = opcode >> 3 & 3;
        else if ((opcode & 0xfe) == 0x64)
            segment = opcode - 0x64 + SEGMENT_FS;
        else
            break;
    }
    at++;
    *port_in_dx = 1;
    switch (opcode) {
    case 0x6c:
    case 0x6d:
        info |= EXIT_IN | EXIT_STRING | SEGMENT_ES << EXIT_SEGMENT;
        break;
    case 0x6e:
    case 0x6f:
        info |= EXIT_STRING | segment << EXIT_SEGMENT;
        break;
    case 0xe4:
    case 0xe5:
        info |= EXIT_IN;
        /* fall through */
    case 0xe6:
    case 0xe7:
        if (at == LONGEST)
            return -1;
        *port_in_dx = 0;
        info |= bytes[at++] << EXIT_PORT;
        break;
    case 0xec:
    case 0xed:
        info |= EXIT_IN;
        break;
    case 0xee:
    case 0xef:
        break;
    default:
        return -1;
    }
    if (!(info & EXIT_STRING))
        info &= ~EXIT_REPEAT;
    *information = info | address | (opcode & 1 ? wide : 1) << EXIT_SIZE;
    return at;
}
