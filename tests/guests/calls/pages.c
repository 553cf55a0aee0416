/*
 * calls-pages32, calls-pages64: strings by hypercall through page tables of every kind.
 *
 * The host must do what the processor would have done for the caller, without changing a page table: if the
 * processor would set an accessed or dirty bit, or fault, the call stops before that element, and the caller
 * touches the page.
 */
#include "lib/strings.h"

/* ---- Pages that are as they should be ---- */

static void move_all(struct string *string) {
    trial++;
    lay_out(string);
    check_same(call_string(string, string->count), PVIO_STATUS_OK);
}

static void moves(const struct caller *by) {
    static const u32 counts[] = {1, 2, 5, 0};
    struct string string = {.by = by, .port = STREAM};
    for (string.call = PVIO_CALL_INSB; string.call <= PVIO_CALL_OUTSL; string.call++)
        for (u32 before = 0; before < 2 * width_of(string.call) + 2; before++) {
            /* Across the middle, and across the borders of 4 KiB around it, for each size of page. */
            for (int border = -2; border <= 2; border++)
                for (const u32 *count = counts; *count; count++) {
                    string.count = *count;
                    string.address = window.middle + (word)(border * PAGE) - before;
                    move_all(&string);
                }
        }
    for (string.call = PVIO_CALL_INSB; string.call <= PVIO_CALL_OUTSL; string.call++) {
        string.address = window.middle - PAGE - 101;
        string.count = (2 * PAGE + 333) / width_of(string.call);
        move_all(&string);
    }
}

/* ---- Pages that are not ---- */

enum fault { NOT_PRESENT, NOT_ACCESSED, NOT_DIRTY, READ_ONLY, SUPERVISORS, FAULTS };
/* The start of the tested page: at the first element, in the middle of the string, at the last. */
enum place { FIRST, MIDDLE, LAST, WHOLE_PAGE, FIRST_HALF, PLACES };

static struct {
    enum fault fault;
    int level; /* of the entry */
    word page; /* an address that the entry translates */
    const struct string *string;
    int write_protection;
    u64 good, bad;
} t;

static int writes(void) { return is_in(t.string->call); }

/* True if the call must stop there. */
static int stops(void) {
    switch (t.fault) {
    case NOT_PRESENT:
    case NOT_ACCESSED:
        return 1;
    case NOT_DIRTY:
        return writes();
    case READ_ONLY:
        return writes() && (is_user(t.string->by) || t.write_protection);
    default:
        return is_user(t.string->by);
    }
}

/* Does what a guest's kernel does: as if the page came from a disk, or had to be copied. */
static void mend(word error, word address) {
    const u32 present = t.fault != NOT_PRESENT;
    /* With one vCPU, QEMU splits a locked `or` into a load and a store, so the load may fault. */
    const u32 write = t.fault == READ_ONLY ? 2 : writes() ? error & 2 : 0;
    check_same(error & ~0x18u, present | write | (is_user(t.string->by) ? 4 : 0));
    check(((address ^ t.page) & ~(word)(page_size(t.level) - 1)) == 0);
    u64 entry = t.good & ~(u64)(has_rights(t.level) ? A : 0);
    if (t.level == window.level)
        entry &= ~(u64)D;
    set_entry(t.page, t.level, entry);
    flush();
}

static void spoil(void) {
    static const u32 bits[FAULTS] = {P, A, D, W, U};
    t.good = get_entry(t.page, t.level);
    t.bad = t.good & ~(u64)bits[t.fault];
    set_entry(t.page, t.level, t.bad);
    flush();
    page_faults = 0;
    on_page_fault = mend;
}

static void restore(void) {
    on_page_fault = 0;
    set_entry(t.page, t.level, t.good);
    flush();
}

/* The number of elements before the page, which begins at the border or ends there. */
static u32 elements_before(const struct string *string, enum place place) {
    if (place == FIRST || place == FIRST_HALF)
        return 0;
    return (u32)(window.middle - string->address) / width_of(string->call);
}

static void fault(struct string *string, enum place place) {
    const u32 width = width_of(string->call), before = elements_before(string, place);
    trial++;
    t.string = string;
    t.page = window.middle - (place == FIRST_HALF);
    lay_out(string);
    spoil();
    if (!stops()) {
        check_same(call_string(string, string->count), PVIO_STATUS_OK);
    } else {
        check_same(call_string(string, before), PVIO_STATUS_PAGE);
        /* The page is untouched, so the result is the same. */
        check_same(call_string(string, 0), PVIO_STATUS_PAGE);
        touch_by(string->by, next_of(string), writes());
        touch_by(string->by, next_of(string) + width - 1, writes());
        check_same(page_faults, t.fault != NOT_ACCESSED && t.fault != NOT_DIRTY);
        check_same(call_string(string, string->count - before), PVIO_STATUS_OK);
    }
    restore();
}

static void places(struct string *string) {
    const u32 width = width_of(string->call);
    /* The number of bytes of an element on the first side of the border. */
    for (u32 across = 0; across < width; across++) {
        const word border = window.middle - across;
        string->count = 4;
        string->address = border;
        fault(string, FIRST);
        string->address = border - 2 * width;
        fault(string, MIDDLE);
        string->address = border - 3 * width;
        fault(string, LAST);
        if (across) {
            string->address = border;
            fault(string, FIRST_HALF);
        }
        if (window.level == 1 && width == 4) {
            string->address = border - 3 * width;
            string->count = PAGE / width + 6;
            fault(string, WHOLE_PAGE);
        }
    }
}

static int is_sensible(int level) {
    if (!has_rights(level))
        return t.fault == NOT_PRESENT;
    return t.fault != NOT_DIRTY || level == window.level;
}

