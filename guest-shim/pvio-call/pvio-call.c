/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * pvio-call: pvio's hypercalls for the shell of a Linux guest. One static program, i386 or x86-64, that needs no libc.
 *
 * It makes hypercalls only, never the instructions in and out: without the plugin it says so, and its status is 3.
 */

#include "files.h"

static const char help[] =
    "usage: pvio-call COMMAND [ARGUMENT...]\n"
    "\n"
    "Makes hypercalls to pvio, a plugin of the QEMU that this machine runs on. The plugin needs the option hypercall=any.\n"
    "\n"
    "  status                 print whether pvio answers, the version of its ABI and its features\n"
    "  exit STATUS            end the machine; QEMU's exit status is STATUS, 0 to 255\n"
    "  log [-l LEVEL] TEXT... write a line to the log; LEVEL is error, warning, info (the default) or debug\n"
    "  log [-l LEVEL] -       write each line of standard input\n"
    "  begin NAME, end NAME   open and close a window of the statistics\n"
    "  reset                  set all counts to zero\n"
    "  dump                   write the statistics so far\n"
    "  inb|inw|inl PORT       read from a port and print the value\n"
    "  outb|outw|outl PORT VALUE\n"
    "                         write to a port\n"
    "  get NAME [FILE]        copy a file of the directory share=DIRECTORY to FILE; - is standard output\n"
    "  put FILE [NAME]        copy FILE to that directory; - is standard input, and needs NAME\n"
    "  -h, --help             print this help\n"
    "\n"
    "Ports and values are decimal, or hexadecimal as 0x3f8.\n"
    "Exit status: 0 done, 1 the call or a file failed, 2 wrong usage, 3 no pvio answers, 4 the plugin lacks hypercall=any.\n";

static const char *command;

static __attribute__((noreturn)) void wrong(const char *right)
{
    die(USAGE, command, ": write pvio-call ", right);
}

static void expect(int count, int from, int to, const char *right)
{
    if (count < from || count > to)
        wrong(right);
}

static void show_status(void)
{
    static const char *const names[] = {
        "every-port", "memory", "mailbox", "large-mailbox", "compact-batch", "files",
    };
    struct line line;
    pvio_word features = 0, count = 0;
    const uint32_t word = pvio_call(pvio_call_word(PVIO_CALL_PROBE, 0, 0), &features, &count);

    check(pvio_status(word), "status", "");
    line.length = 0;
    put(&line, "pvio answers: ABI ");
    put_number(&line, word & PVIO_DATA_MASK);
    put(&line, ", features");
    for (unsigned int bit = 0; bit < sizeof names / sizeof *names; bit++)
        if (features >> bit & 1) {
            put(&line, " ");
            put(&line, names[bit]);
        }
    show(&line, 1);
}

/* ---- The log ---- */

static void log_line(uint8_t level, const char *text, size_t length)
{
    /* A longer line is several. */
    do {
        size_t now = length < PVIO_LOG_MAX ? length : PVIO_LOG_MAX;
        /* Not in the middle of a character. */
        while (now < length && now > PVIO_LOG_MAX - 4 && ((unsigned char)text[now] & 0xc0) == 0x80)
            now--;
        check(pvio_log(level, text, now), "log", "");
        text += now;
        length -= now;
    } while (length);
}

static void log_input(uint8_t level)
{
    size_t length = 0;
    long count;

    do {
        count = system_call(SYS_READ, 0, (long)(part + length), (long)(sizeof part - length));
        if (count == -EINTR)
            continue;
        if (count < 0)
            die(FAILED, "log: cannot read standard input", "", "");
        length += (size_t)count;
        for (size_t begin = 0, at = 0;; at++) {
            const int is_last = at == length;
            /* The rest waits for its end, unless there is no more, or no room. */
            if (is_last && count && !(begin == 0 && length == sizeof part)) {
                for (size_t i = begin; i < length; i++)
                    part[i - begin] = part[i];
                length -= begin;
                break;
            }
            if (is_last || part[at] == '\n') {
                if (!is_last || at > begin)
                    log_line(level, part + begin, at - begin);
                begin = at + 1;
            }
            if (is_last) {
                length = 0;
                break;
            }
        }
    } while (count);
}

