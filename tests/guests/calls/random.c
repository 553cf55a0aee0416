/*
 * calls-random32, calls-random64: random calls from every ring and mode. Each is answered and counted, and does
 * exactly what it asks for: see `check_memory`.
 *
 * The stream's input begins with three numbers of 32 bits: the seed, the number of calls, and a choice of further
 * actions:
 */
#define WILD       1u /* batches in ring 3 whose records may overlap with each other and with their buffers */
#define SECOND_CPU 2u /* another CPU that rewrites records meanwhile */
#define MOVING     4u /* another CPU that changes page tables meanwhile, in place of that */

#include "lib/strings.h"
#include "../words.h"
#include "random/choice.h"

#define MARK 0xa5

/* Pages after the window, which nothing may write. DEVICE is the I/O APIC's. */
enum odd { DEVICE, NOTHING, ROM, APIC, ABSENT, READ_ONLY, NOT_ACCESSED, NOT_DIRTY, SUPERVISORS, ODD };
#define ODD_BEGIN  (window.begin + 64 * PAGE)
#define ODD_FRAMES 0x440000u
/* Pages whose entries change all the time: each has a frame, and another frame that nothing may write. */
#define MOVING_BEGIN  (ODD_BEGIN + 2 * ODD * PAGE)
#define MOVING_FRAMES 0x460000u
#define LOCAL_APIC 0xe0000000 /* linear, for the guest itself */

static u32 choice;

/* The counts of the window, and the calls made since the last reset. */
static u8 shadow[8 * PAGE];
static u32 made[128], records_made[128], wrong_records;

static const struct caller *const callers[] = {
    &ring_0, &ring_3, &ring_0_16, &ring_3_16, &ring_1,
#if BITS == 32
    &virtual_8086,
#else
    &ring_0_32, &ring_3_32,
#endif
};

/* The call that is made. */
static struct {
    const struct caller *by;
    u8 call;
    u32 word, answer;
    word dx, cx; /* as far as the caller's mode has them */
    word new_dx, new_cx;
    int is_wild;
} c;

static int is_string(u8 call) { return call >= PVIO_CALL_INSB && call <= PVIO_CALL_OUTSL; }
static word narrow(word value) { return c.by->bits == 64 ? value : (u32)value; }

static void tell_call(void) {
    print(c.by->name);
    print(", word 0x");
    print_hex(c.word);
    print(" with 0x");
    print_hex(c.dx);
    print(" and 0x");
    print_hex(c.cx);
    print(", answer 0x");
    print_hex(c.answer);
    put('\n');
}

/* ---- Memory ---- */

/* Unused frames lie between the frames of the window. */
#define GUARDS 0x401000u

static void map_odd_pages(void) {
    static const u64 places[ODD] = {[DEVICE] = 0xfec00000, [NOTHING] = 0xd0000000, [ROM] = 0xf0000, [APIC] = 0xfee00000};
    for (u32 page = 0; page < ODD; page++) {
        const u64 frame = places[page] ? places[page] : ODD_FRAMES + page * PAGE;
        u32 bits = W | U | A | D;
        bits &= page == READ_ONLY ? ~W : page == NOT_ACCESSED ? ~A : page == NOT_DIRTY ? ~D : page == SUPERVISORS ? ~(U | W) : ~0u;
        map(ODD_BEGIN + page * PAGE, frame, 1, bits);
        if (page == ABSENT)
            set_entry(ODD_BEGIN + page * PAGE, 1, frame | bits);
        if (!places[page])
            fill((void *)(word)frame, MARK, PAGE);
    }
    flush();
}

/* ---- Random addresses ---- */

/* In the window, often at the end of a page. */
static word in_window(u32 first_page, u32 pages) {
    const word page = window.begin + (first_page + random(pages)) * PAGE;
    return random(3) ? page + random(PAGE) : page + PAGE - 1 - random(20);
}

static word random_address(void) {
    const word top = (word)1 << (BITS - 1);
    switch (random(12)) {
    case 0: return ODD_BEGIN + random(ODD) * PAGE + random(PAGE);
    case 1: return ODD_BEGIN + random(ODD + 1) * PAGE - 1 - random(20);
    case 2: return 0xf0000 + random(0x10000);
    case 3: return random_word();
    case 4: return (word)0 - 1 - random(40);
    case 5: return BITS == 64 ? ((word)1 << (random(2) ? 47 : 56)) - 20 + random(40) : top + random(40) - 20;
    case 6: return window.begin - 1 - random(20); /* in a page that is absent */
    case 7: return random(0x2000000); /* the guest itself; for ring 3 that is none of its business */
    default: return in_window(0, 8);
    }
}

