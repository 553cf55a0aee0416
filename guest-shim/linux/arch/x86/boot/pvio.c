// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Port I/O by hypercalls in the setup code and in the decompressor, through pio_ops. */
#ifdef _SETUP
#include "boot.h"
#endif
#include "io.h"

#include <asm/shared/pvio.h>

static struct pvio_mailbox mailbox;

/* The linear address of an offset: the setup code has a segment. */
static inline unsigned long linear(unsigned long offset)
{
#ifdef _SETUP
	return ((unsigned long)ds() << 4) + offset;
#else
	return offset;
#endif
}

static inline unsigned long mailbox_linear(void)
{
	return linear((unsigned long)&mailbox);
}

static u8 pvio_inb(u16 port)
{
	u32 word = PVIO_WORD(PVIO_CALL_INB, 0, port);
	u32 answer = pvio_scalar(&mailbox, mailbox_linear(), word, NULL, linear(PVIO_CALLER));

	return pvio_done(answer) ? answer : __inb(port);
}

static void pvio_outb(u8 value, u16 port)
{
	u32 word = PVIO_WORD(PVIO_CALL_OUTB, value, port);

	if (!pvio_done(pvio_scalar(&mailbox, mailbox_linear(), word, NULL, linear(PVIO_CALLER))))
		__outb(value, port);
}

static void pvio_outw(u16 value, u16 port)
{
	u32 word = PVIO_WORD(PVIO_CALL_OUTW, 0, port), wide = value;

	if (!pvio_done(pvio_scalar(&mailbox, mailbox_linear(), word, &wide, linear(PVIO_CALLER))))
		__outw(value, port);
}

void pvio_detect(void)
{
	u32 features;

	if (cmdline_find_option_bool("nopvio") || !pvio_cpu_has_nopl())
		return;
	if (!pvio_find_host(&mailbox, mailbox_linear(), &features))
		return;

	/* Use hypercalls instead of I/O instructions */
	pio_ops.f_inb  = pvio_inb;
	pio_ops.f_outb = pvio_outb;
	pio_ops.f_outw = pvio_outw;
}
