/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Texts and numbers, and the end of the program with a line on stderr. */
#pragma once

#include "linux.h"

enum { DONE = 0, FAILED = 1, USAGE = 2, NO_HOST = 3, DENIED = 4 };

static inline int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* One line, which is written at once. */
struct line {
    char text[2048];
    size_t length;
};

static inline void put(struct line *line, const char *text)
{
    /* The last byte is kept for the end of the line. */
    while (*text && line->length < sizeof line->text - 1)
        line->text[line->length++] = *text++;
}

static inline void put_hex(struct line *line, uint32_t value, int digits)
{
    char text[11] = "0x";
    for (int i = 0; i < digits; i++)
        text[2 + i] = "0123456789abcdef"[value >> 4 * (digits - 1 - i) & 15];
    text[2 + digits] = 0;
    put(line, text);
}

static inline void put_number(struct line *line, uint32_t value)
{
    char text[11];
    char *first = text + sizeof text - 1;
    *first = 0;
    do
        *--first = (char)('0' + value % 10);
    while (value /= 10);
    put(line, first);
}

static inline void show(struct line *line, long file)
{
    line->text[line->length++] = '\n';
    write_all(file, line->text, line->length);
    line->length = 0;
}

/* Ends the program: "pvio-call: " and up to three texts. */
static inline __attribute__((noreturn)) void die(int status, const char *a, const char *b, const char *c)
{
    struct line line;
    line.length = 0;
    put(&line, "pvio-call: ");
    put(&line, a);
    put(&line, b);
    put(&line, c);
    show(&line, 2);
    leave(status);
}

/* A number up to `max`, in decimal or as 0x..., or the end of the program. `what` is named there. */
static inline uint32_t number_of(const char *text, uint64_t max, const char *what)
{
    const int is_hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    const char *at = text + 2 * is_hex;
    const uint32_t base = is_hex ? 16 : 10;
    uint64_t value = 0;
    int is_good = *at != 0;

    for (; *at && is_good; at++) {
        const char small = (char)(*at | 0x20);
        uint32_t digit = 99;
        if (*at >= '0' && *at <= '9')
            digit = (uint32_t)(*at - '0');
        else if (small >= 'a' && small <= 'f')
            digit = (uint32_t)(small - 'a' + 10);
        value = value * base + digit;
        is_good = digit < base && value <= max;
    }
    if (!is_good)
        die(USAGE, what, ", not ", text);
    return (uint32_t)value;
}
