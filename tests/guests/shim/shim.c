/*
 * shim-c32, shim-c64: all of pvio.h, on devices of pvio and of QEMU. ../README.md lists
 * every call.
 *
 * The result of each hypercall is compared with that of the instruction. If no host answers, the functions execute
 * the instruction, and the results must be the same.
 */

#include "machine.h"

void guest(void);

static uint16_t latch;
static int is_heard;

/* The status of a call that succeeds if it is answered. */
static unsigned int answer(unsigned int status) { return is_heard ? status : PVIO_STATUS_UNANSWERED; }

static void scalars(void)
{
    pvio_outl(0x44332211, latch);
    check(pvio_native_inl(latch) == 0x44332211);
    check(pvio_inl(latch) == 0x44332211);
    pvio_outw(0xbbaa, (uint16_t)(latch + 2));
    check(pvio_native_inw((uint16_t)(latch + 2)) == 0xbbaa);
    check(pvio_inw((uint16_t)(latch + 2)) == 0xbbaa);
    pvio_outb(0x99, (uint16_t)(latch + 1));
    check(pvio_native_inb((uint16_t)(latch + 1)) == 0x99);
    check(pvio_inb((uint16_t)(latch + 1)) == 0x99);
    check(pvio_inl(latch) == 0xbbaa9911);
}

/* ---- Strings: a file goes through elements of each size, some across two pages ---- */

#define BYTES 4095
#define WORDS 2048
#define LONGS 2048
#define ALL   (BYTES + 2 * WORDS + 4 * LONGS)

static unsigned char buffer[4 * PAGE] __attribute__((aligned(PAGE)));

static void strings(void)
{
    unsigned char *const words = buffer + BYTES, *const longs = words + 2 * WORDS;
    size_t page;

    check(pvio_native_inl(LEFT) == ALL);
    forget(buffer, sizeof buffer);
    pvio_insb(STREAM, buffer, BYTES);
    pvio_insw(STREAM, words, WORDS);
    pvio_insl(STREAM, longs, LONGS);
    check(pvio_native_inl(LEFT) == 0);
    for (page = 0; page < sizeof buffer; page += PAGE)
        check(is_marked(buffer + page, ACCESSED | DIRTY));
    check(buffer[ALL] == 0);

    forget(buffer, sizeof buffer);
    pvio_outsb(STREAM, buffer, BYTES);
    pvio_outsw(STREAM, words, WORDS);
    pvio_outsl(STREAM, longs, LONGS);
    for (page = 0; page < sizeof buffer; page += PAGE) {
        check(is_marked(buffer + page, ACCESSED));
        check(!is_marked(buffer + page, DIRTY));
    }
    pvio_outsb(STREAM, buffer, 0);
}

/* ---- QEMU's own devices ---- */

static void serial_port(void)
{
    const char *text = "by hypercall\n";

    for (; *text; text++)
        pvio_outb((uint8_t)*text, COM1);
    for (text = "by instruction\n"; *text; text++)
        pvio_native_outb((uint8_t)*text, COM1);
    check(pvio_inb(COM1 + 5) == pvio_native_inb(COM1 + 5));
    check(pvio_inb(COM1 + 5) != 0xff);
}

static void cmos(void)
{
    uint8_t index, called;

    /* Memory sizes and such: no clock. */
    for (index = 0x10; index < 0x20; index++) {
        pvio_outb(index, CMOS);
        called = pvio_inb(CMOS + 1);
        pvio_native_outb(index, CMOS);
        check(pvio_native_inb(CMOS + 1) == called);
    }
}

static void pci(void)
{
    uint32_t offset, called;

    for (offset = 0; offset < 0x40; offset += 4) {
        pvio_outl(0x80000000 | offset, PCI);
        called = pvio_inl(PCI + 4);
        check(pvio_native_inl(PCI) == (0x80000000 | offset));
        check(pvio_native_inl(PCI + 4) == called);
        check(pvio_inw(PCI + 6) == called >> 16);
        check(pvio_inb(PCI + 5) == (uint8_t)(called >> 8));
    }
    pvio_outl(0x80000000, PCI);
    check(pvio_inl(PCI + 4) == 0x12378086); /* Intel's 440FX, of `-machine pc` */
}

