/* The local APIC: SDM Vol. 3A, "Advanced Programmable Interrupt Controller". It is mapped in tables with large pages. */
#pragma once

#include "tables.h"

#define APIC 0xfee00000u

/* The tables with which it can be reached. */
static inline volatile u32 *use_paging_with_apic(void) {
    use_paging(pagings + (BITS == 32 ? 3 : 0), 0);
    const word page = APIC & ~(word)(page_size(2) - 1);
    map(page, page, 2, W | A | D);
    flush();
    return (volatile u32 *)(word)APIC;
}

static inline void timer_start(volatile u32 *apic, u32 nanoseconds) {
    apic[0xf0 / 4] = 0x1ff;
    apic[0x3e0 / 4] = 0xb; /* divide by 1; QEMU's runs at 1 GHz */
    apic[0x320 / 4] = 1u << 17 | VECTOR_TIMER; /* periodic */
    apic[0x380 / 4] = nanoseconds;
}

static inline void timer_stop(volatile u32 *apic) { apic[0x380 / 4] = 0; }
static inline void timer_done(volatile u32 *apic) { apic[0xb0 / 4] = 0; }
