/*
 * calls-addresses32, calls-addresses64: invalid addresses and lengths; addresses of ROM, of devices and of unused
 * memory; texts and names. Needs `-device VGA`.
 */
#include "lib/strings.h"

#define ROM     0xf0000u /* this guest */
#define TOP_ROM 0xffff0000u /* and again */
#define VGA     0xa0000u
#define APIC    0xfee00000u
#define NOTHING 0xd0000000u
#define TPR     0x80 /* the local APIC's task priority, which is only a number while interrupts are off */

static const struct caller *by;

static u32 string_word(u8 call) { return pvio_call_word(call, 0, call & 1 ? LATCH : STREAM); }

/* Strings of all kinds, and what else takes memory. */
static void no_memory(word address, word count, int can_be_read) {
    for (u8 call = PVIO_CALL_INSB; call <= PVIO_CALL_OUTSL; call++)
        if (is_in(call) || !can_be_read)
            call_in_vain(by, string_word(call), address, count, PVIO_STATUS_ADDRESS);
    const word aligned = address & ~(word)15;
    call_in_vain(by, pvio_call_word(PVIO_CALL_BATCH, 0, 0), aligned, count, PVIO_STATUS_ADDRESS);
    call_in_vain(by, pvio_call_word(PVIO_CALL_BATCH_COMPACT, 0, 0), address & ~(word)7, count, PVIO_STATUS_ADDRESS);
    if (!can_be_read && count <= PVIO_NAME_MAX) {
        call_in_vain(by, pvio_call_word(PVIO_CALL_LOG, PVIO_LEVEL_INFO, 0), address, count, PVIO_STATUS_ADDRESS);
        call_in_vain(by, pvio_call_word(PVIO_CALL_BEGIN, 0, 0), address, count, PVIO_STATUS_ADDRESS);
        call_in_vain(by, pvio_call_word(PVIO_CALL_END, 0, 0), address, count, PVIO_STATUS_ADDRESS);
    }
}

/* ---- What cannot be an address, or a length ---- */

static void nothing_of_nothing(word address) {
    for (u8 call = PVIO_CALL_INSB; call <= PVIO_CALL_OUTSL; call++)
        call_in_vain(by, string_word(call), address, 0, PVIO_STATUS_OK);
    call_in_vain(by, pvio_call_word(PVIO_CALL_BATCH, 0, 0), address & ~(word)15, 0, PVIO_STATUS_OK);
    call_in_vain(by, pvio_call_word(PVIO_CALL_BATCH_COMPACT, 0, 0), address & ~(word)7, 0, PVIO_STATUS_OK);
}

/* From the address on it is too long, for each size of elements. */
static void too_far(word address, word bytes) {
    for (u8 call = PVIO_CALL_INSB; call <= PVIO_CALL_OUTSL; call++)
        call_in_vain(by, string_word(call), address, bytes / width_of(call) + 1, PVIO_STATUS_ADDRESS);
    const word aligned = address & ~(word)15;
    call_in_vain(by, pvio_call_word(PVIO_CALL_BATCH, 0, 0), aligned, (bytes + address - aligned) / 16 + 1, PVIO_STATUS_ADDRESS);
    const word compact = address & ~(word)7;
    call_in_vain(by, pvio_call_word(PVIO_CALL_BATCH_COMPACT, 0, 0), compact, (bytes + address - compact) / 8 + 1, PVIO_STATUS_ADDRESS);
}

static void impossible(void) {
    const word last = ~(word)0, high = (word)1 << (BITS - 1);
    /* Behind the end of all addresses. */
    for (word from = 0; from < 40; from++)
        too_far(last - from, from + 1);
    static const word lengths[] = {0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff};
    for (u32 i = 0; i < 4; i++) {
        no_memory(last - 0x1000, lengths[i], 0);
        if (BITS == 64) {
            no_memory(window.middle, high | lengths[i], 0);
            no_memory(window.middle, lengths[i] << (BITS - 32), 0);
            no_memory(0x400000, last - lengths[i], 0);
        }
    }
    no_memory(window.middle, last, 0);
    nothing_of_nothing(last);
    nothing_of_nothing(window.middle);
    /* A batch has to be aligned. */
    for (u32 off = 1; off < 16; off++)
        call_in_vain(by, pvio_call_word(PVIO_CALL_BATCH, 0, 0), window.middle + off, 2, PVIO_STATUS_ADDRESS);
    for (u32 off = 1; off < 8; off++)
        call_in_vain(by, pvio_call_word(PVIO_CALL_BATCH_COMPACT, 0, 0), window.middle + off, 2, PVIO_STATUS_ADDRESS);
    /* The fields that are checked before addresses. */
    call_in_vain(by, pvio_call_word(PVIO_CALL_INSB, 1, STREAM), window.middle, 2, PVIO_STATUS_ARGUMENT);
    call_in_vain(by, pvio_call_word(PVIO_CALL_BATCH, 0, 1), window.middle, 2, PVIO_STATUS_ARGUMENT);
    call_in_vain(by, pvio_call_word(PVIO_CALL_BATCH_COMPACT, 1, 0), window.middle, 2, PVIO_STATUS_ARGUMENT);
    call_in_vain(by, pvio_call_word(PVIO_CALL_LOG, 4, 0), window.middle, 2, PVIO_STATUS_ARGUMENT);
    call_in_vain(by, pvio_call_word(PVIO_CALL_LOG, 0, 0), last, PVIO_LOG_MAX + 1, PVIO_STATUS_LENGTH);
    call_in_vain(by, pvio_call_word(PVIO_CALL_BEGIN, 0, 0), last, PVIO_NAME_MAX + 1, PVIO_STATUS_LENGTH);
    call_in_vain(by, pvio_call_word(PVIO_CALL_END, 0, 0), last, last, PVIO_STATUS_LENGTH);
}

