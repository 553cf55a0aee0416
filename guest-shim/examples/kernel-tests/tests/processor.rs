//! Tests of what the start code has made of the processor.

#![no_std]
#![no_main]

use core::arch::asm;

use harness::tests;
use kernel_tests::StartInfo;

kernel_tests::entry!(main);

fn main(info: &'static StartInfo) -> ! {
    harness::run(info.command_line(), tests![paging_is_on, vectors_work, interrupts_are_off])
}

fn paging_is_on() {
    let cr0: u64;
    // SAFETY: reading the register changes nothing.
    unsafe { asm!("mov {}, cr0", out(reg) cr0, options(nomem, nostack)) };
    assert_eq!(cr0 >> 31, 1, "CR0 is {cr0:#x}");
}

fn vectors_work() {
    let values = core::hint::black_box([1.5f32, 2.5, 3.5, 4.5]);
    assert_eq!(values.iter().sum::<f32>(), 12.0);
}

fn interrupts_are_off() {
    let flags: u64;
    // SAFETY: the stack is as it was.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags) };
    assert_eq!(flags & 1 << 9, 0, "RFLAGS is {flags:#x}");
}
