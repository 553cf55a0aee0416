/* The mechanisms, their loops, and the results for a person. */
#pragma once

#include "harness.h"

enum {
    NATIVE,
    TRAP_CHECKED,
    TRAP,
    INT,
    PVIO,
    PVIO_MAILBOX,
    SYSENTER,
    SVM_IOIO,
    SVM_VMMCALL,
    DIRECT,
    VE,
    VC,
    BATCH,
    TRAP_USER,
    COALESCED,
    MECHANISMS
};
#define CELLS 36

/* main.c: the command line. */
extern struct options {
    u32 scalars;    /* how often a loop repeats an operation of one element: a multiple of 16 */
    u32 strings;    /* and one of 512 */
    u32 rounds;     /* how often everything is measured */
    u32 logs;       /* print the device's logs */
    u32 mechanisms; /* a bit for each that is to run */
    u32 report;     /* print the results for a person, and a model of the machine */
} options;

/* cells.c */
const char *mechanism_name(u32 mechanism);
void run_cell(u32 mechanism, u32 cell);
void run_nothing(u32 mechanism, u32 count, const char *name);

/* table.c */
void table_add(u32 mechanism, u32 cell, u64 cycles, u32 count);
void table_add_nothing(u32 mechanism, u64 cycles, u32 count);
void table_print(void);

/* model.c */
void model_print(void);
