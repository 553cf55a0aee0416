/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* `get` and `put`: files of the directory that the host shares. */
#pragma once

#include "status.h"

static char part[64 << 10];

static inline const char *last_of(const char *path)
{
    const char *last = path;
    for (; *path; path++)
        if (*path == '/' && path[1])
            last = path + 1;
    return last;
}

static inline int is_standard(const char *path) { return same(path, "-"); }

/* The file that `get` writes until it is complete; empty if there is none. */
static char unfinished[4096];

static inline __attribute__((noreturn)) void give_up(const char *a, const char *b, const char *c)
{
    if (unfinished[0])
        system_call(SYS_UNLINK, (long)unfinished, 0, 0);
    die(FAILED, a, b, c);
}

/* Creates a file beside `path`. */
static inline long create_beside(const char *path)
{
    struct line name;
    name.length = 0;
    put(&name, path);
    put(&name, ".pvio-");
    put_number(&name, (uint32_t)system_call(SYS_GETPID, 0, 0, 0));
    if (name.length == sizeof name.text - 1)
        die(FAILED, "get: the name of the file to write is too long", "", "");
    name.text[name.length] = 0;
    const long file = open_file(name.text, O_WRONLY | O_CREAT | O_EXCL);
    if (file < 0)
        die(FAILED, "get: cannot create a file beside ", path, "");
    for (size_t i = 0; i <= name.length; i++)
        unfinished[i] = name.text[i];
    return file;
}

static inline void get(const char *name, const char *path)
{
    struct pvio_file file;
    size_t moved;
    long to = -1;

    pvio_file_open(&file, name);
    do {
        const unsigned int status = pvio_file_read(&file, part, sizeof part, &moved);
        if (status != PVIO_STATUS_OK && unfinished[0])
            system_call(SYS_UNLINK, (long)unfinished, 0, 0);
        check_file(status, "get ", name);
        /* Only now: a file that the host does not have leaves no trace. */
        if (to < 0)
            to = is_standard(path) ? 1 : create_beside(path);
        if (write_all(to, part, moved) < 0)
            give_up("get: cannot write ", is_standard(path) ? "to standard output" : path, "");
    } while (moved == sizeof part);
    if (is_standard(path))
        return;
    if (system_call(SYS_CLOSE, to, 0, 0) < 0 || system_call(SYS_RENAME, (long)unfinished, (long)path, 0) < 0)
        give_up("get: cannot write ", path, "");
}

static inline void put_file(const char *path, const char *name)
{
    struct pvio_file file;
    const long from = is_standard(path) ? 0 : open_file(path, O_RDONLY);
    long count;

    if (from < 0)
        die(FAILED, "put: cannot open ", path, "");
    pvio_file_open(&file, name);
    do {
        count = read_all(from, part, sizeof part);
        if (count < 0)
            die(FAILED, "put: cannot read ", path, "");
        check_file(pvio_file_write(&file, part, (size_t)count), "put ", name);
    } while (count == sizeof part);
    check_file(pvio_file_finish(&file), "put ", name);
}
