/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef _ASM_X86_SHARED_PVIO_ABI_H
#define _ASM_X86_SHARED_PVIO_ABI_H

/* The constants of pvio's hypercalls, version 1. */

/* generated from src/abi/list.rs: constants */
#define PVIO_VERSION              1          /* The version of the ABI, which a probe returns */
#define PVIO_UNANSWERED           0x80000000 /* Bit 31 of EAX: no host has answered (yet) */
#define PVIO_CALL_SHIFT           24         /* The position in EAX of a call's number, and of a status */
#define PVIO_OPERAND_SHIFT        16         /* The position in EAX of a call's operand */
#define PVIO_DATA_MASK            0x00ffffff /* The bits of an answer that are data */
#define PVIO_LOG_MAX              1024       /* The longest line of the log, in bytes */
#define PVIO_NAME_MAX             64         /* The longest name of a window, in bytes */
#define PVIO_WINDOWS_MAX          256        /* The maximum number of windows in a run */
#define PVIO_DUMPS_MAX            100        /* The maximum number of dumps in a run */
#define PVIO_ELEMENTS_MAX         65536      /* The maximum number of elements and records, or of a file's bytes, that one call moves */
#define PVIO_FILE_NAME_MAX        255        /* The longest name of a file, in bytes */
#define PVIO_UNFINISHED_FILES_MAX 16         /* The maximum number of unfinished files; one more replaces that of the oldest call */
#define PVIO_RECORD_PENDING       0x80       /* The status of a record that no host has run: bit 31 of a call, as a byte */

/* The instructions: bytes for `.byte` or for an array. */
/* Makes the call in EAX. */
#define PVIO_MAGIC_16 0x67, 0x0f, 0x1f, 0x80, 0x50, 0x16, 0x90, 0x90
#define PVIO_MAGIC_32 0x0f, 0x1f, 0x80, 0x50, 0x32, 0x90, 0x90
#define PVIO_MAGIC_64 0x0f, 0x1f, 0x80, 0x50, 0x64, 0x90, 0x90
/* Makes the call in this CPU's mailbox. */
#define PVIO_DOORBELL_16 0x67, 0x0f, 0x1f, 0x80, 0x51, 0x16, 0x90, 0x90
#define PVIO_DOORBELL_32 0x0f, 0x1f, 0x80, 0x51, 0x32, 0x90, 0x90
#define PVIO_DOORBELL_64 0x0f, 0x1f, 0x80, 0x51, 0x64, 0x90, 0x90
/* Registers the mailbox at EDX or RDX for this CPU. */
#define PVIO_REGISTER_MAILBOX_16 0x67, 0x0f, 0x1f, 0x80, 0x52, 0x16, 0x90, 0x90
#define PVIO_REGISTER_MAILBOX_32 0x0f, 0x1f, 0x80, 0x52, 0x32, 0x90, 0x90
#define PVIO_REGISTER_MAILBOX_64 0x0f, 0x1f, 0x80, 0x52, 0x64, 0x90, 0x90

