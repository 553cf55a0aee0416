/* The output of text, and the end of the machine. */
#include "harness.h"

#define DEBUGCON 0xe9 /* QEMU's -debugcon; reads as its own number */
#define COM1 0x3f8
#define DEBUG_EXIT 0xf4 /* QEMU's isa-debug-exit */

static u16 *const screen = (u16 *)0xb8000;
static int has_debugcon, has_com1, has_screen;
static u32 column, row;

void console_start(void)
{
    has_debugcon = inb(DEBUGCON) == DEBUGCON;
    /* A UART has a scratch register; nothing reads as all ones. */
    outb(COM1 + 7, 0x5a);
    has_com1 = inb(COM1 + 7) == 0x5a;
    if (has_com1) {
        outb(COM1 + 3, 0x80); /* 115200 8N1 */
        outb(COM1 + 0, 1);
        outb(COM1 + 1, 0);
        outb(COM1 + 3, 3);
        outb(COM1 + 2, 7);
    }
    /* Memory after it: a text screen, or something as harmless. */
    has_screen = !has_debugcon;
}

static void put(char c)
{
    if (has_debugcon)
        outb(DEBUGCON, c);
    if (has_com1) {
        for (u32 tries = 0; !(inb(COM1 + 5) & 0x20) && tries < 1000000; tries++)
            ;
        outb(COM1, c);
    }
    if (!has_screen)
        return;
    if (c == '\n' || column == 80) {
        column = 0;
        if (++row == 25) {
            for (u32 at = 0; at < 24 * 80; at++)
                screen[at] = screen[at + 80];
            for (u32 at = 24 * 80; at < 25 * 80; at++)
                screen[at] = 0x0720;
            row = 24;
        }
    }
    if (c != '\n')
        screen[row * 80 + column++] = 0x0700 | (u8)c;
}

void print(const char *text)
{
    for (; *text; text++) {
        if (*text == '\n' && has_com1)
            outb(COM1, '\r');
        put(*text);
    }
}

static void print_in_base(u32 number, u32 base)
{
    char digits[11], *at = digits + 10;
    *at = 0;
    do
        *--at = "0123456789abcdef"[number % base];
    while (number /= base);
    print(at);
}

void print_number(u32 number) { print_in_base(number, 10); }
void print_hex(u32 number) { print_in_base(number, 16); }

_Noreturn void end(u32 status)
{
    outb(DEBUG_EXIT, status);
    for (;;)
        __asm__ volatile("cli; hlt");
}

u32 text_length(const char *text)
{
    u32 length = 0;
    while (text[length])
        length++;
    return length;
}

/* Aligned right, with commas between thousands. 0 is a minus sign: there is no number. */
void print_padded(u32 number, u32 width)
{
    char digits[15], *at = digits + 14;

    *at = 0;
    if (!number)
        *--at = '-';
    for (u32 count = 0; number; number /= 10, count++) {
        if (count && count % 3 == 0)
            *--at = ',';
        *--at = '0' + number % 10;
    }
    for (u32 length = text_length(at); length < width; length++)
        print(" ");
    print(at);
}

/* There is no division of 64 bits without a library: two of 32. The quotient must fit in 32 bits. */
u32 divide(u64 number, u32 by)
{
    u32 high = number >> 32, low = number, quotient;

    if (high >= by)
        return ~0u;
    __asm__("divl %3" : "=a"(quotient), "+d"(high) : "0"(low), "r"(by) : "cc");
    return quotient;
}
