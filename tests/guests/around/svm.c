/*
 * A hypervisor and its guest: AMD's SVM (APM Vol. 2, chapter 15). The I/O permission map intercepts
 * some port accesses; exceptions, interrupts and other events cause exits in between.
 *
 * The guest has the same addresses as the hypervisor; it runs one instruction at `code`, and then the instruction
 * that `ending` selects, which causes an exit.
 */
#include "lib/vmcb.h"

#define VALUE 0x44332211u
#define ELEMENTS 5
#define BUFFER ((u8 *)0x100000)

/* ---- Into the guest and back ---- */

static struct {
    u32 edx, ecx, esi, edi, ebx;
} g;

/*
 * `behind`: the target of an exit, which the guest may reach too (with EAX = 0x12345678). The other is
 * followed by an `out imm8,al`.
 */
__asm__(".text\n"
        "vmrun_plain: .byte 0x0f, 0x01, 0xd8\n"
        "behind: nop\n"
        "  cmp $0x12345678, %eax; je 1f; ret\n"
        "1: .byte 0x0f, 0x01, 0xd9\n"
        "vmrun_out: .byte 0x0f, 0x01, 0xd8\n"
        "  outb %al, $0xe0; ret\n");
extern u8 vmrun_plain[], vmrun_out[], behind[];

/* The distances of the guest's and the hypervisor's code from their first mapping. Both are used in turn. */
static u32 guest_distance, own_distance;

static u32 enter_by(const u8 *by) {
    static const u8 *way; /* not on the stack, which moves */
    way = by + own_distance;
    own_distance ^= ALIAS;
    *dword(TLB_CONTROL) = 1;
    __asm__ volatile("push %%ebp; call *%6; .byte 0x0f, 0x01, 0xdc; pop %%ebp" /* stgi */
                     : "+d"(g.edx), "+c"(g.ecx), "+S"(g.esi), "+D"(g.edi), "+b"(g.ebx)
                     : "a"(vmcb), "m"(way)
                     : "memory", "cc");
    return *dword(EXIT_CODE);
}

static const u8 *way_in;
static u32 enter(void) { return enter_by(way_in); }

/*
 * Nested tables have the form of the hypervisor's own. QEMU (10.0 to 11.1) takes those of 32-bit paging
 * for none at all.
 */
static u32 enter_nested(void) {
    u32 own_cr3, cr4_pae = 1 << 5, paging = 1u << 31, bits;
#define SET(reg, operation, operand)                                                               \
    __asm__ volatile("mov %%" reg ", %0; " operation " %1, %0; mov %0, %%" reg                     \
                     : "=&r"(bits)                                                                 \
                     : "r"(operand)                                                                \
                     : "memory")
    __asm__ volatile("mov %%cr3, %0" : "=r"(own_cr3));
    SET("cr0", "and", ~paging);
    SET("cr4", "or", cr4_pae);
    SET("cr3", "mov", (u32)pae);
    SET("cr0", "or", paging);
    *dword(NESTED_CONTROL) = 1;
    *dword(NESTED_CR3) = (u32)nested_pae;
    u32 exit = enter();
    *dword(NESTED_CONTROL) = 0;
    SET("cr0", "and", ~paging);
    SET("cr4", "and", ~cr4_pae);
    SET("cr3", "mov", own_cr3);
    SET("cr0", "or", paging);
    return exit;
}

static struct {
    int form;
    u32 count, length;
    u8 *at;
} t;

/* Back to before the instruction, whose code is there already. */
static void restart(void) {
    trial++;
    set_latch(VALUE);
    t.at = code[0] + 1 + guest_distance;
    *dword(RIP) = (u32)code[0] + guest_distance;
    *dword(RFLAGS) = 2;
    *dword(RSP) = (u32)(data[3] + PAGE);
    g.edx = LATCH;
    g.ecx = t.count;
    g.esi = g.edi = (u32)data;
    in_ring(0);
}

enum ending { CALL, HALT, SHUT_DOWN, THROUGH_THE_DOOR };

static void prepare(int form, u32 count, enum ending ending) {
    t.form = form;
    t.count = count;
    restart();
    u8 *at = t.at;
    /* Entered at the instruction itself, the guest resumes the interrupted instruction. */
    code[0][0] = 0x90;
    at += t.length = encode(at, form, LATCH);
    switch (ending) {
    case CALL: *at++ = 0x0f, *at++ = 0x01, *at++ = 0xd9; break;
    case HALT: *at++ = 0xf4; break;
    case SHUT_DOWN: *at++ = 0x0f, *at++ = 0x0b; break; /* ud2, with an IDT of no length */
    case THROUGH_THE_DOOR:
        *at++ = 0xb8; /* mov $0x12345678, %eax; jmp behind */
        *(u32 *)at = 0x12345678, at += 4;
        *at++ = 0xe9;
        *(u32 *)at = (u32)behind - (u32)(at + 4);
    }
}

