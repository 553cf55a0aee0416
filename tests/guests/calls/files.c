/*
 * calls-files32, calls-files64: the calls for files, one at a time. The host's directory has the file "in", whose bytes
 * are the sequence of lib/strings.h. The guest resets the machine once, in the middle of a file: run QEMU without
 * -no-reboot.
 */
#include "lib/strings.h"
#include "../words.h"

#define IN_SIZE 100000u
#define MARK    0x5a

/* What survives the reset. RAM is zero when the machine begins. */
static struct {
    u64 tag;
    u32 boots;
} *const state = (void *)0x8000;

static struct pvio_file file;
static u8 buffer[PVIO_ELEMENTS_MAX + PAGE] __attribute__((aligned(PAGE)));

static u32 data;

/* Makes one call. Returns the status. */
static u32 call_at(u8 call, word request) {
    word dx = request, cx = 0x1234;
    const u32 answer = call_by(&ring_0, pvio_call_word(call, 0, 0), &dx, &cx);
    check(dx == request && cx == 0x1234);
    data = answer & PVIO_DATA_MASK;
    return pvio_status(answer);
}

static void name_file(const char *name) {
    fill((u8 *)&file, 0, sizeof file);
    file.name = (word)name;
    file.name_len = (u32)pvio_length_(name);
}

/* A call that must be answered so, and moves that many bytes. */
static void call_for(u32 status, u8 call, const void *address, u64 count, u64 moved) {
    file.address = (word)address;
    file.count = count;
    const struct pvio_file before = file;
    trial++;
    check_same(call_at(call, (word)&file), status);
    check_same(file.count, before.count - moved);
    check_same(file.offset, before.offset + moved);
    check_same(file.address, before.address + moved);
    if (status != PVIO_STATUS_OK)
        check_same(file.tag, before.tag);
}

static void check_sequence(u32 place, u32 count) {
    for (u32 i = 0; i < count; i++)
        check_same(buffer[i], sequence(place + i));
    for (u32 i = count; i < sizeof buffer; i++)
        check_same(buffer[i], MARK);
}

static void reading(void) {
    name_file("in");
    fill(buffer, MARK, sizeof buffer);
    call_for(PVIO_STATUS_OK, PVIO_CALL_FILE_READ, buffer, sizeof buffer, PVIO_ELEMENTS_MAX);
    check_same(data, 0);
    check_sequence(0, PVIO_ELEMENTS_MAX);
    check(file.tag);
    fill(buffer, MARK, sizeof buffer);
    call_for(PVIO_STATUS_OK, PVIO_CALL_FILE_READ, buffer, sizeof buffer, IN_SIZE - PVIO_ELEMENTS_MAX);
    check_same(data, 1);
    check_sequence(PVIO_ELEMENTS_MAX, IN_SIZE - PVIO_ELEMENTS_MAX);
    call_for(PVIO_STATUS_OK, PVIO_CALL_FILE_READ, buffer, 1, 0);
    check_same(data, 1);
    /* Anywhere, with another file's tag, or none. */
    file.offset = ~0ull;
    call_for(PVIO_STATUS_OK, PVIO_CALL_FILE_READ, buffer, 1, 0);
    file.offset = 0;
    file.tag += 2;
    call_for(PVIO_STATUS_STALE, PVIO_CALL_FILE_READ, buffer, 1, 0);
    name_file("none");
    call_for(PVIO_STATUS_MISSING, PVIO_CALL_FILE_READ, buffer, 1, 0);
}

static void requests(void) {
    name_file("in");
    check_same(call_at(PVIO_CALL_FILE_READ, (word)&file + 16), PVIO_STATUS_ADDRESS);
    check_same(call_at(PVIO_CALL_FILE_READ, 0xff000), PVIO_STATUS_ADDRESS); /* ROM */
    file.reserved = 1;
    call_for(PVIO_STATUS_ARGUMENT, PVIO_CALL_FILE_READ, buffer, 1, 0);
    name_file("in");
    file.reserved_too[1] = 1;
    call_for(PVIO_STATUS_ARGUMENT, PVIO_CALL_FILE_READ, buffer, 1, 0);
    name_file("");
    call_for(PVIO_STATUS_LENGTH, PVIO_CALL_FILE_READ, buffer, 1, 0);
    name_file("in");
    file.name_len = PVIO_FILE_NAME_MAX + 1;
    call_for(PVIO_STATUS_LENGTH, PVIO_CALL_FILE_READ, buffer, 1, 0);
    name_file("in");
    call_for(PVIO_STATUS_ADDRESS, PVIO_CALL_FILE_READ, buffer, ~0ull, 0);
    call_for(PVIO_STATUS_ADDRESS, PVIO_CALL_FILE_READ, (void *)0xff000, 1, 0);
    name_file("new");
    file.offset = 1;
    call_for(PVIO_STATUS_ARGUMENT, PVIO_CALL_FILE_WRITE, buffer, 1, 0);
    name_file("in");
    call_for(PVIO_STATUS_EXISTS, PVIO_CALL_FILE_WRITE, buffer, 1, 0);
    name_file("../new");
    call_for(PVIO_STATUS_NAME, PVIO_CALL_FILE_WRITE, buffer, 1, 0);
    check_same(call_at(PVIO_CALL_FILE_FINISH, (word)&file), PVIO_STATUS_STALE);
}

