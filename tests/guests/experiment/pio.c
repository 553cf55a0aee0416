/*
 * Devices in user space: the monitor leaves port I/O to a program there, as KVM leaves it to QEMU. The data of a
 * string goes there in one exit, as far as it fits. Posted writes go to a ring, which the next exit empties
 * (KVM_CAP_COALESCED_PIO).
 */
#include "user.h"

struct exit user_exit;
struct ring user_ring;
/* Elements of the exit's data that the guest has read. Those that a fault leaves over are for the same instruction
 * when it is restarted. */
static u32 taken;
static u32 wanted, instruction;

/* The instruction at `eip` begins, or begins again. It has at most so many elements. */
void user_begin(u32 eip, u32 elements)
{
    if (taken == user_exit.count || eip != instruction) {
        taken = 0;
        user_exit.count = 0;
    }
    instruction = eip;
    wanted = elements;
}

static void leave(void)
{
    exit_to_user();
    if (user_exit.out)
        user_exit.count = 0;
}

u32 user_in(u32 port, u32 size)
{
    if (taken == user_exit.count) {
        user_exit.out = 0;
        user_exit.port = port;
        user_exit.size = size;
        user_exit.count = wanted < EXIT_BYTES / 4 ? wanted : EXIT_BYTES / 4;
        taken = 0;
        leave();
    }
    return load(user_exit.data + taken++ * size, size);
}

void user_out(u32 port, u32 size, u32 value)
{
    user_exit.out = 1;
    user_exit.port = port;
    user_exit.size = size;
    store(user_exit.data + user_exit.count++ * size, size, value);
    if (user_exit.count == EXIT_BYTES / 4)
        leave();
}

/* The instruction is complete. */
void user_finish(void)
{
    if (user_exit.out && user_exit.count)
        leave();
}

void post_out(u32 port, u32 size, u32 value)
{
    u32 next = (user_ring.last + 1) % RING_ENTRIES;

    if (next == user_ring.first) {
        user_out(port, size, value);
        leave();
        return;
    }
    struct posted *posted = &user_ring.entries[user_ring.last];
    posted->port = port;
    posted->size = size;
    posted->value = value;
    user_ring.last = next;
}

/* An exit of another kind, after which nothing is left over. */
void user_drain(void)
{
    taken = 0;
    user_exit.out = 1;
    user_exit.count = 0;
    if (user_ring.first != user_ring.last)
        leave();
}
