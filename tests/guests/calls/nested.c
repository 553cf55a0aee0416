/*
 * calls-nested64: a hypervisor whose guest makes hypercalls (APM vol. 2, "Secure Virtual Machine"). Its guest's
 * addresses are not the machine's: nested page tables lie between. No call of the guest's may reach the
 * hypervisor's memory at the same address, nor ports that the hypervisor keeps for itself.
 */
#include "lib/strings.h"

#define MSR_EFER  0xc0000080u
#define MSR_HSAVE 0xc0010117u
#define EFER_SVME (1u << 12)

/* Offsets in the VMCB. */
enum {
    INTERCEPTS_1 = 0x0c,
    INTERCEPTS_2 = 0x10,
    IOPM = 0x40,
    ASID = 0x58,
    EXIT_CODE = 0x70,
    NESTED_PAGING = 0x90,
    NESTED_CR3 = 0xb0,
    ES = 0x400,
    CS = 0x410,
    SS = 0x420,
    DS = 0x430,
    SAVED_EFER = 0x4d0,
    SAVED_CR4 = 0x548,
    SAVED_CR3 = 0x550,
    SAVED_CR0 = 0x558,
    SAVED_FLAGS = 0x570,
    SAVED_IP = 0x578,
    SAVED_AX = 0x5f8,
};
#define INTERCEPT_IO      (1u << 27)
#define INTERCEPT_VMRUN   1u
#define INTERCEPT_VMMCALL 2u
#define EXIT_VMMCALL      0x81

static u8 vmcb[PAGE] __attribute__((aligned(PAGE)));
static u8 host_save[PAGE] __attribute__((aligned(PAGE)));
static u8 io_map[3 * PAGE] __attribute__((aligned(PAGE)));
static u64 nested[4][PAGE / 8] __attribute__((aligned(PAGE)));
static u32 directory[PAGE / 4] __attribute__((aligned(PAGE)));
static u8 code[PAGE] __attribute__((aligned(PAGE)));

/* The guest's page, and where the hypervisor has put it. */
#define GUEST 0x500000u
#define OWN   0x600000u

#define FIELD(type, offset) (*(volatile type *)(vmcb + (offset)))

static void write_msr(u32 msr, u64 value) {
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)));
}

static void set_up(void) {
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(MSR_EFER));
    write_msr(MSR_EFER, low | EFER_SVME | (u64)high << 32);
    write_msr(MSR_HSAVE, (word)host_save);

    const u64 bits = P | W | U | A | D;
    nested[0][0] = (word)nested[1] | bits;
    nested[1][0] = (word)nested[2] | bits;
    for (u64 i = 0; i < 512; i++)
        nested[2][i] = i << 21 | 0x80 | bits;
    nested[2][GUEST >> 21] = (word)nested[3] | bits;
    for (u64 i = 0; i < 512; i++)
        nested[3][i] = ((GUEST & ~0x1fffffull) + i * PAGE) | bits;
    nested[3][GUEST >> 12 & 511] = OWN | bits;
    for (u32 i = 0; i < 1024; i++)
        directory[i] = i << 22 | 0x80 | P | W | U | A | D;

    static const u8 program[] = {PVIO_MAGIC_32, 0x0f, 0x01, 0xd9}; /* vmmcall */
    for (u32 i = 0; i < sizeof program; i++)
        code[i] = program[i];
}

static void segment(u32 offset, u16 attributes) {
    FIELD(u16, offset) = 8;
    FIELD(u16, offset + 2) = attributes;
    FIELD(u32, offset + 4) = ~0u;
    FIELD(u64, offset + 8) = 0;
}

static int pages, keeps_ports;

