#include "world.h"
#include "selectors.h"
#include "../../words.h"

/* From entry.S. */
extern u8 vectors[], trial_stack_top[];
void enter(struct frame *frame);

const char *theme;
u32 trial, page_faults;
void (*on_failure)(void);
fault_handler on_page_fault;
interrupt_handler on_interrupt;

/* The compiler makes calls of these. */
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);

void *memcpy(void *to, const void *from, size_t size) {
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return start;
}

void *memset(void *to, int value, size_t size) {
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return start;
}

void fill(void *at, u8 value, u32 size) { memset(at, value, size); }

/* ---- The verdict ---- */

static void where(const char *file, int line, const char *what) {
    print("failed: ");
    print(theme);
    print(", trial ");
    print_number(trial);
    print(": ");
    print(file);
    put(':');
    print_number((u32)line);
    print(": ");
    print(what);
    put('\n');
}

static _Noreturn void give_up(void) {
    void (*const more)(void) = on_failure;
    on_failure = 0;
    if (more)
        more();
    end(1);
}

void failed(const char *file, int line, const char *what) {
    where(file, line, what);
    give_up();
}

void differ(const char *file, int line, const char *what, u64 left, u64 right) {
    where(file, line, what);
    print("which are 0x");
    print_hex(left);
    print(" and 0x");
    print_hex(right);
    put('\n');
    give_up();
}

void tell(const char *name, u32 number) {
    print(name);
    put(' ');
    print_number(number);
    put('\n');
}

/* ---- Segments and gates: SDM Vol. 3A, chapters 3, 6 and 8 of recent editions ---- */

/* Code on trial; named for tables.c, which lets ring 3 in. */
u8 code_page[PAGE] __attribute__((aligned(PAGE)));

static u64 gdt[GDT_ENTRIES];
static u64 idt[64 * BITS / 32];
#if BITS == 32
static struct {
    u32 link, esp0, ss0, others[22];
    u16 debug_trap, bitmap_at;
} __attribute__((packed)) tss;
#else
static struct {
    u32 reserved;
    u64 rsp0, others[11];
    u16 reserved_too, bitmap_at;
} __attribute__((packed)) tss;
#endif

#define DESCRIPTOR_DATA 0x00cf93000000ffffull
#define DESCRIPTOR_32   0x00cf9b000000ffffull
#define DESCRIPTOR_64   0x00af9b000000ffffull
#define DESCRIPTOR_16   0x00009b000000ffffull /* its base is that of code_page */
#define NATIVE          (BITS == 64 ? DESCRIPTOR_64 : DESCRIPTOR_32)

static void describe(u32 selector, u64 descriptor) {
    gdt[selector / 8] = descriptor | (u64)(selector & 3) << 45;
}

static void set_up_segments(void) {
    describe(CODE0, NATIVE), describe(DATA0, DESCRIPTOR_DATA);
    describe(CODE1, NATIVE), describe(DATA1, DESCRIPTOR_DATA);
    describe(CODE2, NATIVE), describe(DATA2, DESCRIPTOR_DATA);
    describe(CODE3, NATIVE), describe(DATA3, DESCRIPTOR_DATA);
    describe(CODE0_32, DESCRIPTOR_32), describe(CODE3_32, DESCRIPTOR_32);
    const u64 code = (u64)(word)code_page << 16;
    describe(CODE0_16, DESCRIPTOR_16 | code), describe(CODE3_16, DESCRIPTOR_16 | code);
    const u64 base = (word)&tss;
    describe(TASK, 0x0000890000000000ull | base << 16 | (sizeof tss - 1));
    struct {
        u16 limit;
        word base;
    } __attribute__((packed)) table = {sizeof gdt - 1, (word)gdt};
    __asm__ volatile("lgdt %0" : : "m"(table));
#if BITS == 64
    __asm__ volatile("pushq %0; leaq 1f(%%rip), %%rax; pushq %%rax; lretq; 1:" : : "i"(CODE0) : "rax", "memory");
    tss.rsp0 = (word)trial_stack_top;
#else
    __asm__ volatile("ljmp %0, $1f; 1:" : : "i"(CODE0) : "memory");
    tss.esp0 = (word)trial_stack_top;
    tss.ss0 = DATA0;
#endif
    tss.bitmap_at = sizeof tss; /* beyond its end: ring 3 may use no port */
    /* All rings use the data segment of ring 3; only SS must be of the ring itself. */
    __asm__ volatile("ltr %w0; mov %1, %%ds; mov %1, %%es; mov %2, %%ss" : : "r"(TASK), "r"(DATA3), "r"(DATA0));

    /* Interrupt gates, open to `int n` from ring 3. */
    for (u32 vector = 0; vector < 64; vector++) {
        const u64 entry = (word)vectors + 16 * vector;
        idt[vector * BITS / 32] = (entry & 0xffff0000) << 32 | 0xee0000000000ull | CODE0 << 16 | (entry & 0xffff);
    }
    table.limit = sizeof idt - 1;
    table.base = (word)idt;
    __asm__ volatile("lidt %0" : : "m"(table));
}