/* Of three pages, the second cannot be used. */
static void pages(void) {
    open_window(1);
    const word begin = window.begin, second = begin + PAGE;
    struct pvio_file before;
    name_file("in");
    set_entry(second, 1, get_entry(second, 1) & ~(u64)D);
    flush();
    save_tables();
    call_for(PVIO_STATUS_OK, PVIO_CALL_FILE_READ, (void *)(begin + 96), 2 * PAGE, PAGE - 96);
    before = file;
    call_for(PVIO_STATUS_PAGE, PVIO_CALL_FILE_READ, (void *)second, PAGE, 0);
    check_same(file.offset, before.offset);
    check(are_tables_saved());
    touch_by(&ring_0, second, 1);
    call_for(PVIO_STATUS_OK, PVIO_CALL_FILE_READ, (void *)second, PAGE, PAGE);
    for (u32 i = 0; i < 2 * PAGE - 96; i++)
        check_same(*direct(begin + 96 + i), sequence(i));
    /* Nor may a request be there, nor a name, nor the contents of a new file: which is not begun then. */
    name_file("page");
    set_entry(second, 1, 0);
    flush();
    check_same(call_at(PVIO_CALL_FILE_READ, second), PVIO_STATUS_PAGE);
    call_for(PVIO_STATUS_PAGE, PVIO_CALL_FILE_WRITE, (void *)second, 1, 0);
    file.name = second;
    call_for(PVIO_STATUS_PAGE, PVIO_CALL_FILE_WRITE, buffer, 1, 0);
}

static void begin_file(const char *name, u32 count) {
    name_file(name);
    call_for(PVIO_STATUS_OK, PVIO_CALL_FILE_WRITE, buffer, count, count);
    check(file.tag);
}

static void writing(void) {
    for (u32 i = 0; i < sizeof buffer; i++)
        buffer[i] = sequence(i);
    begin_file("out", PVIO_ELEMENTS_MAX);
    const struct pvio_file begun = file;
    /* Only at its end, only this file. */
    file.offset--;
    call_for(PVIO_STATUS_STALE, PVIO_CALL_FILE_WRITE, buffer, 1, 0);
    file = begun;
    file.tag += 2;
    call_for(PVIO_STATUS_STALE, PVIO_CALL_FILE_WRITE, buffer, 1, 0);
    file = begun;
    file.name_len--;
    call_for(PVIO_STATUS_STALE, PVIO_CALL_FILE_WRITE, buffer, 1, 0);
    file = begun;
    file.offset++;
    check_same(call_at(PVIO_CALL_FILE_FINISH, (word)&file), PVIO_STATUS_STALE);
    /* Another of the same name is begun: neither harms the other. */
    begin_file("out", 3);
    const struct pvio_file other = file;
    file = begun;
    for (u32 i = 0; i < IN_SIZE - PVIO_ELEMENTS_MAX; i++)
        buffer[i] = sequence(PVIO_ELEMENTS_MAX + i);
    call_for(PVIO_STATUS_OK, PVIO_CALL_FILE_WRITE, buffer, IN_SIZE - PVIO_ELEMENTS_MAX, IN_SIZE - PVIO_ELEMENTS_MAX);
    check_same(call_at(PVIO_CALL_FILE_FINISH, (word)&file), PVIO_STATUS_OK);
    check_same(call_at(PVIO_CALL_FILE_FINISH, (word)&file), PVIO_STATUS_STALE);
    file = other;
    check_same(call_at(PVIO_CALL_FILE_FINISH, (word)&file), PVIO_STATUS_EXISTS);
}

/* The oldest of too many is gone. */
static void many_files(void) {
    struct pvio_file first, second;
    begin_file("first", 1);
    first = file;
    begin_file("second", 1);
    second = file;
    for (u32 i = 2; i < PVIO_UNFINISHED_FILES_MAX + 1; i++)
        begin_file("more", 1);
    file = first;
    check_same(call_at(PVIO_CALL_FILE_FINISH, (word)&file), PVIO_STATUS_STALE);
    file = second;
    check_same(call_at(PVIO_CALL_FILE_FINISH, (word)&file), PVIO_STATUS_OK);
}

/* The functions of pvio.h, which use registers. */
static void functions(void) {
    size_t moved;
    struct pvio_file to;
    pvio_file_open(&file, "in");
    pvio_file_open(&to, "copy");
    check_same(pvio_file_finish(&to), PVIO_STATUS_STALE);
    do {
        check_same(pvio_file_read(&file, buffer, 7000, &moved), PVIO_STATUS_OK);
        check_same(pvio_file_write(&to, buffer, moved), PVIO_STATUS_OK);
    } while (moved == 7000);
    check_same(pvio_file_finish(&to), PVIO_STATUS_OK);
    pvio_file_open(&file, "none");
    check_same(pvio_file_read(&file, buffer, 1, &moved), PVIO_STATUS_MISSING);
    check_same(moved, 0);
}

void guest(void) {
    use_paging(pagings + (BITS == 32 ? 3 : 0), 0);
    if (!state->boots++) {
        reading();
        requests();
        writing();
        many_files();
        pages();
        begin_file("half", 100);
        state->tag = file.tag;
        pvio_native_outb(6, 0xcf9);
        for (;;)
            __asm__ volatile("hlt");
    }
    name_file("half");
    file.tag = state->tag;
    file.offset = 100;
    call_for(PVIO_STATUS_STALE, PVIO_CALL_FILE_WRITE, buffer, 1, 0);
    const u32 is_answered = pvio_probe(0) != 0;
    if (is_answered)
        functions();
    tell("registers", is_answered);
    tell("boots", state->boots);
}