/* One call of the guest's, in 32-bit code of ring 0. */
static u32 call_nested(u32 call_word, word *dx, word *cx) {
    fill(vmcb, 0, sizeof vmcb);
    fill(io_map, keeps_ports ? 0xff : 0, sizeof io_map);
    FIELD(u32, INTERCEPTS_1) = INTERCEPT_IO;
    FIELD(u32, INTERCEPTS_2) = INTERCEPT_VMRUN | INTERCEPT_VMMCALL;
    FIELD(u64, IOPM) = (word)io_map;
    FIELD(u32, ASID) = 1;
    FIELD(u64, NESTED_PAGING) = 1;
    FIELD(u64, NESTED_CR3) = (word)nested[0];
    segment(CS, 0xc9b), segment(ES, 0xc93), segment(SS, 0xc93), segment(DS, 0xc93);
    FIELD(u64, SAVED_EFER) = EFER_SVME;
    FIELD(u64, SAVED_CR0) = pages ? 0x80000001 : 1;
    FIELD(u64, SAVED_CR3) = (word)directory;
    FIELD(u64, SAVED_CR4) = CR4_PSE;
    FIELD(u64, SAVED_FLAGS) = 2;
    FIELD(u64, SAVED_IP) = (word)code;
    FIELD(u64, SAVED_AX) = call_word;
    word ax = (word)vmcb;
    __asm__ volatile("clgi; vmrun; stgi" : "+a"(ax), "+d"(*dx), "+c"(*cx) : : "memory", "cc");
    check_same(FIELD(u64, EXIT_CODE), EXIT_VMMCALL);
    return FIELD(u32, SAVED_AX);
}

static void mark(void) {
    for (u32 i = 0; i < PAGE; i++) {
        ((u8 *)(word)GUEST)[i] = 0x11;
        ((u8 *)(word)OWN)[i] = 0x22;
    }
}

/* Nobody but the hypervisor can say what the guest's address or port is: it is left to the instruction. */
static void decline(u8 call, u8 operand, u16 port, word address, word count) {
    word dx = address, cx = count;
    trial++;
    mark();
    *(struct pvio_record *)(word)GUEST = pvio_record_outl(1, LATCH);
    *(struct pvio_record *)(word)OWN = pvio_record_outl(2, LATCH);
    const struct pvio_record guests = *(struct pvio_record *)(word)GUEST;
    pvio_native_outl(0, LATCH);
    const u32 answer = call_nested(pvio_call_word(call, operand, port), &dx, &cx);
    check_same(answer, PVIO_STATUS_DECLINED << PVIO_CALL_SHIFT);
    check(dx == address && cx == count);
    check_same(in_32(LATCH), 0);
    check_same(in_32(LEFT), STREAM_SIZE - taken);
    check_same(((struct pvio_record *)(word)GUEST)->value, guests.value);
    check_same(((struct pvio_record *)(word)GUEST)->status, guests.status);
    for (u32 i = sizeof guests; i < PAGE; i++) {
        check_same(((u8 *)(word)GUEST)[i], 0x11);
        check_same(((u8 *)(word)OWN)[i], 0x22);
    }
}

static void calls(void) {
    decline(PVIO_CALL_PROBE, 0, 0, 0, 0);
    for (u8 call = PVIO_CALL_INB; call <= PVIO_CALL_OUTL; call++)
        decline(call, call == PVIO_CALL_OUTB ? 7 : 0, is_in(call) ? STREAM : LATCH, 7, 0);
    for (u8 call = PVIO_CALL_INSB; call <= PVIO_CALL_OUTSL; call++)
        decline(call, 0, is_in(call) ? STREAM : LATCH, GUEST + 0x20, 4);
    decline(PVIO_CALL_BATCH, 0, 0, GUEST, 1);
    for (u8 call = PVIO_CALL_EXIT; call <= PVIO_CALL_DUMP; call++)
        decline(call, 0, 0, GUEST + 0x20, 4);
}

void guest(void) {
    use_paging(pagings, 0);
    open_window(1);
    set_up();
    for (pages = 0; pages < 2; pages++)
        for (keeps_ports = 0; keeps_ports < 2; keeps_ports++)
            calls();
    /* The hypervisor's own calls are not its guest's. */
    struct string string = {.by = &ring_0, .port = STREAM, .address = window.middle - 5, .count = 7};
    for (string.call = PVIO_CALL_INSB; string.call <= PVIO_CALL_OUTSL; string.call++) {
        lay_out(&string);
        check_same(call_string(&string, string.count), PVIO_STATUS_OK);
    }
    tell("given", given);
    tell("declined", trial);
}
