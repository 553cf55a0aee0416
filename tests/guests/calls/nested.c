/*
 * calls-nested64: a hypervisor whose guest makes hypercalls. Nested page tables translate the guest's addresses. No
 * call of the guest may reach the hypervisor's memory at the same address, or ports that the hypervisor
 * intercepts.
 */
#include "lib/nested.h"
#include "lib/strings.h"

static void mark(void) {
    for (u32 i = 0; i < PAGE; i++) {
        ((u8 *)(word)GUEST)[i] = 0x11;
        ((u8 *)(word)OWN)[i] = 0x22;
    }
}

/* Nobody but the hypervisor can say what the guest's address or port is: it is left to the instruction. */
static void decline(u8 call, u8 operand, u16 port, word address, word count) {
    word dx = address, cx = count;
    trial++;
    mark();
    *(struct pvio_record *)(word)GUEST = pvio_record_outl(1, LATCH);
    *(struct pvio_record *)(word)OWN = pvio_record_outl(2, LATCH);
    const struct pvio_record guests = *(struct pvio_record *)(word)GUEST;
    pvio_native_outl(0, LATCH);
    static const u8 magic[] = {PVIO_MAGIC_32};
    const u32 answer = run_nested(magic, sizeof magic, pvio_call_word(call, operand, port), &dx, &cx);
    check_same(answer, PVIO_STATUS_DECLINED << PVIO_CALL_SHIFT);
    check(dx == address && cx == count);
    check_same(in_32(LATCH), 0);
    check_same(in_32(LEFT), STREAM_SIZE - taken);
    check_same(((struct pvio_record *)(word)GUEST)->value, guests.value);
    check_same(((struct pvio_record *)(word)GUEST)->status, guests.status);
    for (u32 i = sizeof guests; i < PAGE; i++) {
        check_same(((u8 *)(word)GUEST)[i], 0x11);
        check_same(((u8 *)(word)OWN)[i], 0x22);
    }
}

static void calls(void) {
    decline(PVIO_CALL_PROBE, 0, 0, 0, 0);
    for (u8 call = PVIO_CALL_INB; call <= PVIO_CALL_OUTL; call++)
        decline(call, call == PVIO_CALL_OUTB ? 7 : 0, is_in(call) ? STREAM : LATCH, 7, 0);
    for (u8 call = PVIO_CALL_INSB; call <= PVIO_CALL_OUTSL; call++)
        decline(call, 0, is_in(call) ? STREAM : LATCH, GUEST + 0x20, 4);
    decline(PVIO_CALL_BATCH, 0, 0, GUEST, 1);
    decline(PVIO_CALL_BATCH_COMPACT, 0, 0, GUEST, 1);
    for (u8 call = PVIO_CALL_EXIT; call <= PVIO_CALL_DUMP; call++)
        decline(call, 0, 0, GUEST + 0x20, 4);
}

void guest(void) {
    use_paging(pagings, 0);
    open_window(1);
    set_up_nested();
    for (pages = 0; pages < 2; pages++)
        for (keeps_ports = 0; keeps_ports < 2; keeps_ports++)
            calls();
    /* The hypervisor's own calls are not its guest's. */
    struct string string = {.by = &ring_0, .port = STREAM, .address = window.middle - 5, .count = 7};
    for (string.call = PVIO_CALL_INSB; string.call <= PVIO_CALL_OUTSL; string.call++) {
        lay_out(&string);
        check_same(call_string(&string, string.count), PVIO_STATUS_OK);
    }
    tell("given", given);
    tell("declined", trial);
}
