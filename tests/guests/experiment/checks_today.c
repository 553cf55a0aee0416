/*
 * The mechanisms of today's guests: the handlers of #VE and #VC decode what a monitor does, and refuse what they
 * must; posted writes keep their order; records and requests of a guest that are wrong do nothing.
 */
#include "checks.h"
#include "protocol.h"

#define UNHANDLED_VE (VECTOR_VE << 8)
#define INT(vector) 0xcd, vector

static int nth_access(u32 number, u32 out, u32 size, u32 value)
{
    const struct access *access = &device_log[number];
    return number < device_accesses && access->out == out && access->size == size && access->value == value;
}

static void check_ve(void)
{
    trap_through(gp_ve_entry);
    check_what_is_io();
    /* in %dx, %al keeps the rest of EAX: its value goes out again. */
    check(TRY(trial, SET_DX(0x80), SET_AX(0x11223344), 0xec, 0xef) == 0 && nth_access(1, 1, 4, 0x1122331b),
          "in al,dx by #VE keeps the rest of eax");
    check(TRY(trial, SET_DX(0x80), 0x6e) == UNHANDLED_VE && device_accesses == 0, "a #VE of outsb is refused");
    check(TRY(trial, 0xfa) == 0x0d00, "cli is no #VE");
}

static void check_vc(void)
{
    u8 *const low = (u8 *)0x8000;

    trap_through(gp_vc_entry);
    check_what_is_io();
    check(TRY(trial, SET_DX(0x80), SET_AX(0x11223344), 0x66, 0xed, 0xef) == 0 &&
              nth_access(1, 1, 4, 0x1122e41b),
          "in ax,dx by #VC keeps the rest of eax");
    low[0xff] = 0x5a;
    /* std; mov $0x123480ff, %esi; mov $0xffff0001, %ecx; addr16 rep outsb; cld; mov %esi, %eax; out %eax, %dx */
    check(TRY(trial, SET_DX(0x80), 0xfd, 0xbe, 0xff, 0x80, 0x34, 0x12, 0xb9, 0x01, 0x00, 0xff, 0xff, 0x67, 0xf3,
              0x6e, 0xfc, 0x89, 0xf0, 0xef) == 0 &&
              device_accesses == 2 && nth_access(0, 1, 1, 0x5a) && nth_access(1, 1, 4, 0x123480fe),
          "addr16 rep outsb by #VC");
    check(TRY(trial, SET_DX(0x80), 0x31, 0xc9, 0xf3, 0x6d) == 0 && device_accesses == 0,
          "rep insd of nothing by #VC");
    /* mov $in_buffer, %edi; mov $600, %ecx; rep insl: more than the GHCB's buffer holds at once. */
    u32 to = (u32)in_buffer;
    u8 bytes[] = {SET_DX(0x80), 0xbf, to & 0xff, to >> 8 & 0xff, to >> 16 & 0xff, 0, 0xb9, 0x58, 2, 0, 0, 0xf3, 0x6d};
    check(try(trial, bytes, sizeof bytes) == 0 && device_accesses == 600 && nth_access(599, 0, 4, device_log[3].value),
          "rep insd by #VC continues after a full buffer");
    check(TRY(trial, 0xfa) == 0x0d00, "cli is no #VC");
}

/* A wrong GHCB does nothing. */
static int ghcb_refuses(u32 code, u32 information, u32 count, u32 scratch, u32 valid_scratch)
{
    static const u8 call[] = {INT(VECTOR_GHCB)};

    ghcb.usage = 0;
    for (u32 at = 0; at < sizeof ghcb.valid; at++)
        ghcb.valid[at] = 0;
    ghcb.exit_code = code;
    ghcb.exit_info_1 = information;
    ghcb.exit_info_2 = count;
    ghcb.scratch = scratch;
    ghcb_set_valid(GHCB_FIELD(exit_code));
    ghcb_set_valid(GHCB_FIELD(exit_info_1));
    ghcb_set_valid(GHCB_FIELD(exit_info_2));
    if (valid_scratch)
        ghcb_set_valid(GHCB_FIELD(scratch));
    return try(trial, call, sizeof call) == 0 && device_accesses == 0 && ghcb.exit_info_1 != 0;
}

