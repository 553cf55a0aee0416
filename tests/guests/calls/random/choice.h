/* Random numbers, lengths and ports: those of pvio's devices, and others except the forbidden ones. */
#pragma once

#include "../lib/world.h"

static u64 random_state;

/* Marsaglia's xorshift. */
static u64 random_word(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Below a number of at most 2^32. */
static u32 random(u32 below) { return (u32)((random_word() >> 32) * below >> 32); }

static word random_length(void) {
    static const u64 near[] = {1ull << 16, 1ull << 31, 1ull << 32, 1ull << 48, 1ull << 63, 0};
    switch (random(32)) {
    case 0: case 1: case 2: case 3: return near[random(6)] + random(9) - 4;
    case 4: return random_word();
    case 5: case 6: return random(2 * PAGE);
    case 7: return random(PVIO_ELEMENTS_MAX + 100);
    default: return random(40);
    }
}

/* The same as in tests/tests/suite/hypercalls/random.rs. */
static const u16 own_ports[] = {
    0x5000, 0x5001, 0x5002, 0x5003, /* latch */
    0x300, 0x301, 0x304, 0x306,     /* stream */
    0x5100, 0x5101,                 /* null */
    0x5200, 0x5201,                 /* ones */
    0x5300, 0x5301,                 /* console */
};
#define OWN_PORTS (sizeof own_ports / sizeof *own_ports)

/* QEMU's ports that would end the run, or the guest, as they are meant to. */
static const struct {
    u16 first, last;
    const char *why;
} forbidden[] = {
    {0x60, 0x64, "the keyboard controller switches A20, and resets the machine"},
    {0x7e, 0x7f, "the VAPIC rewrites code"},
    {0x92, 0x92, "so does the system control port"},
    {0xb2, 0xb3, "a system management interrupt, for which there is no handler"},
    {0xe9, 0xe9, "the guest's own words to the test"},
    {0xf4, 0xf7, "isa-debug-exit"},
    {0x510, 0x51b, "fw_cfg writes to memory by itself"},
    {0x600, 0x6ff, "the PIIX4's power management switches off, suspends or interrupts"},
    {0x700, 0x7ff, "its SMBus"},
    {0xcf8, 0xcff, "PCI: takes the ROM with this code away; a reset"},
    {0xb000, 0xb0ff, "power management, where a BIOS finds it"},
    {0xae00, 0xafff, "ACPI: unplugs devices and CPUs"},
    {0xcd8, 0xce3, "so does CPU hotplug"},
    {0x5658, 0x5659, "the VMware port reads and writes other registers, as it is meant to"},
};

static int is_forbidden(u16 port, u32 width) {
    for (u32 i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        if (port + width > forbidden[i].first && port <= forbidden[i].last)
            return 1;
    return 0;
}

/* Of the others, some: each has a row of the statistics, and QEMU's memory is not to grow while it is watched. */
#define SOME_PORTS 200
static u16 some_ports[SOME_PORTS];

static u16 random_port(u32 width) {
    u16 port;
    do
        port = random(4) ? own_ports[random(OWN_PORTS)] : some_ports[random(SOME_PORTS)];
    while (is_forbidden(port, width));
    return port;
}

static void seed_random(u32 seed) {
    random_state = seed * 0x9e3779b97f4a7c15ull | 1;
    for (u32 i = 0; i < SOME_PORTS; i++)
        some_ports[i] = (u16)random(0x10000);
}
