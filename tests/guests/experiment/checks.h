/* Trials of the monitor: checks.c, checks_today.c. */
#pragma once

#include "harness.h"

#define DONE 0xcd, VECTOR_DONE

/* Runs some code, at `at`, and says what the guest's handler has got: vector << 8 | error, or 0. */
u32 try(u8 *at, const u8 *bytes, u32 length);
#define TRY(at, ...)                                                                               \
    ({                                                                                             \
        static const u8 bytes[] = {__VA_ARGS__};                                                   \
        try(at, bytes, sizeof bytes);                                                              \
    })

#define GP 0x0d00
#define PF 0x0e00

/* mov $value, %edx etc., in front of what is tried. */
#define SET_DX(port) 0xba, (port)&0xff, (port) >> 8 & 0xff, 0, 0
#define SET_AX(value) 0xb8, (value)&0xff, (value) >> 8 & 0xff, (value) >> 16 & 0xff, (u32)(value) >> 24
#define SET_SI_OUT 0xbe, 0x10, 0, 0x20, 0
#define SET_DI 0xbf, 0x10, 0, 0x20, 0

int device_saw(u32 out, u32 size, u32 port, u32 value);
void check(int holds, const char *what);
void check_what_is_io(void);
void check_todays_mechanisms(void);
