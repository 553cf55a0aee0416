#include "strings.h"
#include "../../words.h"

#define MARK   0xa5
#define AROUND 32

u32 taken, given, latched;

static const struct string *last;
static u32 latch_before; /* its value when the string was set up */
static u32 latch_now;

static void tell_string(void) {
    print(last->by->name);
    tell(", call", last->call);
    tell("port", last->port);
    print("at 0x");
    print_hex(last->address);
    tell(", moved", last->moved);
    tell("of", last->count);
}

/* Returns the byte at an offset of the string, moved or to be moved. */
static u8 byte_of(const struct string *string, u32 offset) {
    if (is_in(string->call) && string->port == LATCH)
        return (u8)(latch_before >> 8 * (offset % width_of(string->call)));
    return sequence(string->begins + offset);
}

/* Goes through all bytes of the string and around it. */
static void each_byte(const struct string *string, int lays_out) {
    const u32 width = width_of(string->call), size = string->count * width;
    const u32 there = is_in(string->call) ? string->moved * width : size;
    u8 *at = direct(string->address - AROUND);
    u32 left = 0;
    for (word offset = 0; offset < size + 2 * AROUND; offset++, at++, left--) {
        const word linear = string->address - AROUND + offset;
        if (!left || !(linear & (PAGE - 1))) {
            at = direct(linear);
            left = PAGE;
        }
        const u32 place = (u32)offset - AROUND;
        const u8 value = place < there ? byte_of(string, place) : MARK;
        if (lays_out)
            *at = value;
        else if (*at != value)
            differ(__FILE__, __LINE__, "memory and what it should be, behind an offset of", *at | (u64)offset << 32, value);
    }
}

void lay_out(struct string *string) {
    last = string;
    on_failure = tell_string;
    string->moved = 0;
    string->begins = is_in(string->call) ? taken : given;
    if (string->port == LATCH) {
        latch_before = latch_now = 0x76543210u * (trial | 1);
        pvio_native_outl(latch_before, LATCH);
    }
    each_byte(string, 1);
}

static void check_device(struct string *string) {
    const u32 width = width_of(string->call);
    check_same(in_32(LEFT), STREAM_SIZE - taken);
    if (string->port == LATCH) {
        for (u32 byte = 0; !is_in(string->call) && string->moved && byte < width; byte++) {
            const u32 value = byte_of(string, (string->moved - 1) * width + byte);
            latch_now = (latch_now & ~(0xffu << 8 * byte)) | value << 8 * byte;
        }
        check_same(in_32(LATCH), latch_now);
    }
}

u32 call_string(struct string *string, u32 moves) {
    const u32 width = width_of(string->call);
    const u32 left = string->count - string->moved;
    word dx = next_of(string), cx = left;
    save_tables();
    const u32 answer = call_by(string->by, pvio_call_word(string->call, 0, string->port), &dx, &cx);
    check(are_tables_saved());
    check_same(answer & PVIO_DATA_MASK, 0);
    check_same(cx, left - moves);
    check_same(dx, (word)(next_of(string) + moves * width));
    string->moved += moves;
    *(string->port == LATCH ? &latched : is_in(string->call) ? &taken : &given) += moves * width;
    check_device(string);
    each_byte(string, 0);
    return pvio_status(answer);
}

void call_in_vain(const struct caller *by, u32 call_word, word address, word count, u32 status) {
    word dx = address, cx = count;
    trial++;
    on_failure = 0;
    const u32 latch = in_32(LATCH);
    save_tables();
    const u32 answer = call_by(by, call_word, &dx, &cx);
    check_same(answer, status << PVIO_CALL_SHIFT);
    check_same(dx, address);
    check_same(cx, count);
    check(are_tables_saved());
    check_same(in_32(LEFT), STREAM_SIZE - taken);
    check_same(in_32(LATCH), latch);
}

void from_each_ring(void (*trials)(const struct caller *by)) {
    static const struct caller *const callers[] = {&ring_0, &ring_3};
    u32 ebx, ecx;
    features(&ebx, &ecx);
    for (const struct paging *kind = pagings; *kind->name; kind++) {
        if (kind->levels == 5 && !(ecx & 1 << 16))
            continue;
        for (u32 i = 0; i <= !!kind->levels && can_call(callers[i]); i++) {
            use_paging(kind, 0);
            open_window(kind->levels ? 1 : 0);
            set_write_protection(1);
            trials(callers[i]);
        }
    }
}
