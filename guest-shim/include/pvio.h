/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Port I/O for x86 guests: by pvio's hypercalls, or by the CPU's own instructions if no host answers.
 * ../ABI.md describes the hypercalls.
 *
 * C99 or C++11 and later, gcc or clang, i386 or x86-64, freestanding; all functions are static. A .S file
 * gets only the constants.
 *
 * Define before the #include, as needed:
 *   PVIO_NO_HYPERCALLS       the same functions, with only the CPU's instructions
 *   PVIO_REPLACE_LINUX       defines inb(port) ... outsl(port, address, count), outb(value, port)
 *   PVIO_REPLACE_PORT_FIRST  the same for code that writes outb(port, value)
 *   PVIO_REPLACE_INLINE      with one of these two: inline functions instead of macros, so that members
 *                            and pointers of the same names keep their meaning
 *   PVIO_LINEAR(pointer)     if the base of DS is not 0: the linear address of a pointer, an integer; and
 *   PVIO_POINTER(linear)     the pointer, a void *, to such an address
 *   PVIO_ES_LINEAR(pointer)  the same for the buffers of strings, if these are in ES and not in DS (as in
 *   PVIO_ES_POINTER(linear)  SeaBIOS); without the two, ES must have the base of DS
 *   PVIO_CODE_16             for gcc -m16 and clang -m16, with PVIO_LINEAR and PVIO_POINTER
 *
 * The caller must be allowed to do port I/O, as for the instructions: hypercalls give no further rights.
 */
#ifndef PVIO_H
#define PVIO_H

/* ---- The ABI's constants ---- */

/* generated from src/abi/list.rs: constants */
#define PVIO_VERSION              1          /* The version of the ABI, which a probe returns */
#define PVIO_UNANSWERED           0x80000000 /* Bit 31 of EAX: no host has answered (yet) */
#define PVIO_CALL_SHIFT           24         /* The position in EAX of a call's number, and of a status */
#define PVIO_OPERAND_SHIFT        16         /* The position in EAX of a call's operand */
#define PVIO_DATA_MASK            0x00ffffff /* The bits of an answer that are data */
#define PVIO_LOG_MAX              1024       /* The longest line of the log, in bytes */
#define PVIO_NAME_MAX             64         /* The longest name of a window, in bytes */
#define PVIO_WINDOWS_MAX          256        /* The maximum number of windows in a run */
#define PVIO_DUMPS_MAX            100        /* The maximum number of dumps in a run */
#define PVIO_ELEMENTS_MAX         65536      /* The maximum number of elements and records, or of a file's bytes, that one call moves */
#define PVIO_FILE_NAME_MAX        255        /* The longest name of a file, in bytes */
#define PVIO_UNFINISHED_FILES_MAX 16         /* The maximum number of unfinished files; one more replaces that of the oldest call */
#define PVIO_RECORD_PENDING       0x80       /* The status of a record that no host has run: bit 31 of a call, as a byte */

/* The instructions: bytes for `.byte` or for an array. */
/* Makes the call in EAX. */
#define PVIO_MAGIC_16 0x67, 0x0f, 0x1f, 0x80, 0x50, 0x16, 0x90, 0x90
#define PVIO_MAGIC_32 0x0f, 0x1f, 0x80, 0x50, 0x32, 0x90, 0x90
#define PVIO_MAGIC_64 0x0f, 0x1f, 0x80, 0x50, 0x64, 0x90, 0x90
/* Makes the call in this CPU's mailbox. */
#define PVIO_DOORBELL_16 0x67, 0x0f, 0x1f, 0x80, 0x51, 0x16, 0x90, 0x90
#define PVIO_DOORBELL_32 0x0f, 0x1f, 0x80, 0x51, 0x32, 0x90, 0x90
#define PVIO_DOORBELL_64 0x0f, 0x1f, 0x80, 0x51, 0x64, 0x90, 0x90
/* Registers the mailbox at EDX or RDX for this CPU. */
#define PVIO_REGISTER_MAILBOX_16 0x67, 0x0f, 0x1f, 0x80, 0x52, 0x16, 0x90, 0x90
#define PVIO_REGISTER_MAILBOX_32 0x0f, 0x1f, 0x80, 0x52, 0x32, 0x90, 0x90
#define PVIO_REGISTER_MAILBOX_64 0x0f, 0x1f, 0x80, 0x52, 0x64, 0x90, 0x90

/* The numbers of the calls. */
#define PVIO_CALL_PROBE          0  /* Asks for a host */
#define PVIO_CALL_INB            1  /* Reads a byte */
#define PVIO_CALL_INW            2  /* Reads 16 bits */
#define PVIO_CALL_INL            3  /* Reads 32 bits */
#define PVIO_CALL_OUTB           4  /* Writes a byte */
#define PVIO_CALL_OUTW           5  /* Writes 16 bits */
#define PVIO_CALL_OUTL           6  /* Writes 32 bits */
#define PVIO_CALL_INSB           7  /* Reads bytes into memory */
#define PVIO_CALL_INSW           8  /* Reads 16-bit elements into memory */
#define PVIO_CALL_INSL           9  /* Reads 32-bit elements into memory */
#define PVIO_CALL_OUTSB          10 /* Writes bytes from memory */
#define PVIO_CALL_OUTSW          11 /* Writes 16-bit elements from memory */
#define PVIO_CALL_OUTSL          12 /* Writes 32-bit elements from memory */
#define PVIO_CALL_BATCH          13 /* Runs records in order, until one is not OK */
#define PVIO_CALL_REGISTER       14 /* Registers a mailbox; in the mailbox only */
#define PVIO_CALL_RELEASE        15 /* Releases the mailbox; through the mailbox only */
#define PVIO_CALL_EXIT           16 /* Ends the machine */
#define PVIO_CALL_LOG            17 /* Logs a line of text */
#define PVIO_CALL_BEGIN          18 /* Opens a window of the statistics */
#define PVIO_CALL_END            19 /* Closes a window */
#define PVIO_CALL_RESET          20 /* Sets all counts to zero, also those of open windows; forgets closed windows */
#define PVIO_CALL_DUMP           21 /* Writes the statistics so far */
#define PVIO_CALL_REGISTER_LARGE 22 /* Registers a large mailbox; in the mailbox only */
#define PVIO_CALL_BATCH_COMPACT  23 /* Runs compact records in order, until one fails */
#define PVIO_CALL_FILE_READ      24 /* Reads a part of a file of the host */
#define PVIO_CALL_FILE_WRITE     25 /* Begins a file of the host, or appends to one that is unfinished */
#define PVIO_CALL_FILE_FINISH    26 /* Gives a file that is complete its name */

