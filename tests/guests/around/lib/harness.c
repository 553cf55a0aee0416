#include "harness.h"
#include "../../words.h"

/* From entry.S and bios.ld. */
extern u8 vectors[], trial_stack_top[];
void enter(struct frame *frame);

u8 code[2][PAGE] __attribute__((aligned(PAGE)));
u8 data[4][PAGE] __attribute__((aligned(PAGE)));
u32 exceptions, fault_address, trial;

void *memcpy(void *to, const void *from, u32 size) {
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return start;
}

void *memset(void *to, int value, u32 size) {
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return start;
}

/* ---- Words to the test ---- */

_Noreturn void failed(int line, const char *what) {
    print("failed: line ");
    print_number((u32)line);
    print(", trial ");
    print_number(trial);
    print(": ");
    print(what);
    put('\n');
    end(1);
}

static void line(const char *word, const char *name, u32 value) {
    print(word);
    print(name);
    put(' ');
    print_number(value);
    put('\n');
}

void observe(const char *name, u32 value) { line("observed ", name, value); }
void tell(const char *name, u32 value) { line("told ", name, value); }

/* ---- The ledger ---- */

static struct row {
    u32 attempts, executions, accesses, faults;
    /* The part of these that belongs to attempts whose privilege is in question. */
    u32 questioned, questioned_executions, questioned_accesses;
    u32 exits;
} ledger[FORMS];

void expect(int form, int privileged, u32 attempts, u32 executions, u32 accesses, u32 faults) {
    struct row *row = &ledger[form];
    row->attempts += attempts;
    row->executions += executions;
    row->accesses += accesses;
    row->faults += faults;
    if (!privileged) {
        row->questioned += attempts;
        row->questioned_executions += executions;
        row->questioned_accesses += accesses;
    }
}

void expect_exits(int form, u32 exits) {
    ledger[form].attempts += exits;
    ledger[form].exits += exits;
}

static struct site {
    u32 eip, form, executions;
    /* Without those whose privilege is in question, and how many these are. */
    u32 sure, questioned;
} sites[256];
static u32 sites_known;

void expect_at(u32 eip, int form, int privileged, u32 attempts, u32 executions) {
    struct site *site = sites;
    while (site < sites + sites_known && (site->eip != eip || site->form != (u32)form))
        site++;
    if (site == sites + sites_known) {
        check(sites_known++ < sizeof sites / sizeof sites[0]);
        site->eip = eip;
        site->form = (u32)form;
    }
    site->executions += executions;
    if (privileged)
        site->sure += executions;
    else
        site->questioned += attempts;
}

static void print_ledger(void) {
    for (u32 i = 0; i < sites_known; i++) {
        const u32 *column = &sites[i].eip;
        print("site");
        for (int j = 0; j < 5; j++) {
            put(' ');
            print_number(column[j]);
        }
        put('\n');
    }
    for (int form = 0; form < FORMS; form++) {
        const u32 *column = &ledger[form].attempts;
        print("form ");
        print_number((u32)form);
        for (int i = 0; i < 8; i++) {
            put(' ');
            print_number(column[i]);
        }
        put('\n');
    }
}

/* ---- Instructions ---- */

u32 encode(u8 *code, int form, u8 port) {
    static const u8 opcodes[] = {0xe4, 0xec, 0xe6, 0xee, 0x6c, 0x6c, 0x6e, 0x6e};
    u8 *at = code;
    if (is_rep(form))
        *at++ = 0xf3;
    if (form % 3 == 1)
        *at++ = 0x66;
    *at++ = opcodes[form / 3] | (form % 3 != 0);
    if (form < IN_DX || (form >= OUT_IMM && form < OUT_DX))
        *at++ = port;
    return (u32)(at - code);
}

u32 encode_end(u8 *code) {
    code[0] = 0xcd;
    code[1] = VECTOR_END;
    return 2;
}

/* ---- Segments, gates, pages: SDM Vol. 3A, chapters 3, 5, 7 and 8 of recent editions ---- */

enum { CODE0 = 0x08, STACK0 = 0x10, CODE3 = 0x1b, DATA3 = 0x23, TASK = 0x28 };

static unsigned long long gdt[6], idt[64];
static struct {
    u32 link, esp0, ss0, others[22];
    u16 debug_trap, bitmap_at;
    u8 bitmap[LATCH / 8 + 1], end; /* "the byte after the bitmap must be all ones" */
} __attribute__((packed)) tss;
static u32 directory[1024] __attribute__((aligned(PAGE)));
static u32 pages[1024] __attribute__((aligned(PAGE)));

static void load_table(const char which, const void *table, u32 size) {
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) pointer = {(u16)(size - 1), (u32)table};
    if (which == 'g')
        __asm__ volatile("lgdt %0" : : "m"(pointer));
    else
        __asm__ volatile("lidt %0" : : "m"(pointer));
}

static void set_up_segments(void) {
    gdt[1] = 0x00cf9b000000ffff;
    gdt[2] = 0x00cf93000000ffff;
    gdt[3] = 0x00cffb000000ffff;
    gdt[4] = 0x00cff3000000ffff;
    unsigned long long base = (u32)&tss;
    gdt[5] = 0x0000890000000000 | (base & 0xffffff) << 16 | (base >> 24) << 56 | (sizeof tss - 1);
    load_table('g', gdt, sizeof gdt);
    tss.esp0 = (u32)trial_stack_top;
    tss.ss0 = STACK0;
    tss.bitmap_at = __builtin_offsetof(__typeof__(tss), bitmap);
    memset(tss.bitmap, 0xff, sizeof tss.bitmap + 1);
    /* Both rings use the data segment of ring 3; only SS must be of the ring itself. */
    __asm__ volatile("ltr %w0; mov %1, %%ds; mov %1, %%es" : : "r"(TASK), "r"(DATA3));

    /* Interrupt gates, open to `int n` from ring 3. */
    for (u32 vector = 0; vector < 64; vector++) {
        u32 entry = (u32)vectors + 16 * vector;
        idt[vector] = (unsigned long long)((entry & 0xffff0000) | 0xee00) << 32 | CODE0 << 16
            | (entry & 0xffff);
    }
    load_table('i', idt, sizeof idt);
}

