/* A driver of somebody else's, who writes outb(port, value). It knows nothing of pvio. */

#define CONTROL 0x37a
#define DATA    0x378

int drive(unsigned char *buffer)
{
    unsigned int sum;

    outb(0x43, 0x34);
    outb(DATA, 0xaa);
    outw(DATA, 0x1234);
    outl(CONTROL, 0x12345678u);
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
