/*
 * calls-remapped32: calls with memory, on a QEMU that exports none of its functions, in a page that was RAM and is a device's
 * when the call is made. The device is QEMU's pci-testdev. The chipset shows it below 1 MiB in place of RAM: by ports, and
 * on a q35 machine by a store to PCI's configuration space in memory, too. Needs no devices of pvio's.
 */
#include "lib/world.h"

/* Pages of the 16 KiB that one field of the chipset's PAM registers switches. */
#define text  ((volatile char *)0xd0000)
#define table ((volatile u32 *)0xd1000)
/* Pages of RAM that stays. */
#define directory ((volatile u32 *)0x220000)
#define plain_text     ((volatile char *)0x200000)

/* Where q35 has PCI's configuration space. */
#define MMCONFIG 0xb0000000u

#define ID_Q35     0x29c08086u
#define ID_TESTDEV 0x00051b36u

#define INLINE static inline __attribute__((always_inline))

INLINE void select_config(u32 slot, u32 at) { pvio_native_outl(0x80000000u | slot << 11 | (at & 0xfc), 0xcf8); }

INLINE u32 config(u32 slot, u32 at) {
    select_config(slot, at);
    return in_32(0xcfc);
}

INLINE void set_config(u32 slot, u32 at, u32 value) {
    select_config(slot, at);
    pvio_native_outl(value, 0xcfc);
}

INLINE void set_config_byte(u32 slot, u32 at, u8 value) {
    select_config(slot, at);
    pvio_native_outb(value, (u16)(0xcfc + (at & 3)));
}

/* PAM: 3 is RAM, 0 is what PCI has there. */
enum { PCI = 0, RAM = 3 };

INLINE void write_text(volatile char *to) { to[0] = 'p', to[1] = 'a', to[2] = 'g', to[3] = 'e'; }
INLINE u32 log_text(volatile char *from) { return pvio_log(PVIO_LEVEL_INFO, (const char *)from, 4); }

/* In a page without calls, where pvio watches the last instruction of a block alone. */
__attribute__((aligned(PAGE), noinline)) static void store(volatile u8 *to, u8 value) {
    *to = value;
    __asm__ volatile("nop; nop" : : : "memory");
}

static u32 find_testdev(void) {
    for (u32 slot = 1; slot < 32; slot++)
        if (config(slot, 0) == ID_TESTDEV)
            return slot;
    failed(__FILE__, __LINE__, "there is a pci-testdev");
}

/* In one page, which has calls: so its accesses prove what they touch. */
__attribute__((aligned(PAGE))) void guest(void) {
    const u32 slot = find_testdev();
    const int is_q35 = config(0, 0) == ID_Q35;
    const u32 pam = is_q35 ? 0x93 : 0x5c;
    set_config(slot, 0x10, (word)text);
    set_config(slot, 4, 2);

    theme = "a buffer, by ports";
    set_config_byte(0, pam, RAM);
    write_text(text);
    check_same(log_text(text), PVIO_STATUS_OK);
    set_config_byte(0, pam, PCI);
    check_same(log_text(text), PVIO_STATUS_DECLINED);
    set_config_byte(0, pam, RAM);
    check_same(log_text(text), PVIO_STATUS_DECLINED);
    write_text(text);
    check_same(log_text(text), PVIO_STATUS_OK);

    if (is_q35) {
        theme = "a buffer, by a store";
        set_config(0, 0x64, 0);
        set_config(0, 0x60, MMCONFIG | 1);
        write_text(text);
        check_same(log_text(text), PVIO_STATUS_OK);
        store((volatile u8 *)(MMCONFIG + pam), PCI);
        check_same(log_text(text), PVIO_STATUS_DECLINED);
        store((volatile u8 *)(MMCONFIG + pam), RAM);
        write_text(text);
        check_same(log_text(text), PVIO_STATUS_OK);
    }

    theme = "a page table";
    set_config(slot, 0x10, (word)table);
    write_text(plain_text);
    directory[0] = 0xe7;
    directory[1] = (word)table | 0x27;
    table[0] = (word)plain_text | 0x67;
    switch_paging((word)directory, 0x10);
    check_same(log_text((volatile char *)0x400000), PVIO_STATUS_OK);
    set_config_byte(0, pam, PCI);
    /* All but the table is proven again. */
    write_text(plain_text);
    directory[0] = directory[0];
    check_same(log_text(plain_text), PVIO_STATUS_OK);
    check_same(log_text((volatile char *)0x400000), PVIO_STATUS_DECLINED);
    paging_off();
}