/* True if ring 0 must not write there: it would overwrite this guest. */
static int is_guests_own(word address) {
    const word at = narrow(address);
    return at < (BITS == 64 ? 0x80000000u : 0x2000000u) && !(at >= 0xf0000 && at < 0xff000);
}

static int is_supervisor(void) { return !is_user(c.by); }

static word address_for(u8 call) {
    word address;
    do
        address = random_address();
    while (is_supervisor() && is_in(call) && is_guests_own(address));
    return address;
}

/* ---- Records ---- */

#define RECORD   ((u32)sizeof(struct pvio_record))
#define UNTOUCHED 0x55

static struct pvio_record before[64];
static u32 records;

/* Or elsewhere, where a string does not come to the records, nor to the guest itself. */
static int is_behind_records(word address) {
    const word end = window.begin + 4 * PAGE;
    return !is_guests_own(address) && (address >= end || address < window.begin - PAGE) && address + 8 >= 8;
}

static struct pvio_record random_record(void) {
    const u8 call = random(20) ? (u8)(1 + random(12)) : (u8)random(256);
    struct pvio_record record = pvio_record_(call, random_port(4), random_word() & 0xffffffff, 0);
    record.status = UNTOUCHED;
    if (is_string(call) || !random(30)) {
        record.value = (u32)random_length();
        /* Behind the records, unless they may overlap. */
        do
            record.address = choice & MOVING && c.is_wild && random(2) ? MOVING_BEGIN + random(4 * PAGE)
                : random(2) ? in_window(c.is_wild ? 0 : 4, c.is_wild ? 8 : 4) : random_address();
        while (!c.is_wild && !is_behind_records((word)record.address));
    }
    return record;
}

static void random_batch(void) {
    records = 1 + random(64);
    c.dx = (window.begin + random(4 * PAGE - 64 * RECORD)) & ~(word)15;
    if (!random(4)) /* from one page into the next */
        c.dx = window.begin + PAGE * (1 + random(3)) - RECORD * (1 + random(8));
    const struct pvio_record same = random_record();
    for (u32 i = 0; i < records; i++)
        *(struct pvio_record *)direct(c.dx + i * RECORD) = before[i] = random(3) ? random_record() : same;
    c.cx = c.is_wild ? random_length() : random(records + 1);
    if (!random(20))
        c.dx += 1 + random(15);
    if (!random(20)) {
        records = 0;
        c.dx = ODD_BEGIN + random(ODD) * PAGE, c.cx = random_length();
    }
}

/* ---- Compact records ---- */

#define COMPACT ((u32)sizeof(struct pvio_compact_record))

static struct pvio_compact_record before_compact[64];

static struct pvio_compact_record random_compact_record(void) {
    const u8 call = random(40) ? (u8)(1 + random(6)) : (u8)random(256);
    struct pvio_compact_record record = pvio_compact_record_(call, random_port(4), (u32)random_word());
    record.reserved = random(60) ? 0 : (u8)random(256);
    return record;
}

static void random_compact_batch(void) {
    records = 1 + random(64);
    c.dx = (window.begin + random(4 * PAGE - 64 * COMPACT)) & ~(word)7;
    if (!random(4)) /* from one page into the next */
        c.dx = window.begin + PAGE * (1 + random(3)) - COMPACT * (1 + random(8));
    struct pvio_compact_record record = random_compact_record();
    for (u32 i = 0; i < records; i++) {
        if (random(3))
            record = random_compact_record();
        else
            record.value = (u32)random_word();
        *(struct pvio_compact_record *)direct(c.dx + i * COMPACT) = before_compact[i] = record;
    }
    c.cx = random(records + 1);
    if (!random(20))
        c.dx += 1 + random(7);
    if (!random(20)) {
        records = 0;
        c.dx = ODD_BEGIN + random(ODD) * PAGE, c.cx = random_length();
    }
}

/* ---- Calls ---- */

