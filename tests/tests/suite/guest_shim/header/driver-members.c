/*
 * A driver of somebody else's, who writes outb(value, port) and has members of the same names. It knows
 * nothing of pvio.
 */

#define CONTROL 0x37a
#define DATA    0x378

struct board {
    void (*outb)(unsigned char value, unsigned short port);
    unsigned char (*inb)(unsigned short port);
};

int drive(unsigned char *buffer)
{
    const struct board board = {.outb = outb, .inb = inb};
    unsigned int sum;

    board.outb(0x34, 0x43);
    outb(0xaa, DATA);
    outw(0x1234, DATA);
    outl(0x12345678u, CONTROL);
    sum = board.inb(0x71);
    sum += inw(DATA);
    sum += inl(CONTROL);
    insb(DATA, buffer, 3);
    insw(DATA, buffer, 4);
    insl(DATA, buffer, 5);
    outsb(CONTROL, buffer, 6);
    outsw(CONTROL, buffer, 7);
    outsl(CONTROL, buffer, 8);
    return (int)sum;
}