/* What a host can do: the bits of EDX after a probe. */
#define PVIO_FEATURE_EVERY_PORT    0x1  /* Calls reach every port. Without it, only those that the host's own devices serve */
#define PVIO_FEATURE_MEMORY        0x2  /* Calls with an address work. Without it, they may be DECLINED */
#define PVIO_FEATURE_MAILBOX       0x4  /* A mailbox can be registered */
#define PVIO_FEATURE_LARGE_MAILBOX 0x8  /* A large mailbox can be registered */
#define PVIO_FEATURE_COMPACT_BATCH 0x10 /* The call for batches of compact records works */
#define PVIO_FEATURE_FILES         0x20 /* The host shares a directory. Without it, calls for files are DECLINED */

/* The levels of a logged line. */
#define PVIO_LEVEL_ERROR   0 /* An error */
#define PVIO_LEVEL_WARNING 1 /* Something that may be an error */
#define PVIO_LEVEL_INFO    2 /* An event of interest */
#define PVIO_LEVEL_DEBUG   3 /* A detail for debugging */

/* The result of a call. */
#define PVIO_STATUS_OK       0  /* Done. With a count left: call again */
#define PVIO_STATUS_DECLINED 1  /* The host does not handle this: execute the real instruction for the rest */
#define PVIO_STATUS_PAGE     2  /* Touch the page at the address, then call again for the rest */
#define PVIO_STATUS_DENIED   3  /* This ring may not make hypercalls */
#define PVIO_STATUS_UNKNOWN  4  /* No call has this number */
#define PVIO_STATUS_ADDRESS  5  /* The memory cannot be a buffer */
#define PVIO_STATUS_ARGUMENT 6  /* An operand is out of range, or a field that must be 0 is not */
#define PVIO_STATUS_LENGTH   7  /* A line or name is too long, or a name is empty */
#define PVIO_STATUS_STATE    8  /* The window to begin is open, or the window to end is not */
#define PVIO_STATUS_FULL     9  /* The maximum number of windows, or of dumps, is reached */
#define PVIO_STATUS_FAILED   10 /* The host failed: it cannot write its file, for example */
#define PVIO_STATUS_MISSING  11 /* No file has this name, or its directory does not exist */
#define PVIO_STATUS_NAME     12 /* The name cannot be that of a regular file in the host's directory */
#define PVIO_STATUS_EXISTS   13 /* A file has this name already, and the host keeps it */
#define PVIO_STATUS_LIMIT    14 /* The file, or all files together, would be larger than the host allows */
#define PVIO_STATUS_STALE    15 /* The unfinished file is gone, or the file has changed since the first part was read */
/* end of constants */

/* Never sent by a host: the functions below return this if no host has answered. */
#define PVIO_STATUS_UNANSWERED 0x80

#ifndef __ASSEMBLER__

#if !defined(__GNUC__) || !(defined(__i386__) || defined(__x86_64__))
#error "pvio.h is for gcc or clang, and for x86"
#endif

#include <stddef.h>
#include <stdint.h>

/* C++ compilers warn about C's casts, and about C's null pointers. */
#ifdef __cplusplus
#define PVIO_NO_MAILBOX_        nullptr
#define PVIO_CAST_(type, value) static_cast<type>(value)
#define PVIO_BITS_(type, value) reinterpret_cast<type>(value)
#else
#define PVIO_NO_MAILBOX_        NULL
#define PVIO_CAST_(type, value) ((type)(value))
#define PVIO_BITS_(type, value) ((type)(value))
#endif

#if defined(PVIO_LINEAR) != defined(PVIO_POINTER)
#error "PVIO_LINEAR and PVIO_POINTER go together"
#endif
#if defined(PVIO_ES_LINEAR) != defined(PVIO_ES_POINTER)
#error "PVIO_ES_LINEAR and PVIO_ES_POINTER go together"
#endif
#if defined(__x86_64__) && (defined(PVIO_CODE_16) || defined(PVIO_ES_LINEAR))
#error "PVIO_CODE_16 and PVIO_ES_LINEAR are not for x86-64: compile with -m16 or -m32"
#endif
/* A host that got offsets for linear addresses would access other memory. */
#if defined(PVIO_CODE_16) && !defined(PVIO_LINEAR)
#error "PVIO_CODE_16 needs PVIO_LINEAR and PVIO_POINTER: where the segment of a pointer begins"
#endif
#ifndef PVIO_LINEAR
#define PVIO_LINEAR(pointer) PVIO_BITS_(uintptr_t, pointer)
#define PVIO_POINTER(linear) PVIO_BITS_(void *, PVIO_CAST_(uintptr_t, linear))
#endif

/*
 * -m16 defines no macro, so the assembler checks that PVIO_CODE_16 is right: one of cdq and cwd has an
 * operand-size prefix. clang's assembler cannot compare labels in .if; there, .org fails.
 */
#ifdef PVIO_CODE_16
#define PVIO_ONE_BYTE_ "cwd"
#define PVIO_MODE_ERROR_ "pvio.h: PVIO_CODE_16 is for 16-bit code: compile with -m16"
#else
#define PVIO_ONE_BYTE_ "cdq"
#define PVIO_MODE_ERROR_ "pvio.h: 16-bit code needs PVIO_CODE_16, PVIO_LINEAR and PVIO_POINTER"
#endif
#if defined(__ELF__) && defined(__clang__)
__asm__(".pushsection .discard.pvio, \"e\"\n"
        "771: " PVIO_ONE_BYTE_ "\n"
        ".org 771b + 1 # " PVIO_MODE_ERROR_ "\n"
        ".popsection\n");
#elif defined(__ELF__)
__asm__(".pushsection .discard.pvio, \"e\"\n"
        "771: " PVIO_ONE_BYTE_ "\n772:\n"
        ".if 772b - 771b != 1\n"
        ".error \"" PVIO_MODE_ERROR_ "\"\n"
        ".endif\n"
        ".popsection\n");
#endif

/* RDX and RCX, or EDX and ECX. */
#ifdef __x86_64__
typedef uint64_t pvio_word;
#else
typedef uint32_t pvio_word;
#endif

/* One operation of a batch. */
struct pvio_record {
    uint8_t call;
    uint8_t status;
    uint16_t port;
    uint32_t value;
    uint64_t address;
} __attribute__((aligned(16)));

/* One operation of a compact batch. */
struct pvio_compact_record {
    uint8_t call;
    uint8_t reserved;
    uint16_t port;
    uint32_t value;
} __attribute__((aligned(8)));

