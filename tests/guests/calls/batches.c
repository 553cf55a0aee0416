/*
 * calls-batches32, calls-batches64: one call runs records of port I/O in memory; across pages, with missing
 * pages, and up to a wrong record. The guest prepares all records before each call, and checks all of them
 * after it.
 */
#include "lib/records.h"

#define BATCH      pvio_call_word(PVIO_CALL_BATCH, 0, 0)
#define RECORD     ((u32)sizeof(struct pvio_record))
#define MOST       (5 * PAGE / RECORD)
#define TEXT       0x480000u /* for strings in records, in memory at its own address */
#define OTHER_TEXT 0x490000u

static const struct caller *by;

/* The records, and their expected contents afterwards. */
static word first;
static struct pvio_record expected[MOST];
static u32 count;

static struct pvio_record *record_at(u32 index) { return (struct pvio_record *)direct(first + index * RECORD); }

static void begin_at(word address) {
    trial++;
    on_failure = 0;
    first = address;
    count = 0;
}

static void add(struct pvio_record record) {
    check(count < MOST);
    expected[count] = record;
    *record_at(count++) = record;
}

static struct pvio_record string_record(u8 call, u16 port, word address, u32 elements) {
    return pvio_record_(call, port, elements, address);
}

/* Checks the contents afterwards. */
static void becomes(u32 index, u8 status, u32 value) {
    expected[index].status = status;
    expected[index].value = value;
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
        const struct pvio_record *const is = record_at(i), *const must = &expected[i];
        check_same(is->call | (u32)is->status << 8 | (u32)is->port << 16, must->call | (u32)must->status << 8 | (u32)must->port << 16);
        check_same(is->value, must->value);
        check_same(is->address, must->address);
    }
    check_same(in_32(LEFT), STREAM_SIZE - taken);
    return answer >> PVIO_CALL_SHIFT;
}

/* ---- Single values ---- */

/* Adds a record of single port I/O, and its expected result. */
static void add_scalar(u8 call, u16 port) {
    static u32 latch;
    const u32 width = width_of(call), low = width == 4 ? ~0u : (1u << 8 * width) - 1;
    /* Bits above the size of an element must not change. */
    u32 value = 0x99887766;
    if (!is_in(call) && port == STREAM)
        value = (value & ~low) | next_value(&given, width);
    else if (!is_in(call))
        value = 0x01020304u * (trial + count), latch = (latch & ~low) | (value & low);
    add(pvio_record_(call, port, value, 0));
    if (is_in(call))
        value = port == STREAM ? next_value(&taken, width) : latch & low;
    becomes(count - 1, PVIO_STATUS_OK, value);
}

static void settle_latch(void) {
    begin_at(window.begin + PAGE);
    add_scalar(PVIO_CALL_OUTL, LATCH);
    check_same(run(0, 1), PVIO_STATUS_OK);
}

