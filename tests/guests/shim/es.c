/*
 * shim-es16, shim-es32: buffers of strings in ES, whose base is not that of DS, as SeaBIOS has them. The
 * first is 16-bit code of gcc -m16, in real mode with segments of 4 GiB. See ../README.md.
 */

#define ES_BASE 0x1000

#if BITS == 16
#define PVIO_CODE_16
#define PVIO_LINEAR(pointer)    ((uintptr_t)(pointer))
#define PVIO_POINTER(linear)    ((void *)(uintptr_t)(linear))
#endif
#define PVIO_ES_LINEAR(pointer) ((uintptr_t)(pointer) + ES_BASE)
#define PVIO_ES_POINTER(linear) ((void *)((uintptr_t)(linear) - ES_BASE))
#include "machine.h"

void guest(void);

#define BYTES 4095
#define WORDS 2048
#define LONGS 2048
#define ALL   (BYTES + 2 * WORDS + 4 * LONGS)

static unsigned char buffer[4 * PAGE] __attribute__((aligned(PAGE)));

/* A pointer in a register: code of -m16 has 16 bits for the address of a variable. */
static void *by_register(uintptr_t pointer)
{
    __asm__ __volatile__("" : "+r"(pointer));
    return (void *)pointer;
}

/* A pointer of ES to a place of DS. */
static unsigned char *in_es(const void *place) { return by_register((uintptr_t)place - ES_BASE); }

static void load_es(void)
{
#if BITS == 16
    __asm__ __volatile__("movw %w0, %%es" : : "r"(ES_BASE / 16));
#else
    /* The selector of DS is 16. */
    static const uint64_t gdt[] = {0, 0x00cf93000000ffff | ES_BASE << 16, 0x00cf93000000ffff};
    const struct {
        uint16_t limit;
        const uint64_t *base;
    } __attribute__((packed)) gdtr = {sizeof gdt - 1, gdt};

    __asm__ __volatile__("lgdt %0\n\tmovl %1, %%es" : : "m"(gdtr), "r"(8));
#endif
}

/* The value that C requires. */
static void restore_es(void) { __asm__ __volatile__("pushl %ds\n\tpopl %es"); }

/* Marks the pages of the buffer as unused, if paging is on. */
static void forget_buffer(void)
{
    if (BITS != 16)
        forget(buffer, sizeof buffer);
}

void guest(void)
{
    static const uint16_t words[] = {0x0101, 0x0202, 0x0303}; /* in ROM */
    static uint32_t two_longs[2];
    static struct pvio_record two_records[2];
    uint32_t *const read = by_register((uintptr_t)two_longs);
    struct pvio_record *const records = by_register((uintptr_t)two_records);

    /* Strings that took SI, DI and CX for ESI, EDI and ECX would be elsewhere. */
    check((uintptr_t)in_es(buffer) > 0xffff);
    load_es();
    forget_buffer();
    pvio_insb(STREAM, in_es(buffer), BYTES);
    pvio_insw(STREAM, in_es(buffer + BYTES), WORDS);
    pvio_insl(STREAM, in_es(buffer + BYTES + 2 * WORDS), LONGS);
    forget_buffer();
    pvio_outsb(STREAM, in_es(buffer), BYTES);
    pvio_outsw(STREAM, in_es(buffer + BYTES), WORDS);
    pvio_outsl(STREAM, in_es(buffer + BYTES + 2 * WORDS), LONGS);

    records[0] = pvio_record_outsw(LATCH, in_es(words), 3);
    records[1] = pvio_record_insl(LATCH, in_es(read), 2);
    check(pvio_batch(records, 2) == 2);
    restore_es();
    check((uint16_t)read[0] == 0x0303 && read[0] == read[1]);
    check(pvio_native_inl(LEFT) == 0);
    end(0);
}
