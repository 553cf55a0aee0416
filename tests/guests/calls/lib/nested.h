/*
 * A hypervisor (APM vol. 2, "Secure Virtual Machine"), in 64-bit code only, and its guest, in 32-bit code of ring
 * 0. The guest's physical addresses are the machine's, except for one page.
 */
#pragma once

#include "tables.h"

/* The guest's page, and where the hypervisor has put it. */
#define GUEST 0x500000u
#define OWN   0x600000u

/* True if the guest has paging on; true if all ports are intercepted. */
extern int pages, keeps_ports;

void set_up_nested(void);

/* Makes the guest execute that instruction, with EAX, EDX and ECX. Returns EAX. */
u32 run_nested(const u8 *instruction, u32 size, u32 ax, word *dx, word *cx);
