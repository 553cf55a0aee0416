/* A driver of somebody else's, who writes outb(value, port). It knows nothing of pvio. */

#define CONTROL 0x37a
#define DATA    0x378

int drive(unsigned char *buffer)
{
    unsigned int sum;

    outb(0x34, 0x43);
    outb(0xaa, DATA);
    outw(0x1234, DATA);
    outl(0x12345678u, CONTROL);
    sum = inb(0x71);
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