static u32 elements(void) { return is_rep(t.form) ? t.count : 1; }

/* The count that is left when the instruction is done. */
static void check_done(void) {
    u32 gone = is_string(t.form) ? elements() * bytes_of(t.form) : 0;
    check(g.ecx == (is_rep(t.form) ? 0 : t.count));
    check(g.edi == (u32)data + (is_in(t.form) ? gone : 0));
    check(g.esi == (u32)data + (is_in(t.form) ? 0 : gone));
}

static void expect_done(int privileged) { expect(t.form, privileged, 1, 1, elements(), 0); }

/* The exit comes before the access and describes it. The access does not happen. */
static void check_intercepted(void) {
    u32 flags = (u32)is_in(t.form) | (u32)is_string(t.form) << 2 | (u32)is_rep(t.form) << 3;
    check(*dword(EXIT_CODE) == EXIT(IOIO));
    check(*dword(EXIT_INFO_1) == (LATCH << 16 | bytes_of(t.form) << 4 | flags));
    check(*dword(EXIT_INFO_2) == (u32)t.at + t.length && *dword(RIP) == (u32)t.at);
    check(g.ecx == t.count && g.esi == (u32)data && g.edi == (u32)data);
}

static void permission_map(int form, u32 count, const u8 *way) {
    intercept_latch(0);
    static const u32 exits[] = {EXIT(VMMCALL), EXIT(HLT), EXIT(SHUTDOWN), EXIT(VMMCALL)};
    for (enum ending ending = CALL; ending <= THROUGH_THE_DOOR; ending++) {
        prepare(form, count, ending);
        u32 limit = *dword(IDTR + 4);
        if (ending == SHUT_DOWN)
            *dword(IDTR + 4) = *dword(INTERCEPT_EXCEPTIONS) = 0;
        check(enter_by(way) == exits[ending]);
        *dword(IDTR + 4) = limit;
        *dword(INTERCEPT_EXCEPTIONS) = 0xffffffff;
        check_done();
        expect_done(1);

        /* Emulated: the guest resumes after it. Else the hypervisor permits it. */
        for (int is_emulated = 0; is_emulated < 2; is_emulated++) {
            prepare(form, count, CALL);
            intercept_latch(1);
            enter_by(way);
            check_intercepted();
            expect_exits(form, 1);
            intercept_latch(0);
            if (is_emulated)
                *dword(RIP) = *dword(EXIT_INFO_2);
            check(enter() == EXIT(VMMCALL));
            if (is_emulated)
                continue;
            check_done();
            expect_done(1);
        }
        if (way == vmrun_out)
            expect(OUT_IMM, 1, 3, 3, 3, 0);
    }
}

/* A loop in which each is intercepted and emulated: the next is another attempt. */
static void emulated_loop(int form) {
    enum { ROUNDS = 20 };
    prepare(form, 1, CALL);
    u8 *at = t.at + t.length;
    *at++ = 0x4b; /* dec %ebx */
    *at++ = 0x75; /* jnz */
    *at = (u8)(t.at - (at + 1));
    at[1] = 0x0f, at[2] = 0x01, at[3] = 0xd9;
    g.ebx = ROUNDS;
    u32 exits = 0;
    for (intercept_latch(1); enter() == EXIT(IOIO); exits++)
        *dword(RIP) = *dword(EXIT_INFO_2);
    check(*dword(EXIT_CODE) == EXIT(VMMCALL) && exits == ROUNDS && g.ebx == 0);
    expect_exits(form, ROUNDS);
}

static void once_in_ring_3(int is_forbidden, int is_intercepted, u32 (*enter)(void)) {
    int tells = is_string(t.form) && elements();
    in_ring(3);
    forbid(is_forbidden ? 0xf : 0);
    intercept_latch(is_intercepted);
    u32 exit = enter();
    if (is_forbidden) {
        check(exit == EXIT_EXCEPTION + VECTOR_GP && *dword(RIP) == (u32)t.at);
        expect(t.form, tells, 1, 0, 0, 1);
    } else if (is_intercepted) {
        check_intercepted();
        expect_exits(t.form, 1);
    } else {
        check(exit == EXIT(VMMCALL));
        check_done();
        expect_done(tells);
    }
}

