// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Port I/O by hypercalls, in QEMU with the plugin pvio.
 *
 * A call goes through a mailbox for each CPU, or by registers. What no host carries out is done by the instruction,
 * each time anew: a guest may be migrated to a host without pvio.
 */
#define pr_fmt(fmt) "pvio: " fmt

#include <linux/cache.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/jump_label.h>
#include <linux/preempt.h>
#include <linux/printk.h>
#include <linux/smp.h>
#include <linux/threads.h>

#include <asm/cmdline.h>
#include <asm/io.h>
#include <asm/pvio.h>
#include <asm/setup.h>
#include <asm/shared/pvio.h>

DEFINE_STATIC_KEY_FALSE(pvio_guest);
EXPORT_SYMBOL(pvio_guest);

/* By number of the CPU. Not per-CPU memory, which moves while the boot CPU starts, and not in a page of code. */
static struct {
	struct pvio_mailbox box;
} ____cacheline_aligned_in_smp pvio_mailboxes[NR_CPUS] __aligned(PAGE_SIZE);

/* Makes a scalar call on this CPU, for the code at site. */
static __always_inline u32 pvio_here(u32 word, u32 *value, unsigned long site)
{
	struct pvio_mailbox *box;
	u32 answer;

	/* The mailbox belongs to the CPU: from the first load to the last store nothing else may use it. */
	preempt_disable_notrace();
	box = &pvio_mailboxes[raw_smp_processor_id()].box;
	answer = pvio_scalar(box, (unsigned long)box, word, value, site);
	preempt_enable_notrace();
	return answer;
}

static __always_inline u8 inb_for(u16 port, unsigned long site)
{
	u32 answer = pvio_here(PVIO_WORD(PVIO_CALL_INB, 0, port), NULL, site);

	return pvio_done(answer) ? answer : __inb(port);
}

static __always_inline u16 inw_for(u16 port, unsigned long site)
{
	u32 answer = pvio_here(PVIO_WORD(PVIO_CALL_INW, 0, port), NULL, site);

	return pvio_done(answer) ? answer : __inw(port);
}

static __always_inline u32 inl_for(u16 port, unsigned long site)
{
	u32 value = 0, answer = pvio_here(PVIO_WORD(PVIO_CALL_INL, 0, port), &value, site);

	return pvio_done(answer) ? value : __inl(port);
}

static __always_inline void outb_for(u8 value, u16 port, unsigned long site)
{
	if (!pvio_done(pvio_here(PVIO_WORD(PVIO_CALL_OUTB, value, port), NULL, site)))
		__outb(value, port);
}

static __always_inline void outw_for(u16 value, u16 port, unsigned long site)
{
	u32 wide = value;

	if (!pvio_done(pvio_here(PVIO_WORD(PVIO_CALL_OUTW, 0, port), &wide, site)))
		__outw(value, port);
}

static __always_inline void outl_for(u32 value, u16 port, unsigned long site)
{
	u32 copy = value;

	if (!pvio_done(pvio_here(PVIO_WORD(PVIO_CALL_OUTL, 0, port), &copy, site)))
		__outl(value, port);
}

