/*
 * Windows in which the same instructions retire, from one page of code at two linear addresses: with faults that leave
 * a block in its middle, a `rep` that resumes after one, and a jump to its own offset of a page that is absent.
 */
#include "lib/harness.h"
#include "pvio.h"

enum { VECTOR_UD = 6, ROUNDS = 100, STRING = 200, BEFORE = 50 };

/* 1 + 3 * ROUNDS + 2 + 1 + 1 retire: UD2 does not, the jump does, and so does the `int`. */
#define RETIRED (1 + 3 * ROUNDS + 4)
__asm__(".text\n"
        "body: mov $100, %ecx\n"
        "1: nop; ud2; dec %ecx; jnz 1b\n"
        "  mov $200, %ecx; rep lodsb\n"
        "jump: jmp *%ebx\n"
        "landed: int $0x30\n");
extern const u8 body[], jump[], landed[];

#define ABSENT_PAGE 0x380000u

static u32 distance;

static int on_exception(struct frame *frame) {
    if (frame->vector == VECTOR_UD) {
        frame->eip += 2;
    } else if (frame->eip >> 12 == ABSENT_PAGE >> 12) {
        check(frame->vector == VECTOR_PF && fault_address == frame->ebx);
        frame->eip = (u32)landed + distance;
    } else {
        check(frame->vector == VECTOR_PF && fault_address == (u32)data[1]);
        map(data[1], PRESENT);
    }
    return 1;
}

static void once(const char *name) {
    trial++;
    map(data[1], ABSENT);
    pvio_begin(name);
    struct frame frame = start_in(0, 0, (void *)((u32)body + distance));
    frame.ebx = ABSENT_PAGE | ((u32)jump & (PAGE - 1));
    frame.esi = (u32)data[1] - BEFORE;
    run(&frame, on_exception);
    pvio_end(name);
    check(exceptions == ROUNDS + 2 && frame.esi == (u32)data[1] + STRING - BEFORE);
}

void guest(void) {
    /* Hypercalls do not read ROM. */
    static char home[8], above[8];
    home[0] = 'h', above[0] = 'a';
    map((void *)ABSENT_PAGE, ABSENT);
    for (int round = 0; round < 5; round++)
        for (int pass = 0; pass < 2; pass++) {
            distance = (round + pass) % 2 ? ALIAS : 0;
            once(distance ? above : home);
        }
    tell("retired", 5 * RETIRED);
}
