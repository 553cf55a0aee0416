/*
 * calls-hostile32, calls-hostile64: many random calls, from ring 0 and ring 3, most of them wrong.
 *
 * Writable pages lie between pages that are not writable: read-only ones, and an absent one. Ring 3 passes any
 * address; ring 0, which may write all of this guest, passes only addresses of memory that it does not need, or that
 * nobody can write. After each call the guest checks all registers against the ABI, and sometimes the surrounding
 * pages and the page tables. It leaves out calls that would end the machine, and some ports.
 */
#include "lib/tables.h"
#include "../words.h"

#define CALLS 60000u /* of each of the two rings */

/* The seed comes first from the stream's input, by instruction. */
static u64 state;

static u64 any(void) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1dull;
}

static u32 below(u32 limit) { return (u32)(any() >> 33) % limit; }

/* ---- The window: writable pages among others ---- */

enum { ABSENT_PAGE = 3 };
static const u8 is_guard[8] = {1, 0, 0, 0, 0, 0, 1, 1};
#define GUARD 0xa7

static void set_up_window(void) {
    open_window(1);
    for (u32 page = 0; page < 8; page++) {
        const word linear = window.begin + page * PAGE;
        u64 *const words = (u64 *)direct(linear);
        for (u32 i = 0; i < PAGE / 8; i++)
            words[i] = is_guard[page] ? 0x0101010101010101ull * GUARD : any();
        if (is_guard[page])
            map(linear, window.frames[page], 1, U | A | D);
        if (page == ABSENT_PAGE)
            set_entry(linear, 1, 0);
    }
    flush();
    save_tables();
}

static void look_around(void) {
    for (u32 page = 0; page < 8; page++) {
        const u64 *const words = (const u64 *)direct(window.begin + page * PAGE);
        for (u32 i = 0; is_guard[page] && i < PAGE / 8; i++)
            check_same(words[i], 0x0101010101010101ull * GUARD);
    }
    check(are_tables_saved());
}

/* ---- Arguments ---- */

/* The ends of address spaces, devices, ROM, and impossible addresses. */
static const u64 wild[] = {
    0xffffffff, 0x100000000, ~0ull, 0x7fffffffffff, 0x800000000000, 0xffff7fffffffffff, 0xffff800000000000,
    0x00ffffffffffffff, 0x0100000000000000, 0xa0000, 0xb8000, 0xf0100, 0xff000, 0xfec00000, 0xfee00000, 0xfffff000,
};

static word address(const struct caller *by) {
    switch (below(8)) {
    case 0:
        return window.begin + PAGE * below(9) - below(20);
    case 1: {
        const word at = (word)(wild[below(sizeof wild / sizeof *wild)] - below(20) + below(20));
        const int is_memory = at < 0x80000000 && (at < 0xa0000 || at >= 0x100000);
        return is_memory && !is_user(by) ? window.begin : at;
    }
    case 2:
        /* Beyond the guest's reach; above the top bit only the window is mapped. */
        return (word)(any() | 1ull << (BITS - 1));
    case 3:
        return window.begin - 1 - below(16 * PAGE);
    case 4:
        /* The guest itself: code, data, stack, page tables. */
        return is_user(by) ? below(0x200000) : window.begin + PAGE;
    default:
        return window.begin + below(8 * PAGE);
    }
}

static word count(void) {
    switch (below(8)) {
    case 0:
        return below(0x10000) + below(0x10000);
    case 1:
        return (word)~0ull - below(20);
    case 2:
        return (word)(1ull << (BITS - 1 - below(BITS / 2))) - below(20) + below(20);
    case 3:
        return below(3 * PAGE);
    default:
        return below(40);
    }
}

/*
 * Ports that end or reset the machine, change what is at which address, take devices away, write memory or
 * registers, or are this guest's own to tell what it finds.
 */
