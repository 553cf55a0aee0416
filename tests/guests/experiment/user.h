/* What the monitor and user space share, as KVM and QEMU share struct kvm_run and its pages. */
#pragma once

#include "monitor.h"

/* An exit: accesses of one kind to one port. */
#define EXIT_BYTES 4096
struct exit {
    u32 out, port, size, count;
    u8 data[EXIT_BYTES];
};
extern struct exit user_exit;

/* Posted writes, as struct kvm_coalesced_mmio_ring: empty where both are equal, full with one entry unused. */
#define RING_ENTRIES 16
struct posted {
    u32 port, size, value;
};
struct ring {
    u32 first, last;
    struct posted entries[RING_ENTRIES];
};
extern struct ring user_ring;

/* user_entry.S: lets user space handle the exit and the ring. */
void exit_to_user(void);

static inline u32 load(const u8 *at, u32 size)
{
    return size == 1 ? *at : size == 2 ? *(const u16 *)at : *(const u32 *)at;
}

static inline void store(u8 *at, u32 size, u32 value)
{
    if (size == 1)
        *at = value;
    else if (size == 2)
        *(u16 *)at = value;
    else
        *(u32 *)at = value;
}
