/* The loops: every operation by every mechanism, measured and digested. */
#include "cells.h"

static const char *const names[MECHANISMS] = {
    "native", "trap-checked", "trap", "int",    "pvio", "pvio-mailbox", "sysenter", "svm-ioio",
    "svm-vmmcall", "direct",  "ve",   "vc",     "batch", "trap-user",   "coalesced",
};

const char *mechanism_name(u32 mechanism) { return names[mechanism]; }

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

/* ---- One cell. ---- */

static void run(u32 mechanism, u32 loop, u32 count)
{
    u32 *stack = GUEST_STACK_TOP - 16;

    stack[0] = count;
    batch_next = batch_records;
    stack[1] = (u32)guest_done;
    if (mechanism == NATIVE)
        stack[1] = (u32)native_done;
    if (mechanism == SVM_IOIO || mechanism == SVM_VMMCALL)
        stack[1] = (u32)guest_halts;
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
    switch (mechanism) {
    case TRAP_CHECKED:
        trap_through(gp_checked_entry);
        break;
    case VE:
        trap_through(gp_ve_entry);
        break;
    case VC:
        trap_through(gp_vc_entry);
        break;
    case TRAP_USER:
        trap_through(gp_user_entry);
        break;
    case COALESCED:
        trap_through(gp_posted_entry);
        break;
    default:
        trap_through(gp_entry);
    }
    svm_intercepts_io = mechanism == SVM_IOIO;
    window(18);
    u64 before = rdtsc();
    run(mechanism, loop, count);
    u64 after = rdtsc();
    window(19);
    user_drain();
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
    case DIRECT:
        return called_loops[cell];
    case VE:
        return ve_loops[cell];
    case BATCH:
        return batch_loops[cell];
    case COALESCED:
        return write_loops[cell];
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

void run_cell(u32 mechanism, u32 cell)
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
    table_add(mechanism, cell, cycles, count);

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

void run_nothing(u32 mechanism, u32 count, const char *name)
{
    set_window_name(names[mechanism], name, 0);
    u64 cycles = measure(mechanism, (u32)nothing, count);
    table_add_nothing(mechanism, cycles, count);
    print("nothing ");
    print(names[mechanism]);
    print(" ");
    print_number(count);
    print(" ");
    print_cycles(cycles);
    print("\n");
}

