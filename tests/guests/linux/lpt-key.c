/*
 * lpt-key: a program that looks for its dongle at the parallel port, as programs did, and knows nothing of pvio.
 * The dongle is that of docs/devices.md.  See ../README.md.
 *
 * Status 0 and "key found" if it answers; 1 and "no key" if not; 2 if the kernel does not permit the ports.
 */

#include "program.h"

#define DATA    0x378
#define STATUS  0x379
#define ACK     0x40
#define SECRET  0x5A

static int program(void)
{
        static const u8 challenge[] = {'k', 'e', 'y'};
        u8 expected = 0, answer = 0;

        if (!may_use_ports(DATA, 3))
                return 2;
        /* What the BIOS has left in the dongle's register is shifted out. */
        for (u32 bit = 0; bit < 8; bit++)
                inb(STATUS);
        for (u32 i = 0; i < sizeof challenge; i++) {
                outb(challenge[i], DATA);
                expected = (u8)((expected << 1) ^ challenge[i] ^ SECRET);
        }
        for (u32 bit = 0; bit < 8; bit++)
                answer = (u8)(answer << 1 | !!(inb(STATUS) & ACK));
        if (answer != expected) {
                print("no key\n");
                return 1;
        }
        print("key found\n");
        return 0;
}
