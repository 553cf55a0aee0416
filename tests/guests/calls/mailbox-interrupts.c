/*
 * calls-mailbox-interrupts32, calls-mailbox-interrupts64: calls through a mailbox, and interrupts whose handler
 * makes calls through the same one: by the timer, and then, by single steps, after each instruction.
 *
 * `before` counts the timer interrupts after a call was stored and before it was answered, `after` those after
 * it was answered and before the answer was read.
 */
#include "lib/apic.h"
#include "lib/post.h"

#define KEY   0x696e746572727570ull
#define OTHER 0x5010 /* a second latch, the handler's */

#define TICKS  3000u
#define STEPPED 100u /* rounds */

#define IDLE_WORD  0x00654321
#define IDLE_VALUE 0x10fedcba
#define IDLE_REST  0x0f1e2d3c4b5a6978ull

static struct pvio_mailbox mailbox;
static volatile u32 handled, before, after;
static volatile u32 *apic;

static void check_found(const struct pvio_mailbox *found) {
    const volatile struct pvio_mailbox *const box = &mailbox;
    check_same(box->word, found->word);
    check_same(box->value, found->value);
    check_same(box->address, found->address);
    check_same(box->count, found->count);
    check_same(box->site, found->site);
}

/* Writes two elements to a latch by one string, and reads three by another. */
static inline __attribute__((always_inline)) void strings(u32 value, u16 port) {
    u32 l[3] = {~value, value, 0};
    pvio_mailbox_outsl(&mailbox, port, l, 2);
    l[0] = l[1] = 0;
    pvio_mailbox_insl(&mailbox, port, l, 3);
    check(l[0] == value && l[1] == value && l[2] == value);
}

static void handle(const struct frame *frame) {
    const struct pvio_mailbox found = *(volatile struct pvio_mailbox *)&mailbox;
    const u32 word_found = found.word;
    const u32 value = ++handled * 0x9e3779b1u;
    if (word_found & PVIO_UNANSWERED)
        before++;
    else if (word_found != IDLE_WORD)
        after++;
    pvio_mailbox_outl(&mailbox, value, OTHER);
    check_same(pvio_mailbox_inl(&mailbox, OTHER), value);
    pvio_mailbox_outw(&mailbox, (u16)(value >> 3), OTHER + 2);
    check_same(pvio_mailbox_inw(&mailbox, OTHER + 2), (u16)(value >> 3));
    pvio_mailbox_outb(&mailbox, (u8)(value >> 5), OTHER + 1);
    check_same(pvio_mailbox_inb(&mailbox, OTHER + 1), (u8)(value >> 5));
    strings(value, OTHER);
    check_found(&found);
    if (frame->vector == VECTOR_TIMER)
        timer_done(apic);
}

/* The same for whom it interrupts. */
static inline __attribute__((always_inline)) void one_round(u32 round) {
    const u32 value = ~round * 0x85ebca6bu;
    pvio_mailbox_outl(&mailbox, value, LATCH);
    const u32 l = pvio_mailbox_inl(&mailbox, LATCH);
    pvio_mailbox_outw(&mailbox, (u16)(value >> 7), LATCH);
    const u16 w = pvio_mailbox_inw(&mailbox, LATCH);
    pvio_mailbox_outb(&mailbox, (u8)(value >> 11), LATCH + 3);
    const u8 b = pvio_mailbox_inb(&mailbox, LATCH + 3);
    strings(value, LATCH);
    check_same(l, value);
    check_same(w, (u16)(value >> 7));
    check_same(b, (u8)(value >> 11));
}

static void step(u32 round) {
#if BITS == 64
    __asm__ volatile("pushf; orl %0, (%%rsp); popf" : : "i"(FLAGS_TF) : "memory", "cc");
    one_round(round);
    __asm__ volatile("pushf; andl %0, (%%rsp); popf" : : "i"(~FLAGS_TF) : "memory", "cc");
#else
    __asm__ volatile("pushf; orl %0, (%%esp); popf" : : "i"(FLAGS_TF) : "memory", "cc");
    one_round(round);
    __asm__ volatile("pushf; andl %0, (%%esp); popf" : : "i"(~FLAGS_TF) : "memory", "cc");
#endif
}

void guest(void) {
    u32 rounds = 0, value = 0;
    apic = use_paging_with_apic();
    BOX(&mailbox)->word = IDLE_WORD;
    BOX(&mailbox)->value = IDLE_VALUE;
    mailbox.address = IDLE_REST;
    mailbox.count = ~IDLE_REST;
    mailbox.site = IDLE_REST + 1;
    const struct pvio_mailbox idle = mailbox;
    check_same(pvio_mailbox_register(&mailbox, KEY, &value), PVIO_STATUS_OK);
    on_interrupt = handle;

    timer_start(apic, 100000);
    __asm__ volatile("sti" : : : "memory");
    while (handled < TICKS)
        one_round(rounds++);
    __asm__ volatile("cli" : : : "memory");
    timer_stop(apic);
    tell("before", before);
    tell("after", after);

    before = after = 0;
    for (u32 i = 0; i < STEPPED; i++)
        step(rounds++);
    /* After the store of each word, and after each doorbell. */
    check(before >= 8 * STEPPED);
    check(after >= 8 * STEPPED);
    on_interrupt = 0;

    check_found(&idle);
    for (u32 call = PVIO_CALL_INB; call <= PVIO_CALL_OUTL; call++)
        answered[call] = rounds + handled;
    answered[PVIO_CALL_OUTSL] = answered[PVIO_CALL_INSL] = rounds + handled;
    answered[PVIO_CALL_REGISTER_LARGE] = 1;
    answered[PVIO_CALL_PROBE] = !(answer_in_real_mode & PVIO_UNANSWERED);
    tell_answers();
    tell("interrupts", handled);
    tell("rounds", rounds);
}