static int is_off_limits(u16 port) {
    static const u16 ranges[][2] = {
        {0x60, 0x64},     /* keyboard controller: A20, reset */
        {0x7e, 0x7f},     /* VAPIC: rewrites code */
        {0x92, 0x92},     /* A20, reset */
        {0xb2, 0xb3},     /* SMI */
        {0xe9, 0xe9},     /* debug console */
        {0xf4, 0xf7},     /* isa-debug-exit */
        {0x510, 0x51b},   /* fw_cfg: DMA */
        {0x600, 0x7ff},   /* power management: power-off, sleep */
        {0xcf8, 0xcff},   /* PCI configuration, reset */
        {0x5658, 0x565b}, /* VMware's: registers */
        {0xae00, 0xafff}, /* hotplug */
        {0xb000, 0xb0ff}, /* power management before a BIOS has moved it */
    };
    /* An access begins up to 3 ports below the last that it reaches. */
    for (u32 i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (port + 3 >= ranges[i][0] && port <= ranges[i][1])
            return 1;
    return 0;
}

static u16 port(void) {
    static const u16 known[] = {LATCH, LATCH + 1, LATCH + 3, STREAM, STREAM + 3, LEFT, LEFT + 3, 0x320, 0x2f8, 0x2fd, 0x70, 0x80};
    u16 random;
    if (below(4))
        return known[below(sizeof known / sizeof *known)];
    do
        random = (u16)below(0x10000);
    while (is_off_limits(random));
    return random;
}

/* Windows take memory, within limits; a leak shows better without them. */
static int is_without_windows;

static u8 call_number(void) {
    for (;;) {
        const u8 number = below(4) ? (u8)below(PVIO_CALL_FILE_FINISH + 1) : (u8)below(128);
        const int is_of_windows = number == PVIO_CALL_BEGIN || number == PVIO_CALL_END;
        if (number != PVIO_CALL_EXIT && number != PVIO_CALL_RESET && !(is_without_windows && is_of_windows))
            return number;
    }
}

static void fill_records(word at, u32 records, const struct caller *by) {
    for (u32 i = 0; i < records; i++) {
        struct pvio_record *const record = (struct pvio_record *)direct(at + 16 * i);
        record->call = below(8) ? (u8)(1 + below(12)) : (u8)below(256);
        record->status = (u8)any();
        record->port = port();
        record->value = below(2) ? below(40) : (u32)any();
        record->address = record->call >= PVIO_CALL_INSB ? address(by) : below(8) ? 0 : window.begin;
    }
}

static void fill_compact_records(word at, u32 records) {
    for (u32 i = 0; i < records; i++) {
        struct pvio_compact_record *const record = (struct pvio_compact_record *)direct(at + 8 * i);
        record->call = below(64) ? (u8)(1 + below(6)) : (u8)below(256);
        record->reserved = below(64) ? 0 : (u8)any();
        record->port = port();
        record->value = (u32)any();
    }
}

/* ---- Files ---- */

static int is_of_files(u8 call) { return call >= PVIO_CALL_FILE_READ && call <= PVIO_CALL_FILE_FINISH; }

/* An unfinished file, perhaps. */
static u64 last_tag, last_offset;

/* A request with its name after it; most names are wrong, or not those of files. */
static struct pvio_file *fill_request(word at, const struct caller *by) {
    static const char *const names[] = {
        "in", "a", "b", "c", "sub/d", "none/e", "../outside", "/etc/passwd", "link", "directory-link/in", "fifo", "sub", "", "a/../in",
    };
    struct pvio_file *const file = (struct pvio_file *)direct(at);
    const char *const name = names[below(sizeof names / sizeof *names)];
    const u32 length = (u32)pvio_length_(name);
    for (u32 i = 0; i < length; i++)
        direct(at)[sizeof *file + i] = (u8)name[i];
    file->name = below(8) ? at + sizeof *file : address(by);
    file->name_len = below(8) ? length : below(300);
    file->reserved = below(16) ? 0 : (u32)any();
    file->tag = below(2) ? 0 : below(4) ? last_tag : any();
    file->offset = below(2) ? 0 : below(4) ? last_offset : any();
    file->address = address(by);
    file->count = below(4) ? count() : below(2) ? 0 : any();
    file->reserved_too[0] = 0;
    file->reserved_too[1] = below(16) ? 0 : any();
    return file;
}

/* What a call may have done to its request. */
static void check_request(const struct pvio_file *file, const struct pvio_file *before, u32 code) {
    const u64 moved = file->offset - before->offset;
    check_same(before->count - file->count, moved);
    check_same(file->address - before->address, moved);
    check(moved <= PVIO_ELEMENTS_MAX && moved <= before->count);
    if (code != PVIO_STATUS_OK) {
        check_same(moved, 0);
        check_same(file->tag, before->tag);
    } else {
        last_tag = file->tag;
        last_offset = file->offset;
    }
}

/* ---- Calls ---- */

static u32 made[128];

static u32 size_of(u8 call) {
    if (call == PVIO_CALL_BATCH)
        return 16;
    if (call == PVIO_CALL_BATCH_COMPACT)
        return 8;
    return 1u << (call - PVIO_CALL_INSB) % 3;
}

static int moves(u8 call) {
    return (call >= PVIO_CALL_INSB && call <= PVIO_CALL_BATCH) || call == PVIO_CALL_BATCH_COMPACT;
}

static void one(const struct caller *by) {
    const u8 call = call_number();
    const u8 operand = call == PVIO_CALL_OUTB || call == PVIO_CALL_LOG || !below(16) ? (u8)below(call == PVIO_CALL_LOG ? 5 : 256) : 0;
    const u16 at = (call >= PVIO_CALL_INB && call <= PVIO_CALL_OUTSL) || !below(16) ? port() : 0;
    word dx = address(by), cx = count();
    if (call == PVIO_CALL_BATCH && below(4)) {
        /* In either half of the window, perhaps beyond its end. */
        const u32 records = 1 + below(2 * PAGE / 16);
        dx = window.begin + PAGE * (below(2) ? 1 : 4) + 16 * (2 * PAGE / 16 - records);
        fill_records(dx, records, by);
        cx = below(8) ? records : records + below(1000);
    } else if (call == PVIO_CALL_BATCH_COMPACT && below(4)) {
        const u32 records = 1 + below(2 * PAGE / 8);
        dx = window.begin + PAGE * (below(2) ? 1 : 4) + 8 * (2 * PAGE / 8 - records);
        fill_compact_records(dx, records);
        cx = below(8) ? records : records + below(1000);
    } else if ((call == PVIO_CALL_BATCH || call == PVIO_CALL_BATCH_COMPACT) && !is_user(by)) {
        /* That memory may belong to ring 3. */
        dx |= 1;
    }
    struct pvio_file *request = 0, asked;
    if (is_of_files(call) && below(8)) {
        dx = window.begin + PAGE * (below(2) ? 1 : 4) + 64 * below(62);
        request = fill_request(dx, by);
        asked = *request;
    } else if (is_of_files(call) && !is_user(by)) {
        dx |= 1;
    }
    const word whole = by->bits == 64 ? ~(word)0 : 0xffffffff;
    const word dx_before = dx & whole, cx_before = cx & whole;

    made[call]++;
    trial++;
    const u32 status = call_by(by, PVIO_UNANSWERED | (u32)call << PVIO_CALL_SHIFT | (u32)operand << PVIO_OPERAND_SHIFT | at, &dx, &cx);
    check_same(status & PVIO_UNANSWERED, 0);
    const u32 code = status >> 24;
    check(code <= PVIO_STATUS_STALE);
    if (request)
        check_request(request, &asked, code);
    if (call == PVIO_CALL_REGISTER_LARGE || call > PVIO_CALL_FILE_FINISH || call == 14 || call == 15)
        check(code == PVIO_STATUS_UNKNOWN || code == PVIO_STATUS_ARGUMENT);
    dx &= whole, cx &= whole;
    if (moves(call)) {
        check(cx <= cx_before);
        check_same((word)(dx - dx_before) & whole, ((cx_before - cx) * size_of(call)) & whole);
        if (code > PVIO_STATUS_PAGE)
            check_same(cx, cx_before);
    } else {
        check_same(cx, cx_before);
        if (call != PVIO_CALL_INL && call != PVIO_CALL_PROBE)
            check_same(dx, dx_before);
    }
}

static void many(const struct caller *by, u32 calls) {
    for (u32 i = 0; i < calls && can_call(by); i++) {
        one(by);
        if (i % 64 == 0)
            look_around();
    }
    look_around();
}

/* Every page of the counters of ports is used once. */
static void use_all_counters(void) {
    for (u32 at = 0; at < 0x10000; at += 16) {
        word dx = 0, cx = 0;
        if (!is_off_limits((u16)at))
            check_same(call_by(&ring_0, PVIO_UNANSWERED | PVIO_CALL_INB << PVIO_CALL_SHIFT | at, &dx, &cx) >> 24, PVIO_STATUS_OK);
    }
}

/* ---- The code that calls ---- */

static void allow_writes(word error, word address) {
    check_same(error, P | W | U);
    check_same(address, (word)code_page);
    map(address, address, 1, U | W | A | D);
    flush();
}

/* Ring 3 may name the page that it runs in. It is read-only for the instruction, so it is for a call too. */
static void keep_the_code(void) {
    static u8 before[PAGE];
    for (u32 i = 0; i < PAGE; i++)
        before[i] = code_page[i];
    for (u8 call = PVIO_CALL_INSB; call <= PVIO_CALL_INSL; call++) {
        word dx = (word)code_page + 3, cx = 0x7533;
        check_same(call_by(&ring_3, PVIO_UNANSWERED | (u32)call << PVIO_CALL_SHIFT | 0x2f8, &dx, &cx) >> 24, PVIO_STATUS_PAGE);
        check_same(dx, (word)code_page + 3);
        check_same(cx, 0x7533);
    }
    for (u32 i = 0; i < PAGE; i++)
        check_same(code_page[i], before[i]);
    on_page_fault = allow_writes;
    touch_by(&ring_3, (word)code_page, 1);
    on_page_fault = 0;
    check_same(page_faults, 1);
    map((word)code_page, (word)code_page, 1, U | A | D);
    flush();
}

/* ---- Limits ---- */

static u32 text_call(u8 call, u8 operand, const u8 *text, word length) {
    word dx = (word)text, cx = length;
    made[call]++;
    return call_by(&ring_0, PVIO_UNANSWERED | (u32)call << PVIO_CALL_SHIFT | (u32)operand << PVIO_OPERAND_SHIFT, &dx, &cx) >> 24;
}

static void limits(void) {
    static u8 text[PVIO_LOG_MAX + 1];
    u32 opened = 0;
    fill(text, 'x', sizeof text);
    check_same(text_call(PVIO_CALL_LOG, PVIO_LEVEL_INFO, text, PVIO_LOG_MAX), PVIO_STATUS_OK);
    check_same(text_call(PVIO_CALL_LOG, PVIO_LEVEL_INFO, text, PVIO_LOG_MAX + 1), PVIO_STATUS_LENGTH);
    check_same(text_call(PVIO_CALL_BEGIN, 0, text, PVIO_NAME_MAX + 1), PVIO_STATUS_LENGTH);
    check_same(text_call(PVIO_CALL_BEGIN, 0, text, 0), PVIO_STATUS_LENGTH);
    /* Some windows are there already: chance has named them. */
    for (u32 i = 0; i < PVIO_WINDOWS_MAX + 1; i++) {
        text[0] = (u8)('a' + i % 26);
        text[1] = (u8)('a' + i / 26);
        const u32 status = text_call(PVIO_CALL_BEGIN, 0, text, PVIO_NAME_MAX);
        /* Once there are too many, there are. */
        check(status == PVIO_STATUS_FULL || (status == PVIO_STATUS_OK && opened == i));
        opened += status == PVIO_STATUS_OK;
    }
    check(opened > 0 && opened <= PVIO_WINDOWS_MAX);
    text[0] = '\n';
    check_same(text_call(PVIO_CALL_BEGIN, 0, text, PVIO_NAME_MAX), PVIO_STATUS_ARGUMENT);
    text[0] = 0xff;
    check_same(text_call(PVIO_CALL_BEGIN, 0, text, PVIO_NAME_MAX), PVIO_STATUS_ARGUMENT);
}

/* Something to wait for, while the test looks at the machine from outside. */
static void pause_a_while(void) {
    for (volatile u32 i = 0; i < 20000000; i++)
        ;
}

void guest(void) {
    state = (u64)in_32(STREAM) << 32 | in_32(STREAM) | 1;
    use_paging(pagings + (BITS == 32 ? 3 : 0), 0);
    set_write_protection(1);
    pvio_native_outl(0x5a5a5a5a, LATCH);
    if (can_call(&ring_3))
        keep_the_code();
    set_up_window();

    /* Whatever is made once has been made by the half. */
    use_all_counters();
    many(&ring_0, CALLS / 2);
    many(&ring_3, CALLS / 2);
    is_without_windows = 1;
    tell("half", 0);
    pause_a_while();
    many(&ring_3, CALLS / 2);
    many(&ring_0, CALLS / 2);
    tell("whole", 0);
    pause_a_while();
    limits();

    tell("batch", made[PVIO_CALL_BATCH]);
    tell("batch_compact", made[PVIO_CALL_BATCH_COMPACT]);
    tell("log", made[PVIO_CALL_LOG]);
    tell("begin", made[PVIO_CALL_BEGIN]);
    tell("end", made[PVIO_CALL_END]);
    tell("dump", made[PVIO_CALL_DUMP]);
    tell("file_read", made[PVIO_CALL_FILE_READ]);
    tell("file_write", made[PVIO_CALL_FILE_WRITE]);
    tell("file_finish", made[PVIO_CALL_FILE_FINISH]);
    tell("calls", trial);
}
