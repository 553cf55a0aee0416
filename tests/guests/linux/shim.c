/*
 * shim: a Linux program that uses a latch at 0x300 only by hypercalls; it never asks the kernel for the
 * ports. See ../README.md.
 *
 *      status 0    everything was correct
 *             1    a value that was read was wrong
 *             2    calls are unanswered
 *             3    a host answers, but denies calls of user code
 *             4    everything was correct, but the host could not read the line: memory has protection keys
 *                  whose register is not known
 *
 * Its memory is that of a process that has just started: absent until it is touched, pages of zeros that are shared,
 * or pages of a file. So most calls involve the kernel's page fault handler.
 *
 * It contains its own C library, so it builds without libc.a.
 */

#include <pvio.h>

#define LATCH    0x300
#define PAGE     4096
#define SYS_EXIT 60

static void leave(long status)
{
        __asm__ volatile("syscall" : : "a"(SYS_EXIT), "D"(status) : "rcx", "r11", "memory");
}

/* Nobody has touched these pages. */
static uint8_t untouched[4 * PAGE] __attribute__((aligned(PAGE)));
static uint8_t across[2 * PAGE] __attribute__((aligned(PAGE)));
static volatile uint8_t zeros[PAGE] __attribute__((aligned(PAGE)));
static struct pvio_record records[2];

/* From the program's file; the last byte is what the latch keeps. */
static const uint8_t constant[3 * PAGE] __attribute__((aligned(PAGE))) = {[3 * PAGE - 1] = 0x5a};

static int are(const volatile uint8_t *bytes, size_t count, uint8_t value)
{
        while (count--)
                if (*bytes++ != value)
                        return 0;
        return 1;
}

static int latch_works(void)
{
        pvio_outl(0x44332211, LATCH);
        if (pvio_inl(LATCH) != 0x44332211 || pvio_inw(LATCH + 1) != 0x3322 || pvio_inb(LATCH + 3) != 0x44)
                return 0;

        pvio_insb(LATCH, untouched + PAGE - 8, 2 * PAGE + 16);
        if (!are(untouched, PAGE - 8, 0) || !are(untouched + PAGE - 8, 2 * PAGE + 16, 0x11)
            || !are(untouched + 3 * PAGE + 8, PAGE - 8, 0))
                return 0;

        /* An element across two pages. */
        pvio_insl(LATCH, across + PAGE - 2, 1);
        if (across[PAGE - 3] != 0 || across[PAGE - 2] != 0x11 || across[PAGE + 1] != 0x44 || across[PAGE + 2] != 0)
                return 0;

        /* Read only: everybody's page of zeros, until it is written. */
        if (zeros[0] != 0)
                return 0;
        pvio_insl(LATCH, (uint8_t *)zeros + 4, 1);
        if (zeros[3] != 0 || zeros[4] != 0x11 || zeros[7] != 0x44 || zeros[8] != 0)
                return 0;

        pvio_outsb(LATCH, constant, sizeof constant);
        if (pvio_inb(LATCH) != 0x5a)
                return 0;

        records[0] = pvio_record_outw(0x6655, LATCH);
        records[1] = pvio_record_inl(LATCH);
        return pvio_batch(records, 2) == 2 && records[1].value == 0x44336655;
}

__attribute__((used)) void program(void)
{
        pvio_word dx = 0, cx = 0;

        switch (pvio_status(pvio_call(pvio_call_word(PVIO_CALL_PROBE, 0, 0), &dx, &cx))) {
        case PVIO_STATUS_UNANSWERED:
                leave(2);
                break;
        case PVIO_STATUS_DENIED:
                leave(3);
                break;
        default:
                if (!latch_works())
                        leave(1);
                switch (pvio_log_string(PVIO_LEVEL_INFO, "hello from a process")) {
                case PVIO_STATUS_OK:
                        leave(0);
                        break;
                case PVIO_STATUS_PAGE:
                        leave(4);
                        break;
                default:
                        leave(1);
                }
        }
}

__asm__(".globl _start\n"
        "_start: xor %ebp, %ebp\n"
        "        and $-16, %rsp\n"
        "        call program\n");
