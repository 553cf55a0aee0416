/*
 * Shared by assembly and C of the experiment: segments, vectors, the map of memory.
 *
 * "SDM" is the Intel 64 and IA-32 Architectures Software Developer's Manual, "APM" AMD64's Architecture
 * Programmer's Manual.
 */
#pragma once

/*
 * Memory. What the guest may reach lies below MONITOR_BASE, which is where its segments end; the monitor
 * lies above (SDM Vol. 3A 5.3, "Limit Checking"). Paging alone could not keep ring 1 out: it is a
 * supervisor, as ring 0 is (5.11.2, "Supervisor and user mode").
 */
#define GUEST_BASE 0x100000
#define MONITOR_BASE 0x400000
#define MEMORY_END 0x1000000
#define MONITOR_STACK 16384

/*
 * The GDT. SYSENTER and SYSEXIT demand the order of the first four: code and stack of ring 0, and 16 and
 * 24 bytes after them those of ring 3 (SDM Vol. 2, "SYSENTER", "SYSEXIT").
 */
#define CODE0 0x08
#define DATA0 0x10
#define CODE3 (0x18 | 3)
#define DATA3 (0x20 | 3)
#define CODE1 (0x28 | 1)
#define DATA1 (0x30 | 1)
#define CODE2 (0x38 | 2) /* user space: see user.c */
#define DATA2 (0x40 | 2)
#define TASK 0x48
#define GDT_ENTRIES 10

#define VECTOR_DB 1
#define VECTOR_UD 6
#define VECTOR_GP 13
#define VECTOR_PF 14
#define VECTOR_VE 20     /* SDM Vol. 3A 6.15, "Interrupt 20" */
#define VECTOR_VC 29     /* APM Vol. 2, 15.35.5 */
#define VECTOR_CALL 0x30 /* the hypercall of the mechanism `int` */
#define VECTOR_DONE 0x31 /* the guest has come to its end */
#define VECTOR_VE_INFO 0x32 /* a call to the TDX module: TDG.VP.VEINFO.GET */
#define VECTOR_IO_CALL 0x33 /* TDG.VP.VMCALL<Instruction.IO>, as `direct` and `ve` make it */
#define VECTOR_GHCB 0x34    /* VMGEXIT, with the operation in the GHCB */
#define VECTOR_BATCH 0x35   /* many operations in one hypercall */
#define VECTOR_RUN 0x36     /* user space has handled an exit: ioctl(KVM_RUN) */
#define VECTORS 0x37

/* EFLAGS (SDM Vol. 1, 3.4.3). IOPL is 0: in ring 1 `in` and `out` are #GP unless the TSS permits them. */
#define FLAGS_TF (1 << 8)
#define FLAGS_DF (1 << 10)
#define FLAGS_RF (1 << 16)
#define FLAGS_ONE (1 << 1) /* always set */

/* The device's ports. Below 256, for the forms with the port in the instruction. */
#define DEVICE_PORT 0xe0

/* The operations of a hypercall, as VMI had them; `decode` comes to the same. Plus 0, 1, 2 for the size. */
#define OP_IN 0
#define OP_OUT 3
#define OP_INS 6
#define OP_OUTS 9
#define OPERATIONS 12

/* The records of a batch. */
#define BATCH_RECORDS 16
