/*
 * calls-mailbox-smp32, calls-mailbox-smp64: four CPUs, whose mailboxes are next to each other; each uses its own
 * latch, and one byte of a shared latch.
 */
#include "lib/apic.h"
#include "lib/post.h"

#define KEY    0x736d70206b657973ull
#define CPUS   4u
#define ROUNDS 20000u

#define OWN_LATCH(cpu) ((u16)(0x5010 + 0x10 * (cpu)))

static struct pvio_mailbox mailboxes[CPUS];
static volatile u32 go, done;

void other(u32 cpu) {
    struct pvio_mailbox *const mailbox = &mailboxes[cpu];
    const u16 own = OWN_LATCH(cpu), shared = (u16)(LATCH + cpu);
    u32 features_here;
    while (!go)
        __asm__ volatile("pause");
    check_same(pvio_mailbox_register(mailbox, KEY + cpu, &features_here), PVIO_STATUS_OK);
    for (u32 round = 0; round < ROUNDS; round++) {
        const u32 value = (round * CPUS + cpu) * 0x9e3779b1u;
        pvio_mailbox_outl(mailbox, value, own);
        pvio_mailbox_outb(mailbox, (u8)value, shared);
        check_same(pvio_mailbox_inl(mailbox, own), value);
        check_same(pvio_mailbox_inb(mailbox, shared), (u8)value);
        pvio_mailbox_outw(mailbox, (u16)(value >> 5), own);
        check_same(pvio_mailbox_inw(mailbox, own), (u16)(value >> 5));
    }
    check_same(pvio_mailbox_release(mailbox), PVIO_STATUS_OK);
    check_same(pvio_mailbox_release(mailbox), PVIO_STATUS_UNANSWERED);
    __asm__ volatile("lock incl %0" : "+m"(done) : : "cc");
}

void guest(void) {
    volatile u32 *const apic = use_paging_with_apic();
    start_others(apic, CPUS - 1);
    go = 1;
    other(0);
    while (done < CPUS)
        __asm__ volatile("pause");
    for (u32 cpu = 0; cpu < CPUS; cpu++) {
        const u32 value = ((ROUNDS - 1) * CPUS + cpu) * 0x9e3779b1u;
        check_same(in_32(OWN_LATCH(cpu)), (value & 0xffff0000) | (u16)(value >> 5));
        check_same(pvio_native_inb((u16)(LATCH + cpu)), (u8)value);
    }
    for (u32 call = PVIO_CALL_INB; call <= PVIO_CALL_OUTL; call++)
        answered[call] = CPUS * ROUNDS;
    answered[PVIO_CALL_REGISTER_LARGE] = answered[PVIO_CALL_RELEASE] = CPUS;
    answered[PVIO_CALL_PROBE] = !(answer_in_real_mode & PVIO_UNANSWERED);
    tell_answers();
    tell("rounds", ROUNDS);
}
