//! Tests of the interval timer (8254), through its ports.

#![no_std]
#![no_main]

use harness::tests;
use kernel_tests::StartInfo;
use pvio_guest::control::Window;
use pvio_guest::{Port, PortWriteOnly};

kernel_tests::entry!(main);

fn main(info: &'static StartInfo) -> ! {
    harness::run(info.command_line(), tests![mode_reads_back, counter_counts_down])
}

const COUNTER_2: u16 = 0x42;
const CONTROL: u16 = 0x43;

/// Counter 2, mode 0, low byte first: the gate at port 0x61 decides whether it counts.
const MODE: u8 = 0xb0;

fn control(value: u8) {
    let mut control = PortWriteOnly::<u8>::new(CONTROL);
    // SAFETY: nothing else uses the timer.
    unsafe { control.write(value) };
}

fn mode_reads_back() {
    let _window = Window::begin("mode");
    control(MODE);
    // Read-back of the status of counter 2.
    control(0xe8);
    // SAFETY: nothing else uses the timer.
    let status = unsafe { Port::<u8>::new(COUNTER_2).read() };
    assert_eq!(status & 0x3f, MODE & 0x3f, "the status is {status:#x}");
}

fn counter_counts_down() {
    let _window = Window::begin("counter");
    let mut gate = Port::<u8>::new(0x61);
    let mut counter = Port::<u8>::new(COUNTER_2);
    control(MODE);
    // SAFETY: nothing else uses the timer and the speaker.
    let read = unsafe {
        gate.write(1);
        counter.write(0xff);
        counter.write(0xff);
        let mut last = u16::MAX;
        for _ in 0..1_000_000 {
            control(0x80);
            last = u16::from(counter.read()) | u16::from(counter.read()) << 8;
            if last < 0xff00 {
                break;
            }
        }
        last
    };
    assert!(read < 0xff00, "the counter is still {read:#x}");
}
