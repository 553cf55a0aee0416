/*
 * calls-proof32: calls with memory on a QEMU that exports none of its functions, where only accesses and code prove that
 * memory is RAM. The local APIC is the memory of a device here: no call may access it. Needs no devices.
 */
#include "lib/world.h"

#define APIC 0xfee00000u

#if BITS == 32
/* Each in a page of RAM that nothing else accesses. */
#define text      ((char *)0x200000)
#define records   ((volatile struct pvio_record *)0x210000)
#define directory ((volatile u32 *)0x220000)

static inline __attribute__((always_inline)) void batch(void) {
    word dx = (word)records, cx = 1;
    records[0].call = PVIO_CALL_INB;
    records[0].port = 0x71;
    /* Not by call_by: its `rep movs` may write to a device, for all that pvio knows, and so ends the proofs. */
    const u32 answer = pvio_call(pvio_call_word(PVIO_CALL_BATCH, 0, 0), &dx, &cx);
    /* The port is QEMU's, so the record is not carried out; its status is stored in it. */
    check_same(answer >> 24 & 0x7f, PVIO_STATUS_DECLINED);
    check_same(records[0].status, PVIO_STATUS_DECLINED);
    check_same(cx, 1);
}

/* In one page, which has calls: so its accesses prove what they touch. */
__attribute__((aligned(PAGE))) void guest(void) {
    check_same(pvio_log(PVIO_LEVEL_INFO, (const char *)(APIC + 0x80), 4), PVIO_STATUS_DECLINED);
    check_same(pvio_log(PVIO_LEVEL_INFO, text, 4), PVIO_STATUS_DECLINED);

    volatile char *to = text;
    to[0] = 'p', to[1] = 'a', to[2] = 'g', to[3] = 'e';
    check_same(pvio_log(PVIO_LEVEL_INFO, text, 4), PVIO_STATUS_OK);
    /* The next page is not proven. */
    check_same(pvio_log(PVIO_LEVEL_INFO, text + PAGE - 2, 4), PVIO_STATUS_DECLINED);
    check_same(pvio_text_(PVIO_CALL_BEGIN, 0, text, 4), PVIO_STATUS_OK);
    check_same(pvio_text_(PVIO_CALL_END, 0, text, 4), PVIO_STATUS_OK);
    batch();

    /* Pages of 4 MiB; the second entry is of a page table in the device's memory. */
    directory[0] = 0xe7;
    directory[1] = APIC | 0x27;
    switch_paging((word)directory, 0x10);
    check_same(pvio_log(PVIO_LEVEL_INFO, text, 4), PVIO_STATUS_OK);
    check_same(pvio_log(PVIO_LEVEL_INFO, (const char *)0x400000, 4), PVIO_STATUS_DECLINED);
    paging_off();
}
#else
/* Nothing proves page tables that are there from the start. */
void guest(void) { check_same(pvio_log(PVIO_LEVEL_INFO, "text", 4), PVIO_STATUS_DECLINED); }
#endif
