/*
 * Hypercalls from one page of code at two linear addresses: by registers, and by a mailbox. Each writes to the latch.
 */
#include "lib/harness.h"
#include "pvio.h"

#define STRING_(...) #__VA_ARGS__
#define BYTES(...) ".byte " STRING_(__VA_ARGS__)

__asm__(".text\n"
        "by_registers: " BYTES(PVIO_MAGIC_32) "; ret\n"
        "by_doorbell: " BYTES(PVIO_DOORBELL_32) "; ret\n"
        "registration: " BYTES(PVIO_REGISTER_MAILBOX_32) "; ret\n");
extern const u8 by_registers[], by_doorbell[], registration[];

/* The number of calls from the home address and from above ALIAS. */
enum { HOME = 3, ABOVE = 5 };

static volatile struct pvio_mailbox mailbox;

/* ALIAS, which the linker would not add to an address. */
static volatile u32 above;

static u32 call(u32 code, u32 eax, u32 edx) {
    __asm__ volatile("call *%2" : "+a"(eax), "+d"(edx) : "r"(code) : "ecx", "memory");
    return eax;
}

static u32 word(u32 round) {
    return PVIO_UNANSWERED | PVIO_CALL_OUTB << PVIO_CALL_SHIFT | round << PVIO_OPERAND_SHIFT | LATCH;
}

static u32 place(const u8 *code, u32 round) {
    return (u32)code + (round % 2 || round > 4 ? above : 0);
}

void guest(void) {
    above = ALIAS;
    tell("by registers", (u32)by_registers);
    tell("by doorbell", (u32)by_doorbell);
    u32 heard = 0;
    for (u32 round = 0; round < HOME + ABOVE; round++) {
        trial++;
        heard += pvio_status(call(place(by_registers, round), word(round), 0)) == PVIO_STATUS_OK;
    }
    check(heard == 0 || heard == HOME + ABOVE);
    tell("heard by registers", heard);
    for (u32 from = 0; from < 2; from++) {
        mailbox.key = 0x1f0e3dad99908345;
        mailbox.value = 0;
        mailbox.word = pvio_call_word(PVIO_CALL_REGISTER, 0, 0);
        call((u32)registration + from * above, 0, (u32)&mailbox);
    }
    int is_registered = pvio_status(mailbox.word) == PVIO_STATUS_OK;
    check(is_registered || pvio_status(mailbox.word) == PVIO_STATUS_DECLINED);
    for (u32 round = 0; is_registered && round < HOME + ABOVE; round++) {
        trial++;
        mailbox.word = word(round);
        call(place(by_doorbell, round), 0, 0);
        check(pvio_status(mailbox.word) == PVIO_STATUS_OK);
        check((get_latch() & 0xff) == round);
    }
    tell("heard by doorbell", is_registered ? HOME + ABOVE : 0);
}
