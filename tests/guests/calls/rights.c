/*
 * calls-rights32, calls-rights64: the other rights to memory: SMAP and protection keys; and callers in code of other
 * modes and rings than the kernel's.
 */
#include "lib/strings.h"

#define SMAP (1u << 20) /* CPUID.7.EBX */
#define PKU  (1u << 3)  /* CPUID.7.ECX */
#define LA57 (1u << 16)
#define PKS  (1u << 31)

static struct caller with_ac(const struct caller *by) {
    struct caller other = *by;
    other.flags |= FLAGS_AC;
    return other;
}

/* All strings across the middle of the window: they must all come to this, at once. */
static void strings(const struct caller *by, u32 status) {
    struct string string = {.by = by, .port = STREAM, .count = 7};
    if (!can_call(by))
        return;
    for (string.call = PVIO_CALL_INSB; string.call <= PVIO_CALL_OUTSL; string.call++) {
        trial++;
        string.address = window.middle - 5;
        lay_out(&string);
        check_same(call_string(&string, status == PVIO_STATUS_OK ? string.count : 0), status);
    }
}

/* Makes the window the supervisor's, or lets users in. */
static void give_window_to(u32 user) {
    for (int page = 0; page < window.pages; page++)
        map(window.begin + (word)window.size * (u32)page, window.frames[page], window.level, user | W | A | D);
    flush();
}

static void start(const struct paging *kind, word more_cr4) {
    use_paging(kind, more_cr4);
    open_window(1);
    set_write_protection(1);
}

static void access_prevention(const struct paging *kind) {
    const struct caller suspended = with_ac(&ring_0), user_with_ac = with_ac(&ring_3);
    const struct caller suspended_1 = with_ac(&ring_1);
    start(kind, CR4_SMAP);
    strings(&ring_0, PVIO_STATUS_PAGE);
    strings(&ring_1, PVIO_STATUS_PAGE);
    strings(&suspended, PVIO_STATUS_OK);
    strings(&suspended_1, PVIO_STATUS_OK);
    strings(&ring_3, PVIO_STATUS_OK);
    strings(&user_with_ac, PVIO_STATUS_OK);
    give_window_to(0);
    strings(&ring_0, PVIO_STATUS_OK);
    strings(&ring_2, PVIO_STATUS_OK);
    strings(&suspended, PVIO_STATUS_OK);
    strings(&user_with_ac, PVIO_STATUS_PAGE);
}

#if BITS == 64
#define IA32_PKRS 0x6e1
#define KEY_SHIFT 59

/* The rights that a key may forbid: two bits of PKRU or IA32_PKRS for each. */
#define ACCESS_DISABLE 1u
#define WRITE_DISABLE  2u

static int keys_of_users;

/* The rights of all keys, to users' pages or to the supervisor's. */
static void permit(u32 rights) {
    if (keys_of_users)
        __asm__ volatile("wrpkru" : : "a"(rights), "c"(0), "d"(0) : "memory");
    else
        __asm__ volatile("wrmsr" : : "a"(rights), "c"(IA32_PKRS), "d"(0) : "memory");
}

static void give_window_key(u64 key) {
    for (int page = 0; page < window.pages; page++) {
        const word at = window.begin + (word)window.size * (u32)page;
        set_entry(at, 1, (get_entry(at, 1) & ~(0xfull << KEY_SHIFT)) | key << KEY_SHIFT);
    }
    flush();
}

static u32 faults;

static void permit_all(word error, word address) {
    (void)error, (void)address;
    faults++;
    permit(0);
}

/* Each string is judged as the processor judges an access to its page. */
static void strings_by_key(const struct caller *by, u32 key, u32 rights, int obeys_write_disable) {
    struct string string = {.by = by, .port = STREAM, .count = 7};
    for (string.call = PVIO_CALL_INSB; string.call <= PVIO_CALL_OUTSL; string.call++) {
        const int writes = is_in(string.call);
        const int may = !(rights & ACCESS_DISABLE) && !(rights & WRITE_DISABLE && writes && obeys_write_disable);
        trial++;
        string.address = window.middle - 5;
        lay_out(&string);
        /* Key 0 is the guest's own memory's; every other permits the opposite. */
        const u32 others = rights ? 0 : 0x55555554;
        permit((others & ~(3u << 2 * key)) | rights << 2 * key);
        check_same(call_string(&string, may ? string.count : 0), may ? PVIO_STATUS_OK : PVIO_STATUS_PAGE);
        faults = 0;
        on_page_fault = permit_all;
        touch_by(is_user(by) ? &ring_3 : &ring_0, string.address, writes);
        on_page_fault = 0;
        check_same(faults, !may);
        if (!may)
            check_same(call_string(&string, string.count), PVIO_STATUS_OK);
        permit(0);
    }
}

static void every_key(const struct caller *by) {
    if (!can_call(by))
        return;
    for (u32 key = 1; key < 16; key += 7)
        for (u32 rights = 0; rights < 4; rights++)
            for (int wp = 0; wp < 2; wp++) {
                give_window_key(key);
                set_write_protection(wp);
                strings_by_key(by, key, rights, is_user(by) || wp);
            }
    set_write_protection(1);
    give_window_key(0);
}