/* The numbers of the calls. */
#define PVIO_CALL_PROBE          0  /* Asks for a host */
#define PVIO_CALL_INB            1  /* Reads a byte */
#define PVIO_CALL_INW            2  /* Reads 16 bits */
#define PVIO_CALL_INL            3  /* Reads 32 bits */
#define PVIO_CALL_OUTB           4  /* Writes a byte */
#define PVIO_CALL_OUTW           5  /* Writes 16 bits */
#define PVIO_CALL_OUTL           6  /* Writes 32 bits */
#define PVIO_CALL_INSB           7  /* Reads bytes into memory */
#define PVIO_CALL_INSW           8  /* Reads 16-bit elements into memory */
#define PVIO_CALL_INSL           9  /* Reads 32-bit elements into memory */
#define PVIO_CALL_OUTSB          10 /* Writes bytes from memory */
#define PVIO_CALL_OUTSW          11 /* Writes 16-bit elements from memory */
#define PVIO_CALL_OUTSL          12 /* Writes 32-bit elements from memory */
#define PVIO_CALL_BATCH          13 /* Runs records in order, until one is not OK */
#define PVIO_CALL_REGISTER       14 /* Registers a mailbox; in the mailbox only */
#define PVIO_CALL_RELEASE        15 /* Releases the mailbox; through the mailbox only */
#define PVIO_CALL_EXIT           16 /* Ends the machine */
#define PVIO_CALL_LOG            17 /* Logs a line of text */
#define PVIO_CALL_BEGIN          18 /* Opens a window of the statistics */
#define PVIO_CALL_END            19 /* Closes a window */
#define PVIO_CALL_RESET          20 /* Sets all counts to zero, also those of open windows; forgets closed windows */
#define PVIO_CALL_DUMP           21 /* Writes the statistics so far */
#define PVIO_CALL_REGISTER_LARGE 22 /* Registers a large mailbox; in the mailbox only */
#define PVIO_CALL_BATCH_COMPACT  23 /* Runs compact records in order, until one fails */
#define PVIO_CALL_FILE_READ      24 /* Reads a part of a file of the host */
#define PVIO_CALL_FILE_WRITE     25 /* Begins a file of the host, or appends to one that is unfinished */
#define PVIO_CALL_FILE_FINISH    26 /* Gives a file that is complete its name */

/* What a host can do: the bits of EDX after a probe. */
#define PVIO_FEATURE_EVERY_PORT    0x1  /* Calls reach every port. Without it, only those that the host's own devices serve */
#define PVIO_FEATURE_MEMORY        0x2  /* Calls with an address work. Without it, they may be DECLINED */
#define PVIO_FEATURE_MAILBOX       0x4  /* A mailbox can be registered */
#define PVIO_FEATURE_LARGE_MAILBOX 0x8  /* A large mailbox can be registered */
#define PVIO_FEATURE_COMPACT_BATCH 0x10 /* The call for batches of compact records works */
#define PVIO_FEATURE_FILES         0x20 /* The host shares a directory. Without it, calls for files are DECLINED */

/* The levels of a logged line. */
#define PVIO_LEVEL_ERROR   0 /* An error */
#define PVIO_LEVEL_WARNING 1 /* Something that may be an error */
#define PVIO_LEVEL_INFO    2 /* An event of interest */
#define PVIO_LEVEL_DEBUG   3 /* A detail for debugging */

/* The result of a call. */
#define PVIO_STATUS_OK       0  /* Done. With a count left: call again */
#define PVIO_STATUS_DECLINED 1  /* The host does not handle this: execute the real instruction for the rest */
#define PVIO_STATUS_PAGE     2  /* Touch the page at the address, then call again for the rest */
#define PVIO_STATUS_DENIED   3  /* This ring may not make hypercalls */
#define PVIO_STATUS_UNKNOWN  4  /* No call has this number */
#define PVIO_STATUS_ADDRESS  5  /* The memory cannot be a buffer */
#define PVIO_STATUS_ARGUMENT 6  /* An operand is out of range, or a field that must be 0 is not */
#define PVIO_STATUS_LENGTH   7  /* A line or name is too long, or a name is empty */
#define PVIO_STATUS_STATE    8  /* The window to begin is open, or the window to end is not */
#define PVIO_STATUS_FULL     9  /* The maximum number of windows, or of dumps, is reached */
#define PVIO_STATUS_FAILED   10 /* The host failed: it cannot write its file, for example */
#define PVIO_STATUS_MISSING  11 /* No file has this name, or its directory does not exist */
#define PVIO_STATUS_NAME     12 /* The name cannot be that of a regular file in the host's directory */
#define PVIO_STATUS_EXISTS   13 /* A file has this name already, and the host keeps it */
#define PVIO_STATUS_LIMIT    14 /* The file, or all files together, would be larger than the host allows */
#define PVIO_STATUS_STALE    15 /* The unfinished file is gone, or the file has changed since the first part was read */
/* end of constants */

#endif /* _ASM_X86_SHARED_PVIO_ABI_H */
