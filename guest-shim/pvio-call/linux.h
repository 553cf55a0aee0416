/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Linux's system calls, i386 and x86-64, for a program without libc. */
#pragma once

#include <pvio.h>

#ifdef __x86_64__
enum { SYS_READ = 0, SYS_WRITE = 1, SYS_OPEN = 2, SYS_CLOSE = 3, SYS_EXIT = 60, SYS_RENAME = 82, SYS_UNLINK = 87, SYS_GETPID = 39 };
#else
enum { SYS_EXIT = 1, SYS_READ = 3, SYS_WRITE = 4, SYS_OPEN = 5, SYS_CLOSE = 6, SYS_UNLINK = 10, SYS_GETPID = 20, SYS_RENAME = 38 };
#endif
/* The same numbers in both. O_LARGEFILE is for i386. */
enum { O_RDONLY = 0, O_WRONLY = 1, O_CREAT = 0100, O_EXCL = 0200, O_NOCTTY = 0400, O_LARGEFILE = 0100000 };
enum { EINTR = 4 };

/* Returns the result, or an error number as a negative number. */
static inline long system_call(long number, long a, long b, long c)
{
    long result;
#ifdef __x86_64__
    __asm__ __volatile__("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
#else
    __asm__ __volatile__("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
#endif
    return result;
}

static inline __attribute__((noreturn)) void leave(int status)
{
    for (;;)
        system_call(SYS_EXIT, status, 0, 0);
}

static inline long open_file(const char *path, int flags)
{
    return system_call(SYS_OPEN, (long)path, flags | O_NOCTTY | O_LARGEFILE, 0666);
}

/* Reads until the buffer is full, or the file ends. */
static inline long read_all(long file, char *buffer, size_t size)
{
    size_t count = 0;
    while (count < size) {
        const long result = system_call(SYS_READ, file, (long)(buffer + count), (long)(size - count));
        if (result == -EINTR)
            continue;
        if (result < 0)
            return result;
        if (!result)
            break;
        count += (size_t)result;
    }
    return (long)count;
}

/* Writes everything. Returns 0 or a negative error number. */
static inline long write_all(long file, const char *bytes, size_t size)
{
    while (size) {
        const long result = system_call(SYS_WRITE, file, (long)bytes, (long)size);
        if (result == -EINTR)
            continue;
        if (result < 0)
            return result;
        bytes += result;
        size -= (size_t)result;
    }
    return 0;
}

/* The stack at the entry: the count of arguments, and the arguments. */
#ifdef __x86_64__
__asm__(".globl _start\n"
        "_start: xor %ebp, %ebp\n"
        "        mov %rsp, %rdi\n"
        "        and $-16, %rsp\n"
        "        call program\n");
#else
__asm__(".globl _start\n"
        "_start: xor %ebp, %ebp\n"
        "        mov %esp, %eax\n"
        "        and $-16, %esp\n"
        "        sub $12, %esp\n"
        "        push %eax\n"
        "        call program\n");
#endif
