/*
 * The same guest under AMD's SVM: it runs in ring 0 of its virtual machine, and the monitor intercepts its port I/O
 * (APM Vol. 2, chapter 15).
 */
#include "harness.h"

#define MSR_EFER 0xc0000080
#define MSR_VM_HSAVE_PA 0xc0010117
#define EFER_SVME (1 << 12)

/* Appendix B, "Layout of VMCB". */
enum { INTERCEPT_IO = 1u << 27, INTERCEPT_HLT = 1 << 24 };
enum { INTERCEPT_VMRUN = 1 << 0, INTERCEPT_VMMCALL = 1 << 1 };
enum { EXIT_HLT = 0x78, EXIT_IO = 0x7b, EXIT_VMMCALL = 0x81 };

struct segment {
    u16 selector, attributes;
    u32 limit;
    u64 base;
};

struct vmcb {
    u32 intercept_registers, intercept_drs, intercept_exceptions, intercepts_3, intercepts_4;
    u8 reserved_1[0x40 - 0x14];
    u64 io_permissions, msr_permissions, tsc_offset;
    u32 asid, tlb_control;
    u8 reserved_2[0x70 - 0x60];
    u64 exit_code, exit_info_1, exit_info_2;
    u8 reserved_3[0x400 - 0x88];
    struct segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
    u8 reserved_4[0x4cb - 0x4a0];
    u8 cpl;
    u32 reserved_5;
    u64 efer;
    u8 reserved_6[0x548 - 0x4d8];
    u64 cr4, cr3, cr0, dr7, dr6, rflags, rip;
    u8 reserved_7[0x5d8 - 0x580];
    u64 rsp;
    u8 reserved_8[0x5f8 - 0x5e0];
    u64 rax;
    u8 reserved_9[0x668 - 0x600];
    u64 pat;
    u8 rest[4096 - 0x670];
} __attribute__((packed));

struct vmcb vmcb __attribute__((aligned(4096)));
static u8 host_save_area[4096] __attribute__((aligned(4096)));
/* 15.10.1: a set bit for each port that is intercepted. */
static u8 io_permissions[12288] __attribute__((aligned(4096)));

/* Registers that VMRUN leaves to the monitor: what entry.S loads and saves, in a frame as a trap has one. */
struct frame svm_frame;
u32 svm_intercepts_io;

_Static_assert(__builtin_offsetof(struct vmcb, io_permissions) == 0x40, "APM Vol. 2, table B-1");
_Static_assert(__builtin_offsetof(struct vmcb, exit_code) == 0x70, "APM Vol. 2, table B-1");
_Static_assert(__builtin_offsetof(struct vmcb, efer) == 0x4d0, "APM Vol. 2, table B-2");
_Static_assert(__builtin_offsetof(struct vmcb, cr4) == 0x548, "APM Vol. 2, table B-2");
_Static_assert(__builtin_offsetof(struct vmcb, rsp) == 0x5d8, "APM Vol. 2, table B-2");
_Static_assert(__builtin_offsetof(struct vmcb, rax) == 0x5f8, "APM Vol. 2, table B-2");
_Static_assert(sizeof(struct vmcb) == 4096, "a page");

/* 15.10.2, "IN and OUT Behavior": EXITINFO1. */
enum { IO_IN = 1 << 0, IO_STRING = 1 << 2, IO_REPEAT = 1 << 3, IO_SIZES = 7 << 4, IO_ADDRESS16 = 1 << 7 };
enum { IO_ADDRESSES = 7 << 7 };

static int io_exit(struct frame *frame, u32 info)
{
    u32 size_bit = info >> 4 & 7; /* 1, 2, 4: bytes */
    u32 size = size_bit == 4 ? 2 : size_bit - 1;
    u32 port = info >> 16;

    if (!(info & IO_STRING)) {
        emulate(frame, (info & IO_IN ? OP_IN : OP_OUT) + size, port, 0);
        return 1;
    }
    struct io io = {
        .operation = (info & IO_IN ? OP_INS : OP_OUTS) + size,
        .repeat = (info & IO_REPEAT) != 0,
        .address16 = (info & IO_ADDRESS16) != 0,
        .segment = info >> 10 & 7,
    };
    /* QEMU says nothing of the address size, and nothing of the segment (nor does a processor without
     * decode assists): for these the instruction must be looked at after all. */
    if (!(info & IO_ADDRESSES) && decode((const u8 *)frame->eip, LONGEST, &io) <= 0)
        return 0;
    struct string string = string_of(frame, &io);
    return emulate(frame, io.operation, port, &string);
}

/* entry.S calls it after each #VMEXIT. Returns true if the guest goes on. */
int svm_exit(void)
{
    svm_frame.eax = vmcb.rax;
    svm_frame.eip = vmcb.rip;
    svm_frame.eflags = vmcb.rflags;
    switch ((u32)vmcb.exit_code) {
    case EXIT_IO:
        if (!io_exit(&svm_frame, vmcb.exit_info_1))
            failed("an intercepted instruction is not what its exit says");
        vmcb.rip = (u32)vmcb.exit_info_2; /* the next instruction */
        break;
    case EXIT_VMMCALL:
        hypercall(&svm_frame);
        vmcb.rip += 3;
        break;
    case EXIT_HLT:
        return 0;
    default:
        print("#VMEXIT ");
        print_hex(vmcb.exit_code);
        failed("an exit from SVM that nobody expects");
    }
    vmcb.rax = svm_frame.eax;
    return 1;
}

void svm_start(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_VM_HSAVE_PA, (u32)host_save_area);
    for (u32 at = 0; at < sizeof io_permissions; at++)
        io_permissions[at] = 0xff;
}

static struct segment flat(u32 selector, u32 attributes)
{
    return (struct segment){.selector = selector, .attributes = attributes, .limit = MONITOR_BASE - 1};
}

void svm_guest(u32 eip, u32 esp)
{
    extern void svm_run(void);
    u32 cr0, cr3, cr4;
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) gdtr, idtr;

    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("sgdt %0" : "=m"(gdtr));
    __asm__ volatile("sidt %0" : "=m"(idtr));
    vmcb.intercepts_3 = INTERCEPT_HLT | (svm_intercepts_io ? INTERCEPT_IO : 0);
    vmcb.intercepts_4 = INTERCEPT_VMRUN | INTERCEPT_VMMCALL;
    vmcb.io_permissions = (u32)io_permissions;
    vmcb.asid = 1;
    vmcb.cs = flat(CODE0, 0xc9b);
    vmcb.ds = vmcb.es = vmcb.fs = vmcb.gs = vmcb.ss = flat(DATA0, 0xc93);
    vmcb.gdtr = (struct segment){.limit = gdtr.limit, .base = gdtr.base};
    vmcb.idtr = (struct segment){.limit = idtr.limit, .base = idtr.base};
    vmcb.cpl = 0;
    vmcb.efer = rdmsr(MSR_EFER);
    vmcb.cr0 = cr0;
    vmcb.cr3 = cr3;
    vmcb.cr4 = cr4;
    vmcb.dr6 = 0xffff0ff0;
    vmcb.dr7 = 0x400;
    vmcb.pat = 0x0007040600070406;
    vmcb.rflags = FLAGS_ONE;
    vmcb.rip = eip;
    vmcb.rsp = esp;
    svm_frame = (struct frame){.es = DATA0, .ds = DATA0, .cs = CODE0, .ss = DATA0};
    svm_run();
    guest_result = svm_frame.ebp;
}