#define PVIO_SCALARS(bwl, type)						\
notrace type pvio_in##bwl(u16 port)					\
{									\
	return in##bwl##_for(port, PVIO_CALLER);			\
}									\
EXPORT_SYMBOL(pvio_in##bwl);						\
									\
notrace void pvio_out##bwl(type value, u16 port)			\
{									\
	out##bwl##_for(value, port, PVIO_CALLER);			\
}									\
EXPORT_SYMBOL(pvio_out##bwl)

PVIO_SCALARS(b, u8);
PVIO_SCALARS(w, u16);
PVIO_SCALARS(l, u32);

/* Makes a page usable to the host as an access by the CPU does: present, accessed and, for ins, dirty. */
static __always_inline void pvio_touch(unsigned long addr, bool write)
{
	if (write)
		asm volatile("lock orb $0, %0" : "+m" (*(u8 *)addr) : : "memory");
	else
		READ_ONCE(*(u8 *)addr);
}

/* Makes the call of a string on this CPU: through a large mailbox; if there is none, by registers. */
static notrace u32 pvio_string_here(u32 word, unsigned long *addr, unsigned long *count, unsigned long site)
{
	struct pvio_mailbox *box;
	u32 answer = PVIO_UNANSWERED;

	preempt_disable_notrace();
	box = &pvio_mailboxes[raw_smp_processor_id()].box;
	if (likely(READ_ONCE(box->key[0]))) {
		unsigned long found_addr = READ_ONCE(box->address), found_count = READ_ONCE(box->count);
		unsigned long next, left;

		WRITE_ONCE(box->address, *addr);
		WRITE_ONCE(box->count, *count);
		answer = pvio_ask(box, (unsigned long)box, word, site);
		next = READ_ONCE(box->address);
		left = READ_ONCE(box->count);
		WRITE_ONCE(box->address, found_addr);
		WRITE_ONCE(box->count, found_count);
		/* A small mailbox has neither address nor count. */
		if (unlikely(answer >> PVIO_CALL_SHIFT == PVIO_STATUS_UNKNOWN))
			answer = PVIO_UNANSWERED;
		if (likely(!(answer & PVIO_UNANSWERED))) {
			*addr = next;
			*count = left;
		}
	}
	preempt_enable_notrace();
	if (unlikely(answer & PVIO_UNANSWERED))
		answer = pvio_call(word, addr, count);
	return answer;
}

/*
 * Moves a string as far as the host does. Returns true if the caller must move one element, at a page that the host
 * cannot use. Otherwise what is left of the string is for the instruction.
 */
static notrace bool pvio_move(u32 word, unsigned long *addr, unsigned long *count, unsigned int size, bool write,
			      unsigned long site)
{
	unsigned long touched = 0;

	while (*count) {
		u32 answer = pvio_string_here(word, addr, count, site);

		if (pvio_done(answer))
			continue;
		if (answer >> PVIO_CALL_SHIFT != PVIO_STATUS_PAGE)
			return false;
		if (touched == *addr)
			return true;
		touched = *addr;
		pvio_touch(touched, write);
		pvio_touch(touched + size - 1, write);
	}
	return false;
}

#define PVIO_STRINGS(bwl, type, ins_call, outs_call)					\
notrace void pvio_ins##bwl(u16 port, void *buffer, unsigned long count)			\
{											\
	unsigned long addr = (unsigned long)buffer, site = PVIO_CALLER;			\
	u32 word = PVIO_WORD(ins_call, 0, port);					\
											\
	while (pvio_move(word, &addr, &count, sizeof(type), true, site)) {		\
		*(type *)addr = in##bwl##_for(port, site);				\
		addr += sizeof(type);							\
		count--;								\
	}										\
	if (count)									\
		pvio_native_ins##bwl(port, (void *)addr, count);			\
}											\
EXPORT_SYMBOL(pvio_ins##bwl);								\
											\
notrace void pvio_outs##bwl(u16 port, const void *buffer, unsigned long count)		\
{											\
	unsigned long addr = (unsigned long)buffer, site = PVIO_CALLER;			\
	u32 word = PVIO_WORD(outs_call, 0, port);					\
											\
	while (pvio_move(word, &addr, &count, sizeof(type), false, site)) {		\
		out##bwl##_for(*(const type *)addr, port, site);			\
		addr += sizeof(type);							\
		count--;								\
	}										\
	if (count)									\
		pvio_native_outs##bwl(port, (const void *)addr, count);			\
}											\
EXPORT_SYMBOL(pvio_outs##bwl)

PVIO_STRINGS(b, u8, PVIO_CALL_INSB, PVIO_CALL_OUTSB);
PVIO_STRINGS(w, u16, PVIO_CALL_INSW, PVIO_CALL_OUTSW);
PVIO_STRINGS(l, u32, PVIO_CALL_INSL, PVIO_CALL_OUTSL);

/*
 * Called by cpu_init(): gives this CPU its mailbox. A CPU that goes off line keeps it, because it accesses ports until the
 * very end, and the host uses a mailbox only when its own CPU asks for that.
 */
void pvio_cpu_init(void)
{
	struct pvio_mailbox *box = &pvio_mailboxes[raw_smp_processor_id()].box;
	u32 features;

	if (static_branch_unlikely(&pvio_guest) && !READ_ONCE(box->key[0]))
		pvio_open_mailbox(box, (unsigned long)box, &features);
}

/* Called by setup_arch() before the first access to a port. */
void __init pvio_guest_init(void)
{
	struct pvio_mailbox *box = &pvio_mailboxes[0].box;
	u32 features = 0;

	if (cmdline_find_option_bool(boot_command_line, "nopvio")) {
		pr_info("port I/O by instructions: nopvio\n");
		return;
	}
	if (!pvio_cpu_has_nopl() || !pvio_find_host(box, (unsigned long)box, &features)) {
		pr_info("port I/O by instructions: no host answers\n");
		return;
	}
	jump_label_init();
	static_branch_enable(&pvio_guest);
	pr_info("port I/O by hypercalls: features %#x%s\n", features,
		READ_ONCE(box->key[0]) ? ", mailboxes" : "");
}

/* pvio_guest_init() has looked at it already. */
static int __init pvio_parameter(char *arg)
{
	return 0;
}
early_param("nopvio", pvio_parameter);