/* One of few names: each window takes memory of QEMU. */
static void text_at(word address, u32 size) {
    const u8 letter = (u8)('a' + random(4));
    for (u32 i = 0; i < size; i++)
        *direct(address + i) = letter;
}

static u8 random_call(void) {
    switch (random(17)) {
    case 16: return PVIO_CALL_BATCH_COMPACT;
    case 0: return (u8)random(128);
    case 1: return (u8)(PVIO_CALL_LOG + random(3));
    case 2: return random(20) ? PVIO_CALL_PROBE : random(8) ? PVIO_CALL_RESET : PVIO_CALL_DUMP;
    case 3: case 4: case 5: return PVIO_CALL_BATCH;
    default: return (u8)(1 + random(12));
    }
}

static void choose(void) {
    do
        c.by = callers[random(sizeof callers / sizeof *callers)];
    while (!can_call(c.by));
    c.is_wild = 0;
    records = 0;
    do
        c.call = random_call();
    while (c.call == PVIO_CALL_EXIT);
    const int has_port = c.call >= PVIO_CALL_INB && c.call <= PVIO_CALL_OUTSL;
    const u16 port = has_port || !random(50) ? random_port(4) : 0;
    u8 operand = c.call == PVIO_CALL_OUTB || !random(40) ? (u8)random_word() : 0;
    c.dx = random_word(), c.cx = random_length();
    if (is_string(c.call)) {
        c.dx = address_for(c.call);
    } else if (c.call == PVIO_CALL_BATCH) {
        /* If another CPU changed the records of ring 0, this guest would end. */
        if (choice & SECOND_CPU && is_supervisor())
            c.by = &ring_3;
        c.is_wild = (choice & (WILD | SECOND_CPU)) && is_user(c.by);
        random_batch();
    } else if (c.call == PVIO_CALL_BATCH_COMPACT) {
        if (choice & SECOND_CPU && is_supervisor())
            c.by = &ring_3;
        random_compact_batch();
    } else if (c.call >= PVIO_CALL_LOG && c.call <= PVIO_CALL_END) {
        c.dx = random_address();
        c.cx = random(3) ? 16 + random(80) : random_length();
        if (c.call == PVIO_CALL_LOG && random(3))
            operand = (u8)random(5);
        if (random(2)) {
            c.dx = in_window(0, 7), c.cx = c.call == PVIO_CALL_LOG ? random(100) : random(4);
            text_at(c.dx, (u32)c.cx);
        }
    }
    c.word = pvio_call_word(c.call, operand, port);
    if (!random(100))
        c.word &= ~PVIO_UNANSWERED; /* no call at all */
}

/* ---- What came of it ---- */

/* The pieces of memory that may have been written, by linear address. */
static struct {
    word from, size;
} written[2 * 64 + 1];
static u32 pieces;

static void may_write(word from, word size) {
    written[pieces].from = from;
    written[pieces++].size = size;
}

static int is_written(word linear) {
    for (u32 i = 0; i < pieces; i++)
        if (linear - written[i].from < written[i].size)
            return 1;
    return 0;
}

static void check_string(void) {
    const u32 width = width_of(c.call);
    const word moved = narrow(c.cx - c.new_cx);
    check(moved <= PVIO_ELEMENTS_MAX && moved <= c.cx);
    check_same(c.new_dx, narrow(c.dx + moved * width));
    if (is_in(c.call))
        may_write(c.dx, moved * width);
}

static void count_record(u8 call, u8 status) {
    if (status == PVIO_STATUS_UNKNOWN)
        wrong_records++;
    else
        records_made[call]++;
}

static void check_batch(u32 status) {
    const word done = (c.cx - c.new_cx);
    check_same(narrow(c.new_dx), narrow(c.dx + done * RECORD));
    check(narrow(done) <= PVIO_ELEMENTS_MAX && narrow(done) <= c.cx);
    if (!records) {
        check_same(narrow(done), 0);
        check(status != PVIO_STATUS_UNKNOWN); /* no record was read there */
    }
    if (c.is_wild)
        return;
    for (u32 i = 0; i < records && i <= done && !(c.dx & 15); i++) {
        const struct pvio_record *const was = &before[i], *const is = (struct pvio_record *)direct(c.dx + i * RECORD);
        if (is->status == UNTOUCHED) {
            check(i == done);
            continue;
        }
        check_same(is->call | (u32)is->port << 8, was->call | (u32)was->port << 8);
        check(i == done ? is->status && (is->status <= PVIO_STATUS_FAILED || is->status == PVIO_RECORD_PENDING) : !is->status);
        may_write(c.dx + i * RECORD, RECORD);
        count_record(is->call, is->status);
        if (is_string(is->call)) {
            check_same(is->address - was->address, (was->value - is->value) * (u64)width_of(is->call));
            if (is_in(is->call))
                may_write((word)was->address, (word)(is->address - was->address));
        }
        if (i == done && status != PVIO_STATUS_OK)
            check_same(is->status, status);
    }
}