/* ---- Registers of the machine ---- */

#define CR0_WP (1u << 16)
#define CR0_PG (1u << 31)

static word cr0(void) {
    word bits;
    __asm__ volatile("mov %%cr0, %0" : "=r"(bits));
    return bits;
}

static void set_cr0(word bits) { __asm__ volatile("mov %0, %%cr0" : : "r"(bits) : "memory"); }

void set_write_protection(int on) { set_cr0(on ? cr0() | CR0_WP : cr0() & ~(word)CR0_WP); }

#if BITS == 32
void paging_off(void) { set_cr0(cr0() & ~CR0_PG); }

void switch_paging(word cr3, word cr4) {
    paging_off();
    __asm__ volatile("mov %0, %%cr4; mov %1, %%cr3" : : "r"(cr4), "r"(cr3) : "memory");
    set_cr0(cr0() | CR0_PG);
}
#endif

void features(u32 *ebx, u32 *ecx) {
    u32 eax = 0, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(*ebx), "=c"(*ecx), "=d"(edx));
    const u32 most = eax;
    eax = 7, *ecx = 0;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(*ebx), "+c"(*ecx), "=d"(edx));
    if (most < 7)
        *ebx = *ecx = 0;
}

/* SDM Vol. 3A, "Multiple-Processor (MP) Initialization": all but this one are sent to F000:0000. */
#define APIC_ICR         (0x300 / 4)
#define ICR_PENDING      (1u << 12)
#define ICR_INIT_OTHERS  0x000c4500u
#define ICR_SIPI_OTHERS  0x000c46f0u

/* From entry.S: how many of them run `other` instead of rewriting, and how many have begun. */
extern volatile u32 others_wanted, others_here;

static void start(volatile u32 *apic, volatile u32 *sign, u32 from) {
    apic[APIC_ICR] = ICR_INIT_OTHERS;
    while (apic[APIC_ICR] & ICR_PENDING)
        ;
    /* One that is still busy with its INIT may miss it; one that runs ignores it. */
    while (*sign < from) {
        apic[APIC_ICR] = ICR_SIPI_OTHERS;
        for (u32 i = 0; i < 100000 && *sign < from; i++)
            __asm__ volatile("pause");
    }
}

void start_rewriting(volatile u32 *apic) { start(apic, &rewrites, 1); }

void start_others(volatile u32 *apic, u32 count) {
    others_wanted = count;
    start(apic, &others_here, count);
}

__attribute__((weak)) void other(u32 cpu) { (void)cpu; }

/* ---- Code on trial, in a page that every ring may execute ---- */

enum {
    MAGIC_16, MAGIC_32, MAGIC_64, /* and in this order: */
    DOORBELL_16, DOORBELL_32, DOORBELL_64,
    REGISTER_MAILBOX_16, REGISTER_MAILBOX_32, REGISTER_MAILBOX_64,
    LOAD, OR, STUBS
};

