/*
 * calls-proof-smp32: calls with memory, on a QEMU that exports none of its functions, while a second CPU runs or not. It could
 * change the machine's memory at any time. Needs no devices.
 */
#include "lib/world.h"

#define APIC ((volatile u32 *)0xfee00000u)
/* In a page of RAM that nothing else accesses. */
#define text ((volatile char *)0x200000)

/* Not in the page of the text, nor in that of the calls. */
static volatile u32 runs, ends;

void other(u32 cpu) {
    runs = cpu;
    while (!ends)
        __asm__ volatile("pause");
}

static inline __attribute__((always_inline)) u32 log_text(void) {
    text[0] = 't', text[1] = 'e', text[2] = 'x', text[3] = 't';
    return pvio_log(PVIO_LEVEL_INFO, (const char *)text, 4);
}

__attribute__((aligned(PAGE))) void guest(void) {
    u32 calls = 0;
    /* The first block near a call proves nothing, if there may be two CPUs. */
    log_text();
    check_same(log_text(), PVIO_STATUS_OK);

    start_others(APIC, 1);
    while (!runs)
        __asm__ volatile("pause");
    for (u32 call = 0; call < 100; call++)
        check_same(log_text(), PVIO_STATUS_DECLINED);

    ends = 1;
    /* It halts soon. */
    while (log_text() == PVIO_STATUS_DECLINED)
        check(++calls < 100000000);
    check_same(log_text(), PVIO_STATUS_OK);
}
