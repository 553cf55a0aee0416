/* The results for a person: cycles of four operations by each mechanism. */
#include "cells.h"

/* in al,dx; out dx,al; rep insb and rep outsb of 512 elements. */
static const u32 columns[] = {3, 9, 27, 33};
#define COLUMNS (sizeof columns / sizeof *columns)

/* The least of all rounds; 0 if there is none. */
static u32 least[MECHANISMS][COLUMNS];
/* Cycles of the empty loops: with as many repetitions as scalars have, and strings. */
static u64 empty[2];

void table_add_nothing(u32 mechanism, u64 cycles, u32 count)
{
    (void)mechanism;
    empty[count == options.strings && count != options.scalars] = cycles;
}

void table_add(u32 mechanism, u32 cell, u64 cycles, u32 count)
{
    u64 nothing = empty[cell >= 24 && options.strings != options.scalars];

    for (u32 column = 0; column < COLUMNS; column++)
        if (columns[column] == cell) {
            /* At least 1: on a busy machine, the difference may be negative. */
            u32 each = cycles > nothing ? divide(cycles - nothing, count) : 0;
            u32 *kept = &least[mechanism][column];
            each = each ? each : 1;
            if (!*kept || each < *kept)
                *kept = each;
        }
}

void table_print(void)
{
    print("\nCycles of one operation, the least of ");
    print_number(options.rounds);
    print(" rounds\n");
    print("mechanism         in al,dx    out dx,al   rep insb x 512  rep outsb x 512\n");
    for (u32 mechanism = 0; mechanism < MECHANISMS; mechanism++) {
        static const u32 widths[COLUMNS] = {10, 13, 17, 17};
        u32 any = 0;
        for (u32 column = 0; column < COLUMNS; column++)
            any |= least[mechanism][column];
        if (!any)
            continue;
        print(mechanism_name(mechanism));
        for (u32 at = text_length(mechanism_name(mechanism)); at < 16; at++)
            print(" ");
        for (u32 column = 0; column < COLUMNS; column++)
            print_padded(least[mechanism][column], widths[column]);
        print("\n");
    }
    print("\n");
}
