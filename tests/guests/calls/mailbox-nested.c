/*
 * calls-mailbox-nested64: a hypervisor with a mailbox, whose guest uses the doorbell and registers. Neither is
 * answered, and nothing changes.
 */
#include "lib/nested.h"
#include "lib/post.h"

#define KEY 0x6e65737465646b79ull

/* The first 16 bytes of large ones. */
static struct pvio_mailbox own_memory, guests_memory;
#define own    (*(struct small_box *)&own_memory)
#define guests (*(struct small_box *)&guests_memory)

static void run_in_vain(const u8 *instruction, u32 size, word address) {
    word dx = address, cx = 0x13572468;
    const u32 ax = pvio_call_word(PVIO_CALL_OUTB, 0x66, LATCH);
    trial++;
    check_same(run_nested(instruction, size, ax, &dx, &cx), ax);
    check(dx == address && cx == 0x13572468);
}

static void leave(volatile struct small_box *box, u32 word_) {
    box->word = word_;
    box->value = 0x87654321;
    box->key = KEY;
}

static void check_left(volatile struct small_box *box, u32 word_) {
    check_same(box->word, word_);
    check_same(box->value, 0x87654321);
    check_same(box->key, KEY);
}

static void all(void) {
    static const u8 ring[] = {PVIO_DOORBELL_32}, registering[] = {PVIO_REGISTER_MAILBOX_32};
    for (u8 call = PVIO_CALL_PROBE; call <= PVIO_CALL_FILE_FINISH; call++) {
        const u32 asked = pvio_call_word(call, 0, call && call <= PVIO_CALL_OUTSL ? LATCH : 0);
        leave(BOX(&own), asked);
        run_in_vain(ring, sizeof ring, (word)&own);
        check_left(BOX(&own), asked);
    }
    check_same(in_32(LATCH), 0x5a5a5a5a);
    for (u32 large = 0; large < 2; large++) {
        const u32 asked = large ? pvio_call_word(PVIO_CALL_REGISTER_LARGE, 0, 0) : REGISTER_WORD;
        leave(BOX(&guests), asked);
        run_in_vain(registering, sizeof registering, (word)&guests);
        check_left(BOX(&guests), asked);
    }
    leave(BOX(&guests), pvio_call_word(PVIO_CALL_OUTL, 0, LATCH));
    run_in_vain(ring, sizeof ring, (word)&guests);
    check_left(BOX(&guests), pvio_call_word(PVIO_CALL_OUTL, 0, LATCH));
    check_same(in_32(LATCH), 0x5a5a5a5a);
    /* The hypervisor is still answered. */
    check_heard(BOX(&own));
    check_unanswered(BOX(&guests));
}

void guest(void) {
    use_paging(pagings, 0);
    answered[PVIO_CALL_PROBE] += !(answer_in_real_mode & PVIO_UNANSWERED);
    pvio_native_outl(0x5a5a5a5a, LATCH);
    set_up_nested();
    check_same(register_word(&ring_0, BOX(&own), (word)&own, pvio_call_word(PVIO_CALL_REGISTER_LARGE, 0, 0), KEY), PVIO_VERSION);
    for (pages = 0; pages < 2; pages++)
        for (keeps_ports = 0; keeps_ports < 2; keeps_ports++)
            all();
    tell_answers();
}