#define SECTOR 512

static void wait_for_data(void)
{
    uint8_t status;

    do
        status = pvio_native_inb(IDE + 7);
    while (status & 0x80); /* busy */
    check((status & 9) == 8); /* data request, no error */
}

static void disk(void)
{
    static unsigned char called[SECTOR], instructed[SECTOR];
    static const uint8_t command[] = {1, 3, 0, 0, 0xe0, 0x20}; /* one sector; LBA 3; read */
    unsigned int i;

    pvio_native_outb(0xe0, IDE + 6);
    if (pvio_native_inb(IDE + 7) != 0x50) /* ready: there is one */
        return;
    for (i = 0; i < sizeof command; i++)
        pvio_outb(command[i], (uint16_t)(IDE + 2 + i));
    wait_for_data();
    pvio_insw(IDE, called, SECTOR / 2);
    for (i = 0; i < sizeof command; i++)
        pvio_native_outb(command[i], (uint16_t)(IDE + 2 + i));
    wait_for_data();
    pvio_native_insw(IDE, instructed, SECTOR / 2);
    for (i = 0; i < SECTOR; i++) {
        check(called[i] == instructed[i]);
        check(called[i] == (uint8_t)(3 * SECTOR + 7 * i + i / 256)); /* what the test has put there */
    }
}

/* ---- Batches ---- */

static void batches(void)
{
    static const uint16_t words[] = {0x0101, 0x0202, 0x0303};
    static uint32_t read[2];
    static struct pvio_record records[9];

    records[0] = pvio_record_outl(0x12345678, latch);
    records[1] = pvio_record_inl(latch);
    records[2] = pvio_record_outb(0x99, latch);
    records[3] = pvio_record_inb(latch);
    records[4] = pvio_record_outw(0xaabb, (uint16_t)(latch + 2));
    records[5] = pvio_record_inw(latch);
    records[6] = pvio_record_outsw((uint16_t)(latch + 2), words, 3);
    records[7] = pvio_record_insl(latch, read, 2);
    records[8] = pvio_record_insb(latch, read, 0);
    check(pvio_batch(records, 9) == 9);
    check(records[1].value == 0x12345678);
    check(records[3].value == 0x99);
    check(records[5].value == 0x5699);
    check(records[6].value == 0 && records[6].address == (uintptr_t)(words + 3));
    check(records[7].value == 0 && records[7].address == (uintptr_t)(read + 2));
    check(read[0] == 0x03035699 && read[1] == 0x03035699);
    check(records[0].status == PVIO_STATUS_OK && records[8].status == PVIO_STATUS_OK);

    /* Records after a wrong one are not executed. */
    records[0] = pvio_record_outb(1, latch);
    records[1] = pvio_record_outb(2, latch);
    records[1].address = 1;
    records[2] = pvio_record_outb(3, latch);
    check(pvio_batch(records, 3) == 1);
    check(records[0].status == PVIO_STATUS_OK);
    check(records[1].status == PVIO_STATUS_ARGUMENT);
    check(records[2].status == PVIO_RECORD_PENDING);
    records[1].call = PVIO_CALL_LOG;
    check(pvio_batch(records + 1, 2) == 0);
    check(records[1].status == PVIO_STATUS_UNKNOWN);
    check(pvio_native_inb(latch) == 1);
}

