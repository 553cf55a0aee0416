/*
 * driver: the same driver by instructions and by hypercalls, each counted once in a separate window,
 * then timed alternately. Its log has the time of the fastest run of each; it exits with 1 if the two read
 * different values from the board.
 */

#include <pvio.h>

#include "board.h"

#define ROUNDS 32

void guest(void);

unsigned char block[4096];

static uint64_t cycles(unsigned int (*drive)(void))
{
    const uint64_t before = __builtin_ia32_rdtsc();
    drive();
    return __builtin_ia32_rdtsc() - before;
}

/* TEXT and a number. */
static void log_number(const char *text, uint64_t number)
{
    char line[64], digits[20];
    size_t length = 0, count = 0;

    while (*text)
        line[length++] = *text++;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count)
        line[length++] = digits[--count];
    pvio_log(PVIO_LEVEL_INFO, line, length);
}

void guest(void)
{
    uint64_t native = UINT64_MAX, paravirt = UINT64_MAX;
    unsigned int read_native, read_paravirt, i;

    for (i = 0; i < sizeof block; i++)
        block[i] = (unsigned char)(i * i >> 4);

    pvio_begin("native");
    read_native = drive_native();
    pvio_end("native");

    pvio_begin("paravirt");
    read_paravirt = drive_paravirt();
    pvio_end("paravirt");

    if (read_native != read_paravirt) {
        pvio_log_string(PVIO_LEVEL_ERROR, "the two ways read different things");
        pvio_exit(1);
    }

    for (i = 0; i < ROUNDS; i++) {
        const uint64_t a = cycles(drive_native), b = cycles(drive_paravirt);

        native = a < native ? a : native;
        paravirt = b < paravirt ? b : paravirt;
    }
    log_number("cycles native: ", native);
    log_number("cycles paravirt: ", paravirt);
    pvio_exit(0);
}
