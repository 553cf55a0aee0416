/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef _ASM_X86_SHARED_PVIO_H
#define _ASM_X86_SHARED_PVIO_H

/*
 * pvio's hypercalls: what the setup code, the decompressor and the kernel have in common.
 *
 * A call is a long NOP. Bit 31 of the call word stays set if no host answers.
 */

#ifdef CONFIG_PVIO_GUEST

#include <linux/compiler.h>
#include <linux/stringify.h>
#include <linux/types.h>

#include <asm/shared/pvio_abi.h>

/* The mode of the code decides which encoding the host takes for a call. */
#if defined(_SETUP)
#define PVIO_MAGIC		PVIO_MAGIC_16
#define PVIO_DOORBELL		PVIO_DOORBELL_16
#define PVIO_REGISTER_MAILBOX	PVIO_REGISTER_MAILBOX_16
#elif defined(__x86_64__)
#define PVIO_MAGIC		PVIO_MAGIC_64
#define PVIO_DOORBELL		PVIO_DOORBELL_64
#define PVIO_REGISTER_MAILBOX	PVIO_REGISTER_MAILBOX_64
#else
#define PVIO_MAGIC		PVIO_MAGIC_32
#define PVIO_DOORBELL		PVIO_DOORBELL_32
#define PVIO_REGISTER_MAILBOX	PVIO_REGISTER_MAILBOX_32
#endif

/* The bytes of an instruction, for inline assembly. */
#define PVIO_INSN(bytes...)	".byte " __stringify(bytes)

#define PVIO_WORD(call, operand, port) \
	(PVIO_UNANSWERED | (call) << PVIO_CALL_SHIFT | (u32)(operand) << PVIO_OPERAND_SHIFT | (port))

/* A field of 64 bits. 32-bit code uses the lower half, and the upper half stays 0. */
#ifdef __x86_64__
#define PVIO_FIELD(name)	unsigned long name
#else
#define PVIO_FIELD(name)	unsigned long name, name##_high
#endif

/*
 * The memory of one CPU through which calls go: a large mailbox, of which a host without large ones uses the first 16
 * bytes. It is usable while its key is not 0.
 */
struct pvio_mailbox {
	u32 word;
	u32 value;
	u32 key[2];
	PVIO_FIELD(address);
	PVIO_FIELD(count);
	PVIO_FIELD(site);
	u32 reserved[6];
} __attribute__((aligned(64)));

/* The code that a call is for: where the function returns to that makes it. */
#define PVIO_CALLER	((unsigned long)__builtin_return_address(0))

/* Does this CPU have the long NOP? An older one raises #UD. */
static inline bool pvio_cpu_has_nopl(void)
{
	u32 eax = 1, ebx, ecx = 0, edx, family;
#ifndef __x86_64__
	const u32 id = 1 << 21;
	u32 old, new;

	/* A CPU has CPUID if EFLAGS.ID can be changed. */
	asm volatile("pushfl; popl %0; movl %0, %1; xorl %2, %1; pushl %1; popfl; pushfl; popl %1; pushl %0; popfl"
		     : "=&r" (old), "=&r" (new) : "ri" (id));
	if (!((old ^ new) & id))
		return false;
#endif
	asm volatile("cpuid" : "+a" (eax), "=b" (ebx), "+c" (ecx), "=d" (edx));
	family = eax >> 8 & 15;
	return family == 6 || family == 15;
}

/* Makes a call by registers. dx and cx are what the call takes and gives there. */
static __always_inline u32 pvio_call(u32 word, unsigned long *dx, unsigned long *cx)
{
	asm volatile(PVIO_INSN(PVIO_MAGIC) : "+a" (word), "+d" (*dx), "+c" (*cx) : : "memory");
	return word;
}

/*
 * The functions below restore all fields that they use, so that an interrupt handler may make calls of its own between
 * any two instructions of theirs.
 */

/* Makes a call in the mailbox, for the code at site. */
static __always_inline u32 pvio_doorbell(struct pvio_mailbox *box, u32 word, unsigned long site)
{
	u32 found = READ_ONCE(box->word), answer;
	unsigned long found_site = READ_ONCE(box->site);

	WRITE_ONCE(box->site, site);
	WRITE_ONCE(box->word, word);
	asm volatile(PVIO_INSN(PVIO_DOORBELL) : : : "memory");
	answer = READ_ONCE(box->word);
	WRITE_ONCE(box->word, found);
	WRITE_ONCE(box->site, found_site);
	return answer;
}

