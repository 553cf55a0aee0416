/*
 * calls-compact32, calls-compact64: one call runs compact records of port I/O in memory; across pages, with missing
 * pages, and up to a wrong record. The guest prepares all records before each call, and checks all of them after it.
 */
#include "lib/records.h"

#define BATCH  pvio_call_word(PVIO_CALL_BATCH_COMPACT, 0, 0)
#define RECORD ((u32)sizeof(struct pvio_compact_record))
#define MOST   (5 * PAGE / RECORD)

static const struct caller *by;

/* The records, and their expected contents afterwards. */
static word first;
static struct pvio_compact_record expected[MOST];
static u32 count;

static struct pvio_compact_record *record_at(u32 index) {
    return (struct pvio_compact_record *)direct(first + index * RECORD);
}

static void begin_at(word address) {
    trial++;
    on_failure = 0;
    first = address;
    count = 0;
}

static void add(struct pvio_compact_record record) {
    check(count < MOST);
    expected[count] = record;
    *record_at(count++) = record;
}

/* One call for the records from `from` on; it must get to `to`. */
static u32 run(u32 from, u32 to) {
    word dx = first + from * RECORD, cx = count - from;
    save_tables();
    const u32 answer = call_by(by, BATCH, &dx, &cx);
    check(are_tables_saved());
    check_same(answer & PVIO_DATA_MASK, 0);
    check_same(dx, first + to * RECORD);
    check_same(cx, count - to);
    for (u32 i = 0; i < count; i++) {
        const struct pvio_compact_record *const is = record_at(i), *const must = &expected[i];
        check_same(is->call | (u32)is->reserved << 8 | (u32)is->port << 16, must->call | (u32)must->reserved << 8 | (u32)must->port << 16);
        check_same(is->value, must->value);
    }
    check_same(in_32(LEFT), STREAM_SIZE - taken);
    return answer >> PVIO_CALL_SHIFT;
}

/* ---- Values ---- */

/* Adds a record, and its expected result. */
static void add_value(u8 call, u16 port) {
    static u32 latch;
    const u32 width = width_of(call), low = width == 4 ? ~0u : (1u << 8 * width) - 1;
    /* The bits above the size of an element are nobody's. */
    u32 value = 0x99887766;
    if (!is_in(call) && port == STREAM)
        value = (value & ~low) | next_value(&given, width);
    else if (!is_in(call))
        value = 0x01020304u * (trial + count), latch = (latch & ~low) | (value & low);
    add(pvio_compact_record_(call, port, value));
    if (is_in(call))
        expected[count - 1].value = port == STREAM ? next_value(&taken, width) : latch & low;
}

static void settle_latch(void) {
    begin_at(window.begin + PAGE);
    add_value(PVIO_CALL_OUTL, LATCH);
    check_same(run(0, 1), PVIO_STATUS_OK);
}

/* Runs of like records, which the host may take for strings, and mixtures. */
static void values(void) {
    static const u8 runs[] = {1, 2, 1, 3, 40, 1, 1, 255, 7};
    settle_latch();
    begin_at(window.begin + PAGE - 3 * RECORD);
    for (u32 i = 0; count < 1900; i++) {
        const u8 call = (u8)(PVIO_CALL_INB + (i * 7 + trial) % 6);
        for (u32 n = runs[i % sizeof runs]; n; n--)
            add_value(call, i % 3 ? STREAM : LATCH);
    }
    check_same(run(0, count), PVIO_STATUS_OK);
}

/* ---- Pages of records ---- */

/* A batch of six pages' records, one page of which is not as it should be; likes and unlikes. */
static void missing_page(u32 page, enum fault fault, int alike) {
    settle_latch();
    begin_at(window.begin + PAGE + PAGE / 2);
    const u32 before = page ? (u32)(PAGE / 2 + (page - 1) * PAGE) / RECORD : 0;
    u32 value = 0;
    for (u32 i = 0; i < MOST; i++) {
        value = i * 0x01010101u + trial;
        add(pvio_compact_record_(alike ? PVIO_CALL_OUTB : (u8)(PVIO_CALL_OUTB + i % 3), LATCH, value));
    }
    const u32 latch = in_32(LATCH);
    spoil(window.begin + (page + 1) * PAGE, fault);
    check_same(run(0, before), PVIO_STATUS_PAGE);
    check_same(run(before, before), PVIO_STATUS_PAGE);
    if (!page)
        check_same(in_32(LATCH), latch);
    touch(by, first + before * RECORD, 1);
    check_same(run(before, count), PVIO_STATUS_OK);
    check_same(in_32(LATCH) & 0xff, value & 0xff);
    heal();
}

