/*
 * The virtual device: reads return the bytes of a pattern, repeatedly; every access is logged. All accesses of one
 * kind take the same number of instructions, so that all operations of a
 * loop cost the same.
 *
 * pvio's `stream` does the same with a file of that pattern; its log is pvio's access log.
 */
#include "monitor.h"

struct access device_log[LOG_ENTRIES];
u32 device_accesses;

/* 16 bytes, and the first three again, for reads that go over the end. */
static const u8 pattern[16 + 3] = {
    0x1b, 0xe4, 0x7a, 0x05, 0xc9, 0x36, 0x90, 0x5f, 0xa2, 0x6d, 0x08, 0xf1, 0x43, 0xbe, 0x27, 0xd8,
    0x1b, 0xe4, 0x7a,
};
static u32 position;

void device_reset(void)
{
    position = 0;
    device_accesses = 0;
}

static void log_access(u32 out, u32 port, u32 size, u32 value)
{
    struct access *access = &device_log[device_accesses++ % LOG_ENTRIES];
    access->out = out;
    access->size = size;
    access->port = port;
    access->value = value;
}

u32 device_in(u32 port, u32 size)
{
    const u8 *bytes = &pattern[position];
    u32 value = bytes[0];
    if (size == 2)
        value = *(const u16 *)bytes;
    if (size == 4)
        value = *(const u32 *)bytes;
    position = (position + size) % 16;
    log_access(0, port, size, value);
    return value;
}

void device_out(u32 port, u32 size, u32 value) { log_access(1, port, size, value); }
