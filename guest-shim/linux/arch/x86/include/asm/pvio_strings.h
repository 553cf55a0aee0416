/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef _ASM_X86_PVIO_STRINGS_H
#define _ASM_X86_PVIO_STRINGS_H

/* insb ... outsl of the kernel. <asm/io.h> has defined the instructions under the names pvio_native_.... */

#include <asm/pvio.h>

#ifdef PVIO_KERNEL

#undef insb
#undef insw
#undef insl
#undef outsb
#undef outsw
#undef outsl

#define PVIO_STRINGS(bwl)							\
void pvio_ins##bwl(u16 port, void *addr, unsigned long count);			\
void pvio_outs##bwl(u16 port, const void *addr, unsigned long count);		\
										\
static inline void ins##bwl(u16 port, void *addr, unsigned long count)		\
{										\
	if (static_branch_unlikely(&pvio_guest)) {				\
		pvio_ins##bwl(port, addr, count);				\
		pvio_no_tail_call();						\
	} else {								\
		pvio_native_ins##bwl(port, addr, count);			\
	}									\
}										\
										\
static inline void outs##bwl(u16 port, const void *addr, unsigned long count)	\
{										\
	if (static_branch_unlikely(&pvio_guest)) {				\
		pvio_outs##bwl(port, addr, count);				\
		pvio_no_tail_call();						\
	} else {								\
		pvio_native_outs##bwl(port, addr, count);			\
	}									\
}

PVIO_STRINGS(b)
PVIO_STRINGS(w)
PVIO_STRINGS(l)
#undef PVIO_STRINGS

#endif /* PVIO_KERNEL */
#endif /* _ASM_X86_PVIO_STRINGS_H */
