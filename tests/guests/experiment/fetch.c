/* Finds the guest's instruction. The guest's memory is in the monitor's own address space. */
#include "monitor.h"

const u8 *fetch(const struct frame *frame)
{
    /* There are two code segments that a guest can be in, both with base 0 and 32-bit code. Nothing else
     * can be in CS: the GDT is the monitor's, and there is no LDT. */
    if (frame->cs != CODE1 && frame->cs != CODE3)
        return 0;
    /* The processor has fetched it, so it lies within the segment; the monitor's memory does not. */
    if (frame->eip >= MONITOR_BASE)
        return 0;
    return (const u8 *)frame->eip;
}
