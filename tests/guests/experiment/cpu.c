/* Prepares the processor: its features, page tables, the task, the gates. */
#include "harness.h"

#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_EFER 0xc0000080
#define EFER_NXE (1 << 11)
#define CR0_WP (1u << 16)
#define CR0_PG (1u << 31)
#define CR4_PAE (1 << 5)

extern u64 gdt[GDT_ENTRIES];
extern u8 exceptions[];

/* SDM Vol. 3A 7.2.1, figure 7-2. The I/O bitmap begins behind the segment's end: no port is permitted (SDM
 * Vol. 1, 19.5.2). */
struct {
    u32 link, esp0, ss0, rest[22];
    u16 trap, io_map;
} task;

static u64 idt[VECTORS];

/* PAE: SDM Vol. 3A 4.4. Pages of 4 KiB, so that a walk has all its steps. */
#define TABLES (MEMORY_END >> 21)
static u64 directory_pointers[4] __attribute__((aligned(32)));
static u64 directory[512] __attribute__((aligned(4096)));
static u64 page_tables[TABLES][512] __attribute__((aligned(4096)));

/* Present, writable, accessed, dirty; for user code too; not for execution. */
#define PAGE 0x63ull
#define PAGE_USER 0x04ull
#define PAGE_NX (1ull << 63)

static void start_paging(int nx)
{
    for (u32 page = 0; page < MEMORY_END >> 12; page++) {
        u32 address = page << 12;
        u64 entry = address | PAGE;
        if (address >= GUEST_BASE && address < MONITOR_BASE)
            entry |= PAGE_USER;
        if (nx && address >= (u32)guest_data_start && address < (u32)GUEST_STACK_TOP)
            entry |= PAGE_NX;
        page_tables[page >> 9][page & 511] = entry;
    }
    for (u32 table = 0; table < TABLES; table++)
        directory[table] = (u32)page_tables[table] | PAGE | PAGE_USER;
    directory_pointers[0] = (u32)directory | 1;

    u32 cr0, cr4;
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4" ::"r"(cr4 | CR4_PAE));
    if (nx)
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
    __asm__ volatile("mov %0, %%cr3" ::"r"(directory_pointers) : "memory");
    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("mov %0, %%cr0" ::"r"(cr0 | CR0_PG | CR0_WP) : "memory");
}

void page_set_present(u32 linear, int present)
{
    u64 *entry = &page_tables[linear >> 21][linear >> 12 & 511];
    *entry = (*entry & ~1ull) | present;
    __asm__ volatile("invlpg (%0)" ::"r"(linear) : "memory");
}

/* An interrupt gate (SDM Vol. 3A 6.11): interrupts are off in the handler. `ring` may come through it. */
static void gate(u32 vector, u32 entry, u32 ring)
{
    idt[vector] = (entry & 0xffff) | CODE0 << 16 | (u64)(entry & 0xffff0000) << 32 |
                  (u64)(0x8e00 | ring << 13) << 32;
}

const char *monitor_step;

void trap_through(void (*entry)(void)) { gate(VECTOR_GP, (u32)entry, 0); }

static void start_exceptions(void)
{
    for (u32 vector = 0; vector < 32; vector++)
        gate(vector, (u32)exceptions + vector * 16, 0);
    gate(VECTOR_CALL, (u32)call_entry, 3);
    gate(VECTOR_IO_CALL, (u32)io_call_entry, 3);
    gate(VECTOR_GHCB, (u32)ghcb_entry, 3);
    gate(VECTOR_BATCH, (u32)batch_entry, 3);
    gate(VECTOR_VE_INFO, (u32)ve_info_entry, 3);
    gate(VECTOR_RUN, (u32)run_entry, 2);
    gate(VECTOR_DONE, (u32)done_entry, 3);
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) idtr = {sizeof idt - 1, (u32)idt};
    __asm__ volatile("lidt %0" ::"m"(idtr));
}

static u32 probe_pvio(void)
{
    /* An unanswered call leaves bit 31 in EAX. CPUs without NOPL cannot make it. */
    u32 eax = 0x80000000, edx = 0;
    __asm__ volatile(".byte 0x0f, 0x1f, 0x80, 'P', 0x32, 0x90, 0x90" : "+a"(eax), "+d"(edx));
    /* Version 1, all ports and memory. */
    return eax == 1 && (edx & 3) == 3;
}

/* For the guest, whose ring is a supervisor's to pvio. */
static u32 register_mailbox(void)
{
    volatile u32 *box = (volatile u32 *)mailbox;

    /* A call of number 14, and any key. */
    box[0] = 0x8e000000;
    box[2] = 0x6b657921;
    box[3] = 0x706f7374;
    __asm__ volatile(".byte 0x0f, 0x1f, 0x80, 'R', 0x32, 0x90, 0x90" : : "d"(box) : "memory");
    /* OK, version 1. */
    return box[0] == 1;
}

struct features processor_start(void)
{
    struct features features = {0};
    u32 eax, ebx, ecx, edx, highest;

    cpuid(1, &eax, &ebx, &ecx, &edx);
    if (!(edx & 1 << 6))
        failed("this processor has no PAE");
    /* The Pentium Pro says SEP and has it not (SDM Vol. 2, "SYSENTER"). */
    u32 family = eax >> 8 & 15, model = eax >> 4 & 15, stepping = eax & 15;
    features.sysenter = (edx & 1 << 11) && !(family == 6 && model < 3 && stepping < 3);
    cpuid(0x80000000, &highest, &ebx, &ecx, &edx);
    if (highest >= 0x80000001) {
        cpuid(0x80000001, &eax, &ebx, &ecx, &edx);
        features.nx = edx >> 20 & 1;
        features.svm = ecx >> 2 & 1;
    }
    start_exceptions();
    monitor_step = "this machine refuses paging for 32-bit code (PAE), which the experiment needs";
    start_paging(features.nx);
    monitor_step = 0;

    task.esp0 = (u32)MONITOR_STACK_TOP;
    task.ss0 = DATA0;
    task.io_map = sizeof task;
    u32 base = (u32)&task;
    gdt[TASK / 8] = (sizeof task - 1) | (u64)(base & 0xffffff) << 16 | 0x89ull << 40 |
                    (u64)(base >> 24) << 56;
    __asm__ volatile("ltr %w0" ::"r"(TASK));

    if (features.sysenter) {
        wrmsr(MSR_SYSENTER_CS, CODE0);
        wrmsr(MSR_SYSENTER_ESP, (u32)MONITOR_STACK_TOP);
        wrmsr(MSR_SYSENTER_EIP, (u32)sysenter_entry);
    }
    features.pvio = probe_pvio();
    features.mailbox = register_mailbox();
    return features;
}
