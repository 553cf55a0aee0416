#include "nested.h"

#if BITS == 64

int pages, keeps_ports;

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

#define FIELD(type, offset) (*(volatile type *)(vmcb + (offset)))

static void write_msr(u32 msr, u64 value) {
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)));
}

void set_up_nested(void) {
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
}

static void segment(u32 offset, u16 attributes) {
    FIELD(u16, offset) = 8;
    FIELD(u16, offset + 2) = attributes;
    FIELD(u32, offset + 4) = ~0u;
    FIELD(u64, offset + 8) = 0;
}

u32 run_nested(const u8 *instruction, u32 size, u32 ax_before, word *dx, word *cx) {
    static const u8 vmmcall[] = {0x0f, 0x01, 0xd9};
    for (u32 i = 0; i < size; i++)
        code[i] = instruction[i];
    for (u32 i = 0; i < sizeof vmmcall; i++)
        code[size + i] = vmmcall[i];
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
    FIELD(u64, SAVED_AX) = ax_before;
    word ax = (word)vmcb;
    __asm__ volatile("clgi; vmrun; stgi" : "+a"(ax), "+d"(*dx), "+c"(*cx) : : "memory", "cc");
    check_same(FIELD(u64, EXIT_CODE), EXIT_VMMCALL);
    return FIELD(u32, SAVED_AX);
}

#endif
