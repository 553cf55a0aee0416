/*
 * The machine of the guests in this directory, which are compiled for 32 and for 64-bit code. This file makes no
 * hypercalls.
 */
#pragma once

#if defined(__i386__) && !defined(PVIO_CODE_16)
/* The assembler thinks that it assembles 64-bit code: see `build`. */
__asm__(".code32");
#endif

#include <pvio.h>

#define LATCH      0x5000 /* pvio's */
#define TEST_LATCH 0xe0   /* QEMU's pc-testdev */
#define STREAM     0x300  /* pvio's */
#define LEFT       0x304  /* how much of the stream's input is left */
#define COM1       0x3f8
#define CMOS       0x70
#define PCI        0xcf8
#define IDE        0x1f0

/* ---- Words to the test: -debugcon, and the end ---- */

static inline void say(const char *text)
{
    for (; *text; text++)
        __asm__ __volatile__("outb %0, $0xe9" : : "a"(*text));
}

static inline void end(uint8_t status)
{
    __asm__ __volatile__("outb %0, $0xf4" : : "a"(status));
    for (;;)
        __asm__ __volatile__("cli; hlt");
}

#define TEXT_(line) #line
#define TEXT(line)  TEXT_(line)
#define check(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            say("failed: line " TEXT(__LINE__) ": " #condition "\n");                              \
            end(1);                                                                                \
        }                                                                                          \
    } while (0)

/* ---- Pages ---- */

#define PAGE 4096

/* From entry.S: one entry for each page of the first megabyte. */
extern uintptr_t pages[PAGE / sizeof(uintptr_t)];

#define ACCESSED 0x20u
#define DIRTY    0x40u

/* Marks these pages as unused. */
static inline void forget(const unsigned char *at, size_t size)
{
    const unsigned char *const behind = at + size;

    for (; at < behind; at += PAGE) {
        pages[(uintptr_t)at / PAGE] &= ~(uintptr_t)(ACCESSED | DIRTY);
        __asm__ __volatile__("invlpg (%0)" : : "r"(at) : "memory");
    }
}

static inline int is_marked(const unsigned char *at, uintptr_t bits)
{
    return (pages[(uintptr_t)at / PAGE] & bits) == bits;
}
