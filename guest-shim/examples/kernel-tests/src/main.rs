//! The kernel itself: says hello, and its command line, and ends.

#![no_std]
#![no_main]

use harness::{exit, report};
use kernel_tests::StartInfo;
use pvio_guest::control::Level;

kernel_tests::entry!(main);

fn main(info: &'static StartInfo) -> ! {
    report(Level::Info, format_args!("hello, {:?}", info.command_line()));
    exit(true)
}
