/*
 * A model of the machine for `pvio cost --measure`: what port I/O and a hypercall cost here. What cannot be
 * measured is left out.
 */
#include "cells.h"
#include "clock.h"

#define USER_PORT DEVICE_PORT /* no device: the hypervisor's user space answers, or nobody */
#define PIC_MASK 0x21         /* the interrupt controller's mask, which KVM serves in the kernel */
#define COLLECTED_PORT 0x70   /* the clock's index, which QEMU has KVM collect (KVM_CAP_COALESCED_PIO) */
#define CLOCK_INDEX 0x0d
#define BATCH 64
#define BATCHES 31
#define ELEMENTS 512

u32 probe_resume;

/* Who runs this machine, from CPUID. */
struct hypervisor {
    int is_there, is_kvm, is_emulator;
    char signature[13];
};

static void put_word(char *at, u32 word)
{
    for (u32 byte = 0; byte < 4; byte++)
        at[byte] = word >> 8 * byte;
}

static int equal(const char *one, const char *other)
{
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

static struct hypervisor find_hypervisor(void)
{
    struct hypervisor found = {0};
    u32 eax, ebx, ecx, edx;

    cpuid(1, &eax, &ebx, &ecx, &edx);
    found.is_there = ecx >> 31;
    if (!found.is_there)
        return found;
    cpuid(0x40000000, &eax, &ebx, &ecx, &edx);
    put_word(found.signature, ebx);
    put_word(found.signature + 4, ecx);
    put_word(found.signature + 8, edx);
    found.is_kvm = equal(found.signature, "KVMKVMKVM");
    found.is_emulator = equal(found.signature, "TCGTCGTCGTCG");
    return found;
}

/* ---- The operations. ---- */

static u8 pic_mask;

static void in_user(void) { inb(USER_PORT); }
static void out_user(void) { outb(USER_PORT, 0); }
static void in_kernel(void) { inb(PIC_MASK); }
static void out_kernel(void) { outb(PIC_MASK, pic_mask); }

static void out_collected(void) { outb(COLLECTED_PORT, CLOCK_INDEX); }

static void read_string(u32 count)
{
    u8 *to = in_buffer;
    __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(USER_PORT) : "memory");
}
static void string_of_one(void) { read_string(1); }
static void string_of_many(void) { read_string(ELEMENTS); }
static void write_string(void)
{
    const u8 *from = out_buffer;
    u32 count = ELEMENTS;
    __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(USER_PORT) : "memory");
}

/* An unknown number, which KVM refuses. The other processor's instruction is a #UD, or is patched. */
static int hypercall_works;
static void hypercall_by(int is_intel)
{
    u32 eax = 0x7fffffff;

    probe_resume = 0;
    if (is_intel)
        __asm__ volatile("movl $1f, probe_resume; vmcall; 1:" : "+a"(eax)::"memory");
    else
        __asm__ volatile("movl $1f, probe_resume; vmmcall; 1:" : "+a"(eax)::"memory");
    /* The handler of #UD has cleared it. KVM's answer is -KVM_ENOSYS. */
    hypercall_works = probe_resume != 0 && eax == -1000u;
    probe_resume = 0;
}
static void vmcall(void) { hypercall_by(1); }
static void vmmcall(void) { hypercall_by(0); }
static void empty(void) {}

/* ---- Their costs. ---- */

/* The median of several batches, in cycles for one. */
static u32 median_cost(void (*operation)(void), u32 repeats)
{
    u32 costs[BATCHES];

    for (u32 batch = 0; batch < BATCHES; batch++) {
        u64 before = rdtsc();
        for (u32 at = 0; at < repeats; at++)
            operation();
        u32 cost = divide(rdtsc() - before, repeats), at = batch;
        for (; at > 0 && costs[at - 1] > cost; at--)
            costs[at] = costs[at - 1];
        costs[at] = cost;
    }
    return costs[BATCHES / 2];
}

static u32 cost_of(void (*operation)(void))
{
    u32 cost = median_cost(operation, BATCH), nothing = median_cost(empty, BATCH);
    return cost > nothing ? cost - nothing : 0;
}

/* ---- The file. ---- */

static void print_cost(const char *key, u32 cycles)
{
    if (!cycles)
        return;
    print("\n[costs.");
    print(key);
    print("]\ncycles = ");
    print_number(cycles);
    print("\nsource = \"measured\"\n");
}

static void print_ports(const char *table, const char *ports)
{
    print("\n[[");
    print(table);
    print("]]\nports = \"");
    print(ports);
    print("\"\n");
}