/* Runs of like records, which the host may take for strings, and mixtures. */
static void scalars(void) {
    static const u8 runs[] = {1, 2, 1, 3, 40, 1, 1, 255, 7};
    settle_latch();
    begin_at(window.begin + PAGE - 3 * RECORD);
    for (u32 i = 0; count < 900; i++) {
        const u8 call = (u8)(PVIO_CALL_INB + (i * 7 + trial) % 6);
        for (u32 n = runs[i % sizeof runs]; n; n--)
            add_scalar(call, i % 3 ? STREAM : LATCH);
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
        /* Records that are not done yet do not change. */
        const u8 call = alike ? PVIO_CALL_OUTB : (u8)(PVIO_CALL_OUTB + i % 3);
        value = i * 0x01010101u + trial;
        add(pvio_record_(call, LATCH, value, 0));
        if (i < before)
            becomes(i, PVIO_STATUS_OK, value);
    }
    const word spoiled_page = window.begin + (page + 1) * PAGE;
    spoil(spoiled_page, fault);
    check_same(run(0, before), PVIO_STATUS_PAGE);
    check_same(run(before, before), PVIO_STATUS_PAGE);
    touch(by, first + before * RECORD, 1);
    for (u32 i = before; i < count; i++)
        becomes(i, PVIO_STATUS_OK, expected[i].value);
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

/* ---- Strings in records ---- */

/* Elements before the missing page are moved once, and the record keeps how many are left. */
static void string_over_missing_page(u8 call, u32 place, u32 records, enum fault fault) {
    const u32 width = width_of(call), elements = 9, before = 3 - (fault == NOT_PRESENT && width > 1);
    if (!is_in(call) && (fault == NOT_DIRTY || fault == READ_ONLY))
        return;
    settle_latch();
    /* In the first pages; the records follow. */
    const word border = window.begin + 2 * PAGE, text = border - 3 * width + (fault == NOT_PRESENT && width > 1);
    begin_at(window.begin + 5 * PAGE - 2 * RECORD);
    const u32 placed_in = taken, placed_out = given;
    for (u32 i = 0; i < elements * width; i++)
        *direct(text + i) = is_in(call) ? 0xa5 : sequence(placed_out + i);
    for (u32 i = 0; i < records; i++)
        add(i == place ? string_record(call, STREAM, text, elements) : pvio_record_(PVIO_CALL_OUTL, LATCH, i, 0));
    for (u32 i = 0; i < place; i++)
        becomes(i, PVIO_STATUS_OK, i);
    *(is_in(call) ? &taken : &given) += before * width;
    becomes(place, PVIO_STATUS_PAGE, elements - before);
    expected[place].address = text + before * width;
    spoil(border, fault);
    check_same(run(0, place), PVIO_STATUS_PAGE);
    check_same(run(place, place), PVIO_STATUS_PAGE);
    for (u32 i = before * width; i < elements * width && is_in(call); i++)
        check_same(*direct(text + i), 0xa5);

    touch(by, border, is_in(call));
    *(is_in(call) ? &taken : &given) += (elements - before) * width;
    becomes(place, PVIO_STATUS_OK, 0);
    expected[place].address = text + elements * width;
    for (u32 i = place + 1; i < records; i++)
        becomes(i, PVIO_STATUS_OK, i);
    check_same(run(place, records), PVIO_STATUS_OK);
    for (u32 i = 0; i < elements * width && is_in(call); i++)
        check_same(*direct(text + i), sequence(placed_in + i));
    heal();
}

static void strings_over_missing_pages(void) {
    for (u8 call = PVIO_CALL_INSB; call <= PVIO_CALL_OUTSL; call++)
        for (u32 fault = 0; fault < (is_user(by) ? FAULTS : SUPERVISORS); fault++)
            for (u32 place = 0; place < 4; place++)
                string_over_missing_page(call, place, 4, fault);
}

/* A call moves so much and no more, a record and an element being one each; the record keeps the rest. */
static void too_many_elements(void) {
    begin_at(window.begin + PAGE - 2 * RECORD);
    const u32 elements = PVIO_ELEMENTS_MAX - 10;
    for (u32 i = 0; i < 4; i++)
        add(i % 2 ? string_record(PVIO_CALL_OUTSB, LATCH, TEXT, elements) : pvio_record_(PVIO_CALL_OUTL, LATCH, i, 0));
    /* The first three records, with the elements of the second, are all but 7 of what there may be. */
    becomes(0, PVIO_STATUS_OK, 0);
    becomes(1, PVIO_STATUS_OK, 0);
    expected[1].address += elements;
    becomes(2, PVIO_STATUS_OK, 2);
    becomes(3, PVIO_RECORD_PENDING, elements - 6);
    expected[3].address += 6;
    check_same(run(0, 3), PVIO_STATUS_OK);
    becomes(3, PVIO_STATUS_OK, 0);
    expected[3].address += elements - 6;
    check_same(run(3, 4), PVIO_STATUS_OK);
}

/* ---- What is wrong ---- */

struct wrong {
    u8 call;
    u32 value;
    u64 address;
    u8 status;
};

static void wrong_record(const struct wrong *wrong, u32 place, int alike) {
    begin_at(window.begin + 2 * PAGE - 4 * RECORD);
    for (u32 i = 0; i < 9; i++) {
        const u8 call = alike ? PVIO_CALL_OUTL : (u8)(PVIO_CALL_OUTB + i % 3);
        add(i == place ? pvio_record_(wrong->call, LATCH, wrong->value, wrong->address) : pvio_record_(call, LATCH, i, 0));
        if (i < place)
            becomes(i, PVIO_STATUS_OK, i);
    }
    becomes(place, wrong->status, wrong->value);
    const u32 latch = in_32(LATCH);
    /* Behind others, an error is said by the next call. */
    check_same(run(0, place), place && wrong->status != PVIO_STATUS_PAGE ? PVIO_STATUS_OK : wrong->status);
    if (!place)
        check_same(in_32(LATCH), latch);
    check_same(run(place, place), wrong->status);
}

static void wrong_records(void) {
    const struct wrong wrongs[] = {
        {PVIO_CALL_PROBE, 0, 0, PVIO_STATUS_UNKNOWN},
        {PVIO_CALL_BATCH, 1, 0, PVIO_STATUS_UNKNOWN},
        {PVIO_CALL_EXIT, 1, 0, PVIO_STATUS_UNKNOWN},
        {PVIO_CALL_LOG, 1, TEXT, PVIO_STATUS_UNKNOWN},
        {0xff, 1, 0, PVIO_STATUS_UNKNOWN},
        {0x80 | PVIO_CALL_OUTB, 1, 0, PVIO_STATUS_UNKNOWN},
        {PVIO_CALL_INB, 7, 1, PVIO_STATUS_ARGUMENT},
        {PVIO_CALL_OUTL, 7, 1ull << 63, PVIO_STATUS_ARGUMENT},
        {PVIO_CALL_INSB, 1, 0xf0000, is_user(by) && paging->levels ? PVIO_STATUS_PAGE : PVIO_STATUS_ADDRESS},
        {PVIO_CALL_OUTSL, 2, ~0ull - 3, PVIO_STATUS_ADDRESS},
        {PVIO_CALL_OUTSW, ~0u, 0xfffff000, BITS == 32 ? PVIO_STATUS_ADDRESS : PVIO_STATUS_PAGE},
        {PVIO_CALL_INSB, 1, 1ull << 63, PVIO_STATUS_ADDRESS},
        {PVIO_CALL_OUTSB, 1, BITS == 32 ? 1ull << 32 : 1ull << 62, PVIO_STATUS_ADDRESS},
    };
    for (u32 i = 0; i < sizeof wrongs / sizeof *wrongs; i++)
        for (u32 place = 0; place < 9; place += 2) {
            wrong_record(&wrongs[i], place, 0);
            wrong_record(&wrongs[i], place, 1);
        }
}

/* A string of no elements is done, wherever it is. */
static void empty_strings(void) {
    begin_at(window.begin + PAGE);
    for (u8 call = PVIO_CALL_INSB; call <= PVIO_CALL_OUTSL; call++) {
        add(string_record(call, STREAM, ~(word)0, 0));
        becomes(count - 1, PVIO_STATUS_OK, 0);
    }
    check_same(run(0, count), PVIO_STATUS_OK);
}

/* ---- Strings that go over records ---- */

/* An earlier record may read a later one from a device. */
static void records_that_write_records(void) {
    begin_at(window.begin + PAGE);
    const u32 before = taken;
    add(string_record(PVIO_CALL_INSB, STREAM, first + 4 * RECORD + 4, 4));
    taken += 4;
    for (u32 i = 1; i < 5; i++) {
        add(pvio_record_(i % 2 ? PVIO_CALL_OUTB : PVIO_CALL_OUTL, LATCH, 1, 0));
        becomes(i, PVIO_STATUS_OK, 1);
    }
    becomes(0, PVIO_STATUS_OK, 0);
    expected[0].address += 4;
    u32 place = before;
    becomes(4, PVIO_STATUS_OK, next_value(&place, 4));
    check_same(run(0, 5), PVIO_STATUS_OK);
    check_same(in_32(LATCH), expected[4].value);
    /* The record itself has its result and none of the string's bytes. */
    begin_at(window.begin + PAGE);
    add(string_record(PVIO_CALL_INSB, LATCH, first, RECORD));
    becomes(0, PVIO_STATUS_OK, 0);
    expected[0].address += RECORD;
    check_same(run(0, 1), PVIO_STATUS_OK);
}

static void trials(const struct caller *caller) {
    by = caller;
    for (u32 round = 0; round < 6; round++)
        scalars();
    if (paging->levels) {
        missing_pages();
        strings_over_missing_pages();
    }
    if (!is_user(by))
        too_many_elements();
    wrong_records();
    empty_strings();
    records_that_write_records();
}

void guest(void) {
    from_each_ring(trials);
    tell("given", given);
    tell("taken", taken);
    tell("trials", trial);
}
