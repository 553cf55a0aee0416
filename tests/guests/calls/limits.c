/*
 * calls-limits32, calls-limits64: the length and the contents of texts, and the numbers of windows and dumps.
 * tests/tests/suite/hypercalls/limits.rs has the lines that are logged. Needs no devices.
 */
#include "lib/world.h"

static char text[PVIO_LOG_MAX + 1];

static void set(char letter, u32 size) { fill(text, (u8)letter, size); }

static void log_text(u8 level, const char *line, u32 size) {
    check_same(pvio_log(level, line, size), PVIO_STATUS_OK);
}
/* With the zeros in it, but not the last. */
#define LOG(level, line) log_text(level, line, sizeof line - 1)

static void lines(void) {
    LOG(PVIO_LEVEL_ERROR, "plain");
    LOG(PVIO_LEVEL_WARNING, "a\nb\r\t\x1b[2J\0\x7f");
    LOG(PVIO_LEVEL_INFO, "gr\xc3\xbc\xc3\x9f" "e \xe2\x80\xae");
    LOG(PVIO_LEVEL_DEBUG, "\xff\xc3(");
    LOG(PVIO_LEVEL_INFO, "");
    set('x', sizeof text);
    log_text(PVIO_LEVEL_INFO, text, PVIO_LOG_MAX);
    check_same(pvio_log(PVIO_LEVEL_INFO, text, PVIO_LOG_MAX + 1), PVIO_STATUS_LENGTH);
    check_same(pvio_log(4, text, 1), PVIO_STATUS_ARGUMENT);
    check_same(pvio_log(0xff, text, 1), PVIO_STATUS_ARGUMENT);
}

static u32 begin_window(const char *name, u32 size) { return pvio_text_(PVIO_CALL_BEGIN, 0, name, size); }
static u32 end_window(const char *name, u32 size) { return pvio_text_(PVIO_CALL_END, 0, name, size); }

static void names(void) {
    static const char *const wrong[] = {"\n", "a\x1b", "\x7f", "\xff", "\xc3", "\xc2\x9b" "31m"};
    for (u32 i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        check_same(begin_window(wrong[i], (u32)pvio_length_(wrong[i])), PVIO_STATUS_ARGUMENT);
        check_same(end_window(wrong[i], (u32)pvio_length_(wrong[i])), PVIO_STATUS_ARGUMENT);
    }
    check_same(begin_window(text, 0), PVIO_STATUS_LENGTH);
    check_same(end_window(text, 0), PVIO_STATUS_LENGTH);
    check_same(begin_window(text, PVIO_NAME_MAX + 1), PVIO_STATUS_LENGTH);
    check_same(end_window(text, PVIO_NAME_MAX + 1), PVIO_STATUS_LENGTH);
    check_same(end_window("none", 4), PVIO_STATUS_STATE);
}

static void windows(void) {
    set('w', PVIO_NAME_MAX);
    check_same(begin_window(text, PVIO_NAME_MAX), PVIO_STATUS_OK);
    check_same(begin_window(text, PVIO_NAME_MAX), PVIO_STATUS_STATE);
    for (u32 i = 1; i < PVIO_WINDOWS_MAX; i++) {
        const char name[] = {(char)('a' + i / 16), (char)('a' + i % 16)};
        check_same(begin_window(name, 2), PVIO_STATUS_OK);
        if (i & 1)
            check_same(end_window(name, 2), PVIO_STATUS_OK);
    }
    check_same(begin_window("more", 4), PVIO_STATUS_FULL);
    check_same(end_window("more", 4), PVIO_STATUS_STATE);
    /* Existing windows still work. */
    check_same(begin_window("ab", 2), PVIO_STATUS_OK);
    check_same(begin_window("ab", 2), PVIO_STATUS_STATE);
    check_same(end_window("ab", 2), PVIO_STATUS_OK);
    check_same(end_window("ab", 2), PVIO_STATUS_STATE);
}

static void dumps(void) {
    for (u32 i = 0; i < PVIO_DUMPS_MAX; i++)
        check_same(pvio_dump(), PVIO_STATUS_OK);
    check_same(pvio_dump(), PVIO_STATUS_FULL);
}

void guest(void) {
    lines();
    names();
    /* Before there are windows: each dump holds them all. */
    dumps();
    windows();
}
