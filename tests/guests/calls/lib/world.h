/*
 * Shared by the guests of this directory. Each is compiled twice, for 32 and for 64-bit code. Hypercalls are
 * made one at a time from a chosen ring and mode, and all other registers are checked.
 */
#pragma once

#if defined(__i386__)
/* The assembler thinks that it assembles 64-bit code: see `build`. */
__asm__(".code32");
#define BITS    32
#define GENERAL 8
#else
#define BITS    64
#define GENERAL 16
#endif

#include <pvio.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
/* A register. */
typedef pvio_word word;

#define PAGE 4096

/* ---- The devices: pvio's ---- */

#define LATCH  0x5000
#define STREAM 0x300
#define LEFT   0x304 /* how many bytes of the stream's input are left */

/* ---- Registers, in the order in which an exception leaves them on the stack ---- */

enum general { AX = GENERAL - 1, CX = GENERAL - 2, DX = GENERAL - 3, SP = GENERAL - 5 };

struct frame {
    word general[GENERAL];
    word vector, error, ip, cs, flags;
    word sp, ss; /* 64-bit code always has them; 32-bit only where the ring changes */
#if BITS == 32
    word es, ds, fs, gs; /* virtual-8086 mode */
#endif
};

#define FLAGS_ARITHMETIC 0x8d5u
#define FLAGS_TF         (1u << 8)
#define FLAGS_DF         (1u << 10)
#define FLAGS_IOPL3      (3u << 12)
#define FLAGS_VM         (1u << 17)
#define FLAGS_AC         (1u << 18)

enum { VECTOR_DB = 1, VECTOR_GP = 13, VECTOR_PF = 14, VECTOR_TIMER = 0x21, VECTOR_END = 0x30 };

/* ---- Who calls ---- */

/* The code that calls: every ring executes it. Paging makes it read-only. */
extern u8 code_page[];

struct caller {
    const char *name;
    u16 cs, ss;
    u8 bits; /* the mode of the code */
    u32 flags;
};

extern const struct caller ring_0, ring_1, ring_2, ring_3, ring_0_16, ring_3_16;
#if BITS == 32
extern const struct caller virtual_8086;
#else
extern const struct caller ring_0_32, ring_3_32; /* compatibility mode */
#endif

static inline int is_user(const struct caller *by) { return (by->cs & 3) == 3 || by->flags & FLAGS_VM; }

/*
 * Makes a call; what EAX is afterwards. Any other register that changes, or a flag, is a failure of the
 * guest's, as is an exception.
 */
u32 call_by(const struct caller *by, u32 call_word, word *dx, word *cx);
/* Whether calls of that caller are answered: those through a mailbox only if it is a kernel. */
int can_call(const struct caller *by);
/* The same by the instruction of another mode than that of the code. */
u32 call_by_magic_of(u8 bits, const struct caller *by, u32 call_word, word *dx, word *cx);

/* The mailbox's two instructions, after which no register may have changed, and no flag. */
void ring_by(const struct caller *by);
void register_by(const struct caller *by, word mailbox);

/* One load from a byte, or one locked `or` of nothing to it, by that caller. */
void touch_by(const struct caller *by, word address, int to_write);

/* The answer of the first call, made from real mode: PVIO_UNANSWERED is a probe. */
extern volatile u32 answer_in_real_mode;

/* ---- Page faults ---- */

/* Called for each page fault outside of a call. Without one, a page fault is a failure. */
typedef void (*fault_handler)(word error, word address);
extern fault_handler on_page_fault;
extern u32 page_faults;

/* Called for single steps and for the local APIC's timer. Without one, they are failures. */
typedef void (*interrupt_handler)(const struct frame *frame);
extern interrupt_handler on_interrupt;

/* ---- The machine ---- */

/* Changes CR3 and CR4, and with them how many levels of page tables there are. Paging is on afterwards. */
void switch_paging(word cr3, word cr4);
void paging_off(void); /* of 32-bit code */
/* CR0.WP: whether read-only pages are read-only in ring 0. */
void set_write_protection(int on);
/* CPUID.(EAX=7, ECX=0), of which EBX and ECX. */
void features(u32 *ebx, u32 *ecx);

/* Starts a number of CPUs. Each runs `other` with its own number, from 1 on, and then halts. */
void start_others(volatile u32 *apic, u32 count);
void other(u32 cpu);

/*
 * Starts a second CPU, which from then on writes pieces of the 256 records of `rewritten_from` over the records in
 * four frames; how often, is in `rewrites`.
 */
void start_rewriting(volatile u32 *apic);
extern struct pvio_record rewritten_from[256];
extern u32 rewritten_frames[4];
/*
 * If the first of these is not 0, the second CPU writes to these addresses instead, each now the one and now the other
 * of its two contents.
 */
extern u32 moving_at[4], moving_to[8];
extern volatile u32 rewrites;

/* The instruction, which needs no answer. */
static inline u32 in_32(u16 port) { return pvio_native_inl(port); }

/* ---- The verdict ---- */

#define check(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            failed(__FILE__, __LINE__, #condition);                                                \
    } while (0)
_Noreturn void failed(const char *file, int line, const char *what);
/* Like check, and prints both numbers. */
#define check_same(left, right)                                                                    \
    do {                                                                                           \
        const u64 left_ = (left), right_ = (right);                                                \
        if (left_ != right_)                                                                       \
            differ(__FILE__, __LINE__, #left " == " #right, left_, right_);                        \
    } while (0)
_Noreturn void differ(const char *file, int line, const char *what, u64 left, u64 right);

/* Printed with each failure: what the guest is about, and which of many like trials it is. */
extern const char *theme;
extern u32 trial;
/* Called with each failure, to tell more. */
extern void (*on_failure)(void);
/* A line `NAME NUMBER` for the test. */
void tell(const char *name, u32 number);

void fill(void *at, u8 value, u32 size);

/* The guest. When it returns, it has passed. */
void guest(void);
