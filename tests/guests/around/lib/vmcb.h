/*
 * A VMCB and the structures that it points to, for a guest in 32-bit code that shares its hypervisor's memory: AMD's
 * SVM (APM Vol. 2, chapter 15 and appendix B).
 */
#pragma once

#include "harness.h"

enum { EFER = 0xc0000080, EFER_SVME = 1 << 12, VM_HSAVE_PA = 0xc0010117 };

/* Appendix B: offsets in the VMCB. */
enum {
    INTERCEPT_EXCEPTIONS = 0x08,
    INTERCEPTS = 0x0c,
    IOPM = 0x40,
    ASID = 0x58,
    TLB_CONTROL = 0x5c,
    EXIT_CODE = 0x70,
    EXIT_INFO_1 = 0x78,
    EXIT_INFO_2 = 0x80,
    NESTED_CONTROL = 0x90,
    INJECTION = 0xa8,
    INJECTION_ERROR = 0xac,
    NESTED_CR3 = 0xb0,
    ES = 0x400,
    CS = 0x410,
    SS = 0x420,
    DS = 0x430,
    GDTR = 0x460,
    IDTR = 0x480,
    CPL = 0x4cb,
    GUEST_EFER = 0x4d0,
    CR4 = 0x548,
    CR3 = 0x550,
    CR0 = 0x558,
    DR7 = 0x560,
    DR6 = 0x568,
    RFLAGS = 0x570,
    RIP = 0x578,
    RSP = 0x5d8,
};

/* Bits of INTERCEPTS, and the codes that they exit with. */
enum { INTR = 0, HLT = 24, IOIO = 27, SHUTDOWN = 31, VMRUN = 32, VMMCALL = 33 };
#define EXIT(intercept) (0x60u + (intercept))
enum { EXIT_EXCEPTION = 0x40, EXIT_NPF = 0x400 };

static u8 vmcb[PAGE] __attribute__((aligned(PAGE))), inner[PAGE] __attribute__((aligned(PAGE)));
static u8 host_save[PAGE] __attribute__((aligned(PAGE))), iopm[3][PAGE] __attribute__((aligned(PAGE)));

/* Identity-mapped PAE tables: the hypervisor's, and those of nested paging. */
typedef unsigned long long u64;
static u64 large_pages[512] __attribute__((aligned(PAGE))), pae[4] __attribute__((aligned(PAGE)));
static u64 nested_pages[512] __attribute__((aligned(PAGE)));
static u64 nested_directory[512] __attribute__((aligned(PAGE)));
static u64 nested_pae[4] __attribute__((aligned(PAGE)));

static u16 *word(u32 field) { return (u16 *)(vmcb + field); }
static u32 *dword(u32 field) { return (u32 *)(vmcb + field); }

static void intercept(u32 bit, int is_on) {
    u32 mask = 1u << bit % 32, *at = dword(INTERCEPTS + bit / 32 * 4);
    *at = is_on ? *at | mask : *at & ~mask;
}

/* All ports of the latch, or none. */
static void intercept_latch(int is_on) { iopm[0][LATCH / 8] = is_on ? 0x0f : 0; }

static void segment(u32 field, u16 selector, u16 attributes) {
    *word(field) = selector;
    *word(field + 2) = attributes;
    *dword(field + 4) = 0xffffffff;
}

static void in_ring(int ring) {
    segment(CS, ring ? 0x1b : 0x08, ring ? 0xcfb : 0xc9b);
    segment(SS, ring ? 0x23 : 0x10, ring ? 0xcf3 : 0xc93);
    segment(DS, 0x23, 0xcf3);
    segment(ES, 0x23, 0xcf3);
    vmcb[CPL] = (u8)ring;
}

static void set_up(void) {
    u32 low, high, cr0, cr3, cr4;
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) table;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(EFER));
    low |= EFER_SVME;
    __asm__ volatile("wrmsr" : : "a"(low), "d"(high), "c"(EFER));
    __asm__ volatile("wrmsr" : : "a"(host_save), "d"(0), "c"(VM_HSAVE_PA));
    __asm__ volatile("mov %%cr0, %0; mov %%cr3, %1; mov %%cr4, %2" : "=r"(cr0), "=r"(cr3), "=r"(cr4));
    *dword(GUEST_EFER) = low;
    *dword(CR0) = cr0;
    *dword(CR3) = cr3;
    *dword(CR4) = cr4;
    *dword(DR6) = 0xffff0ff0;
    *dword(DR7) = 0x400;
    *dword(IOPM) = (u32)iopm;
    *dword(ASID) = 1;
    __asm__ volatile("sgdt %0" : "=m"(table));
    *dword(GDTR + 4) = table.limit;
    *dword(GDTR + 8) = table.base;
    __asm__ volatile("sidt %0" : "=m"(table));
    *dword(IDTR + 4) = table.limit;
    *dword(IDTR + 8) = table.base;
    *dword(INTERCEPT_EXCEPTIONS) = 0xffffffff;
    static const u8 always[] = {INTR, HLT, IOIO, SHUTDOWN, VMRUN, VMMCALL};
    for (u32 i = 0; i < sizeof always; i++)
        intercept(always[i], 1);
    for (u32 page = 0; page < 512; page++) {
        large_pages[page] = nested_directory[page] = page << 21 | 0x80 | PRESENT;
        nested_pages[page] = page * PAGE | PRESENT;
    }
    nested_directory[0] = (u32)nested_pages | PRESENT;
    pae[0] = (u32)large_pages | 1;
    nested_pae[0] = (u32)nested_directory | 1;
}
