/*
 * The output of guests in C to a test, by -debugcon, and their end; one `out imm8,al` for each character.
 */
#pragma once

static inline void put(char c) { __asm__ volatile("outb %0, $0xe9" : : "a"(c)); }

static inline void print(const char *text) {
    while (*text)
        put(*text++);
}

static inline void print_number(unsigned int number) {
    if (number >= 10)
        print_number(number / 10);
    put((char)('0' + number % 10));
}

static inline void print_hex(unsigned long long number) {
    if (number >= 16)
        print_hex(number >> 4);
    put("0123456789abcdef"[number & 15]);
}

static inline _Noreturn void end(unsigned char status) {
    __asm__ volatile("outb %0, $0xf4" : : "a"(status));
    for (;;)
        __asm__ volatile("cli; hlt");
}
