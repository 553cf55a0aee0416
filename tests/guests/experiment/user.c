/*
 * User space: the program with the devices, as QEMU is for KVM. It runs in ring 2 rather than 3, so that the
 * monitor's pages need not be a user's; the way there and back has the same instructions.
 */
#include "user.h"

static void handle_exit(void)
{
    /* Posted writes come before any other access. */
    while (user_ring.first != user_ring.last) {
        const struct posted *posted = &user_ring.entries[user_ring.first];
        device_out(posted->port, posted->size, posted->value);
        user_ring.first = (user_ring.first + 1) % RING_ENTRIES;
    }
    u8 *data = user_exit.data;
    u32 size = user_exit.size;
    for (u32 left = user_exit.count; left > 0; left--, data += size)
        if (user_exit.out)
            device_out(user_exit.port, size, load(data, size));
        else
            store(data, size, device_in(user_exit.port, size));
}

_Noreturn void user_main(void);
_Noreturn void user_main(void)
{
    for (;;) {
        handle_exit();
        __asm__ volatile("int %0" ::"i"(VECTOR_RUN) : "memory");
    }
}
