/*
 * calls-mailbox-saved32, calls-mailbox-saved64: uses the doorbell until no host answers, that is, until the machine has
 * been restored from a snapshot or migrated; then it registers again. It reads pc-testdev's latch, and reports each
 * change of the value.
 */
#include "lib/post.h"

#define KEY        0x736e617073686f74ull
#define TEST_LATCH 0xe8 /* a byte */

static struct pvio_mailbox mailbox;

void guest(void) {
    volatile struct small_box *const box = BOX(&mailbox);
    const u32 call = pvio_call_word(PVIO_CALL_INB, 0, TEST_LATCH);
    u32 last = ~0u, features_here;
    use_paging(pagings, 0);
    check_same(pvio_mailbox_register(&mailbox, KEY, &features_here), PVIO_STATUS_OK);
    for (;;) {
        const u32 answer = pvio_mailbox_call_(&mailbox, call, &features_here, 0, 0);
        if (answer == call)
            break;
        check_same(pvio_status(answer), PVIO_STATUS_OK);
        if (answer != last)
            tell("heard", answer);
        last = answer;
    }
    tell("unheard after", last);
    /* The functions do what they did. */
    pvio_mailbox_outsb(&mailbox, TEST_LATCH, "\x5a\xa5", 2);
    check_same(pvio_native_inb(TEST_LATCH), 0xa5);
    check_same(pvio_mailbox_inb(&mailbox, TEST_LATCH), 0xa5);
    check_unanswered(box);
    check_same(pvio_mailbox_register(&mailbox, KEY, &features_here), PVIO_STATUS_OK);
    check_heard(box);
    pvio_mailbox_outsb(&mailbox, TEST_LATCH, "\xa5\x5a", 2);
    check_same(pvio_native_inb(TEST_LATCH), 0x5a);
}
