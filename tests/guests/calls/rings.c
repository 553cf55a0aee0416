/*
 * calls-rings32, calls-rings64: every call once from every ring and mode. The test checks the answers, because it
 * knows which callers are permitted: there is a line for each caller, with the statuses in the order of the calls. If
 * the first call was denied, the caller also makes the calls that would change the counts or end the machine.
 *
 * Needs no devices. Ends by an `exit` of 33 if that is answered, otherwise as the other guests do.
 */
#include "lib/tables.h"
#include "../words.h"

#define NO_CALL 14

static const u8 calls[] = {
    PVIO_CALL_PROBE, PVIO_CALL_INB, PVIO_CALL_INW, PVIO_CALL_INL, PVIO_CALL_OUTB, PVIO_CALL_OUTW, PVIO_CALL_OUTL,
    PVIO_CALL_INSB, PVIO_CALL_INSW, PVIO_CALL_INSL, PVIO_CALL_OUTSB, PVIO_CALL_OUTSW, PVIO_CALL_OUTSL,
    PVIO_CALL_BATCH, PVIO_CALL_BATCH_COMPACT, NO_CALL, PVIO_CALL_LOG, PVIO_CALL_BEGIN, PVIO_CALL_END,
    PVIO_CALL_FILE_READ, PVIO_CALL_FILE_WRITE, PVIO_CALL_FILE_FINISH,
};
static const u8 dangerous[] = {PVIO_CALL_RESET, PVIO_CALL_DUMP, PVIO_CALL_EXIT};

static void show(u32 status) {
    put(' ');
    print_number(status);
}

static u32 make(const struct caller *by, u8 call) {
    const int has_port = call && call <= PVIO_CALL_OUTSL;
    const word at = (word)window.middle;
    word dx = at, cx = 2;
    if (call == PVIO_CALL_BATCH) {
        struct pvio_record *const record = (struct pvio_record *)direct(at);
        record[0] = record[1] = pvio_record_outb(1, LATCH);
    } else if (call == PVIO_CALL_BATCH_COMPACT) {
        struct pvio_compact_record *const record = (struct pvio_compact_record *)direct(at);
        record[0] = record[1] = pvio_compact_outb(1, LATCH);
    } else if (call >= PVIO_CALL_FILE_READ) {
        /* No bytes of a file that does not exist. */
        struct pvio_file *const file = (struct pvio_file *)direct(at);
        fill(direct(at), 0, sizeof *file);
        file->name = at + sizeof *file;
        file->name_len = 1;
        direct(at)[sizeof *file] = 'n';
    } else {
        direct(at)[0] = direct(at)[1] = 'w';
    }
    trial++;
    save_tables();
    const u32 asked = pvio_call_word(call, 0, has_port ? LATCH : 0);
    const u32 answer = call_by(by, asked, &dx, &cx);
    check(are_tables_saved());
    const u32 status = pvio_status(answer);
    if (status == PVIO_STATUS_UNANSWERED)
        check_same(answer, asked);
    else if (status != PVIO_STATUS_OK)
        check_same(answer & PVIO_DATA_MASK, 0);
    if (status != PVIO_STATUS_OK)
        check(dx == at && cx == 2);
    show(status);
    return status;
}

static void all_calls(const struct caller *by) {
    print(by->name);
    put(':');
    const u32 first = make(by, calls[0]);
    for (u32 i = 1; i < sizeof calls; i++)
        make(by, calls[i]);
    for (u32 i = 0; i < sizeof dangerous && first == PVIO_STATUS_DENIED; i++)
        make(by, dangerous[i]);
    put('\n');
}

void guest(void) {
    static const struct caller *const callers[] = {&ring_0, &ring_1, &ring_2, &ring_3, &ring_0_16, &ring_3_16,
#if BITS == 32
        &virtual_8086,
#else
        &ring_0_32, &ring_3_32,
#endif
        0};
    print("real mode:");
    show(pvio_status(answer_in_real_mode));
    put('\n');
    for (const struct paging *kind = pagings; *kind->name && kind->levels < 5; kind++) {
        use_paging(kind, 0);
        open_window_at(kind->levels ? 1 : 0, kind->levels ? 0xc0000000 : (word)kind->middle);
        for (const struct caller *const *by = callers; *by; by++)
            all_calls(*by);
    }
    pvio_exit(33);
}