static void log_command(int count, char **arguments)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    static const char right[] = "log [-l error|warning|info|debug] TEXT";
    uint8_t level = PVIO_LEVEL_INFO;
    size_t length = 0;

    if (count && same(arguments[0], "-l")) {
        expect(count, 2, count, right);
        for (level = 0; level < 4 && !same(arguments[1], levels[level]);)
            level++;
        if (level == 4)
            wrong(right);
        count -= 2, arguments += 2;
    }
    expect(count, 1, count, right);
    if (count == 1 && same(arguments[0], "-")) {
        log_input(level);
        return;
    }
    for (int i = 0; i < count; i++) {
        if (i && length < sizeof part)
            part[length++] = ' ';
        for (const char *at = arguments[i]; *at && length < sizeof part; at++)
            part[length++] = *at;
    }
    log_line(level, part, length);
}

/* ---- Ports ---- */

static void read_port(uint8_t call, const char *text)
{
    struct line line;
    pvio_word dx = 0, cx = 0;
    const uint16_t port = (uint16_t)number_of(text, 0xffff, "a port is 0 to 0xffff");
    const uint32_t word = pvio_call(pvio_call_word(call, 0, port), &dx, &cx);

    check(pvio_status(word), command, "");
    line.length = 0;
    put_hex(&line, call == PVIO_CALL_INL ? (uint32_t)dx : word & PVIO_DATA_MASK, 2 << (call - PVIO_CALL_INB));
    show(&line, 1);
}

static void write_port(uint8_t call, char **arguments)
{
    static const char *const limits[] = {"a byte is 0 to 0xff", "a word is 0 to 0xffff", "a value is 0 to 0xffffffff"};
    const unsigned int size = call - PVIO_CALL_OUTB;
    const uint16_t port = (uint16_t)number_of(arguments[0], 0xffff, "a port is 0 to 0xffff");
    const uint32_t value = number_of(arguments[1], (1ull << (8 << size)) - 1, limits[size]);
    pvio_word dx = value, cx = 0;
    const uint8_t operand = call == PVIO_CALL_OUTB ? (uint8_t)value : 0;

    check(pvio_status(pvio_call(pvio_call_word(call, operand, port), &dx, &cx)), command, "");
}

/* ---- The commands ---- */

/* Succeeds if the command is one of ports. */
static int port_command(int count, char **arguments)
{
    static const char *const names[] = {"inb", "inw", "inl", "outb", "outw", "outl"};
    for (uint8_t i = 0; i < 6; i++)
        if (same(command, names[i])) {
            expect(count, i < 3 ? 1 : 2, i < 3 ? 1 : 2, i < 3 ? "inb PORT" : "outb PORT VALUE");
            if (i < 3)
                read_port((uint8_t)(PVIO_CALL_INB + i), arguments[0]);
            else
                write_port((uint8_t)(PVIO_CALL_INB + i), arguments);
            return 1;
        }
    return 0;
}

static void run(int count, char **arguments)
{
    if (same(command, "status")) {
        expect(count, 0, 0, "status");
        show_status();
    } else if (same(command, "exit")) {
        expect(count, 1, 1, "exit STATUS");
        check(pvio_exit((uint8_t)number_of(arguments[0], 255, "an exit status is 0 to 255")), "exit", "");
    } else if (same(command, "log")) {
        log_command(count, arguments);
    } else if (same(command, "begin")) {
        expect(count, 1, 1, "begin NAME");
        check(pvio_begin(arguments[0]), "begin ", arguments[0]);
    } else if (same(command, "end")) {
        expect(count, 1, 1, "end NAME");
        check(pvio_end(arguments[0]), "end ", arguments[0]);
    } else if (same(command, "reset")) {
        expect(count, 0, 0, "reset");
        check(pvio_reset(), "reset", "");
    } else if (same(command, "dump")) {
        expect(count, 0, 0, "dump");
        check(pvio_dump(), "dump", "");
    } else if (same(command, "get")) {
        expect(count, 1, 2, "get NAME [FILE]");
        get(arguments[0], count == 2 ? arguments[1] : last_of(arguments[0]));
    } else if (same(command, "put")) {
        expect(count, 1, 2, "put FILE [NAME]");
        if (count == 1 && is_standard(arguments[0]))
            wrong("put - NAME");
        put_file(arguments[0], count == 2 ? arguments[1] : last_of(arguments[0]));
    } else if (!port_command(count, arguments)) {
        die(USAGE, "there is no command ", command, ": see pvio-call --help");
    }
}

__attribute__((used, noreturn)) void program(long *stack)
{
    const int count = (int)stack[0];
    char **arguments = (char **)(stack + 1);

    if (count < 2)
        die(USAGE, "write pvio-call COMMAND: see pvio-call --help", "", "");
    command = arguments[1];
    if (same(command, "-h") || same(command, "--help")) {
        leave(write_all(1, help, sizeof help - 1) < 0 ? FAILED : DONE);
    }
    run(count - 2, arguments + 2);
    leave(DONE);
}