static void check_compact_batch(u32 status) {
    const word done = (c.cx - c.new_cx);
    check_same(narrow(c.new_dx), narrow(c.dx + done * COMPACT));
    check(narrow(done) <= PVIO_ELEMENTS_MAX && narrow(done) <= c.cx);
    if (!records) {
        check_same(narrow(done), 0);
        check(status != PVIO_STATUS_UNKNOWN); /* no record was read there */
    }
    if (choice & SECOND_CPU)
        return;
    for (u32 i = 0; i < records && i < done; i++) {
        const struct pvio_compact_record *const was = &before_compact[i];
        const struct pvio_compact_record *const is = (struct pvio_compact_record *)direct(c.dx + i * COMPACT);
        check_same(is->call | (u32)is->port << 8, was->call | (u32)was->port << 8);
        check(is->call >= PVIO_CALL_INB && is->call <= PVIO_CALL_OUTL && !is->reserved && !was->reserved);
        if (is_in(is->call)) {
            may_write(c.dx + i * COMPACT + 4, 4);
            check(is->call == PVIO_CALL_INL || is->value >> 8 * width_of(is->call) == 0);
        } else {
            check_same(is->value, was->value);
        }
        count_record(is->call, PVIO_STATUS_OK);
    }
    /* The record that failed, also if the call does not say so yet. */
    const int has_run = c.word == pvio_call_word(PVIO_CALL_BATCH_COMPACT, 0, 0);
    const int is_wrong = status == PVIO_STATUS_UNKNOWN || status == PVIO_STATUS_ARGUMENT || status == PVIO_STATUS_DECLINED;
    if (has_run && records && done < c.cx && done < records && (is_wrong || (status == PVIO_STATUS_OK && done))) {
        const u8 call = before_compact[done].call;
        count_record(call, call >= PVIO_CALL_INB && call <= PVIO_CALL_OUTL ? PVIO_STATUS_OK : PVIO_STATUS_UNKNOWN);
    }
}

static void check_marks(u32 frame) {
    const volatile u64 *const bytes = (volatile u64 *)(word)frame;
    for (u32 i = 0; i < PAGE / 8; i++)
        check_same(bytes[i], MARK * 0x0101010101010101ull);
}

/*
 * Page tables are what they were; so are frames between those of the window, and those that are mapped but must
 * not be written. Nobody else writes there: what one call has done wrong is still there some calls later.
 */
static void check_frames(void) {
    check(choice & MOVING || are_tables_saved());
    for (u32 page = 0; page < 4 && choice & MOVING; page++)
        check_marks(MOVING_FRAMES + (2 * page + 1) * PAGE);
    for (u32 page = 0; page < 8; page++)
        check_marks(GUARDS + 2 * PAGE * page);
    for (u32 page = ABSENT; page < ODD; page++)
        check_marks(ODD_FRAMES + page * PAGE);
}

/* In the window nothing has changed but what the call had business with. */
static void check_memory(void) {
    if (!(trial & 31))
        check_frames();
    if (c.is_wild || choice & SECOND_CPU)
        return;
    for (u32 page = 0; page < 8; page++) {
        const u64 *const is = (const u64 *)(word)window.frames[page], *const was = (const u64 *)shadow + page * PAGE / 8;
        for (u32 i = 0; i < PAGE / 8; i++)
            for (u32 byte = 0; is[i] != was[i] && byte < 8; byte++)
                if (is[i] >> 8 * byte << 56 != was[i] >> 8 * byte << 56)
                    check(is_written(window.begin + page * PAGE + 8 * i + byte));
    }
}

