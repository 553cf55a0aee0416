/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef _ASM_X86_PVIO_H
#define _ASM_X86_PVIO_H

/*
 * inb ... outl of the kernel: hypercalls behind a static branch, the instructions otherwise.
 *
 * <asm/io.h> includes this before its strings and its functions that pause, and <asm/pvio_strings.h> after them.
 * Setup code, decompressor and other programs that are not the kernel have no static branches.
 */

#if defined(CONFIG_PVIO_GUEST) && !defined(__DISABLE_EXPORTS)
#define PVIO_KERNEL
#endif

#ifdef PVIO_KERNEL

#include <linux/jump_label.h>
#include <linux/types.h>

#include <asm/shared/io.h>

DECLARE_STATIC_KEY_FALSE(pvio_guest);

/* After a call of a port function: a tail call would return to another function than the one that it is for. */
#define pvio_no_tail_call()	asm volatile("")

#define PVIO_SCALARS(bwl, type)						\
type pvio_in##bwl(u16 port);						\
void pvio_out##bwl(type value, u16 port);				\
									\
static __always_inline type pvio_or_in##bwl(u16 port)			\
{									\
	if (static_branch_unlikely(&pvio_guest)) {			\
		type value = pvio_in##bwl(port);			\
									\
		pvio_no_tail_call();					\
		return value;						\
	}								\
	return __in##bwl(port);						\
}									\
									\
static __always_inline void pvio_or_out##bwl(type value, u16 port)	\
{									\
	if (static_branch_unlikely(&pvio_guest)) {			\
		pvio_out##bwl(value, port);				\
		pvio_no_tail_call();					\
	} else {							\
		__out##bwl(value, port);				\
	}								\
}

PVIO_SCALARS(b, u8)
PVIO_SCALARS(w, u16)
PVIO_SCALARS(l, u32)
#undef PVIO_SCALARS

#undef inb
#undef inw
#undef inl
#undef outb
#undef outw
#undef outl
#define inb	pvio_or_inb
#define inw	pvio_or_inw
#define inl	pvio_or_inl
#define outb	pvio_or_outb
#define outw	pvio_or_outw
#define outl	pvio_or_outl

/* The strings that <asm/io.h> is about to define. */
#define insb	pvio_native_insb
#define insw	pvio_native_insw
#define insl	pvio_native_insl
#define outsb	pvio_native_outsb
#define outsw	pvio_native_outsw
#define outsl	pvio_native_outsl

void __init pvio_guest_init(void);
void pvio_cpu_init(void);

#else

static inline void pvio_guest_init(void) { }
static inline void pvio_cpu_init(void) { }

#endif /* PVIO_KERNEL */
#endif /* _ASM_X86_PVIO_H */
