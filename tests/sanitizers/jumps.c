/*
 * setjmp and longjmp of the C library itself, in front of those of ThreadSanitizer's library.
 *
 * That library looks for a jump's target among those that were set on the same stack, and ends the process if there is
 * none. QEMU's coroutines jump from one stack to another. No jump leaves a frame of the plugin, so there is nothing that
 * the library would have to know.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

/* A jump, not a call: setjmp saves its caller's stack. */
#define PASS_ON(name)                                                   \
        static void *real_##name __attribute__((used));                 \
        __asm__(".text\n"                                               \
                ".globl " #name "\n"                                    \
                ".type " #name ", @function\n"                          \
                #name ": jmp *real_" #name "(%rip)\n"                   \
                ".size " #name ", . - " #name "\n")

PASS_ON(_setjmp);
PASS_ON(__sigsetjmp);
PASS_ON(longjmp);
PASS_ON(siglongjmp);
PASS_ON(__longjmp_chk);

static void *find(void *libc, const char *name)
{
        void *function = dlsym(libc, name);

        if (!function)
                abort();
        return function;
}

__attribute__((constructor(101))) static void find_all(void)
{
        void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);

        if (!libc)
                abort();
        real__setjmp = find(libc, "_setjmp");
        real___sigsetjmp = find(libc, "__sigsetjmp");
        real_longjmp = find(libc, "longjmp");
        real_siglongjmp = find(libc, "siglongjmp");
        real___longjmp_chk = find(libc, "__longjmp_chk");
}
