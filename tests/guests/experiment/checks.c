/*
 * What a monitor must do besides the operations that are measured: accept every prefix, ignore instructions that
 * are not I/O, and pass the guest's own faults to the guest. A program is copied to `trial` and run in ring 1; the
 * device's accesses, and the exception that the guest gets, must be those that a processor would produce.
 */
#include "checks.h"

static u8 *code_end;

static void put(const u8 *bytes, u32 length)
{
    while (length--)
        *code_end++ = *bytes++;
}

/* Runs some code, at `at`, and says what the guest's handler has got: vector << 8 | error, or 0. */
u32 try(u8 *at, const u8 *bytes, u32 length)
{
    static const u8 done[] = {DONE};
    u32 *stack = GUEST_STACK_TOP - 16;

    code_end = at;
    put(bytes, length);
    put(done, sizeof done);
    device_reset();
    run_guest((u32)at, (u32)stack, CODE1, DATA1);
    user_drain();
    return guest_result;
}
int device_saw(u32 out, u32 size, u32 port, u32 value)
{
    const struct access *access = &device_log[0];
    return device_accesses == 1 && access->out == out && access->size == size && access->port == port &&
           access->value == value;
}

void check(int holds, const char *what)
{
    if (!holds)
        failed(what);
}

void check_what_is_io(void)
{
    check(TRY(trial, SET_AX(0x11223344), 0xe7, 0x77) == 0 && device_saw(1, 4, 0x77, 0x11223344),
          "out imm8,eax");
    check(TRY(trial, SET_DX(0xfffe), SET_AX(0x11223344), 0x66, 0xef) == 0 &&
              device_saw(1, 2, 0xfffe, 0x3344),
          "out dx,ax");
    /* Fourteen prefixes that change nothing, of segments and sizes; then one more than a processor takes. */
    check(TRY(trial, SET_DX(0x80), SET_AX(0x55), 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67, 0xf2, 0xf3, 0x66,
              0x26, 0x26, 0x26, 0x26, 0xee) == 0 &&
              device_saw(1, 1, 0x80, 0x55),
          "out dx,al with fourteen prefixes");
    check(TRY(trial, SET_DX(0x80), 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67, 0xf2, 0xf3, 0x66, 0x26, 0x26, 0x26,
              0x26, 0x26, 0xee) == GP &&
              device_accesses == 0,
          "out dx,al with fifteen prefixes is a #GP");
    /* Over the border of two pages. */
    check(TRY(trial + 4096 - 12, SET_DX(0x80), SET_AX(0x55), 0x66, 0x67, 0xef) == 0 &&
              device_saw(1, 2, 0x80, 0x55),
          "out dx,ax on two pages");
}

static void check_strings(void)
{
    u8 *const low = (u8 *)0x8000; /* below 64 KiB, for 16-bit addresses */

    low[0xff] = 0x5a;
    /* std; mov $0x123480ff, %esi; mov $0xffff0001, %ecx; addr16 rep outsb; cld */
    check(TRY(trial, SET_DX(0x80), 0xfd, 0xbe, 0xff, 0x80, 0x34, 0x12, 0xb9, 0x01, 0x00, 0xff, 0xff, 0x67, 0xf3,
              0x6e, 0xfc) == 0 &&
              device_saw(1, 1, 0x80, 0x5a),
          "addr16 rep outsb");
    check(TRY(trial, SET_DX(0x80), 0x31, 0xc9, 0xf3, 0x6d) == 0 && device_accesses == 0, "rep insd of nothing");
    /* xor %eax, %eax; mov %eax, %fs; fs outsb: a null selector can be loaded and not be used. */
    check(TRY(trial, SET_DX(0x80), 0x31, 0xc0, 0x8e, 0xe0, 0x64, 0x6e) == GP && device_accesses == 0,
          "outsb through a null selector is a #GP");
    /* mov $MONITOR_BASE - 2, %esi; outsl: over the end of the segment. */
    check(TRY(trial, SET_DX(0x80), 0xbe, 0xfe, 0xff, 0x3f, 0x00, 0x6f) == GP && device_accesses == 0,
          "outsd over the end of the segment is a #GP");
    /* The monitor's own memory. */
    check(TRY(trial, SET_DX(0x80), 0xbf, 0x00, 0x00, 0x40, 0x00, 0x6c) == GP && device_accesses == 0,
          "insb into the monitor is a #GP");
}

static void check_faults_of_the_guest(void)
{
    u32 page = (u32)in_buffer;

    /* mov $in_buffer - 2, %edi; mov $5, %ecx; rep insb: two elements, then the page is missed. */
    u8 bytes[] = {SET_DX(0x80), 0xbf, (page - 2) & 0xff, (page - 2) >> 8 & 0xff, (page - 2) >> 16, 0,
                  0xb9,         5,    0,                 0,                      0,                0xf3, 0x6c};
    page_set_present(page, 0);
    u32 got = try(trial, bytes, sizeof bytes);
    page_set_present(page, 1);
    /* QEMU takes the ORB for a read, the processor for a write: error code 0 or 2. */
    check((got & ~2) == PF && device_accesses == 2, "insb into a page that is absent is the guest's #PF");

    check(TRY(trial, 0xfa) == GP, "cli is the guest's #GP");
    check(TRY(trial, 0xf4) == GP, "hlt is the guest's #GP");
    check(TRY(trial, 0x0f, 0x22, 0xc0) == GP, "mov to cr0 is the guest's #GP");
    check(TRY(trial, 0x66, 0x90, 0xcd, 0x20) == (GP | 0x102), "int 0x20 is the guest's #GP, with an error code");
    /* pushf; orl $FLAGS_TF, (%esp); popf; out %al, $0x80: the debug trap comes after the OUT. */
    check(TRY(trial, 0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0xe6, 0x80) == 0x100 && device_accesses == 1,
          "a debug trap follows the out");
}

/* The walk never forbids an access: the processor has forbidden it before. */
static void check_walk(int nx)
{
    u32 code = (u32)trial, data = (u32)in_buffer, own = (u32)check_monitor;

    check(may_execute(code, 1) && may_execute(code, 3), "the guest may execute its code");
    check(may_execute(own, 1) && !may_execute(own, 3), "a supervisor's page is no user's");
    check(may_execute(data, 1) == !nx && may_execute(data, 3) == !nx, "NX forbids");
    check(!may_execute(MEMORY_END, 1) && !may_execute(0xfffff000, 3), "what is not mapped is not executed");
    page_set_present(code, 0);
    check(!may_execute(code, 1) && !may_execute(code, 3), "what is absent is not executed");
    page_set_present(code, 1);
}

void check_monitor(int nx)
{
    static void (*const entries[])(void) = {gp_entry, gp_checked_entry};

    guest_handlers[VECTOR_DB] = (u32)guest_handler_db;
    guest_handlers[VECTOR_GP] = (u32)guest_handler_gp;
    guest_handlers[VECTOR_PF] = (u32)guest_handler_pf;
    guest_handlers[VECTOR_VE] = (u32)guest_handler_ve;
    guest_handlers[VECTOR_VC] = (u32)guest_handler_vc;
    for (u32 entry = 0; entry < 2; entry++) {
        trap_through(entries[entry]);
        check_what_is_io();
        check_strings();
        check_faults_of_the_guest();
    }
    check_walk(nx);
    check_todays_mechanisms();
    print("monitor checked\n");
}