/* A CPU's mailbox: calls and answers in memory. A host without large mailboxes uses the first 16 bytes. */
struct pvio_mailbox {
    uint32_t word;
    uint32_t value;
    uint64_t key;
    uint64_t address;
    uint64_t count;
    uint64_t site; /* 0: these functions are inline, so their doorbell is where the call is */
    uint64_t reserved[3];
} __attribute__((aligned(64)));

/* ---- The call itself ---- */

#if defined(PVIO_CODE_16)
#define PVIO_MAGIC            PVIO_MAGIC_16
#define PVIO_DOORBELL         PVIO_DOORBELL_16
#define PVIO_REGISTER_MAILBOX PVIO_REGISTER_MAILBOX_16
#elif defined(__x86_64__)
#define PVIO_MAGIC            PVIO_MAGIC_64
#define PVIO_DOORBELL         PVIO_DOORBELL_64
#define PVIO_REGISTER_MAILBOX PVIO_REGISTER_MAILBOX_64
#else
#define PVIO_MAGIC            PVIO_MAGIC_32
#define PVIO_DOORBELL         PVIO_DOORBELL_32
#define PVIO_REGISTER_MAILBOX PVIO_REGISTER_MAILBOX_32
#endif

#define PVIO_TEXT_(...)  #__VA_ARGS__
#define PVIO_BYTES_(...) ".byte " PVIO_TEXT_(__VA_ARGS__)

/* Makes a call. Returns EAX after the instruction. */
static inline uint32_t pvio_call(uint32_t word, pvio_word *dx, pvio_word *cx)
{
#ifdef PVIO_NO_HYPERCALLS
    (void)dx;
    (void)cx;
#else
    /* "memory": the host may access what the call points to, and devices may access more. */
    __asm__ __volatile__(PVIO_BYTES_(PVIO_MAGIC) : "+a"(word), "+d"(*dx), "+c"(*cx) : : "memory");
#endif
    return word;
}

/* EAX of a call. */
static inline uint32_t pvio_call_word(uint8_t call, uint8_t operand, uint16_t port)
{
    return PVIO_UNANSWERED | PVIO_CAST_(uint32_t, call) << PVIO_CALL_SHIFT
        | PVIO_CAST_(uint32_t, operand) << PVIO_OPERAND_SHIFT | port;
}

/* The PVIO_STATUS_... in EAX. */
static inline unsigned int pvio_status(uint32_t word)
{
    return word & PVIO_UNANSWERED ? PVIO_STATUS_UNANSWERED : word >> PVIO_CALL_SHIFT;
}

/* Returns the host's version of the ABI, 0 without a host. FEATURES may be NULL. */
static inline uint32_t pvio_probe(uint32_t *features)
{
    pvio_word dx = 0, cx = 0;
    const uint32_t word = pvio_call(pvio_call_word(PVIO_CALL_PROBE, 0, 0), &dx, &cx);
    const int is_answered = pvio_status(word) == PVIO_STATUS_OK;

    if (features)
        *features = is_answered ? PVIO_CAST_(uint32_t, dx) : 0;
    return is_answered ? word & PVIO_DATA_MASK : 0;
}

/* ---- Single values: Linux's names and order ---- */