#if BITS == 64
static void not_canonical(void) {
    const word hole = (word)1 << (paging->levels == 5 ? 56 : 47), end = -hole;
    no_memory(hole, 1, 0);
    no_memory(end - 16, 1, 0);
    no_memory((word)1 << 63, 1, 0);
    nothing_of_nothing(hole);
    for (word from = 0; from < 40; from++) {
        too_far(hole - 1 - from, from + 1);
        /* Across the hole of non-canonical addresses. */
        too_far(hole - 1 - from, end - hole + from + 64);
    }
}
#endif

/* ---- What is no RAM ---- */

/* Maps a page of the window to another frame. Returns its address. */
static word show(int page, u64 physical) {
    if (!paging->levels)
        return (word)physical;
    const word linear = window.begin + PAGE * (u32)page;
    map(linear, physical, 1, U | W | A | D);
    flush();
    return linear;
}

static void rom(u64 physical) {
    const word at = show(2, physical);
    no_memory(at, 1, 1);
    no_memory(at + 1, 4, 1);
    no_memory(at + PAGE - 64, 1, 1);
    for (u8 call = PVIO_CALL_OUTSB; call <= PVIO_CALL_OUTSL; call++)
        for (u32 offset = 0; offset < 64; offset += 7) {
            const u32 width = width_of(call);
            const volatile u8 *const read = (const volatile u8 *)(at + 0x100 + offset);
            word dx = (word)read, cx = 3;
            trial++;
            pvio_native_outl(0, LATCH);
            check_same(call_by(by, pvio_call_word(call, 0, LATCH), &dx, &cx), 0);
            check(cx == 0 && dx == (word)read + 3 * width);
            for (u32 byte = 0; byte < width; byte++)
                check_same(in_32(LATCH) >> 8 * byte & 0xff, read[2 * width + byte]);
            latched += 3 * width;
        }
}

/* The local APIC's register keeps its value. */
static void apic(void) {
    const word at = show(2, APIC);
    volatile u32 *const priority = (volatile u32 *)(at + TPR);
    *priority = 0x20;
    no_memory(at + TPR, 1, 0);
    check_same(*priority, 0x20);
    no_memory(at, 16, 0);
    no_memory(at + TPR - 1, 1, 0);
    check_same(*priority, 0x20);
    *priority = 0;
}

/* From RAM into something else, by elements that end at the border or lie across it. */
static void into(word border, int can_be_read) {
    struct string string = {.by = by, .port = STREAM, .count = 5};
    for (string.call = PVIO_CALL_INSB; string.call <= PVIO_CALL_OUTSL; string.call++)
        for (u32 across = 0; across < width_of(string.call); across++) {
            if (can_be_read && !is_in(string.call))
                continue;
            const u32 width = width_of(string.call);
            const word start = border - across - 2 * width;
            word dx = start, cx = string.count;
            trial++;
            for (u32 i = 0; i < 2 * width + across; i++)
                *direct(start + i) = is_in(string.call) ? 0xa5 : sequence(given + i);
            const u32 answer = call_by(by, pvio_call_word(string.call, 0, STREAM), &dx, &cx);
            /* The next call reports the error. */
            check_same(answer, 0);
            check(cx == 3 && dx == border - across);
            for (u32 i = 0; i < 2 * width + across; i++) {
                const u8 there = i >= 2 * width ? 0xa5 : sequence(taken + i);
                if (is_in(string.call))
                    check_same(*direct(start + i), there);
            }
            *(is_in(string.call) ? &taken : &given) += 2 * width;
            call_in_vain(by, pvio_call_word(string.call, 0, STREAM), dx, cx, PVIO_STATUS_ADDRESS);
            for (u32 i = 0; i < across && is_in(string.call); i++)
                check_same(*direct(border - across + i), 0xa5);
        }
}