#define CR0_WP (1u << 16)
#define CR0_PG (1u << 31)
#define CR4_DE (1u << 3)
#define CR4_PSE (1u << 4)
#define LARGE_PAGE 0x80
#define APIC 0xfee00000

static void set_up_pages(void) {
    for (u32 page = 0; page < 1024; page++)
        pages[page] = page * PAGE | PRESENT;
    directory[0] = (u32)pages | PRESENT;
    directory[ALIAS >> 22] = (u32)pages | PRESENT;
    directory[APIC >> 22] = (APIC & ~0x3fffffu) | LARGE_PAGE | PRESENT;
    u32 bits;
    __asm__ volatile("mov %%cr4, %0; or %1, %0; mov %0, %%cr4"
                     : "=&r"(bits)
                     : "i"(CR4_DE | CR4_PSE));
    __asm__ volatile("mov %0, %%cr3" : : "r"(directory));
    __asm__ volatile("mov %%cr0, %0; or %1, %0; mov %0, %%cr0"
                     : "=&r"(bits)
                     : "i"(CR0_PG | CR0_WP));
}

void map(const void *page, u32 bits) {
    pages[(u32)page / PAGE] = ((u32)page & ~(PAGE - 1u)) | bits;
    __asm__ volatile("invlpg (%0); invlpg (%1)" : : "r"(page), "r"((u32)page + ALIAS) : "memory");
}

void show(const void *page, u32 at) {
    pages[at / PAGE] = ((u32)page & ~(PAGE - 1u)) | PRESENT;
    __asm__ volatile("invlpg (%0)" : : "r"(at) : "memory");
}

u32 mapping(const void *page) { return pages[(u32)page / PAGE]; }

void forbid(u32 pattern) { tss.bitmap[LATCH / 8] = (u8)(0xf0 | pattern); }

/* ---- The local APIC's timer: SDM Vol. 3A, "APIC Timer" ---- */

static volatile u32 *apic(u32 offset) { return (volatile u32 *)(APIC + offset); }

static void set_up_apic(void) { *apic(0xf0) = 0x1ff; }

void timer_start(u32 nanoseconds, int periodic) {
    *apic(0x3e0) = 0xb; /* divide by 1; QEMU's runs at 1 GHz */
    *apic(0x320) = (periodic ? 1u << 17 : 0) | VECTOR_TIMER;
    *apic(0x380) = nanoseconds;
}

void timer_stop(void) { *apic(0x380) = 0; }
int timer_pending(void) { return *apic(0x200 + VECTOR_TIMER / 32 * 16) >> VECTOR_TIMER % 32 & 1; }
void timer_done(void) { *apic(0xb0) = 0; }

/* ---- The latch ---- */

void set_latch(u32 value) {
    __asm__ volatile("outl %0, %1" : : "a"(value), "N"(LATCH));
    expect(OUT_IMM + 2, 1, 1, 1, 1, 0);
}

u32 get_latch(void) {
    u32 value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "N"(LATCH));
    expect(IN_IMM + 2, 1, 1, 1, 1, 0);
    return value;
}

/* ---- Trials ---- */

static struct frame last;
static handler on_exception;

struct frame start_in(int ring, u32 eflags, const void *code) {
    static u8 user_stack[256];
    struct frame frame = {0};
    frame.eip = (u32)code;
    frame.eflags = eflags | 2;
    frame.cs = ring ? CODE3 : CODE0;
    frame.esp = (u32)(user_stack + sizeof user_stack);
    frame.ss = DATA3;
    return frame;
}

/* Handles every interruption of a trial. From ring 0 the frame has no ESP and SS. */
int trap(struct frame *frame);
int trap(struct frame *frame) {
    int goes_on = 0;
    if (frame->vector != VECTOR_END) {
        if (frame->vector < 32)
            exceptions++;
        __asm__ volatile("mov %%cr2, %0" : "=r"(fault_address));
        if (!on_exception)
            failed((int)frame->eip, "an exception outside of a trial");
        goes_on = on_exception(frame);
    }
    memcpy(&last, frame, sizeof last - 8);
    return goes_on;
}

void run(struct frame *frame, handler handler) {
    exceptions = 0;
    on_exception = handler;
    enter(frame);
    on_exception = 0;
    *frame = last;
}

void run_one(struct frame *frame, u8 *at, int form, u8 port, handler handler) {
    encode_end(at + encode(at, form, port));
    frame->eip = (u32)at;
    run(frame, handler);
}

int unexpected(struct frame *frame) {
    tell("vector", frame->vector);
    tell("error", frame->error);
    tell("eip", frame->eip);
    tell("cr2", fault_address);
    failed(0, "an exception that must not be");
}

int leave(struct frame *frame) {
    (void)frame;
    return 0;
}

void begin(void);
void begin(void) {
    set_up_segments();
    set_up_pages();
    set_up_apic();
    guest();
    print_ledger();
    end(0);
}
