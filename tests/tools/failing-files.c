/*
 * Makes one system call on files below a directory fail. To be loaded with LD_PRELOAD.
 *
 *      PVIO_FAULT_DIRECTORY    the directory
 *      PVIO_FAULT_COUNT        a file of 8 bytes, which gets the number of calls
 *      PVIO_FAULT_AT           the number of the call that fails, from 1; 0 for none
 *      PVIO_FAULT              EIO, ENOSPC or EINTR, or SHORT for a call that writes half of its bytes
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *directory;
static _Atomic uint64_t *count;
static uint64_t at;
static const char *fault = "";

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("PVIO_FAULT_COUNT"), *number = getenv("PVIO_FAULT_AT");
    int file = path ? open(path, O_RDWR) : -1;
    void *memory;

    if (file < 0) {
        return;
    }
    memory = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED || !number || !getenv("PVIO_FAULT")) {
        return;
    }
    count = memory;
    at = strtoull(number, NULL, 10);
    fault = getenv("PVIO_FAULT");
    directory = getenv("PVIO_FAULT_DIRECTORY");
}

static int is_below(const char *path)
{
    size_t length = directory ? strlen(directory) : 0;

    return length && !strncmp(path, directory, length) && path[length] == '/';
}

/* The path of an open file, or "". */
static void path_of(int file, char path[PATH_MAX])
{
    char link[32];
    ssize_t length;

    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

static int is_file_below(int file)
{
    char path[PATH_MAX];

    path_of(file, path);
    return is_below(path);
}

static int is_directory(int file)
{
    char path[PATH_MAX];

    path_of(file, path);
    return directory && !strcmp(path, directory);
}

/* Counts a call.  Returns 0, the error that it must have, or -1 if it must write half of its bytes. */
static int error_of_call(void)
{
    if (atomic_fetch_add(count, 1) + 1 != at) {
        return 0;
    }
    return !strcmp(fault, "EIO") ? EIO : !strcmp(fault, "ENOSPC") ? ENOSPC : !strcmp(fault, "EINTR") ? EINTR : -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *bytes, size_t length)
{
    int error = is_file_below(file) ? error_of_call() : 0;

    if (error > 0) {
        errno = error;
        return -1;
    }
    return REAL(write)(file, bytes, error < 0 && length > 1 ? length / 2 : length);
}

ssize_t writev(int file, const struct iovec *parts, int number)
{
    int error = is_file_below(file) ? error_of_call() : 0;

    if (error > 0) {
        errno = error;
        return -1;
    }
    return REAL(writev)(file, parts, error < 0 ? 1 : number);
}

#define FAILS_ON_A_FILE(name, arguments, ...)                       \
    int name arguments                                              \
    {                                                               \
        int error = is_file_below(file) ? error_of_call() : 0;      \
                                                                    \
        if (error > 0) {                                            \
            errno = error;                                          \
            return -1;                                              \
        }                                                           \
        return REAL(name)(__VA_ARGS__);                             \
    }

FAILS_ON_A_FILE(fsync, (int file), file)
FAILS_ON_A_FILE(fdatasync, (int file), file)
FAILS_ON_A_FILE(ftruncate, (int file, off_t length), file, length)
FAILS_ON_A_FILE(ftruncate64, (int file, off64_t length), file, length)

#define FAILS_TO_OPEN(name)                                                             \
    int name(const char *path, int flags, ...)                                          \
    {                                                                                   \
        int error = is_below(path) && flags & (O_WRONLY | O_RDWR) ? error_of_call() : 0; \
        mode_t mode = 0;                                                                \
        va_list arguments;                                                              \
                                                                                        \
        if (error > 0) {                                                                \
            errno = error;                                                              \
            return -1;                                                                  \
        }                                                                               \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                          \
            va_start(arguments, flags);                                                 \
            mode = va_arg(arguments, mode_t);                                           \
            va_end(arguments);                                                          \
        }                                                                               \
        return REAL(name)(path, flags, mode);                                           \
    }

FAILS_TO_OPEN(open)
FAILS_TO_OPEN(open64)

/* A path is absolute, or relative to an open directory. */
static int is_below_at(int in, const char *path)
{
    return *path == '/' ? is_below(path) : in != AT_FDCWD && (is_file_below(in) || is_directory(in));
}

int openat(int in, const char *path, int flags, ...)
{
    int error = is_below_at(in, path) && flags & (O_WRONLY | O_RDWR) ? error_of_call() : 0;
    mode_t mode = 0;
    va_list arguments;

    if (error > 0) {
        errno = error;
        return -1;
    }
    if (flags & (O_CREAT | __O_TMPFILE)) {
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    return REAL(openat)(in, path, flags, mode);
}

/* No signal interrupts a change of names. */
#define FAILS_TO_NAME(name, is_ours, arguments, ...)                \
    int name arguments                                              \
    {                                                               \
        int error = is_ours ? error_of_call() : 0;                  \
                                                                    \
        if (error > 0 && error != EINTR) {                          \
            errno = error;                                          \
            return -1;                                              \
        }                                                           \
        return REAL(name)(__VA_ARGS__);                             \
    }

FAILS_TO_NAME(rename, is_below(to), (const char *from, const char *to), from, to)
FAILS_TO_NAME(renameat, is_below_at(into, to), (int in, const char *from, int into, const char *to), in, from, into, to)
FAILS_TO_NAME(renameat2, is_below_at(into, to),
    (int in, const char *from, int into, const char *to, unsigned int flags), in, from, into, to, flags)
FAILS_TO_NAME(linkat, is_below_at(into, to),
    (int in, const char *from, int into, const char *to, int flags), in, from, into, to, flags)
