/*
 * Shared by the guests of this directory: a 32-bit environment with paging and two rings, which tests one
 * instruction at a time, and counts what each must have done.
 *
 * All trials use four ports, 0xe0 to 0xe3, which must be a latch: QEMU's own
 * (`-device pc-testdev`) or pvio's. A guest must not be able to tell which.
 */
#pragma once

/* The assembler thinks that it assembles 64-bit code: see `build`. */
__asm__(".code32");

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

/* ---- The 24 forms, as everywhere in pvio: a kind + 0, 1, 2 for 8, 16, 32 bits ---- */

enum kind {
    IN_IMM = 0,
    IN_DX = 3,
    OUT_IMM = 6,
    OUT_DX = 9,
    INS = 12,
    REP_INS = 15,
    OUTS = 18,
    REP_OUTS = 21,
    FORMS = 24
};

#define LATCH 0xe0

static inline u32 bytes_of(int form) { return 1u << form % 3; }
static inline int is_string(int form) { return form >= INS; }
static inline int is_rep(int form) { return (form >= REP_INS && form < OUTS) || form >= REP_OUTS; }
static inline int is_in(int form) { return form < OUT_IMM || (form >= INS && form < OUTS); }

/* Writes the instruction to `code`; returns its length. `port` matters to the immediate forms. */
u32 encode(u8 *code, int form, u8 port);

/* ---- Trials ---- */

/* Registers, in the order in which PUSHAL and an exception leave them on the stack. */
struct frame {
    u32 edi, esi, ebp, unused, ebx, edx, ecx, eax;
    u32 vector, error;
    u32 eip, cs, eflags;
    u32 esp, ss; /* only from ring 3 */
};

#define EFLAGS_TF (1 << 8)
#define EFLAGS_IF (1 << 9)
#define EFLAGS_DF (1 << 10)
#define EFLAGS_IOPL3 (3 << 12)
#define EFLAGS_RF (1 << 16)

enum { VECTOR_DB = 1, VECTOR_GP = 13, VECTOR_PF = 14, VECTOR_TIMER = 0x20, VECTOR_END = 0x30 };

/* Two pages for code on trial, four for its data; each mapped at its own address. */
#define PAGE 4096
extern u8 code[2][PAGE], data[4][PAGE];

/* `int $VECTOR_END`: what ends a trial. */
u32 encode_end(u8 *code);

/* The initial state of the CPU: EIP = `code`, flat segments of that ring, and these flags. */
struct frame start_in(int ring, u32 eflags, const void *code);

/* Handles an exception or the timer: resumes the frame (1), or leaves the trial (0). */
typedef int (*handler)(struct frame *frame);

/* Runs until the end or until the handler leaves; the frame is then the last one. */
void run(struct frame *frame, handler handler);

/* Puts one instruction on trial at `at`, followed by an end. */
void run_one(struct frame *frame, u8 *at, int form, u8 port, handler handler);

/* The number of exceptions in this trial; the last one's CR2 is `fault_address`. */
extern u32 exceptions, fault_address;

/* Handler for what must raise nothing; handler that leaves at once. */
int unexpected(struct frame *frame);
int leave(struct frame *frame);

/* ---- The machine ---- */

enum { ABSENT = 0, READ_ONLY = 5, PRESENT = 7 }; /* page table bits; all pages are user pages */
void map(const void *page, u32 bits);
u32 mapping(const void *page);

/* Memory below 4 MiB is above ALIAS, too; and a page may be mapped at another address below 4 MiB. */
#define ALIAS 0x80000000u
void show(const void *page, u32 at);

/* Ring 3's ports LATCH .. LATCH + 3 under IOPL 0: a set bit forbids one. */
void forbid(u32 pattern);

void timer_start(u32 nanoseconds, int periodic);
void timer_stop(void);
int timer_pending(void);
void timer_done(void); /* end of interrupt */

/* The latch, 32 bits at once, by `out` and `in` that are in the ledger. */
void set_latch(u32 value);
u32 get_latch(void);

/* ---- The ledger ---- */

/*
 * The expected counts. `privileged`: the instruction may do port I/O regardless of the
 * bitmap says; elsewhere a QEMU that reports no exceptions cannot tell whether one that moves no
 * memory ran.
 */
void expect(int form, int privileged, u32 attempts, u32 executions, u32 accesses, u32 faults);

/* And where: attempts and executions of the instruction at a linear address, outside of the guest's own code. */
void expect_at(u32 eip, int form, int privileged, u32 attempts, u32 executions);

/* Attempts that a hypervisor has intercepted. */
void expect_exits(int form, u32 exits);

/* A number that may differ from QEMU to QEMU, but not between its device and pvio's. */
void observe(const char *name, u32 value);
/* One that may differ from run to run. */
void tell(const char *name, u32 value);

#define check(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            failed(__LINE__, #condition);                                                          \
    } while (0)
_Noreturn void failed(int line, const char *what);

/* Prefixed to each failure: which of many like trials it is. */
extern u32 trial;

/* The guest. When it returns, it has passed. */
void guest(void);
