// SPDX-License-Identifier: MIT OR Apache-2.0
// Port I/O of SeaBIOS by pvio's hypercalls. x86.h includes this after its own functions.
#ifndef __PVIO_PORTS_H
#define __PVIO_PORTS_H

#if MODE16 == 1
# define PVIO_CODE_16
#endif

#if MODESEGMENT == 1
// Buffers of strings are in ES. pvio.h asks for the linear addresses of these alone.
static inline u32 pvio_es_base(void)
{
    u16 es;
    asm volatile("movw %%es, %w0" : "=r"(es));
    return (u32)es << 4;
}
# define PVIO_ES_LINEAR(pointer) (pvio_es_base() + (u32)(pointer))
# define PVIO_ES_POINTER(linear) ((void*)((u32)(linear) - pvio_es_base()))
# define PVIO_LINEAR(pointer) ((u32)(pointer))
# define PVIO_POINTER(linear) ((void*)(u32)(linear))
#endif

#define PVIO_REPLACE_LINUX
#include "pvio.h"

#endif
