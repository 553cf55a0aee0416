/* Runs the guest and reports the result. This is not part of the monitor. */
#pragma once

#include "monitor.h"

/* console.c: text output: QEMU's -debugcon, COM1, a VGA text screen, whichever exists. */
void console_start(void);
void print(const char *text);
void print_number(u32 number);
void print_hex(u32 number);
void print_padded(u32 number, u32 width);
u32 text_length(const char *text);
u32 divide(u64 number, u32 by);
_Noreturn void end(u32 status);

/* cpu.c */
struct features {
    u32 nx, sysenter, svm, pvio, mailbox;
};
struct features processor_start(void);
/* What it means if the monitor has an exception now; null if nothing special. */
extern const char *monitor_step;
void trap_through(void (*entry)(void));
void page_set_present(u32 linear, int present);

/* svm.c */
void svm_start(void);
void svm_guest(u32 eip, u32 esp);
extern u32 svm_intercepts_io;

/* user_entry.S */
void user_start(void);

/* Where to go on after a #UD in the monitor: model.c tries an instruction that may be none. */
extern u32 probe_resume;

/* entry.S, processor_entry.S, user_entry.S */
void run_guest(u32 eip, u32 esp, u32 cs, u32 ss);
void run_native(u32 eip, u32 esp);
extern u32 guest_result, exception_vector;
void gp_entry(void), gp_checked_entry(void), call_entry(void), sysenter_entry(void);
void done_entry(void), native_done(void);
void gp_ve_entry(void), gp_vc_entry(void), gp_user_entry(void), gp_posted_entry(void);
void io_call_entry(void), ghcb_entry(void), batch_entry(void), ve_info_entry(void), run_entry(void);
_Noreturn void leave_to_guest(struct frame *frame);

/* guest_entry.S */
void guest_handler_ve(void), guest_handler_vc(void);

/* guest.S */
void nothing(void), guest_done(void), guest_halts(void);
void guest_handler_gp(void), guest_handler_pf(void), guest_handler_db(void);
extern const u32 direct_loops[], int_loops[], pvio_loops[], mailbox_loops[], sysenter_loops[], vmmcall_loops[];
extern const u32 called_loops[], ve_loops[], batch_loops[], write_loops[];
extern u8 batch_records[], *batch_next;
extern u8 mailbox[4096], out_buffer[4096], in_buffer[4096], guest_stack[4096], trial[8192], guest_data_start[];
#define GUEST_STACK_TOP ((u32 *)(guest_stack + sizeof guest_stack))
extern u8 monitor_stack[MONITOR_STACK];
#define MONITOR_STACK_TOP (monitor_stack + sizeof monitor_stack)

/* checks.c: checks of the monitor besides the measured operations. Ends the run if one fails. */
void check_monitor(int nx);
_Noreturn void failed(const char *what);

static inline u8 inb(u16 port)
{
    u8 value;
    __asm__ volatile("in %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline u64 rdtsc(void)
{
    u64 time;
    __asm__ volatile("rdtsc" : "=A"(time)::"memory");
    return time;
}
static inline void outb(u16 port, u8 value) { __asm__ volatile("out %0, %1" ::"a"(value), "Nd"(port)); }
static inline void cpuid(u32 leaf, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx)
{
    __asm__ volatile("cpuid" : "=a"(*eax), "=b"(*ebx), "=c"(*ecx), "=d"(*edx) : "a"(leaf), "c"(0));
}
static inline u64 rdmsr(u32 msr)
{
    u64 value;
    __asm__ volatile("rdmsr" : "=A"(value) : "c"(msr));
    return value;
}
static inline void wrmsr(u32 msr, u64 value) { __asm__ volatile("wrmsr" ::"c"(msr), "A"(value)); }
