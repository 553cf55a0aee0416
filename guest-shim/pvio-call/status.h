/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the host's answers mean to the user of a shell. */
#pragma once

#include "text.h"

static inline const char *meaning(unsigned int status)
{
    switch (status) {
    case PVIO_STATUS_DECLINED: return "the host does not serve this by hypercall";
    case PVIO_STATUS_PAGE: return "the host cannot use this program's memory";
    case PVIO_STATUS_UNKNOWN: return "the host is older and does not know this call";
    case PVIO_STATUS_ARGUMENT: return "a name has control characters or is not UTF-8";
    case PVIO_STATUS_LENGTH: return "a text is too long, or a name is empty";
    case PVIO_STATUS_STATE: return "this window is open already, or is not open";
    case PVIO_STATUS_FULL: return "the maximum number of windows, or of dumps, is reached";
    case PVIO_STATUS_FAILED: return "the host failed: see its messages";
    case PVIO_STATUS_MISSING: return "the shared directory has no such file or directory";
    case PVIO_STATUS_NAME: return "this name cannot be that of a regular file in the shared directory";
    case PVIO_STATUS_EXISTS: return "the shared directory has this file already: choose another name, or add :overwrite=on to the plugin's option share";
    case PVIO_STATUS_LIMIT: return "the file is larger than the limits of the plugin's option share allow";
    case PVIO_STATUS_STALE: return "the machine was reset, or the file has changed: try again";
    default: return "the host refuses this call";
    }
}

/* Ends the program unless the call succeeded. The texts name the command. */
static inline void check(unsigned int status, const char *command, const char *argument)
{
    struct line line;
    if (status == PVIO_STATUS_OK)
        return;
    if (status == PVIO_STATUS_UNANSWERED)
        die(NO_HOST, "no pvio answers: this machine does not run under the plugin, or its QEMU is older than 10.1", "", "");
    if (status == PVIO_STATUS_DENIED)
        die(DENIED, "the host answers only the kernel: add hypercall=any to the plugin's options", "", "");
    line.length = 0;
    put(&line, command);
    put(&line, argument);
    put(&line, ": ");
    line.text[line.length] = 0;
    die(FAILED, line.text, meaning(status), "");
}

static inline void check_file(unsigned int status, const char *command, const char *name)
{
    if (status == PVIO_STATUS_DECLINED)
        die(FAILED, "the host shares no directory: add share=DIRECTORY to the plugin's options", "", "");
    check(status, command, name);
}
