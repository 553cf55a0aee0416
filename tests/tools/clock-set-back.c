/*
 * Sets the time of day back by an hour again and again, as a clumsy administrator would. To be loaded with LD_PRELOAD.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static _Atomic unsigned calls;
    int result = ((__typeof__(&clock_gettime))dlsym(RTLD_NEXT, "clock_gettime"))(clock, time);

    if (!result && clock == CLOCK_REALTIME) {
        time->tv_sec -= 3600L * (atomic_fetch_add(&calls, 1) % 1000);
    }
    return result;
}