static void remember_memory(void) {
    for (u32 page = 0; page < 8 && !c.is_wild && !(choice & SECOND_CPU); page++) {
        const u64 *const is = (const u64 *)(word)window.frames[page];
        u64 *const was = (u64 *)shadow + page * PAGE / 8;
        for (u32 i = 0; i < PAGE / 8; i++)
            was[i] = is[i];
    }
}

static void one(void) {
    trial++;
    choose();
    c.dx = narrow(c.dx), c.cx = narrow(c.cx);
    remember_memory();
    word dx = c.dx, cx = c.cx;
    c.answer = call_by(c.by, c.word, &dx, &cx);
    c.new_dx = narrow(dx), c.new_cx = narrow(cx);

    pieces = 0;
    if (!(c.word & PVIO_UNANSWERED)) {
        check(c.answer == c.word && c.new_dx == c.dx && c.new_cx == c.cx);
        check_memory();
        return;
    }
    const u32 status = c.answer >> PVIO_CALL_SHIFT;
    check(status <= PVIO_STATUS_FAILED);
    if (is_string(c.call))
        check_string();
    else if (c.call == PVIO_CALL_BATCH)
        check_batch(status);
    else if (c.call == PVIO_CALL_BATCH_COMPACT)
        check_compact_batch(status);
    else if (c.call != PVIO_CALL_INL && c.call != PVIO_CALL_PROBE)
        check_same(c.new_dx, c.dx);
    if (status != PVIO_STATUS_OK)
        check_same(c.answer & PVIO_DATA_MASK, 0);
    if (status > PVIO_STATUS_PAGE)
        check(c.new_dx == c.dx && c.new_cx == c.cx);
    check_memory();

    if (c.call == PVIO_CALL_RESET && status == PVIO_STATUS_OK) {
        fill(made, 0, sizeof made);
        fill(records_made, 0, sizeof records_made);
        wrong_records = 0;
    } else {
        made[c.call]++;
    }
}

static void rewrite_records(void) {
    c.by = &ring_3, c.is_wild = 1;
    for (u32 i = 0; i < 256; i++)
        rewritten_from[i] = random_record();
    for (u32 i = 0; i < 4; i++)
        rewritten_frames[i] = (u32)window.frames[i];
    map(LOCAL_APIC, 0xfee00000, 1, W | A | D);
    flush();
    start_rewriting((volatile u32 *)(word)LOCAL_APIC);
}

/* Four pages are writable now, and now absent, another frame's read-only or supervisors' page, or a device's. */
static void move_pages(void) {
    static const u32 others[4] = {0, P | U | A | D, P | W | A | D, 0xfec00000 | P | W | U | A | D};
    for (u32 page = 0; page < 4; page++) {
        const word at = MOVING_BEGIN + page * PAGE;
        const u32 frame = MOVING_FRAMES + 2 * page * PAGE;
        map(at, frame, 1, W | U | A | D);
        fill((void *)(word)(frame + PAGE), MARK, PAGE);
        moving_to[2 * page] = (u32)get_entry(at, 1);
        moving_to[2 * page + 1] = page == 1 || page == 2 ? (frame + PAGE) | others[page] : others[page];
        moving_at[page] = (u32)entry_address(at, 1);
    }
}

void guest(void) {
    seed_random(in_32(STREAM));
    const u32 calls = in_32(STREAM);
    choice = in_32(STREAM);
    use_paging(pagings + (BITS == 32 ? 1 + random(3) : random(2)), 0);
    open_window_at(1, 0xc0000000);
    set_write_protection(1);
    for (u32 page = 0; page < 8; page++)
        fill((void *)(word)(GUARDS + 2 * PAGE * page), MARK, PAGE);
    map_odd_pages();
    if (choice & MOVING)
        move_pages();
    if (choice & SECOND_CPU)
        rewrite_records();
    on_failure = tell_call;
    save_tables();
    for (u32 i = 0; i < calls; i++) {
        one();
        if (i == calls / 4)
            print("warm\n");
    }
    check_frames();
    for (u32 call = 0; call < 128; call++)
        tell("made", made[call] + records_made[call]);
    tell("wrong records", wrong_records);
    print("done\n");
    /* The test has a look at QEMU, and ends it. */
    for (;;)
        __asm__ volatile("hlt");
}