static void faults(const struct caller *by, u16 port) {
    struct string string = {.by = by, .port = port};
    /* The latch shows how far it came at once; once for each entry is enough. */
    for (t.fault = 0; t.fault < (port == LATCH ? NOT_PRESENT + 1 : FAULTS); t.fault++)
        for (t.level = window.level; t.level <= paging->levels; t.level++)
            for (t.write_protection = 1; t.write_protection >= 0; t.write_protection--) {
                if (!is_sensible(t.level) || (t.fault != READ_ONLY && !t.write_protection))
                    continue;
                set_write_protection(t.write_protection);
                for (string.call = PVIO_CALL_INSB; string.call <= PVIO_CALL_OUTSL; string.call++)
                    places(&string);
            }
    set_write_protection(1);
}

/* ---- Every page of a string is absent ---- */

static void bring_page(word error, word address) {
    (void)error;
    set_entry(address, 1, (get_entry(address, 1) | P) & ~(u64)(A | D));
    flush();
}

static void page_by_page(const struct caller *by) {
    struct string string = {.by = by, .port = STREAM, .address = window.begin + 4099};
    on_page_fault = bring_page;
    for (string.call = PVIO_CALL_INSB; string.call <= PVIO_CALL_OUTSL; string.call++) {
        const u32 width = width_of(string.call);
        trial++;
        string.count = 5 * PAGE / width;
        lay_out(&string);
        for (word page = 1; page < 7; page++)
            set_entry(window.begin + page * PAGE, 1, get_entry(window.begin + page * PAGE, 1) & ~(u64)P);
        flush();
        page_faults = 0;
        u32 stops_left = 6, status;
        do {
            const word next = next_of(&string), border = (next | (PAGE - 1)) + 1;
            touch_by(by, next, is_in(string.call));
            touch_by(by, next + width - 1, is_in(string.call));
            /* To the element that reaches into the next page; where this one does, to the page's end. */
            const word from = next + width > border ? border + PAGE : border;
            u32 reach = (u32)(from - next) / width;
            const u32 left = string.count - string.moved;
            status = call_string(&string, reach < left ? reach : left);
            check(stops_left--);
        } while (status == PVIO_STATUS_PAGE);
        check_same(status, PVIO_STATUS_OK);
        check(is_done(&string));
        check_same(page_faults, 6);
    }
    on_page_fault = 0;
}

/* ---- Copy on write: two pages share a frame until one of them is written ---- */

static u64 copy;

static void copy_frame(word error, word address) {
    check_same(error & 3, 3);
    const word page = address & ~(word)(PAGE - 1);
    const u8 *from = direct(page);
    for (u32 i = 0; i < PAGE; i++)
        ((u8 *)(word)copy)[i] = from[i];
    window.frames[(page - window.begin) / PAGE] = copy;
    map(page, copy, 1, W | U);
    flush();
}

static void copy_on_write(const struct caller *by) {
    const word first = window.begin + PAGE, second = first + 2 * PAGE;
    const u64 shared = window.frames[1], copies[] = {window.frames[3], window.frames[5]};
    struct string string = {.by = by, .port = STREAM, .count = 4};
    on_page_fault = copy_frame;
    for (string.call = PVIO_CALL_INSB; string.call <= PVIO_CALL_INSL; string.call++)
        for (u32 offset = 0; offset < PAGE; offset += PAGE - 64) {
            trial++;
            window.frames[1] = window.frames[3] = shared;
            map(first, shared, 1, U | A | D);
            map(second, shared, 1, U | A | D);
            flush();
            string.address = first + 32 + offset;
            lay_out(&string);
            copy = copies[0];
            check_same(call_string(&string, 0), PVIO_STATUS_PAGE);
            touch_by(by, string.address, 1);
            check_same(call_string(&string, 4), PVIO_STATUS_OK);
            check(window.frames[1] == copies[0] && window.frames[3] == shared);
            for (u32 i = 0; i < 4 * width_of(string.call); i++)
                check_same(*direct(second + (string.address - first) + i), 0xa5);
        }
    on_page_fault = 0;
}

/* ---- More than one call moves ---- */

static void many(void) {
    struct string string = {.by = &ring_0, .port = STREAM, .address = 0x480001, .count = PVIO_ELEMENTS_MAX + 7};
    for (string.call = PVIO_CALL_INSB; string.call <= PVIO_CALL_OUTSL; string.call++) {
        trial++;
        lay_out(&string);
        check_same(call_string(&string, PVIO_ELEMENTS_MAX), PVIO_STATUS_OK);
        check_same(call_string(&string, 7), PVIO_STATUS_OK);
    }
}

static void all(const struct paging *kind, int level, const struct caller *by) {
    if (!can_call(by))
        return;
    use_paging(kind, 0);
    open_window(level);
    set_write_protection(1);
    moves(by);
    if (paging->levels) {
        faults(by, STREAM);
        faults(by, LATCH);
    }
    if (window.level == 1) {
        page_by_page(by);
        copy_on_write(by);
    }
}

void guest(void) {
    u32 ebx, ecx, kinds = 0;
    features(&ebx, &ecx);
    for (const struct paging *kind = pagings; *kind->name; kind++) {
        if (kind->levels == 5 && !(ecx & 1 << 16))
            continue;
        use_paging(kind, 0);
        many();
        for (int level = 0; level < 4; level++)
            if (kind->leaf_levels >> level & 1) {
                all(kind, level, &ring_0);
                if (kind->levels)
                    all(kind, level, &ring_3);
                kinds++;
            }
    }
    tell("kinds", kinds);
    tell("trials", trial);
    tell("given", given);
    tell("taken", taken);
    tell("latched", latched);
}
