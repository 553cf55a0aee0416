/* The monitor's parts, and the data that they exchange. */
#pragma once

#include "machine.h"
#include "types.h"

/*
 * What a guest was doing: what entry.S pushes, and below it (towards higher addresses) what the processor
 * pushes when it comes from an outer ring with an error code (SDM Vol. 3A 6.12.1, figure 6-4).
 */
struct frame {
    u32 es, ds;
    u32 edi, esi, ebp, unused, ebx, edx, ecx, eax; /* PUSHA's order */
    u32 error;
    u32 eip, cs, eflags, esp, ss;
};

/* An instruction, decoded. */
struct io {
    u8 operation; /* OP_IN + 1: a word from a port */
    u8 length;    /* of the instruction */
    u8 immediate; /* the port is `port`, not DX */
    u8 port;
    u8 repeat;    /* the rest is for strings: a repeat prefix */
    u8 address16; /* CX, SI, DI instead of ECX, ESI, EDI */
    u8 segment;   /* of outs' source: SEGMENT_... */
};

enum { SEGMENT_ES, SEGMENT_CS, SEGMENT_SS, SEGMENT_DS, SEGMENT_FS, SEGMENT_GS };

/* decode.c: -1 where these bytes are no port I/O, or none that a processor takes; 0 where the first
 * `available` bytes do not tell; else the length. */
int decode(const u8 *code, u32 available, struct io *io);
#define LONGEST 15 /* bytes of an instruction (SDM Vol. 2, 2.3.11) */

/* walk.c: may code of this ring be executed from the page of `linear`? */
int may_execute(u32 linear, u32 ring);

/* fetch.c: the guest's code at CS:EIP, or null. */
const u8 *fetch(const struct frame *frame);

/* The position of a string. */
struct string {
    u32 repeat, address16;
    u32 limit; /* the last offset of the segment, whose base is 0; an empty segment has no `valid` */
    u32 valid;
};

/* The strings of a hypercall: a count in ECX, addresses of 32 bits in the guest's flat segment. */
extern const struct string whole_string;

/* emulate.c: carries an operation out on the guest's registers and memory. 0 where its memory is beyond
 * the segment's end: the guest gets a #GP. */
int emulate(struct frame *frame, u32 operation, u32 port, const struct string *string);

/* segment.c: where the string of a decoded instruction lies. */
struct string string_of(const struct frame *frame, const struct io *io);

/* device.c: the virtual device. */
u32 device_in(u32 port, u32 size);
void device_out(u32 port, u32 size, u32 value);

struct access {
    u8 out, size;
    u16 port;
    u32 value;
};
#define LOG_ENTRIES 16384 /* a power of two; older ones are overwritten */
extern struct access device_log[LOG_ENTRIES];
extern u32 device_accesses;
void device_reset(void);

/* reflect.c: lets the guest's handler have an exception, as the processor would have. */
void reflect(struct frame *frame, u32 vector, int has_error, u32 error);
extern u32 guest_handlers[32];

/* emulate_user.c, emulate_posted.c: the same for devices in user space. Their accesses are those of pio.c. */
int emulate_user(struct frame *frame, u32 operation, u32 port, const struct string *string);
int emulate_posted(struct frame *frame, u32 operation, u32 port, const struct string *string);

/* pio.c: device accesses for user space. */
u32 user_in(u32 port, u32 size);
void user_out(u32 port, u32 size, u32 value);
void post_out(u32 port, u32 size, u32 value);
void user_begin(u32 eip, u32 elements);
void user_finish(void);
void user_drain(void);

/* trap.c, paravirt.c, ghcb.c, processor.c, svm.c: what the assembly calls. */
void general_protection(struct frame *frame);
void general_protection_checked(struct frame *frame);
void general_protection_user(struct frame *frame);
void general_protection_posted(struct frame *frame);
void hypercall(struct frame *frame);
void fast_hypercall(struct frame *frame);
void io_call(struct frame *frame);
void batch(struct frame *frame);
void ghcb_call(struct frame *frame);
void virtualization_exception(struct frame *frame);
void communication_exception(struct frame *frame);
void get_ve_info(struct frame *frame);
