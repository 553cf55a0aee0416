/*
 * clusters: two drivers that access ports in clusters. Each reads a device by index and data: the CMOS memory, and the
 * PCI configuration space of the host bridge.
 *
 * If hypercalls are answered, each reads all of its registers by one batch, without an instruction. If not, it has a
 * loop of two instructions. Both have the same accesses. See ../README.md.
 */

#include "machine.h"

void guest(void);

#define ROUNDS    5
#define REGISTERS 14 /* of the clock, from 0 */
#define DWORDS    16 /* of the header of the host bridge */

/* The instructions of two drivers are far from each other, so that they are no cluster. */
#define driver static __attribute__((noinline, aligned(1024)))

static uint8_t clock[REGISTERS];
static uint32_t header[DWORDS];
static struct pvio_record records[2 * DWORDS];

driver void read_clock(void)
{
    unsigned int i;

    for (i = 0; i < REGISTERS; i++) {
        pvio_native_outb((uint8_t)i, CMOS);
        clock[i] = pvio_native_inb(CMOS + 1);
    }
}

driver void read_header(void)
{
    unsigned int i;

    for (i = 0; i < DWORDS; i++) {
        pvio_native_outl(0x80000000 | i * 4, PCI);
        header[i] = pvio_native_inl(PCI + 4);
    }
}

driver void read_clock_by_batch(void)
{
    unsigned int i;

    for (i = 0; i < REGISTERS; i++) {
        records[2 * i] = pvio_record_outb((uint8_t)i, CMOS);
        records[2 * i + 1] = pvio_record_inb(CMOS + 1);
    }
    check(pvio_batch(records, 2 * REGISTERS) == 2 * REGISTERS);
    for (i = 0; i < REGISTERS; i++)
        clock[i] = (uint8_t)records[2 * i + 1].value;
}

driver void read_header_by_batch(void)
{
    unsigned int i;

    for (i = 0; i < DWORDS; i++) {
        records[2 * i] = pvio_record_outl(0x80000000 | i * 4, PCI);
        records[2 * i + 1] = pvio_record_inl(PCI + 4);
    }
    check(pvio_batch(records, 2 * DWORDS) == 2 * DWORDS);
    for (i = 0; i < DWORDS; i++)
        header[i] = records[2 * i + 1].value;
}

void guest(void)
{
    uint32_t features;
    const int is_heard = pvio_probe(&features) != 0;
    unsigned int round;

    for (round = 0; round < ROUNDS; round++) {
        clock[13] = 0;
        header[0] = 0;
        if (is_heard) {
            read_clock_by_batch();
            read_header_by_batch();
        } else {
            read_clock();
            read_header();
        }
        check((clock[13] & 0x80) != 0);  /* the battery is good */
        check(header[0] == 0x12378086); /* the host bridge of QEMU's `pc` */
    }
    end(0);
}
