/*
 * The experiment: every operation by every mechanism, in the same loop; it measures each, and checks
 * that all did the same. qemu-scripts/experiment reads the output.
 */
#include "harness.h"

enum { NATIVE, TRAP_CHECKED, TRAP, INT, PVIO, PVIO_MAILBOX, SYSENTER, SVM_IOIO, SVM_VMMCALL, MECHANISMS };
#define CELLS 36

static const char *const names[MECHANISMS] = {"native",       "trap-checked", "trap",     "int",        "pvio",
                                              "pvio-mailbox", "sysenter",     "svm-ioio", "svm-vmmcall"};

/* The command line of the boot loader: `scalars=`, `strings=`, `rounds=`, `logs=`. */
static struct {
    u32 scalars; /* how often a loop repeats an operation of one element: a multiple of 16 */
    u32 strings; /* and one of 512 */
    u32 rounds;  /* how often everything is measured */
    u32 logs;    /* print the device's logs */
} options = {.scalars = 4096, .strings = 64, .rounds = 7, .logs = 0};

/* Returns the length of `what` if `text` starts with it; else 0. */
static u32 starts_with(const char *text, const char *what)
{
    u32 at = 0;
    for (; what[at]; at++)
        if (text[at] != what[at])
            return 0;
    return at;
}

static void read_options(u32 magic, const u32 *info)
{
    /* Multiboot 3.3, "Boot information format": bit 2 of the flags, then the command line is at 16. */
    if (magic != 0x2badb002 || !(info[0] & 1 << 2))
        return;
    const struct {
        const char *key;
        u32 *place;
    } keys[] = {{"scalars=", &options.scalars}, {"strings=", &options.strings},
                {"rounds=", &options.rounds}, {"logs=", &options.logs}};
    for (const char *at = (const char *)info[4]; *at; at++)
        for (u32 key = 0; key < 4; key++) {
            u32 length = starts_with(at, keys[key].key), value = 0;
            for (u32 digit = length; length && at[digit] >= '0' && at[digit] <= '9'; digit++)
                value = value * 10 + (at[digit] - '0');
            if (length)
                *keys[key].place = value;
        }
}

/* ---- Windows of pvio's statistics: calls 18 and 19 of guest-shim/ABI.md. ---- */

static char window_name[64];
static u32 window_length;

static void set_window_name(const char *mechanism, const char *cell, u32 number)
{
    u32 at = 0;
    while (*mechanism)
        window_name[at++] = *mechanism++;
    window_name[at++] = ' ';
    if (cell)
        while (*cell)
            window_name[at++] = *cell++;
    else {
        window_name[at++] = '0' + number / 10;
        window_name[at++] = '0' + number % 10;
    }
    window_length = at;
}

static inline void window(u32 call)
{
    u32 eax = 0x80000000 | call << 24, edx = (u32)window_name, ecx = window_length;
    __asm__ volatile(".byte 0x0f, 0x1f, 0x80, 'P', 0x32, 0x90, 0x90"
                     : "+a"(eax), "+d"(edx), "+c"(ecx)
                     :
                     : "memory");
}

static inline u64 rdtsc(void)
{
    u64 time;
    __asm__ volatile("rdtsc" : "=A"(time)::"memory");
    return time;
}

/* ---- One cell. ---- */

static void run(u32 mechanism, u32 loop, u32 count)
{
    u32 *stack = GUEST_STACK_TOP - 16;

    stack[0] = count;
    stack[1] = (u32)(mechanism == NATIVE ? native_done : mechanism >= SVM_IOIO ? guest_halts : guest_done);
    switch (mechanism) {
    case NATIVE:
        run_native(loop, (u32)stack);
        break;
    case SYSENTER:
        run_guest(loop, (u32)stack, CODE3, DATA3);
        break;
    case SVM_IOIO:
    case SVM_VMMCALL:
        svm_guest(loop, (u32)stack);
        break;
    default:
        run_guest(loop, (u32)stack, CODE1, DATA1);
    }
}

static u64 measure(u32 mechanism, u32 loop, u32 count)
{
    trap_through(mechanism == TRAP_CHECKED ? gp_checked_entry : gp_entry);
    svm_intercepts_io = mechanism == SVM_IOIO;
    window(18);
    u64 before = rdtsc();
    run(mechanism, loop, count);
    u64 after = rdtsc();
    window(19);
    return after - before;
}

/* FNV-1a. */
static u32 digest(u32 hash, const void *bytes, u32 length)
{
    const u8 *at = bytes;
    while (length--)
        hash = (hash ^ *at++) * 16777619;
    return hash;
}
#define DIGEST_START 2166136261u

static void print_log(void)
{
    for (u32 at = 0; at < device_accesses; at++) {
        const struct access *access = &device_log[at % LOG_ENTRIES];
        print(access->out ? "o" : "i");
        print_number(access->size);
        print_hex(access->port);
        print(":");
        print_hex(access->value);
        print(at % 16 == 15 || at + 1 == device_accesses ? "\n" : " ");
    }
}

