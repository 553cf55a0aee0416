/* Time: the rate of the processor's counter, and the date. */
#include "clock.h"

#define PIT_CHANNEL_2 0x42
#define PIT_COMMAND 0x43
#define PIT_RATE 1193182u
#define SPEAKER 0x61 /* bit 0: the gate of channel 2; bit 5: its output */
#define CMOS_INDEX 0x70
#define CMOS_DATA 0x71

/* 20 ms of the PIT's channel 2, in mode 0, whose output rises at the end. 0: there is no PIT. */
static u32 measure_khz(void)
{
    const u32 ticks = PIT_RATE / 50;
    u8 old = inb(SPEAKER);

    outb(SPEAKER, (old & ~3) | 1);
    outb(PIT_COMMAND, 0xb0);
    outb(PIT_CHANNEL_2, ticks & 0xff);
    outb(PIT_CHANNEL_2, ticks >> 8);
    u64 before = rdtsc();
    /* A machine without a PIT reads as ones or zeros for ever. */
    u32 reads = 0;
    while (!(inb(SPEAKER) & 0x20) && ++reads < 20000000)
        ;
    u64 cycles = rdtsc() - before;
    outb(SPEAKER, old);
    return reads > 1 && reads < 20000000 ? divide(cycles, 20) : 0;
}

/* The least of several measurements: on a busy host, the end of the time is seen late. */
static u32 khz_by_pit(void)
{
    u32 least = measure_khz();

    for (u32 tries = 1; tries < 8 && least; tries++) {
        u32 khz = measure_khz();
        if (khz && khz < least)
            least = khz;
    }
    return least;
}

u32 tsc_khz(void)
{
    u32 eax, ebx, ecx, edx, highest;

    /* A hypervisor may tell: VMware's leaf of timing, which KVM has, too. */
    cpuid(1, &eax, &ebx, &ecx, &edx);
    if (ecx >> 31) {
        cpuid(0x40000000, &highest, &ebx, &ecx, &edx);
        if (highest >= 0x40000010 && highest < 0x40010000) {
            cpuid(0x40000010, &eax, &ebx, &ecx, &edx);
            if (eax)
                return eax;
        }
    }
    /* SDM Vol. 2, "CPUID", leaf 15h: the counter's rate is ECX Hz * EBX / EAX. */
    cpuid(0, &highest, &ebx, &ecx, &edx);
    if (highest >= 0x15) {
        cpuid(0x15, &eax, &ebx, &ecx, &edx);
        if (eax && ebx && ecx)
            return divide((u64)(ecx / 1000) * ebx, eax);
    }
    return khz_by_pit();
}

static u32 cmos(u32 index)
{
    outb(CMOS_INDEX, index);
    return inb(CMOS_DATA);
}

static u32 from_bcd(u32 value, int is_binary) { return is_binary ? value : (value >> 4) * 10 + (value & 15); }

static struct date read_date(void)
{
    int is_binary = cmos(0x0b) >> 2 & 1;
    struct date date = {
        .day = from_bcd(cmos(7), is_binary),
        .month = from_bcd(cmos(8), is_binary),
        .year = from_bcd(cmos(9), is_binary),
    };
    u32 century = from_bcd(cmos(0x32), is_binary);
    /* Not every clock has a century. */
    date.year += century >= 19 && century <= 29 ? century * 100 : 2000;
    return date;
}

struct date today(void)
{
    struct date date, again = {0};

    /* Until two readings agree: the clock may change between its bytes. */
    for (u32 tries = 0; tries < 10; tries++) {
        date = again;
        again = read_date();
        if (date.day == again.day && date.month == again.month && date.year == again.year)
            break;
    }
    if (date.day < 1 || date.day > 31 || date.month < 1 || date.month > 12 || date.year > 2999)
        date = (struct date){0};
    return date;
}