static const u8 stubs[STUBS][16] = {
    [MAGIC_16] = {PVIO_MAGIC_16, 0xcd, VECTOR_END},
    [MAGIC_32] = {PVIO_MAGIC_32, 0xcd, VECTOR_END},
    [MAGIC_64] = {PVIO_MAGIC_64, 0xcd, VECTOR_END},
    [DOORBELL_16] = {PVIO_DOORBELL_16, 0xcd, VECTOR_END},
    [DOORBELL_32] = {PVIO_DOORBELL_32, 0xcd, VECTOR_END},
    [DOORBELL_64] = {PVIO_DOORBELL_64, 0xcd, VECTOR_END},
    [REGISTER_MAILBOX_16] = {PVIO_REGISTER_MAILBOX_16, 0xcd, VECTOR_END},
    [REGISTER_MAILBOX_32] = {PVIO_REGISTER_MAILBOX_32, 0xcd, VECTOR_END},
    [REGISTER_MAILBOX_64] = {PVIO_REGISTER_MAILBOX_64, 0xcd, VECTOR_END},
    [LOAD] = {0x8a, 0x02, 0xcd, VECTOR_END},           /* mov al, [edx] or [rdx] */
    [OR] = {0xf0, 0x80, 0x0a, 0x00, 0xcd, VECTOR_END}, /* lock or byte ptr [edx] or [rdx], 0 */
};

const struct caller ring_0 = {"ring 0", CODE0, DATA0, BITS, 0};
const struct caller ring_1 = {"ring 1", CODE1, DATA1, BITS, 0};
const struct caller ring_2 = {"ring 2", CODE2, DATA2, BITS, 0};
const struct caller ring_3 = {"ring 3", CODE3, DATA3, BITS, 0};
const struct caller ring_0_16 = {"ring 0, 16-bit code", CODE0_16, DATA0, 16, 0};
const struct caller ring_3_16 = {"ring 3, 16-bit code", CODE3_16, DATA3, 16, 0};
#if BITS == 32
/* The segment is that of code_page. With less IOPL, it may not even `int`. */
const struct caller virtual_8086 = {"virtual-8086 mode", 0, 0, 16, FLAGS_VM | FLAGS_IOPL3};
#else
const struct caller ring_0_32 = {"ring 0, compatibility mode", CODE0_32, DATA0, 32, 0};
const struct caller ring_3_32 = {"ring 3, compatibility mode", CODE3_32, DATA3, 32, 0};
#endif

static struct frame last;
static int in_trial;

/* Whatever interrupts a trial, or the guest itself. */
int trap(struct frame *frame);
int trap(struct frame *frame) {
    if (frame->vector == VECTOR_PF && on_page_fault) {
        word address;
        __asm__ volatile("mov %%cr2, %0" : "=r"(address));
        page_faults++;
        on_page_fault(frame->error, address);
        return 1;
    }
    if ((frame->vector == VECTOR_DB || frame->vector == VECTOR_TIMER) && on_interrupt) {
        on_interrupt(frame);
        return 1;
    }
    if (frame->vector != VECTOR_END || !in_trial) {
        tell("vector", (u32)frame->vector);
        tell("error", (u32)frame->error);
        differ(__FILE__, __LINE__, "an exception at an address, with AX", frame->ip, frame->general[AX]);
    }
    memcpy(&last, frame, __builtin_offsetof(struct frame, sp));
    return 0;
}

static void run(struct frame *frame) {
    in_trial = 1;
    enter(frame);
    in_trial = 0;
}