/* Registers the mailbox by one of the two calls. */
static inline u32 pvio_register_by(u32 word, struct pvio_mailbox *box, unsigned long linear, u32 *features)
{
	u32 found = READ_ONCE(box->word), found_value = READ_ONCE(box->value), answer;

	WRITE_ONCE(box->word, word);
	asm volatile(PVIO_INSN(PVIO_REGISTER_MAILBOX) : : "d" (linear) : "memory");
	answer = READ_ONCE(box->word);
	*features = READ_ONCE(box->value);
	WRITE_ONCE(box->value, found_value);
	WRITE_ONCE(box->word, found);
	return answer;
}

/* Registers the mailbox, which has a key, for this CPU: as a large one if the host has these. Gives its features. */
static inline u32 pvio_register(struct pvio_mailbox *box, unsigned long linear, u32 *features)
{
	u32 answer = pvio_register_by(PVIO_WORD(PVIO_CALL_REGISTER_LARGE, 0, 0), box, linear, features);

	if (answer & ~PVIO_DATA_MASK)
		answer = pvio_register_by(PVIO_WORD(PVIO_CALL_REGISTER, 0, 0), box, linear, features);
	return answer;
}

/* Chooses a key that is nowhere else in memory by chance. */
static inline void pvio_choose_key(struct pvio_mailbox *box, unsigned long linear)
{
	u32 low, high;

	asm volatile("rdtsc" : "=a" (low), "=d" (high));
	WRITE_ONCE(box->key[1], (high ^ (u32)linear) * 0x9e3779b9);
	WRITE_ONCE(box->key[0], (low ^ (u32)linear) * 0x7f4a7c15 | 1);
}

/*
 * Gives this CPU a mailbox. Without an answer the mailbox has no key and is not used.
 * Returns the answer: the version of the host if bit 31 and the status are 0.
 */
static inline u32 pvio_open_mailbox(struct pvio_mailbox *box, unsigned long linear, u32 *features)
{
	u32 answer;

	pvio_choose_key(box, linear);
	answer = pvio_register(box, linear, features);
	if (answer & ~PVIO_DATA_MASK)
		WRITE_ONCE(box->key[0], 0);
	return answer;
}

/* Asks for a host, first by the mailbox, then by registers. Returns whether one answers, and its features. */
static inline bool pvio_find_host(struct pvio_mailbox *box, unsigned long linear, u32 *features)
{
	u32 answer = pvio_open_mailbox(box, linear, features);

	if (answer & ~PVIO_DATA_MASK) {
		unsigned long dx = 0, cx = 0;

		answer = pvio_call(PVIO_WORD(PVIO_CALL_PROBE, 0, 0), &dx, &cx);
		*features = dx;
	}
	return answer == PVIO_VERSION;
}

/*
 * Makes a call in the mailbox. The host forgets a mailbox when the machine is migrated, restored or woken up, so it is
 * registered again if there is no answer.
 */
static __always_inline u32 pvio_ask(struct pvio_mailbox *box, unsigned long linear, u32 word, unsigned long site)
{
	u32 answer = pvio_doorbell(box, word, site), features;

	if (unlikely(answer & PVIO_UNANSWERED) && !(pvio_register(box, linear, &features) & ~PVIO_DATA_MASK))
		answer = pvio_doorbell(box, word, site);
	return answer;
}

/*
 * Makes a scalar call: through the mailbox; if there is no answer, by registers. value is NULL for calls without one.
 */
static __always_inline u32 pvio_scalar(struct pvio_mailbox *box, unsigned long linear, u32 word, u32 *value,
				       unsigned long site)
{
	unsigned long dx = 0, cx = 0;
	u32 answer;

	if (likely(READ_ONCE(box->key[0]))) {
		u32 found = 0;

		if (value) {
			found = READ_ONCE(box->value);
			WRITE_ONCE(box->value, *value);
		}
		answer = pvio_ask(box, linear, word, site);
		if (value) {
			u32 given = READ_ONCE(box->value);

			WRITE_ONCE(box->value, found);
			if (likely(!(answer & ~PVIO_DATA_MASK)))
				*value = given;
		}
		if (likely(!(answer & PVIO_UNANSWERED)))
			return answer;
	}
	if (value)
		dx = *value;
	answer = pvio_call(word, &dx, &cx);
	if (value && !(answer & ~PVIO_DATA_MASK))
		*value = dx;
	return answer;
}

/* Did the host carry out the call? Otherwise the instruction does. */
static __always_inline bool pvio_done(u32 answer)
{
	return likely(!(answer & ~PVIO_DATA_MASK));
}

/* Setup code and decompressor: uses hypercalls from here on if a host answers. */
void pvio_detect(void);

#else

static inline void pvio_detect(void) { }

#endif /* CONFIG_PVIO_GUEST */
#endif /* _ASM_X86_SHARED_PVIO_H */