/* DATA holds the value of an `in`: EAX with the status, or EDX. */
#define PVIO_SCALAR_(b, B, type, data, operand)                                                             \
    static inline type pvio_native_in##b(uint16_t port)                                                     \
    {                                                                                                       \
        type value;                                                                                         \
        __asm__ __volatile__("{in" #b " %w1, %0|in %0, %w1}" : "=a"(value) : "Nd"(port) : "memory");        \
        return value;                                                                                       \
    }                                                                                                       \
    static inline void pvio_native_out##b(type value, uint16_t port)                                        \
    {                                                                                                       \
        __asm__ __volatile__("{out" #b " %0, %w1|out %w1, %0}" : : "a"(value), "Nd"(port) : "memory");      \
    }                                                                                                       \
    static inline type pvio_in##b(uint16_t port)                                                            \
    {                                                                                                       \
        pvio_word dx = 0, cx = 0;                                                                           \
        const uint32_t word = pvio_call(pvio_call_word(PVIO_CALL_IN##B, 0, port), &dx, &cx);                \
        if (pvio_status(word) == PVIO_STATUS_OK)                                                            \
            return PVIO_CAST_(type, data);                                                                  \
        return pvio_native_in##b(port);                                                                     \
    }                                                                                                       \
    static inline void pvio_out##b(type value, uint16_t port)                                               \
    {                                                                                                       \
        pvio_word dx = value, cx = 0;                                                                       \
        const uint32_t word = pvio_call(pvio_call_word(PVIO_CALL_OUT##B, operand, port), &dx, &cx);         \
        if (pvio_status(word) != PVIO_STATUS_OK)                                                            \
            pvio_native_out##b(value, port);                                                                \
    }

PVIO_SCALAR_(b, B, uint8_t, word, value)
PVIO_SCALAR_(w, W, uint16_t, word, 0)
PVIO_SCALAR_(l, L, uint32_t, dx, 0)

/*
 * ---- The same through a mailbox; if no host answers, by registers; else by instruction ----
 *
 * A mailbox belongs to one CPU. During a call the task must not move to another CPU, and no other task may
 * run: disable preemption. Interrupt handlers may make calls of their own.
 */

/* Makes a call by the doorbell, or registers the mailbox. Returns the word afterwards. */
static inline uint32_t pvio_mailbox_call_(struct pvio_mailbox *mailbox, uint32_t word, uint32_t *value,
                                          int uses_value, int is_to_register)
{
#ifdef PVIO_NO_HYPERCALLS
    (void)mailbox;
    (void)value;
    (void)uses_value;
    (void)is_to_register;
#else
    volatile struct pvio_mailbox *const box = mailbox;
    /* An interrupt handler's call may be within another call, so every call restores the mailbox. */
    const uint32_t word_before = box->word;
    uint32_t value_before = 0;

    if (uses_value) {
        value_before = box->value;
        box->value = *value;
    }
    box->word = word;
    if (is_to_register)
        __asm__ __volatile__(PVIO_BYTES_(PVIO_REGISTER_MAILBOX)
                             : : "d"(PVIO_CAST_(pvio_word, PVIO_LINEAR(mailbox))) : "memory");
    else
        __asm__ __volatile__(PVIO_BYTES_(PVIO_DOORBELL) : : : "memory");
    word = box->word;
    if (uses_value) {
        *value = box->value;
        box->value = value_before;
    }
    box->word = word_before;
#endif
    return word;
}

/* Makes a call with address and count. Returns the word afterwards; the mailbox may be NULL: by registers. */
static inline uint32_t pvio_string_call_(struct pvio_mailbox *mailbox, uint32_t word, pvio_word *dx, pvio_word *cx)
{
    if (mailbox) {
        volatile struct pvio_mailbox *const box = mailbox;
        const uint64_t address_before = box->address, count_before = box->count;
        uint64_t address, count;
        uint32_t answer, value = 0;

        box->address = *dx;
        box->count = *cx;
        answer = pvio_mailbox_call_(mailbox, word, &value, 0, 0);
        address = box->address;
        count = box->count;
        box->address = address_before;
        box->count = count_before;
        /* UNKNOWN: the mailbox is a small one. */
        if (!(answer & PVIO_UNANSWERED) && pvio_status(answer) != PVIO_STATUS_UNKNOWN) {
            *dx = PVIO_CAST_(pvio_word, address);
            *cx = PVIO_CAST_(pvio_word, count);
            return answer;
        }
    }
    return pvio_call(word, dx, cx);
}

/*
 * Registers the mailbox for this CPU, as a large one if the host has these. The key is not 0 and occurs nowhere
 * else in memory by chance. The mailbox must stay where it is until it is released; before the first call all
 * else in it is 0. Returns a PVIO_STATUS_...; FEATURES may be NULL.
 */
static inline unsigned int pvio_mailbox_register(struct pvio_mailbox *mailbox, uint64_t key, uint32_t *features)
{
    uint32_t value = 0;
    unsigned int status;

    PVIO_CAST_(volatile struct pvio_mailbox *, mailbox)->key = key;
    status = pvio_status(pvio_mailbox_call_(mailbox, pvio_call_word(PVIO_CALL_REGISTER_LARGE, 0, 0), &value, 1, 1));
    if (status != PVIO_STATUS_OK)
        status = pvio_status(pvio_mailbox_call_(mailbox, pvio_call_word(PVIO_CALL_REGISTER, 0, 0), &value, 1, 1));
    if (features)
        *features = status == PVIO_STATUS_OK ? value : 0;
    return status;
}

/* Releases this CPU's mailbox. Returns a PVIO_STATUS_.... */
static inline unsigned int pvio_mailbox_release(struct pvio_mailbox *mailbox)
{
    uint32_t value = 0;
    return pvio_status(pvio_mailbox_call_(mailbox, pvio_call_word(PVIO_CALL_RELEASE, 0, 0), &value, 0, 0));
}

#define PVIO_MAILBOX_(b, B, type, data, operand, in_value, out_value)                                       \
    static inline type pvio_mailbox_in##b(struct pvio_mailbox *mailbox, uint16_t port)                      \
    {                                                                                                       \
        uint32_t value = 0;                                                                                 \
        const uint32_t word = pvio_mailbox_call_(mailbox, pvio_call_word(PVIO_CALL_IN##B, 0, port), &value, \
                                                 in_value, 0);                                              \
        if (pvio_status(word) == PVIO_STATUS_OK)                                                            \
            return PVIO_CAST_(type, data);                                                                  \
        return pvio_status(word) == PVIO_STATUS_UNANSWERED ? pvio_in##b(port) : pvio_native_in##b(port);    \
    }                                                                                                       \
    static inline void pvio_mailbox_out##b(struct pvio_mailbox *mailbox, type value, uint16_t port)         \
    {                                                                                                       \
        uint32_t edx = value;                                                                               \
        const uint32_t word = pvio_mailbox_call_(mailbox, pvio_call_word(PVIO_CALL_OUT##B, operand, port),  \
                                                 &edx, out_value, 0);                                       \
        if (pvio_status(word) == PVIO_STATUS_UNANSWERED)                                                    \
            pvio_out##b(value, port);                                                                       \
        else if (pvio_status(word) != PVIO_STATUS_OK)                                                       \
            pvio_native_out##b(value, port);                                                                \
    }

PVIO_MAILBOX_(b, B, uint8_t, word, value, 0, 0)
PVIO_MAILBOX_(w, W, uint16_t, word, 0, 0, 1)
PVIO_MAILBOX_(l, L, uint32_t, value, 0, 1, 1)

/* ---- Strings: port, address, count ---- */

/* A program's elements may be of any type and at any address. */
typedef uint8_t pvio_u8_ __attribute__((may_alias));
typedef uint16_t pvio_u16_ __attribute__((may_alias, aligned(1)));
typedef uint32_t pvio_u32_ __attribute__((may_alias, aligned(1)));

/* The segment of buffers. ATT_ and INTEL_ are for a source: a destination is always in ES. */
#ifdef PVIO_ES_LINEAR
#define PVIO_BUFFER_LINEAR_  PVIO_ES_LINEAR
#define PVIO_BUFFER_POINTER_ PVIO_ES_POINTER
#define PVIO_ATT_            "%%es:"
#define PVIO_INTEL_          "es:"

#define PVIO_ELEMENT_(b, q, type, ptr)                                                                      \
    static inline type pvio_load_##b##_(uintptr_t at)                                                       \
    {                                                                                                       \
        type value;                                                                                         \
        __asm__ __volatile__("{mov" #b " %%es:(%1), %0|mov %0, " ptr " ptr es:[%1]}"                        \
                             : "=" q(value) : "r"(at) : "memory");                                          \
        return value;                                                                                       \
    }                                                                                                       \
    static inline void pvio_store_##b##_(uintptr_t at, type value)                                          \
    {                                                                                                       \
        __asm__ __volatile__("{mov" #b " %1, %%es:(%0)|mov " ptr " ptr es:[%0], %1}"                        \
                             : : "r"(at), q(value) : "memory");                                             \
    }
#else
#define PVIO_BUFFER_LINEAR_  PVIO_LINEAR
#define PVIO_BUFFER_POINTER_ PVIO_POINTER
#define PVIO_ATT_            ""
#define PVIO_INTEL_          ""

#define PVIO_ELEMENT_(b, q, type, ptr)                                                                      \
    static inline type pvio_load_##b##_(uintptr_t at) { return *PVIO_BITS_(type *, at); }                   \
    static inline void pvio_store_##b##_(uintptr_t at, type value) { *PVIO_BITS_(type *, at) = value; }
#endif

PVIO_ELEMENT_(b, "q", pvio_u8_, "byte")
PVIO_ELEMENT_(w, "r", pvio_u16_, "word")
PVIO_ELEMENT_(l, "r", pvio_u32_, "dword")

/* Moves one element on a page that the host cannot check: this code's own load or store faults there. */
#define PVIO_ELEMENT_BY_(in, out)                                                                           \
    switch (call) {                                                                                         \
    case PVIO_CALL_INSB: pvio_store_b_(at, in(b)); break;                                                   \
    case PVIO_CALL_INSW: pvio_store_w_(at, in(w)); break;                                                   \
    case PVIO_CALL_INSL: pvio_store_l_(at, in(l)); break;                                                   \
    case PVIO_CALL_OUTSB: out(b); break;                                                                    \
    case PVIO_CALL_OUTSW: out(w); break;                                                                    \
    default: out(l); break;                                                                                 \
    }
static inline void pvio_element_(struct pvio_mailbox *mailbox, uint8_t call, uint16_t port, uintptr_t at)
{
#define PVIO_IN_(b)          pvio_in##b(port)
#define PVIO_OUT_(b)         pvio_out##b(pvio_load_##b##_(at), port)
#define PVIO_MAILBOX_IN_(b)  pvio_mailbox_in##b(mailbox, port)
#define PVIO_MAILBOX_OUT_(b) pvio_mailbox_out##b(mailbox, pvio_load_##b##_(at), port)
    if (mailbox)
        PVIO_ELEMENT_BY_(PVIO_MAILBOX_IN_, PVIO_MAILBOX_OUT_)
    else
        PVIO_ELEMENT_BY_(PVIO_IN_, PVIO_OUT_)
}

/* Reads a byte, so that its page becomes present and accessed, if necessary by the guest's own page fault. */
static inline void pvio_touch_(uintptr_t at) { (void)*PVIO_BITS_(volatile unsigned char *, at); }

static inline void pvio_touch_to_write_(uintptr_t at)
{
    __asm__ __volatile__("lock {orb $0, (%0)|or byte ptr [%0], 0}" : : "r"(at) : "memory", "cc");
}

/* The same in a buffer. A write, which makes the page dirty, is locked: others may be writing there. */
static inline void pvio_touch_buffer_(uintptr_t at, int to_write)
{
    if (to_write)
        __asm__ __volatile__("lock {orb $0, " PVIO_ATT_ "(%0)|or byte ptr " PVIO_INTEL_ "[%0], 0}"
                             : : "r"(at) : "memory", "cc");
    else
#ifdef PVIO_ES_LINEAR
        (void)pvio_load_b_(at);
#else
        pvio_touch_(at);
#endif
}

/* Moves elements by hypercalls; returns how many are left for the instruction. */
static inline size_t pvio_string_(struct pvio_mailbox *mailbox, uint8_t call, uint16_t port, uintptr_t at,
                                  pvio_word linear, size_t count, unsigned int shift)
{
    const int to_write = call <= PVIO_CALL_INSL;
    int is_touched = 0;

    while (count) {
        pvio_word dx = linear, cx = count;
        const uint32_t word = pvio_string_call_(mailbox, pvio_call_word(call, 0, port), &dx, &cx);
        const unsigned int status = pvio_status(word);
        size_t moved = count - PVIO_CAST_(size_t, cx);

        is_touched = is_touched && !moved;
        if (status != PVIO_STATUS_OK && status != PVIO_STATUS_PAGE)
            return PVIO_CAST_(size_t, cx);
        if (!moved && (is_touched || status == PVIO_STATUS_OK)) {
            pvio_element_(mailbox, call, port, at);
            moved = 1;
            is_touched = 0;
        } else if (status == PVIO_STATUS_PAGE) {
            /* An element may span two pages. */
            pvio_touch_buffer_(at + (moved << shift), to_write);
            pvio_touch_buffer_(at + (moved << shift) + (PVIO_CAST_(size_t, 1) << shift) - 1, to_write);
            is_touched = 1;
        }
        at += moved << shift;
        linear += PVIO_CAST_(pvio_word, moved) << shift;
        count -= moved;
    }
    return 0;
}

/*
 * DF is clear by the ABI of C. The operands are explicit, since 16-bit code would use SI, DI and CX without
 * them, and not ESI, EDI and ECX.
 */
#define PVIO_STRING_(b, B, ptr, shift)                                                                      \
    static inline void pvio_native_ins##b(uint16_t port, void *address, size_t count)                       \
    {                                                                                                       \
        __asm__ __volatile__("rep {ins" #b " %%dx, %%es:(%0)|ins " ptr " ptr es:[%0], dx}"                  \
                             : "+D"(address), "+c"(count) : "d"(port) : "memory");                          \
    }                                                                                                       \
    static inline void pvio_native_outs##b(uint16_t port, const void *address, size_t count)                \
    {                                                                                                       \
        __asm__ __volatile__("rep {outs" #b " " PVIO_ATT_ "(%0), %%dx|outs dx, " ptr " ptr " PVIO_INTEL_ "[%0]}" \
                             : "+S"(address), "+c"(count) : "d"(port) : "memory");                          \
    }                                                                                                       \
    static inline void pvio_mailbox_ins##b(struct pvio_mailbox *mailbox, uint16_t port, void *address, size_t count) \
    {                                                                                                       \
        const size_t left = pvio_string_(mailbox, PVIO_CALL_INS##B, port, PVIO_BITS_(uintptr_t, address),   \
                                         PVIO_CAST_(pvio_word, PVIO_BUFFER_LINEAR_(address)), count, shift); \
        if (left)                                                                                           \
            pvio_native_ins##b(port, PVIO_CAST_(char *, address) + ((count - left) << shift), left);        \
    }                                                                                                       \
    static inline void pvio_mailbox_outs##b(struct pvio_mailbox *mailbox, uint16_t port, const void *address, \
                                            size_t count)                                                   \
    {                                                                                                       \
        const size_t left = pvio_string_(mailbox, PVIO_CALL_OUTS##B, port, PVIO_BITS_(uintptr_t, address),  \
                                         PVIO_CAST_(pvio_word, PVIO_BUFFER_LINEAR_(address)), count, shift); \
        if (left)                                                                                           \
            pvio_native_outs##b(port, PVIO_CAST_(const char *, address) + ((count - left) << shift), left); \
    }                                                                                                       \
    static inline void pvio_ins##b(uint16_t port, void *address, size_t count)                              \
    {                                                                                                       \
        pvio_mailbox_ins##b(PVIO_NO_MAILBOX_, port, address, count);                                        \
    }                                                                                                       \
    static inline void pvio_outs##b(uint16_t port, const void *address, size_t count)                       \
    {                                                                                                       \
        pvio_mailbox_outs##b(PVIO_NO_MAILBOX_, port, address, count);                                       \
    }

PVIO_STRING_(b, B, "byte", 0)
PVIO_STRING_(w, W, "word", 1)
PVIO_STRING_(l, L, "dword", 2)

/* ---- Batches ---- */

static inline struct pvio_record pvio_record_(uint8_t call, uint16_t port, uint32_t value, uint64_t address)
{
    struct pvio_record record;

    record.call = call;
    record.status = PVIO_RECORD_PENDING;
    record.port = port;
    record.value = value;
    record.address = address;
    return record;
}

#define PVIO_RECORDS_(b, B, type)                                                                           \
    static inline struct pvio_record pvio_record_in##b(uint16_t port)                                       \
    {                                                                                                       \
        return pvio_record_(PVIO_CALL_IN##B, port, 0, 0);                                                   \
    }                                                                                                       \
    static inline struct pvio_record pvio_record_out##b(type value, uint16_t port)                          \
    {                                                                                                       \
        return pvio_record_(PVIO_CALL_OUT##B, port, value, 0);                                              \
    }                                                                                                       \
    static inline struct pvio_record pvio_record_ins##b(uint16_t port, void *address, uint32_t count)       \
    {                                                                                                       \
        return pvio_record_(PVIO_CALL_INS##B, port, count,                                                  \
                            PVIO_CAST_(pvio_word, PVIO_BUFFER_LINEAR_(address)));                           \
    }                                                                                                       \
    static inline struct pvio_record pvio_record_outs##b(uint16_t port, const void *address, uint32_t count) \
    {                                                                                                       \
        return pvio_record_(PVIO_CALL_OUTS##B, port, count,                                                 \
                            PVIO_CAST_(pvio_word, PVIO_BUFFER_LINEAR_(address)));                           \
    }

PVIO_RECORDS_(b, B, uint8_t)
PVIO_RECORDS_(w, W, uint16_t)
PVIO_RECORDS_(l, L, uint32_t)

/* Moves one element by a separate call, one of the six. Returns the value read, or VALUE. */
static inline uint32_t pvio_value_run_(uint8_t call, uint16_t port, uint32_t value)
{
    switch (call) {
    case PVIO_CALL_INB: return pvio_inb(port);
    case PVIO_CALL_INW: return pvio_inw(port);
    case PVIO_CALL_INL: return pvio_inl(port);
    case PVIO_CALL_OUTB: pvio_outb(PVIO_CAST_(uint8_t, value), port); break;
    case PVIO_CALL_OUTW: pvio_outw(PVIO_CAST_(uint16_t, value), port); break;
    default: pvio_outl(value, port); break;
    }
    return value;
}

/* Runs the rest of one record by a separate call. Returns its status. */
static inline uint8_t pvio_record_run_(struct pvio_record *record)
{
    const uint16_t port = record->port;
    const uint32_t value = record->value;
    const unsigned int shift = (record->call - 1u) % 3;
    void *const at = PVIO_BUFFER_POINTER_(PVIO_CAST_(pvio_word, record->address));

    if (record->call < PVIO_CALL_INB || record->call > PVIO_CALL_OUTSL)
        return PVIO_STATUS_UNKNOWN;
    if (record->call < PVIO_CALL_INSB && record->address)
        return PVIO_STATUS_ARGUMENT;
    if (PVIO_CAST_(pvio_word, record->address) != record->address)
        return PVIO_STATUS_ADDRESS;
    switch (record->call) {
    case PVIO_CALL_INSB: pvio_insb(port, at, value); break;
    case PVIO_CALL_INSW: pvio_insw(port, at, value); break;
    case PVIO_CALL_INSL: pvio_insl(port, at, value); break;
    case PVIO_CALL_OUTSB: pvio_outsb(port, at, value); break;
    case PVIO_CALL_OUTSW: pvio_outsw(port, at, value); break;
    case PVIO_CALL_OUTSL: pvio_outsl(port, at, value); break;
    default: record->value = pvio_value_run_(record->call, port, value); break;
    }
    if (record->call >= PVIO_CALL_INSB) {
        record->address += PVIO_CAST_(uint64_t, value) << shift;
        record->value = 0;
    }
    return PVIO_STATUS_OK;
}

/*
 * Runs records in order, each with the fallback of its own operation. Returns COUNT, or the index of the
 * first record with an error: it has the status, and no record after it has run.
 */
static inline size_t pvio_batch(struct pvio_record *records, size_t count)
{
    int is_answered = 1;
    size_t index = 0;

    while (index < count) {
        struct pvio_record *const record = &records[index];
        pvio_word dx = PVIO_CAST_(pvio_word, PVIO_LINEAR(record)), cx = count - index;
        unsigned int status;

        if (is_answered) {
            status = pvio_status(pvio_call(pvio_call_word(PVIO_CALL_BATCH, 0, 0), &dx, &cx));
            is_answered = status != PVIO_STATUS_UNANSWERED && status != PVIO_STATUS_DENIED
                && status != PVIO_STATUS_UNKNOWN;
        }
        if (cx != count - index) {
            index = count - PVIO_CAST_(size_t, cx);
            continue;
        }
        /* The host made no progress, for example at a page of this record or of its buffer. */
        record->status = pvio_record_run_(record);
        if (record->status != PVIO_STATUS_OK)
            break;
        index++;
    }
    return index;
}

/* ---- Compact batches ---- */

#define PVIO_COMPACT_RECORDS_(b, B, type)                                                                   \
    static inline struct pvio_compact_record pvio_compact_in##b(uint16_t port)                              \
    {                                                                                                       \
        return pvio_compact_record_(PVIO_CALL_IN##B, port, 0);                                              \
    }                                                                                                       \
    static inline struct pvio_compact_record pvio_compact_out##b(type value, uint16_t port)                 \
    {                                                                                                       \
        return pvio_compact_record_(PVIO_CALL_OUT##B, port, value);                                         \
    }

static inline struct pvio_compact_record pvio_compact_record_(uint8_t call, uint16_t port, uint32_t value)
{
    struct pvio_compact_record record;

    record.call = call;
    record.reserved = 0;
    record.port = port;
    record.value = value;
    return record;
}

PVIO_COMPACT_RECORDS_(b, B, uint8_t)
PVIO_COMPACT_RECORDS_(w, W, uint16_t)
PVIO_COMPACT_RECORDS_(l, L, uint32_t)

/*
 * Runs records in order, each with the fallback of its own operation. Returns COUNT, or the index of the
 * first record that is wrong: its call is not one of these, or its reserved byte not 0. Nothing after it has run.
 */
static inline size_t pvio_batch_compact(struct pvio_compact_record *records, size_t count)
{
    int is_answered = 1;
    size_t index = 0;

    while (index < count) {
        struct pvio_compact_record *const record = &records[index];
        pvio_word dx = PVIO_CAST_(pvio_word, PVIO_LINEAR(record)), cx = count - index;
        unsigned int status;

        if (is_answered) {
            status = pvio_status(pvio_call(pvio_call_word(PVIO_CALL_BATCH_COMPACT, 0, 0), &dx, &cx));
            is_answered = status != PVIO_STATUS_UNANSWERED && status != PVIO_STATUS_DENIED
                && status != PVIO_STATUS_UNKNOWN;
        }
        if (cx != count - index) {
            index = count - PVIO_CAST_(size_t, cx);
            continue;
        }
        if (record->reserved || record->call < PVIO_CALL_INB || record->call > PVIO_CALL_OUTL)
            break;
        /* The host made no progress, for example at a page of this record. */
        pvio_touch_to_write_(PVIO_BITS_(uintptr_t, record));
        record->value = pvio_value_run_(record->call, record->port, record->value);
        index++;
    }
    return index;
}

/* ---- Control: each returns a PVIO_STATUS_..., UNANSWERED without a host ---- */

/* Makes a call with a text of at most a page. */
static inline unsigned int pvio_text_(uint8_t call, uint8_t operand, const char *text, size_t length)
{
    const uintptr_t at = PVIO_BITS_(uintptr_t, text);
    unsigned int status = PVIO_STATUS_PAGE;
    int tries;

    for (tries = 0; tries < 3 && status == PVIO_STATUS_PAGE; tries++) {
        pvio_word dx = PVIO_CAST_(pvio_word, PVIO_LINEAR(text)), cx = length;

        if (tries) {
            pvio_touch_(at);
            pvio_touch_(at + length - 1);
        }
        status = pvio_status(pvio_call(pvio_call_word(call, operand, 0), &dx, &cx));
    }
    return status;
}

static inline unsigned int pvio_plain_(uint8_t call, uint8_t operand)
{
    pvio_word dx = 0, cx = 0;
    return pvio_status(pvio_call(pvio_call_word(call, operand, 0), &dx, &cx));
}

static inline size_t pvio_length_(const char *text)
{
    /* Volatile, since a compiler may turn the loop into a call of strlen. */
    const volatile char *end = text;
    while (*end)
        end++;
    return PVIO_CAST_(size_t, end - text);
}

/* Ends the machine with this exit status. Returns if it does not end. */
static inline unsigned int pvio_exit(uint8_t code)
{
    const unsigned int status = pvio_plain_(PVIO_CALL_EXIT, code);

    /* The CPU may continue to run for a while. */
    while (status == PVIO_STATUS_OK)
        __asm__ __volatile__("pause");
    return status;
}

/* Logs a line of at most PVIO_LOG_MAX bytes, with a PVIO_LEVEL_.... */
static inline unsigned int pvio_log(uint8_t level, const char *text, size_t length)
{
    return pvio_text_(PVIO_CALL_LOG, level, text, length);
}

static inline unsigned int pvio_log_string(uint8_t level, const char *text)
{
    return pvio_log(level, text, pvio_length_(text));
}

/* Opens and closes a window of the statistics. Its name has 1 to PVIO_NAME_MAX bytes. */
static inline unsigned int pvio_begin(const char *name)
{
    return pvio_text_(PVIO_CALL_BEGIN, 0, name, pvio_length_(name));
}

static inline unsigned int pvio_end(const char *name)
{
    return pvio_text_(PVIO_CALL_END, 0, name, pvio_length_(name));
}

/* Sets all counts to zero. */
static inline unsigned int pvio_reset(void) { return pvio_plain_(PVIO_CALL_RESET, 0); }

/* Writes the statistics as they stand. */
static inline unsigned int pvio_dump(void) { return pvio_plain_(PVIO_CALL_DUMP, 0); }

/* ---- Files of the directory that the host shares: each returns a PVIO_STATUS_... ---- */

/* A file that is read or written from its beginning on. pvio_file_open sets it. */
struct pvio_file {
    uint64_t name;
    uint32_t name_len;
    uint32_t reserved;
    uint64_t tag;
    uint64_t offset;
    uint64_t address;
    uint64_t count;
    uint64_t reserved_too[2];
} __attribute__((aligned(64)));

/* Names a file, in at most PVIO_FILE_NAME_MAX bytes. The name must stay; nothing is asked of the host yet. */
static inline void pvio_file_open(struct pvio_file *file, const char *name)
{
    file->name = PVIO_CAST_(pvio_word, PVIO_LINEAR(name));
    file->name_len = PVIO_CAST_(uint32_t, pvio_length_(name));
    file->reserved = 0;
    file->tag = file->offset = file->address = file->count = 0;
    file->reserved_too[0] = file->reserved_too[1] = 0;
}

/*
 * Repeats a call until no byte is left, the file ends, or it fails. AT is the buffer's pointer, which is not its linear
 * address if DS has a base.
 */
static inline unsigned int pvio_file_call_(uint8_t call, struct pvio_file *file, uintptr_t at, size_t size)
{
    const uintptr_t name = PVIO_BITS_(uintptr_t, PVIO_POINTER(file->name));
    const uint64_t begin = file->offset;
    int tries = 0;

    file->address = PVIO_CAST_(pvio_word, PVIO_LINEAR(PVIO_BITS_(void *, at)));
    file->count = size;
    for (;;) {
        pvio_word dx = PVIO_CAST_(pvio_word, PVIO_LINEAR(file)), cx = 0;
        const uint64_t before = file->count;
        const uint32_t word = pvio_call(pvio_call_word(call, 0, 0), &dx, &cx);
        const unsigned int status = pvio_status(word);

        if (status == PVIO_STATUS_OK) {
            if (!file->count || file->count == before || word & PVIO_DATA_MASK)
                return status;
            tries = 0;
        } else if (status == PVIO_STATUS_PAGE && tries < 3) {
            tries++;
            pvio_touch_to_write_(PVIO_BITS_(uintptr_t, file));
            if (file->name_len) {
                pvio_touch_(name);
                pvio_touch_(name + file->name_len - 1);
            }
            if (file->count && call == PVIO_CALL_FILE_READ)
                pvio_touch_to_write_(at + PVIO_CAST_(uintptr_t, file->offset - begin));
            else if (file->count)
                pvio_touch_(at + PVIO_CAST_(uintptr_t, file->offset - begin));
        } else {
            return status;
        }
    }
}

/* Reads the next SIZE bytes. MOVED is how many there were: fewer at the end of the file. */
static inline unsigned int pvio_file_read(struct pvio_file *file, void *buffer, size_t size, size_t *moved)
{
    const unsigned int status = pvio_file_call_(PVIO_CALL_FILE_READ, file, PVIO_BITS_(uintptr_t, buffer), size);

    *moved = size - PVIO_CAST_(size_t, file->count);
    return status;
}

/* Appends SIZE bytes, perhaps none. The file has its name only after pvio_file_finish. */
static inline unsigned int pvio_file_write(struct pvio_file *file, const void *buffer, size_t size)
{
    return pvio_file_call_(PVIO_CALL_FILE_WRITE, file, PVIO_BITS_(uintptr_t, buffer), size);
}

/* Gives the file its name. Without a pvio_file_write before, the file is STALE. */
static inline unsigned int pvio_file_finish(struct pvio_file *file)
{
    return pvio_file_call_(PVIO_CALL_FILE_FINISH, file, 0, 0);
}

/* ---- Other code's names. Include headers that declare these, such as <sys/io.h>, before this one. ---- */

#if defined(PVIO_REPLACE_LINUX) && defined(PVIO_REPLACE_PORT_FIRST)
#error "PVIO_REPLACE_LINUX and PVIO_REPLACE_PORT_FIRST exclude each other: code has one order of arguments"
#endif
#if defined(PVIO_REPLACE_INLINE) && !defined(PVIO_REPLACE_LINUX) && !defined(PVIO_REPLACE_PORT_FIRST)
#error "PVIO_REPLACE_INLINE needs PVIO_REPLACE_LINUX or PVIO_REPLACE_PORT_FIRST"
#endif

#if defined(PVIO_REPLACE_INLINE)

#ifdef PVIO_REPLACE_LINUX
#define PVIO_OUT_ARGUMENTS_(type) type value, uint16_t port
#else
#define PVIO_OUT_ARGUMENTS_(type) uint16_t port, type value
#endif
#define PVIO_INLINE_(b, type)                                                                               \
    static inline type in##b(uint16_t port) { return pvio_in##b(port); }                                    \
    static inline void out##b(PVIO_OUT_ARGUMENTS_(type)) { pvio_out##b(value, port); }                      \
    static inline void ins##b(uint16_t port, void *address, size_t count)                                   \
    {                                                                                                       \
        pvio_ins##b(port, address, count);                                                                  \
    }                                                                                                       \
    static inline void outs##b(uint16_t port, const void *address, size_t count)                            \
    {                                                                                                       \
        pvio_outs##b(port, address, count);                                                                 \
    }

PVIO_INLINE_(b, uint8_t)
PVIO_INLINE_(w, uint16_t)
PVIO_INLINE_(l, uint32_t)

#elif defined(PVIO_REPLACE_LINUX) || defined(PVIO_REPLACE_PORT_FIRST)

/*
 * A constant port that is passed as the value, or a constant value that is passed as the port, is an error if
 * it does not fit there. (clang without optimization would call the function for variables, too.)
 */
#if defined(__has_attribute) && (!defined(__clang__) || defined(__OPTIMIZE__))
#if __has_attribute(error)
#define PVIO_CHECKS_ORDER_
#endif
#endif
#ifdef PVIO_CHECKS_ORDER_
#ifdef __cplusplus
extern "C"
#endif
void pvio_wrong_order_(void) __attribute__((error(
#ifdef PVIO_REPLACE_LINUX
    "pvio.h: PVIO_REPLACE_LINUX is for outb(value, port), see PVIO_REPLACE_PORT_FIRST"
#else
    "pvio.h: PVIO_REPLACE_PORT_FIRST is for outb(port, value), see PVIO_REPLACE_LINUX"
#endif
)));
/*
 * Only constant expressions count, not variables whose value the compiler knows: a 16-bit variable may be written
 * as a byte. In C, the conditional is an int * if the second operand is a null pointer constant, else a void *.
 */
#ifdef __cplusplus
#define PVIO_IS_CONSTANT_(x) __builtin_constant_p(x)
#else
#define PVIO_IS_CONSTANT_(x) (sizeof(int) == sizeof(*(1 ? (void *)((long)(x) * 0L) : (int *)1)))
#endif
#define PVIO_CONSTANT_(x) (PVIO_IS_CONSTANT_(x) ? PVIO_CAST_(unsigned long long, x) : 0)
#define PVIO_ORDER_(port) (PVIO_CONSTANT_(port) > 0xffff ? pvio_wrong_order_() : PVIO_CAST_(void, 0))
/* A byte may be the complement of a small constant, such as ~0x20, but is not 0x100 to 0xffff. */
#define PVIO_ORDER_OF_BYTE_(value, port)                                                                    \
    (PVIO_CONSTANT_(value) - 0x100 < 0xff00 || PVIO_CONSTANT_(port) > 0xffff ? pvio_wrong_order_()          \
                                                                             : PVIO_CAST_(void, 0))
#else
#define PVIO_ORDER_(port)                PVIO_CAST_(void, 0)
#define PVIO_ORDER_OF_BYTE_(value, port) PVIO_CAST_(void, 0)
#endif

#define inb(port) pvio_inb(port)
#define inw(port) pvio_inw(port)
#define inl(port) pvio_inl(port)
#ifdef PVIO_REPLACE_LINUX
#define outb(value, port) (PVIO_ORDER_OF_BYTE_(value, port), pvio_outb(value, port))
#define outw(value, port) (PVIO_ORDER_(port), pvio_outw(value, port))
#define outl(value, port) (PVIO_ORDER_(port), pvio_outl(value, port))
#else
#define outb(port, value) (PVIO_ORDER_OF_BYTE_(value, port), pvio_outb(value, port))
#define outw(port, value) (PVIO_ORDER_(port), pvio_outw(value, port))
#define outl(port, value) (PVIO_ORDER_(port), pvio_outl(value, port))
#endif
#define insb(port, address, count) pvio_insb(port, address, count)
#define insw(port, address, count) pvio_insw(port, address, count)
#define insl(port, address, count) pvio_insl(port, address, count)
#define outsb(port, address, count) pvio_outsb(port, address, count)
#define outsw(port, address, count) pvio_outsw(port, address, count)
#define outsl(port, address, count) pvio_outsl(port, address, count)
#endif

#endif /* __ASSEMBLER__ */
#endif /* PVIO_H */