/* And out of it: not even the half of the element that lies in RAM. */
static void out_of(word border) {
    for (u8 call = PVIO_CALL_INSW; call <= PVIO_CALL_OUTSL; call++)
        for (u32 across = 1; across < width_of(call); across++) {
            for (u32 i = 0; i < 4; i++)
                *direct(border + i) = 0xa5;
            call_in_vain(by, string_word(call), border - across, 2, PVIO_STATUS_ADDRESS);
            for (u32 i = 0; i < 4; i++)
                check_same(*direct(border + i), 0xa5);
        }
}

static void no_ram(void) {
    const int wide = paging->entry_size == 8;
    no_memory(show(2, VGA), 1, 0);
    no_memory(show(2, VGA) + PAGE - 32, 8, 0);
    no_memory(show(2, NOTHING), 1, 0);
    no_memory(show(2, NOTHING), 8, 0);
    if (wide) {
        no_memory(show(2, 0x300000000), 8, 0);
        no_memory(show(2, 0x7ffffff000), 8, 0);
    }
    rom(ROM);
    rom(TOP_ROM);
    apic();
    if (!paging->levels) {
        into(VGA, 0);
        return;
    }
    into(show(2, VGA), 0);
    into(show(2, NOTHING), 0);
    into(show(2, APIC), 0);
    into(show(2, ROM), 1);
    out_of(show(2, VGA) + PAGE);
    out_of(show(2, APIC) + PAGE);
    out_of(show(2, NOTHING) + PAGE);
}

/* ---- Texts and names ---- */

/* In ROM, as all constants are. */
static const char text[] = "a line of the guest's, which is in ROM";

static void put_text(word at, const char *from, u32 size) {
    for (u32 i = 0; i < size; i++)
        *direct(at + i) = (u8)from[i];
}

static void absent(word page) {
    set_entry(page, 1, get_entry(page, 1) & ~(u64)P);
    flush();
}

static void bring_page(word error, word address) {
    (void)error;
    set_entry(address, 1, (get_entry(address, 1) | P) & ~(u64)(A | D));
    flush();
}

static u32 lines, windows;

static u32 say(u8 call, word at, u32 size) {
    word dx = at, cx = size;
    trial++;
    save_tables();
    const u32 answer = call_by(by, pvio_call_word(call, call == PVIO_CALL_LOG ? PVIO_LEVEL_INFO : 0, 0), &dx, &cx);
    check(dx == at && cx == size && are_tables_saved());
    check_same(answer & PVIO_DATA_MASK, 0);
    return answer >> PVIO_CALL_SHIFT;
}

static void texts(void) {
    const u32 size = sizeof text - 1;
    /* The ROM is ring 0's. */
    const int rom_is_ours = !paging->levels || !is_user(by);
    check_same(say(PVIO_CALL_LOG, (word)text, size), rom_is_ours ? PVIO_STATUS_OK : PVIO_STATUS_PAGE);
    lines += rom_is_ours;
    for (u8 call = PVIO_CALL_LOG; call <= PVIO_CALL_END; call++)
        for (u32 before = 0; before <= size; before++) {
            const word border = window.middle, at = border - before;
            put_text(at, text, size);
            for (int missing = 0; missing < 2 && paging->levels; missing++) {
                const word page = missing ? border : border - PAGE;
                if (missing ? before == size : before == 0)
                    continue;
                absent(page);
                check_same(say(call, at, size), PVIO_STATUS_PAGE);
                on_page_fault = bring_page;
                touch_by(by, missing ? at + size - 1 : at, 0);
                on_page_fault = 0;
                if (before)
                    break;
            }
            /* A window is open, or closed, from the first one on. */
            const u32 again = call != PVIO_CALL_LOG && before;
            const u32 status = again ? PVIO_STATUS_STATE : PVIO_STATUS_OK;
            check_same(say(call, at, size), status);
            lines += call == PVIO_CALL_LOG;
            windows += call == PVIO_CALL_END && !before;
        }
}

static void trials(const struct caller *caller) {
    by = caller;
    impossible();
#if BITS == 64
    not_canonical();
#endif
    texts();
    no_ram();
}

void guest(void) {
    from_each_ring(trials);
    tell("given", given);
    tell("taken", taken);
    tell("latched", latched);
    tell("lines", lines);
    tell("windows", windows);
    tell("trials", trial);
}
