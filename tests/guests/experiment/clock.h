/* clock.c */
#pragma once

#include "harness.h"

struct date {
    u32 year, month, day; /* all 0 if there is no clock */
};

/* The rate of RDTSC in kHz; 0 if nothing tells. */
u32 tsc_khz(void);
struct date today(void);