/* In a TOML string. */
static void print_quoted(const char *text)
{
    for (; *text; text++)
        if (*text >= ' ' && *text <= '~' && *text != '"' && *text != '\\') {
            const char one[2] = {*text, 0};
            print(one);
        }
}

static void print_brand(void)
{
    char brand[49] = {0}, *start = brand, *end;
    u32 eax, ebx, ecx, edx;

    cpuid(0x80000000, &eax, &ebx, &ecx, &edx);
    if (eax < 0x80000004) {
        print("a processor without a name");
        return;
    }
    for (u32 part = 0; part < 3; part++) {
        cpuid(0x80000002 + part, &eax, &ebx, &ecx, &edx);
        put_word(brand + 16 * part, eax);
        put_word(brand + 16 * part + 4, ebx);
        put_word(brand + 16 * part + 8, ecx);
        put_word(brand + 16 * part + 12, edx);
    }
    while (*start == ' ')
        start++;
    end = start + text_length(start);
    while (end > start && end[-1] == ' ')
        *--end = 0;
    print_quoted(start);
}

static void print_two(u32 number)
{
    print(number < 10 ? "0" : "");
    print_number(number);
}

static void print_head(const struct hypervisor *hypervisor, u32 khz, const char *strings)
{
    struct date date = today();

    print("schema = \"pvio.model/1\"\nname = \"measured\"\ntitle = \"");
    print_brand();
    print(", ");
    print_quoted(!hypervisor->is_there            ? "no hypervisor"
                 : *hypervisor->signature ? hypervisor->signature
                                                  : "a hypervisor without a signature");
    print(hypervisor->is_emulator ? " (an emulator: not the costs of a machine)\"\nmhz = " : "\"\nmhz = ");
    print_number((khz + 500) / 1000);
    print("\nstrings = \"");
    print(strings);
    print("\"\n\n[sources.measured]\ntitle = \"pvio experiment image\"\n");
    if (date.year) {
        print("date = \"");
        print_number(date.year);
        print("-");
        print_two(date.month);
        print("-");
        print_two(date.day);
        print("\"\n");
    }
}

void model_print(void)
{
    struct hypervisor hypervisor = find_hypervisor();
    u32 khz = tsc_khz(), vendor, eax, ecx, edx;

    if (!khz) {
        print("# no model: the rate of the processor's counter is unknown\n");
        return;
    }
    cpuid(0, &eax, &vendor, &ecx, &edx);
    u32 in = cost_of(in_user), out = cost_of(out_user);
    u32 one = cost_of(string_of_one), many = median_cost(string_of_many, 4);
    u32 element = many > one ? (many - one) / (ELEMENTS - 1) : 0;

    u32 write_element = median_cost(write_string, 4) / ELEMENTS;
    /* Elements that share an exit cost a part of it. */
    const char *strings = element >= in / 4 ? "element" : write_element >= out / 4 ? "page-in" : "page";

    u32 kernel_in = 0, kernel_out = 0, collected = 0, call = 0;
    if (hypervisor.is_kvm) {
        pic_mask = inb(PIC_MASK);
        kernel_in = cost_of(in_kernel);
        kernel_out = cost_of(out_kernel);
        /* A KVM whose interrupt controller is in user space, too, has no cost of the kernel's. */
        kernel_in = kernel_in < in / 4 * 3 ? kernel_in : 0;
        kernel_out = kernel_out < out / 4 * 3 ? kernel_out : 0;
        collected = cost_of(out_collected);
        collected = collected < out / 4 * 3 ? collected : 0;
        void (*way)(void) = vendor == 0x756e6547 ? vmcall : vmmcall; /* "Genu" of GenuineIntel */
        way();
        if (hypercall_works)
            call = cost_of(way);
    }
    print("\n# pvio.model begin\n");
    print_head(&hypervisor, khz, strings);
    print_cost("in", in);
    print_cost("out", out);
    print_cost("in-kernel", kernel_in);
    print_cost("out-kernel", kernel_out);
    print_cost("coalesced-out", collected);
    print_cost("hypercall", call);
    print_cost("string-element", element);
    if (kernel_in || kernel_out) {
        /* KVM's interrupt controllers, timer and speaker: arch/x86/kvm/i8259.c, i8254.c. */
        static const char *const ports[] = {"0x20-0x21", "0xa0-0xa1", "0x4d0-0x4d1", "0x40-0x43", "0x61"};
        for (u32 at = 0; at < sizeof ports / sizeof *ports; at++)
            print_ports("kernel-ports", ports[at]);
    }
    if (collected)
        print_ports("coalesced-ports", "0x70");
    print("# pvio.model end\n");
}