static void check_ghcb(void)
{
    u32 bytes = 1 << EXIT_SIZE, write = EXIT_STRING | bytes, start = (u32)ghcb.buffer;

    check(ghcb_refuses(EXIT_CODE_IO + 1, bytes | EXIT_IN, 0, 0, 0), "another exit code is refused");
    check(ghcb_refuses(EXIT_CODE_IO, EXIT_IN, 0, 0, 0), "an access without a size is refused");
    check(ghcb_refuses(EXIT_CODE_IO, 3 << EXIT_SIZE | EXIT_IN, 0, 0, 0), "an access of two sizes is refused");
    check(ghcb_refuses(EXIT_CODE_IO, bytes, 0, 0, 0), "an out without a valid rax is refused");
    check(ghcb_refuses(EXIT_CODE_IO, write, 1, start, 0), "a string without a valid scratch is refused");
    check(ghcb_refuses(EXIT_CODE_IO, write, 1, start - 1, 1), "a string before the buffer is refused");
    check(ghcb_refuses(EXIT_CODE_IO, write, 2032, start + 1, 1), "a string over the buffer's end is refused");
    check(ghcb_refuses(EXIT_CODE_IO, write, 0x7fffffff, start, 1), "a string that wraps is refused");
}

/* int $VECTOR_IO_CALL; mov %ebx, %ebp: the status is the result. */
static void check_io_calls(void)
{
    check(TRY(trial, 0xbb, IO_FUNCTION, 0, 0, 0, 0xb9, 3, 0, 0, 0, 0x31, 0xf6, SET_DX(0x80), INT(VECTOR_IO_CALL),
              0x89, 0xdd) == ~0u &&
              device_accesses == 0,
          "a call with 3 bytes is refused");
    check(TRY(trial, 0xbb, IO_FUNCTION, 0, 0, 0, 0xb9, 4, 0, 0, 0, 0xbe, 2, 0, 0, 0, SET_DX(0x80),
              INT(VECTOR_IO_CALL), 0x89, 0xdd) == ~0u &&
              device_accesses == 0,
          "a call in no direction is refused");
    check(TRY(trial, 0xbb, 31, 0, 0, 0, 0xb9, 4, 0, 0, 0, 0x31, 0xf6, SET_DX(0x80), INT(VECTOR_IO_CALL), 0x89,
              0xdd) == ~0u &&
              device_accesses == 0,
          "a call of another function is refused");
}

static void check_batches(void)
{
    struct record *records = (struct record *)batch_records;
    u32 at = (u32)records;

    records[0] = (struct record){.operation = OP_OUT, .port = 0x80, .value = 0x5a};
    records[1] = (struct record){.operation = OPERATIONS, .port = 0x80};
    records[2] = records[0];
    /* mov $records, %esi; mov $3, %ebx; int $VECTOR_BATCH; mov %ebx, %ebp */
    u8 bytes[] = {0xbe, at & 0xff, at >> 8 & 0xff, at >> 16 & 0xff, 0, 0xbb, 3, 0, 0, 0, INT(VECTOR_BATCH), 0x89, 0xdd};
    check(try(trial, bytes, sizeof bytes) == 1 && device_saw(1, 1, 0x80, 0x5a), "a batch stops at a wrong record");
    bytes[6] = BATCH_RECORDS + 1;
    check(try(trial, bytes, sizeof bytes) == 0 && device_accesses == 0, "a batch of too many records is refused");
    bytes[6] = 3;
    bytes[1] = bytes[2] = 0xff;
    bytes[3] = MONITOR_BASE >> 16;
    check(try(trial, bytes, sizeof bytes) == 0 && device_accesses == 0, "a batch in the monitor is refused");
}

static void check_user_space(void)
{
    static void (*const entries[])(void) = {gp_user_entry, gp_posted_entry};

    for (u32 entry = 0; entry < 2; entry++) {
        trap_through(entries[entry]);
        check_what_is_io();
        /* out, out, in, out: in this order. */
        check(TRY(trial, SET_DX(0x80), SET_AX(1), 0xee, 0x40, 0xef, 0x66, 0xed, 0xee) == 0 && device_accesses == 4 &&
                  nth_access(0, 1, 1, 1) && nth_access(1, 1, 4, 2) && nth_access(2, 0, 2, 0xe41b) &&
                  nth_access(3, 1, 1, 0x1b),
              "accesses in user space keep their order");
        /* mov $out_buffer, %esi; mov $40, %ecx; rep outsb: more than the ring has. */
        u32 from = (u32)out_buffer;
        u8 bytes[] = {SET_DX(0x80), 0xbe, from & 0xff, from >> 8 & 0xff, from >> 16 & 0xff, 0, 0xb9, 40, 0, 0, 0, 0xf3,
                      0x6e};
        for (u32 at = 0; at < 40; at++)
            out_buffer[at] = at;
        int right = try(trial, bytes, sizeof bytes) == 0 && device_accesses == 40;
        for (u32 at = 0; at < 40; at++)
            right &= nth_access(at, 1, 1, at);
        check(right, "rep outsb in user space keeps its order");
    }
}

void check_todays_mechanisms(void)
{
    check_ve();
    check_vc();
    check_ghcb();
    check_io_calls();
    check_batches();
    check_user_space();
}