/* Ring 3 under the bitmap: it is asked first. */
static void in_ring_3(int form, u32 count) {
    int tells;
    for (int is_forbidden = 0; is_forbidden < 2; is_forbidden++)
        for (int is_intercepted = 0; is_intercepted < 2; is_intercepted++) {
            prepare(form, count, CALL);
            once_in_ring_3(is_forbidden, is_intercepted, enter);
        }
    tells = is_string(form) && elements();
    /* The hypervisor permits it, and resumes there. */
    prepare(form, count, CALL);
    in_ring(3);
    intercept_latch(0);
    forbid(0xf);
    check(enter() == EXIT_EXCEPTION + VECTOR_GP);
    forbid(0);
    check(enter() == EXIT(VMMCALL));
    check_done();
    expect_done(tells);
}

/*
 * QEMU has translated the guest's code once for both of its addresses, and VMRUN too; what follows VMRUN is
 * translated anew each time, wherever that is.
 */
static void at_aliases(int form, u32 count) {
    static u8 pages[2][PAGE] __attribute__((aligned(PAGE)));
    /* In one page, or VMRUN at the end of one and the rest in the next. */
    u8 *moving = pages[1] - (form % 2 ? 3 : 64);
    const u8 *way_before = way_in;
    u32 distance_before = guest_distance;
    moving[0] = 0x0f, moving[1] = 0x01, moving[2] = 0xd8; /* vmrun; nop; nop; ret */
    moving[3] = 0x90, moving[5] = 0xc3;
    way_in = moving;
    prepare(form, count, CALL);
    for (u32 round = 0; round < 32; round++) {
        moving[4] = 0x90;
        guest_distance = (round ^ round >> 3) & 1 ? ALIAS : 0;
        restart();
        once_in_ring_3(round >> 1 & 1, round >> 2 & 1, round & 16 ? enter_nested : enter);
        own_distance ^= round & 4 ? ALIAS : 0;
    }
    way_in = way_before;
    guest_distance = distance_before;
}

/*
 * A handler of the guest's own, which has its hypervisor permit the port, and returns to the instruction.
 * The exception comes from the processor, or was intercepted and is injected.
 */
__asm__("on_gp: .byte 0x0f, 0x01, 0xd9; add $4, %esp; iretl\n");
extern u8 on_gp[];

static void handled_in_the_guest(int form, u32 count, int is_injected) {
    static u32 table[2 * (VECTOR_GP + 1)];
    table[2 * VECTOR_GP] = 0x08 << 16 | ((u32)on_gp & 0xffff);
    table[2 * VECTOR_GP + 1] = ((u32)on_gp & 0xffff0000) | 0x8e00;
    prepare(form, count, CALL);
    in_ring(3);
    intercept_latch(0);
    forbid(0xf);
    u32 limit = *dword(IDTR + 4), base = *dword(IDTR + 8);
    *dword(IDTR + 4) = sizeof table - 1;
    *dword(IDTR + 8) = (u32)table;
    if (is_injected) {
        check(enter() == EXIT_EXCEPTION + VECTOR_GP);
        *dword(INJECTION_ERROR) = 0;
        *dword(INJECTION) = VECTOR_GP | 3 << 8 | 1 << 11 | 1u << 31;
    }
    *dword(INTERCEPT_EXCEPTIONS) = 0;
    check(enter() == EXIT(VMMCALL) && *dword(RIP) == (u32)on_gp);
    *dword(RIP) += 3;
    forbid(0);
    check(enter() == EXIT(VMMCALL) && *dword(RIP) == (u32)t.at + t.length);
    *dword(INTERCEPT_EXCEPTIONS) = 0xffffffff;
    *dword(IDTR + 4) = limit;
    *dword(IDTR + 8) = base;
    check_done();
    expect_done(is_string(form) && elements());
}

/* ---- Pages: of the guest's own, and of nested paging ---- */

static void set_page(int is_nested, const u8 *page, u32 bits) {
    if (is_nested)
        nested_pages[(u32)page / PAGE] = (u32)page | bits;
    else
        map(page, bits);
}

/* The element `bad` is the first on a page that is not there. */
static void page_fault(int form, u32 bad, int is_nested, int is_mended) {
    prepare(form, is_rep(form) ? ELEMENTS : 1, CALL);
    intercept_latch(0);
    u32 start = (u32)data[1] - bad * bytes_of(form);
    g.esi = g.edi = start;
    u32 (*enter_again)(void) = is_nested ? enter_nested : enter;
    set_page(is_nested, data[1], ABSENT);
    u32 exit = enter_again();
    set_page(is_nested, data[1], PRESENT);
    check(exit == (is_nested ? EXIT_NPF : EXIT_EXCEPTION + VECTOR_PF) && *dword(RIP) == (u32)t.at);
    check((is_in(form) ? g.edi : g.esi) == start + bad * bytes_of(form));
    if (is_mended) {
        check(enter_again() == EXIT(VMMCALL));
        expect(form, 1, 1, 1, elements(), 0);
    } else {
        expect(form, 1, 1, 0, bad, !is_nested);
    }
}

