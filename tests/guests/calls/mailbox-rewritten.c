/*
 * calls-mailbox-rewritten32, calls-mailbox-rewritten64: a CPU uses the doorbell and registers, while another CPU writes
 * random words, values and keys into its mailbox, right ones and wrong ones. Only the mailbox may change, and it
 * must work again afterwards.
 */
#include "lib/apic.h"
#include "lib/post.h"

#define KEY   0x7265777269747465ull
#define RINGS 200000u
#define MARK  0xc3

static u8 area[3 * PAGE] __attribute__((aligned(PAGE)));
#define HERE ((volatile struct pvio_mailbox *)(area + PAGE + 0x540))

/* Of strings: they may read and write these and no others. */
static u8 buffers[2 * PAGE] __attribute__((aligned(PAGE)));

static volatile u32 is_over, has_stopped, writes;

static u64 any(u64 *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

/* Calls to ports that do no harm. */
static u32 any_word(u64 random) {
    static const u16 ports[] = {LATCH, LATCH + 1, LATCH + 3, 0x5010, 0x5012, 0x300, 0x304, 0x80, 0x5200};
    const u32 any_number = random & 3 ? (u32)(random >> 8 & 15) : (u32)(random >> 8 & 0x7f);
    /* A batch would have records of its own, and control calls end what the test looks at. */
    const u32 number = any_number == PVIO_CALL_BATCH || any_number == PVIO_CALL_BATCH_COMPACT || (any_number > PVIO_CALL_RELEASE && any_number <= PVIO_CALL_DUMP) ? PVIO_CALL_INSB : any_number;
    const u32 is_call = (random >> 2 & 15) != 0;
    const u32 operand = (random >> 24 & 7) < 2 || number == PVIO_CALL_OUTB ? (u32)(random >> 32 & 0xff) : 0;
    const u32 port = number ? ports[(random >> 40) % (sizeof ports / sizeof *ports)] : 0;
    return is_call << 31 | number << PVIO_CALL_SHIFT | operand << PVIO_OPERAND_SHIFT | port;
}

#define REGISTER_WORD_LARGE (PVIO_UNANSWERED | PVIO_CALL_REGISTER_LARGE << PVIO_CALL_SHIFT)

/*
 * A buffer for a string, or, by an upper half, what cannot be one. Whatever halves the host sees together, it is never
 * other memory of this guest.
 */
static void rewrite_string(u64 random) {
    volatile u32 *const address = (volatile u32 *)&HERE->address, *const count = (volatile u32 *)&HERE->count;
    switch (random & 7) {
    case 0:
        address[1] = (u32)(random >> 32) | 1u << 31;
        break;
    case 1:
        count[1] = (u32)(random >> 32) | 1u << 31;
        break;
    case 2:
        HERE->site = random;
        break;
    case 3:
        HERE->reserved[random >> 8 & 1] = random & 1 << 16 ? random : 0;
        break;
    default:
        address[0] = (u32)(word)buffers + (random >> 16 & (PAGE - 1));
        address[1] = 0;
        count[0] = random >> 8 & 31;
        count[1] = 0;
    }
}

void other(u32 cpu) {
    volatile u32 *const keys = (volatile u32 *)&HERE->key;
    u64 state = 0x5eed2007 + cpu;
    while (!is_over) {
        const u64 random = any(&state);
        switch (random >> 56 & 7) {
        case 0:
            keys[random & 1] = (u32)any(&state);
            break;
        case 1:
        case 2:
            keys[0] = (u32)KEY;
            keys[1] = (u32)(KEY >> 32);
            break;
        case 3:
            HERE->value = (u32)random;
            break;
        case 4:
            HERE->word = random & 1 ? REGISTER_WORD : REGISTER_WORD_LARGE;
            break;
        case 5:
            rewrite_string(any(&state));
            break;
        default:
            HERE->word = any_word(random);
        }
        writes++;
    }
    has_stopped = 1;
}

static void check_marks(void) {
    for (u32 i = 0; i < sizeof area; i++)
        if (i - ((word)HERE - (word)area) >= sizeof *HERE)
            check_same(area[i], MARK);
}

void guest(void) {
    u64 state = 0x2007;
    volatile u32 *const apic = use_paging_with_apic();
    fill(area, MARK, sizeof area);
    start_others(apic, 1);
    while (!writes)
        __asm__ volatile("pause");
    save_tables();
    for (u32 i = 0; i < RINGS; i++) {
        if (i % 16 == 0) {
            HERE->reserved[0] = HERE->reserved[1] = HERE->reserved[2] = 0;
            HERE->key = KEY;
            HERE->word = i % 64 ? REGISTER_WORD_LARGE : REGISTER_WORD;
            register_by(&ring_0, (word)HERE);
        } else {
            if (i % 4 == 0)
                HERE->word = any_word(any(&state));
            if (i % 8 == 1) {
                HERE->address = (word)buffers + i % PAGE;
                HERE->count = i % 29;
            }
            __asm__ volatile(PVIO_BYTES_(PVIO_DOORBELL) : : : "memory");
        }
        if (i % 4096 == 0) {
            trial++;
            check_marks();
        }
    }
    is_over = 1;
    while (!has_stopped)
        __asm__ volatile("pause");
    check(are_tables_saved());
    check_marks();
    check_same(register_word(&ring_0, BOX(HERE), (word)HERE, REGISTER_WORD, KEY), PVIO_VERSION);
    check_heard(BOX(HERE));
    check_marks();
    tell("writes", writes);
}