static void compact_batches(void)
{
    static struct pvio_compact_record records[8];

    records[0] = pvio_compact_outw(0x4321, latch);
    records[1] = pvio_compact_outw(0x8765, (uint16_t)(latch + 2));
    records[2] = pvio_compact_inl(latch);
    records[3] = pvio_compact_outb(0x98, latch);
    records[4] = pvio_compact_inb(latch);
    records[5] = pvio_compact_inw((uint16_t)(latch + 2));
    records[6] = pvio_compact_outl(0xffffffff, latch);
    records[7] = pvio_compact_inl(latch);
    check(pvio_batch_compact(records, 8) == 8);
    check(records[2].value == 0x87654321);
    check(records[4].value == 0x98);
    check(records[5].value == 0x8765);
    check(records[7].value == 0xffffffff);
    check(pvio_batch_compact(records, 0) == 0);

    /* Records after a wrong one are not executed. */
    records[0] = pvio_compact_outb(1, latch);
    records[1].reserved = 1;
    records[2] = pvio_compact_outb(3, latch);
    check(pvio_batch_compact(records, 3) == 1);
    check(pvio_native_inb(latch) == 1);
    records[1].reserved = 0;
    records[1].call = PVIO_CALL_LOG;
    check(pvio_batch_compact(records, 3) == 1);
    check(pvio_native_inb(latch) == 1);
}

/* ---- Control ---- */

static void control(void)
{
    /* In RAM, across two unused pages; the other texts are in ROM. */
    unsigned char *const text = buffer + PAGE - 4;
    unsigned int i;

    check(pvio_log_string(PVIO_LEVEL_INFO, "hello from C") == answer(PVIO_STATUS_OK));
    check(pvio_log_string(9, "x") == answer(PVIO_STATUS_ARGUMENT));
    for (i = 0; i < PVIO_LOG_MAX + 1; i++)
        text[i] = (unsigned char)('0' + i % 10);
    forget(buffer, 2 * PAGE);
    check(pvio_log(PVIO_LEVEL_DEBUG, (const char *)text, PVIO_LOG_MAX) == answer(PVIO_STATUS_OK));
    check(pvio_log(PVIO_LEVEL_DEBUG, (const char *)text, PVIO_LOG_MAX + 1) == answer(PVIO_STATUS_LENGTH));

    check(pvio_begin("window") == answer(PVIO_STATUS_OK));
    check(pvio_begin("window") == answer(PVIO_STATUS_STATE));
    pvio_outb(1, latch);
    pvio_native_outb(2, latch);
    check(pvio_end("window") == answer(PVIO_STATUS_OK));
    check(pvio_end("window") == answer(PVIO_STATUS_STATE));
    check(pvio_begin("") == answer(PVIO_STATUS_LENGTH));
}

static int holds(uint16_t port)
{
    pvio_native_outb(0x5a, port);
    return pvio_native_inb(port) == 0x5a;
}

void guest(void)
{
    uint32_t features;
    const uint32_t version = pvio_probe(&features);

    is_heard = version != 0;
    check(version == (is_heard ? PVIO_VERSION : 0));
    /* A host that does not have all of it declines, and that is seen by nothing but the counts. */
    check((features & ~(PVIO_FEATURE_EVERY_PORT | PVIO_FEATURE_MEMORY | PVIO_FEATURE_MAILBOX | PVIO_FEATURE_LARGE_MAILBOX | PVIO_FEATURE_COMPACT_BATCH)) == 0
          && (is_heard || features == 0));
    check(pvio_reset() == answer(PVIO_STATUS_OK));

    /* Without the plugin there is a latch if there is pc-testdev. */
    latch = holds(LATCH) ? LATCH : TEST_LATCH;
    if (holds(latch)) {
        scalars();
        batches();
        compact_batches();
    }
    if (pvio_native_inl(LEFT) != 0xffffffff)
        strings();
    serial_port();
    cmos();
    pci();
    disk();
    if (!is_heard || (features & PVIO_FEATURE_MEMORY) != 0)
        control();

    /* If answered, this ends with status 0; else isa-debug-exit makes it 1. */
    check(pvio_exit(0) == PVIO_STATUS_UNANSWERED);
    end(0);
}