/* ---- Interrupts: a timer within a rep of 1 MiB, which the hypervisor takes ---- */

static u32 ticks;

static int on_tick(struct frame *frame) {
    check(frame->vector == VECTOR_TIMER);
    ticks++;
    timer_done();
    return 1;
}

static void take_interrupt(void) {
    static u8 window[8] = {0};
    window[0] = 0xfb, window[1] = 0x90, window[2] = 0xfa; /* sti; nop; cli */
    encode_end(window + 3);
    struct frame frame = start_in(0, 0, window);
    run(&frame, on_tick);
}

/* The number of exits within it: none if the host was too busy to let the timer run meanwhile. */
static u32 long_rep(int form) {
    prepare(form, 0x100000 / bytes_of(form), CALL);
    intercept_latch(0);
    *dword(RFLAGS) |= EFLAGS_IF;
    g.esi = g.edi = (u32)BUFFER;
    u32 inside = 0;
    timer_start(100000, 1);
    while (enter() == EXIT(INTR)) {
        if (*dword(RIP) == (u32)t.at && g.ecx && g.ecx < t.count)
            inside++;
        take_interrupt();
    }
    timer_stop();
    if (timer_pending())
        take_interrupt();
    check(*dword(EXIT_CODE) == EXIT(VMMCALL) && g.ecx == 0);
    tell("exits within a rep of 1 MiB", inside);
    expect(form, 1, 1, 1, t.count, 0);
    return inside;
}

/* ---- The guest becomes a hypervisor itself, and is stopped ---- */

static void vmrun_in_the_guest(void) {
    for (int is_intercepted = 0; is_intercepted < 2; is_intercepted++) {
        prepare(OUT_IMM, 1, CALL);
        intercept_latch(is_intercepted);
        u8 *at = t.at + t.length;
        *at++ = 0xb8; /* mov $inner, %eax */
        *(u32 *)at = (u32)inner, at += 4;
        *at++ = 0x0f, *at++ = 0x01, *at++ = 0xd8;
        u8 *next = at;
        at += encode(at, OUT_IMM, LATCH);
        *at++ = 0x0f, *at++ = 0x01, *at++ = 0xd9;
        /* A stale value there must not be taken for an exit. */
        *(u32 *)(inner + EXIT_CODE) = EXIT(IOIO);
        u32 exits = 0, vmruns = 0;
        for (u32 exit; (exit = enter()) != EXIT(VMMCALL);)
            if (exit == EXIT(IOIO)) {
                exits++;
                *dword(RIP) = *dword(EXIT_INFO_2);
            } else {
                check(exit == EXIT(VMRUN));
                vmruns++;
                *dword(RIP) = (u32)next;
            }
        check(vmruns == 1 && exits == 2 * (u32)is_intercepted);
        if (is_intercepted)
            expect_exits(OUT_IMM, 2);
        else
            expect(OUT_IMM, 1, 2, 2, 2, 0);
    }
}

void guest(void) {
    set_up();
    pae[ALIAS >> 30] = pae[0];
    way_in = vmrun_plain;
    /* QEMU knows what follows VMRUN before VMRUN itself. */
    __asm__ volatile("call *%0" : : "r"(behind), "a"(0) : "memory", "cc");
    for (int form = 0; form < FORMS; form++) {
        guest_distance = form % 2 ? ALIAS : 0;
        u32 most = is_rep(form) ? ELEMENTS : 1;
        for (u32 count = is_rep(form) ? 0 : most; count <= most; count += ELEMENTS) {
            permission_map(form, count, vmrun_plain);
            permission_map(form, count, vmrun_out);
            in_ring_3(form, count);
            at_aliases(form, count);
            handled_in_the_guest(form, count, 0);
            handled_in_the_guest(form, count, 1);
        }
        emulated_loop(form);
        for (u32 bad = 0; is_string(form) && bad < most; bad++)
            for (int how = 0; how < 4; how++)
                page_fault(form, bad, how & 1, how >> 1);
        for (u32 tries = 0; is_rep(form) && !long_rep(form); tries++)
            check(tries < 50);
    }
    vmrun_in_the_guest();
}