static void protection_keys(const struct paging *kind, u32 ecx) {
    if (ecx & PKU) {
        start(kind, CR4_PKE);
        keys_of_users = 1;
        every_key(&ring_0);
        every_key(&ring_1);
        every_key(&ring_3);
        give_window_to(0);
        strings(&ring_0, PVIO_STATUS_OK);
        tell("user keys", kind->levels);
    }
    if (ecx & PKS) {
        start(kind, CR4_PKS);
        keys_of_users = 0;
        strings(&ring_0, PVIO_STATUS_OK);
        strings(&ring_3, PVIO_STATUS_OK);
        give_window_to(0);
        every_key(&ring_0);
        every_key(&ring_2);
        tell("supervisor keys", kind->levels);
    }
}
#endif

/* ---- Other modes ---- */

static void bring_page(word error, word address) {
    (void)error;
    set_entry(address, 1, get_entry(address, 1) | P);
    flush();
}

static void from_other_modes(const struct paging *kind) {
    static const struct caller *const callers[] = {&ring_1, &ring_2, &ring_0_16, &ring_3_16,
#if BITS == 32
        &virtual_8086,
#else
        &ring_0_32, &ring_3_32,
#endif
        0};
    for (const struct caller *const *by = callers; *by; by++) {
        if (!can_call(*by))
            continue;
        use_paging(kind, 0);
        /* Below 4 GiB. */
        open_window_at(kind->levels ? 1 : 0, kind->levels ? 0xc0000000 : (word)kind->middle);
        strings(*by, PVIO_STATUS_OK);
        if (!kind->levels)
            continue;
        /* The last page is absent until it is touched. */
        struct string string = {.by = *by, .port = STREAM, .address = window.middle - 5, .count = 7};
        for (string.call = PVIO_CALL_INSB; string.call <= PVIO_CALL_OUTSL; string.call++) {
            trial++;
            lay_out(&string);
            set_entry(window.middle, 1, get_entry(window.middle, 1) & ~(u64)P);
            flush();
            const u32 before = 5 / width_of(string.call);
            check_same(call_string(&string, before), PVIO_STATUS_PAGE);
            /* Touched as its user or as its kernel; either will do. */
            on_page_fault = bring_page;
            touch_by(is_user(*by) ? &ring_3 : &ring_0, window.middle, 1);
            on_page_fault = 0;
            check_same(call_string(&string, 7 - before), PVIO_STATUS_OK);
        }
        give_window_to(0);
        strings(*by, is_user(*by) ? PVIO_STATUS_PAGE : PVIO_STATUS_OK);
    }
}

#if BITS == 64
/* Outside 64-bit code only 32 bits of an address or a count are the caller's. */
static void upper_halves(void) {
    struct string string = {.by = &ring_0_32, .port = STREAM, .address = window.middle - 5, .count = 7};
    const word other = 0xdeadbeef00000000;
    string.call = PVIO_CALL_OUTSB;
    lay_out(&string);
    word dx = string.address | other, cx = string.count | other;
    check_same(call_by(&ring_0_32, pvio_call_word(string.call, 0, STREAM), &dx, &cx), 0);
    check_same((u32)dx, (u32)string.address + 7);
    check_same((u32)cx, 0);
    given += 7;
}
#endif

/* ---- The instruction of another mode ---- */

static void in_code_of_another_mode(const struct paging *kind) {
    static const struct caller *const callers[] = {&ring_0, &ring_0_16,
#if BITS == 64
        &ring_0_32,
#endif
        0};
    use_paging(kind, 0);
    open_window(kind->levels ? 1 : 0);
    on_failure = 0;
    for (const struct caller *const *by = callers; *by; by++)
        for (u8 bits = 16; bits <= 64; bits *= 2)
            for (u8 call = PVIO_CALL_PROBE; call <= PVIO_CALL_DUMP; call++) {
                if (bits == (*by)->bits || call == PVIO_CALL_EXIT)
                    continue;
                trial++;
                /* Absent in each kind of paging, even if bits are cut off. */
                const word absent = kind->levels ? 0xa0000000 : 0xd0000000;
                const u32 asked = pvio_call_word(call, 0, call && call <= PVIO_CALL_OUTSL ? LATCH : 0);
                word dx = absent, cx = 3;
                const u32 answer = call_by_magic_of(bits, *by, asked, &dx, &cx);
                check(answer == asked || answer >> PVIO_CALL_SHIFT <= PVIO_STATUS_FAILED);
                /* The bytes of another mode's instruction get no answer. */
                if (((*by)->bits == 16) != (bits == 16) && (*by)->bits != 64)
                    check_same(answer, asked);
                check((u32)cx == 3);
                check((u32)dx == (u32)absent || call == PVIO_CALL_PROBE || call == PVIO_CALL_INL);
            }
}

void guest(void) {
    u32 ebx, ecx;
    features(&ebx, &ecx);
    for (const struct paging *kind = pagings; *kind->name; kind++) {
        if (kind->levels == 5 && !(ecx & LA57))
            continue;
        if (kind->levels && ebx & SMAP) {
            access_prevention(kind);
            tell("SMAP", kind->levels);
        }
#if BITS == 64
        protection_keys(kind, ecx);
#endif
        from_other_modes(kind);
#if BITS == 64
        upper_halves();
#endif
        in_code_of_another_mode(kind);
    }
    tell("given", given);
    tell("taken", taken);
    tell("latched", latched);
}