static void missing_pages(void) {
    static const u32 pages[] = {0, 1, 3, 5};
    for (u32 fault = 0; fault < (is_user(by) ? FAULTS : SUPERVISORS); fault++)
        for (u32 i = 0; i < 4; i++) {
            missing_page(pages[i], fault, 0);
            missing_page(pages[i], fault, 1);
        }
}

/* A call runs so many records and no more; they are in pages of one frame. */
static void too_many(void) {
    const u32 pages = PVIO_ELEMENTS_MAX * RECORD / PAGE + 1;
    struct pvio_compact_record *const record = (struct pvio_compact_record *)direct(window.middle);
    for (u32 i = 0; i < PAGE / RECORD; i++)
        record[i] = pvio_compact_outb((u8)i, LATCH);
    const u64 frame = get_entry(window.middle, 1) & ~(u64)(PAGE - 1);
    const word at = window.begin + 64 * PAGE;
    for (u32 page = 0; page < pages; page++)
        map(at + page * PAGE, frame, 1, U | W | A | D);
    flush();
    trial++;
    word dx = at, cx = PVIO_ELEMENTS_MAX + 7;
    check_same(call_by(by, BATCH, &dx, &cx), 0);
    check_same(cx, 7);
    check_same(dx, at + PVIO_ELEMENTS_MAX * RECORD);
    check_same(call_by(by, BATCH, &dx, &cx), 0);
    check_same(cx, 0);
    check_same(in_32(LATCH) & 0xff, 6);
}

/* ---- What is wrong ---- */

struct wrong {
    u8 call, reserved, status;
};

static void wrong_record(const struct wrong *wrong, u32 place, int alike) {
    begin_at(window.begin + 2 * PAGE - 4 * RECORD);
    for (u32 i = 0; i < 9; i++) {
        struct pvio_compact_record record = pvio_compact_record_(alike ? PVIO_CALL_OUTL : (u8)(PVIO_CALL_OUTB + i % 3), LATCH, i);
        if (i == place)
            record.call = wrong->call, record.reserved = wrong->reserved;
        add(record);
    }
    const u32 latch = in_32(LATCH);
    /* After others, the next call reports the error. */
    check_same(run(0, place), place ? PVIO_STATUS_OK : wrong->status);
    if (!place)
        check_same(in_32(LATCH), latch);
    check_same(run(place, place), wrong->status);
}

static void wrong_records(void) {
    static const struct wrong wrongs[] = {
        {PVIO_CALL_PROBE, 0, PVIO_STATUS_UNKNOWN},
        {PVIO_CALL_INSB, 0, PVIO_STATUS_UNKNOWN},
        {PVIO_CALL_OUTSL, 0, PVIO_STATUS_UNKNOWN},
        {PVIO_CALL_BATCH, 0, PVIO_STATUS_UNKNOWN},
        {PVIO_CALL_EXIT, 0, PVIO_STATUS_UNKNOWN},
        {PVIO_CALL_BATCH_COMPACT, 0, PVIO_STATUS_UNKNOWN},
        {0xff, 0xff, PVIO_STATUS_UNKNOWN},
        {0x80 | PVIO_CALL_OUTB, 0, PVIO_STATUS_UNKNOWN},
        {PVIO_CALL_OUTB, 1, PVIO_STATUS_ARGUMENT},
        {PVIO_CALL_OUTL, 0x80, PVIO_STATUS_ARGUMENT},
        {PVIO_CALL_INB, 0xff, PVIO_STATUS_ARGUMENT},
    };
    for (u32 i = 0; i < sizeof wrongs / sizeof *wrongs; i++)
        for (u32 place = 0; place < 9; place += 2) {
            wrong_record(&wrongs[i], place, 0);
            wrong_record(&wrongs[i], place, 1);
        }
}

static void trials(const struct caller *caller) {
    by = caller;
    for (u32 round = 0; round < 6; round++)
        values();
    if (paging->levels) {
        missing_pages();
        too_many();
    }
    wrong_records();
}

void guest(void) {
    from_each_ring(trials);
    tell("given", given);
    tell("taken", taken);
    tell("trials", trial);
}
