/*
 * A driver for a board with a UART, a data port and a latch. It uses Linux's names, like an existing driver that was
 * written without hypercalls in mind. native.c and paravirt.c compile it, with instructions and with hypercalls.
 */

#define PVIO_REPLACE_LINUX
#include <pvio.h>

#include "board.h"

/* Sets the board up, sends a message and a block, and asks how it is. All that it read, as a sum. */
unsigned int drive(void)
{
    static const char message[] = "4 KiB follow\n";
    unsigned int sum = 0, i;

    outb(0x80, UART + 3); /* the divisor: 115,200 baud */
    outb(1, UART);
    outb(0, UART + 1);
    outb(0x03, UART + 3); /* 8N1 */
    outb(0xc7, UART + 2);

    for (i = 0; i < sizeof message - 1; i++) {
        unsigned int status;

        do {
            status = inb(UART + 5);
            sum = 31 * sum + status;
        } while (!(status & 0x20));
        outb((uint8_t)message[i], UART);
    }

    outsb(STREAM, block, sizeof block);

    for (i = 0; i < 100; i++) {
        outl(0x1000001 * i, LATCH);
        sum = 31 * sum + inl(LATCH);
    }
    return sum;
}
