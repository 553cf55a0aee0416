/*
 * calls-mailbox-reset32, calls-mailbox-reset64: resets the machine three times, by an instruction, through its
 * mailbox, and by a triple fault. Memory survives, but a mailbox that is left in it is not answered. Run QEMU without
 * -no-reboot.
 */
#include "lib/post.h"

#define KEY 0x726573657473206bull

/* State outside of variables, since a boot clears these. RAM is zero when the machine begins. */
static struct {
    struct small_box mailbox;
    u32 boots;
} *const state = (void *)0x8000;

static void reset(u32 boot) {
    static const struct {
        u16 limit;
        word base;
    } __attribute__((packed)) none;
    u32 value = 0;
    if (boot == 1)
        pvio_native_outb(6, 0xcf9);
    else if (boot == 2)
        post_by(&ring_0, BOX(&state->mailbox), pvio_call_word(PVIO_CALL_OUTB, 6, 0xcf9), &value);
    else
        __asm__ volatile("lidt %0; ud2" : : "m"(none));
    for (;;)
        __asm__ volatile("hlt");
}

void guest(void) {
    use_paging(pagings, 0);
    const u32 boot = ++state->boots;
    volatile struct small_box *const box = BOX(&state->mailbox);
    answered[PVIO_CALL_PROBE] += !(answer_in_real_mode & PVIO_UNANSWERED);
    if (boot > 1) {
        check_same(box->key, KEY);
        /* Just as it was left; the call that has reset the machine has been answered. */
        check_same(box->word, boot == 3 ? 0 : PVIO_VERSION);
        check_unanswered(box);
        post_in_vain(&ring_0, box, pvio_call_word(PVIO_CALL_RELEASE, 0, 0));
    }
    check_same(register_word(&ring_0, box, (word)box, REGISTER_WORD, KEY), PVIO_VERSION);
    check_heard(box);
    /* The reset discards the counts of these calls. */
    answered[PVIO_CALL_OUTB] += boot == 2;
    tell_answers();
    if (boot < 4)
        reset(boot);
    tell("boots", boot);
}