static struct frame start_of(const struct caller *by, int stub) {
    struct frame frame;
    fill(&frame, 0, sizeof frame);
    frame.ip = (word)code_page + sizeof stubs[0] * (u32)stub;
    frame.cs = by->cs;
    if (by->cs == CODE0_16 || by->cs == CODE3_16)
        frame.ip -= (word)code_page;
    frame.flags = by->flags | 2;
    frame.ss = by->ss;
    /* Nobody pushes there; but ring 0 of 64-bit code is interrupted on the stack that it has. */
    frame.sp = (word)trial_stack_top;
#if BITS == 32
    if (by->flags & FLAGS_VM) {
        frame.cs = frame.ip >> 4 & 0xf000;
        frame.ip &= 0xffff;
        frame.sp = 0;
    }
#endif
    return frame;
}

static u32 call_from(int stub, const struct caller *by, u32 call_word, word *dx, word *cx) {
    static u32 calls;
    struct frame frame = start_of(by, stub);
    /* The upper halves are undefined after 32-bit code. */
    const word whole = by->bits == 64 ? ~(word)0 : 0xffffffff;
    for (int i = 0; i < GENERAL; i++)
        frame.general[i] = (word)0x0123456789abcdefull * (word)(2 * i + 1) & whole;
    frame.general[AX] = ((frame.general[AX] & ~(word)0xffffffff) | call_word) & whole;
    frame.general[DX] = *dx;
    frame.general[CX] = *cx;
    frame.flags |= ++calls & 1 ? FLAGS_ARITHMETIC : FLAGS_DF;

    run(&frame);
    check_same(last.ip & 0xffff, (frame.ip & 0xffff) + (stub % 3 == MAGIC_16 ? 8 : 7) + 2);
    check_same((last.flags ^ frame.flags) & (FLAGS_ARITHMETIC | FLAGS_DF | FLAGS_AC | FLAGS_IOPL3), 0);
    for (int i = 0; i < CX; i++)
        if (i != DX && i != SP)
            check_same(last.general[i] & whole, frame.general[i]);
    *dx = last.general[DX];
    *cx = last.general[CX];
    return (u32)last.general[AX];
}

static int magic_of(u8 bits) { return bits == 16 ? MAGIC_16 : bits == 32 ? MAGIC_32 : MAGIC_64; }

/* by-mailbox/transport.c replaces these two. */
__attribute__((weak)) int can_call(const struct caller *by) {
    (void)by;
    return 1;
}

__attribute__((weak)) u32 call_by(const struct caller *by, u32 call_word, word *dx, word *cx) {
    return call_from(magic_of(by->bits), by, call_word, dx, cx);
}

u32 call_by_magic_of(u8 bits, const struct caller *by, u32 call_word, word *dx, word *cx) {
    return call_from(magic_of(bits), by, call_word, dx, cx);
}

/* A word that would be a register call. The mailbox's instructions must not treat it as one. */
static void call_no_registers(int stub, const struct caller *by, word dx) {
    const word whole = by->bits == 64 ? ~(word)0 : 0xffffffff;
    word dx_after = dx, cx = 0x76543210;
    const u32 ax = pvio_call_word(PVIO_CALL_OUTB, 0x99, LATCH);
    check_same(call_from(stub, by, ax, &dx_after, &cx), ax);
    check_same(dx_after & whole, dx & whole);
    check_same(cx & whole, 0x76543210);
}

void ring_by(const struct caller *by) { call_no_registers(DOORBELL_16 + magic_of(by->bits), by, 0x01234567); }

void register_by(const struct caller *by, word mailbox) {
    /* Above the low 32 bits anything may be, but in 64-bit code. */
    const word above = by->bits == 64 ? 0 : (word)0xa5a5a5a500000000ull;
    call_no_registers(REGISTER_MAILBOX_16 + magic_of(by->bits), by, mailbox | above);
}

void touch_by(const struct caller *by, word address, int to_write) {
    struct frame frame = start_of(by, to_write ? OR : LOAD);
    frame.general[DX] = address;
    run(&frame);
}

void begin(void);
void begin(void) {
    theme = "";
    set_up_segments();
    memcpy(code_page, stubs, sizeof stubs);
    guest();
    end(0);
}
