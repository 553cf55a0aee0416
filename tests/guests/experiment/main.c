/*
 * The experiment: every operation by every mechanism, in the same loop; it measures each, and checks
 * that all did the same. qemu-scripts/experiment reads the output.
 */
#include "cells.h"

/* The command line of the boot loader: `scalars=`, `strings=`, `rounds=`, `logs=`, `mechanisms=`,
 * `report=`. */
struct options options = {.scalars = 4096, .strings = 64, .rounds = 7, .mechanisms = ~0u, .report = 1};

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
                {"rounds=", &options.rounds},   {"logs=", &options.logs},
                {"report=", &options.report},   {"mechanisms=", &options.mechanisms}};
    for (const char *at = (const char *)info[4]; *at; at++)
        for (u32 key = 0; key < sizeof keys / sizeof *keys; key++) {
            u32 length = starts_with(at, keys[key].key), value = 0;
            for (u32 digit = length; length && at[digit] >= '0' && at[digit] <= '9'; digit++)
                value = value * 10 + (at[digit] - '0');
            if (length)
                *keys[key].place = value;
        }
}

void start(u32 magic, const u32 *info)
{
    read_options(magic, info);
    console_start();
    struct features features = processor_start();
    u32 has[MECHANISMS];
    for (u32 mechanism = 0; mechanism < MECHANISMS; mechanism++)
        has[mechanism] = options.mechanisms >> mechanism & 1;
    has[PVIO] &= features.pvio;
    has[PVIO_MAILBOX] &= features.mailbox;
    has[SYSENTER] &= features.sysenter;
    has[SVM_IOIO] &= features.svm;
    has[SVM_VMMCALL] &= features.svm;

    print("experiment nx=");
    print_number(features.nx);
    print(" scalars=");
    print_number(options.scalars);
    print(" strings=");
    print_number(options.strings);
    print(" rounds=");
    print_number(options.rounds);
    print("\n");
    user_start();
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
    if (options.report) {
        model_print();
        table_print();
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
    if (vector == VECTOR_UD && probe_resume) {
        frame->eip = probe_resume;
        probe_resume = 0;
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
    failed(monitor_step ? monitor_step : "an exception in the monitor");
}