static u32 loop_of(u32 mechanism, u32 cell)
{
    switch (mechanism) {
    case INT:
        return int_loops[cell];
    case PVIO:
        return pvio_loops[cell];
    case PVIO_MAILBOX:
        return mailbox_loops[cell];
    case SYSENTER:
        return sysenter_loops[cell];
    case SVM_VMMCALL:
        return vmmcall_loops[cell];
    case SVM_IOIO:
        return vmmcall_loops[cell] ? direct_loops[cell] : 0;
    default:
        return direct_loops[cell];
    }
}

static void print_cycles(u64 cycles)
{
    /* Two halves: no division of 64 bits. */
    print_hex(cycles >> 32);
    print(":");
    print_hex(cycles);
}

static void run_cell(u32 mechanism, u32 cell)
{
    u32 loop = loop_of(mechanism, cell);
    u32 count = cell < 24 ? options.scalars : options.strings;

    if (!loop)
        return;
    device_reset();
    for (u32 at = 0; at < sizeof out_buffer; at++) {
        out_buffer[at] = at * 7 + (at >> 8) + 1;
        in_buffer[at] = 0;
    }
    set_window_name(names[mechanism], 0, cell);
    u64 cycles = measure(mechanism, loop, count);

    u32 memory = digest(DIGEST_START, in_buffer, sizeof in_buffer);
    memory = digest(memory, &guest_result, sizeof guest_result);
    memory = digest(memory, out_buffer, sizeof out_buffer);
    u32 entries = device_accesses < LOG_ENTRIES ? device_accesses : LOG_ENTRIES;
    print("cell ");
    print(names[mechanism]);
    print(" ");
    print_number(cell);
    print(" ");
    print_number(count);
    print(" ");
    print_cycles(cycles);
    print(" ");
    print_number(device_accesses);
    print(" ");
    print_hex(digest(DIGEST_START, device_log, entries * sizeof *device_log));
    print(" ");
    print_hex(memory);
    print("\n");
    if (options.logs)
        print_log();
}

static void run_nothing(u32 mechanism, u32 count, const char *name)
{
    set_window_name(names[mechanism], name, 0);
    u64 cycles = measure(mechanism, (u32)nothing, count);
    print("nothing ");
    print(names[mechanism]);
    print(" ");
    print_number(count);
    print(" ");
    print_cycles(cycles);
    print("\n");
}

void start(u32 magic, const u32 *info)
{
    read_options(magic, info);
    console_start();
    struct features features = processor_start();
    const u32 has[MECHANISMS] = {1,
                                 1,
                                 1,
                                 1,
                                 features.pvio,
                                 features.mailbox,
                                 features.sysenter,
                                 features.svm,
                                 features.svm};

    print("experiment nx=");
    print_number(features.nx);
    print(" scalars=");
    print_number(options.scalars);
    print(" strings=");
    print_number(options.strings);
    print(" rounds=");
    print_number(options.rounds);
    print("\n");
    check_monitor(features.nx);
    if (features.svm)
        svm_start();
    for (u32 round = 0; round < options.rounds; round++) {
        print("round ");
        print_number(round);
        print("\n");
        for (u32 mechanism = 0; mechanism < MECHANISMS; mechanism++)
            if (has[mechanism]) {
                run_nothing(mechanism, options.scalars, "scalars");
                run_nothing(mechanism, options.strings, "strings");
            }
        for (u32 cell = 0; cell < CELLS; cell++)
            for (u32 mechanism = 0; mechanism < MECHANISMS; mechanism++)
                if (has[mechanism])
                    run_cell(mechanism, cell);
    }
    print("end\n");
    end(0);
}

_Noreturn void failed(const char *what)
{
    print("failed: ");
    print(what);
    print("\n");
    end(1);
}

_Noreturn void guest_is_lost(const struct frame *frame, u32 vector)
{
    print("vector ");
    print_number(vector);
    print(" at ");
    print_hex(frame->eip);
    print("\n");
    failed("the guest has no handler for its exception");
}

/* Every exception that is no I/O. */
void exception(struct frame *frame)
{
    extern u8 emulate_start[], emulate_end[];
    u32 vector = exception_vector, cr2;
    int has_error = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;

    if (frame->cs & 3) {
        reflect(frame, vector, has_error, frame->error);
        return;
    }
    /* The monitor itself, at the guest's memory: the guest's fault. Its registers say how far its string has
     * come; the work that was begun for it is abandoned with the monitor's stack. */
    __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
    if (vector == VECTOR_PF && frame->eip >= (u32)emulate_start && frame->eip < (u32)emulate_end &&
        cr2 < MONITOR_BASE) {
        struct frame *guest = (struct frame *)MONITOR_STACK_TOP - 1;
        reflect(guest, VECTOR_PF, 1, frame->error);
        leave_to_guest(guest);
    }
    print("vector ");
    print_number(vector);
    print(" at ");
    print_hex(frame->eip);
    print(" error ");
    print_hex(frame->error);
    print(" cr2 ");
    print_hex(cr2);
    print("\n");
    failed("an exception in the monitor");
}
