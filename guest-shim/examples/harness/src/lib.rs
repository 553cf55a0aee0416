//! What libtest is for programs, for guests: runs tests, and reports them to pvio.
//!
//! A test that returns has passed. The first one that panics ends the guest: nothing unwinds here. Where pvio does not
//! answer hypercalls, on QEMU 10.0, the report is on COM1 alone, and the guest ends by isa-debug-exit.

#![no_std]

mod memory;
mod options;

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use options::Options;
use pvio_guest::control::{self, Level, Line};
use pvio_guest::outb;

const COM1: u16 = 0x3f8;
const DEBUG_EXIT: u16 = 0xf4;

/// A test.
#[derive(Clone, Copy)]
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// The function that returns if it passes.
    pub run: fn(),
}

/// Makes a list of tests from their functions.
#[macro_export]
macro_rules! tests {
    ($($test:ident),* $(,)?) => {
        &[$($crate::Test { name: stringify!($test), run: $test }),*]
    };
}

/// The name of the test that runs, for the panic handler: its address and its length.
static CURRENT: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

fn set_current(name: &'static str) {
    CURRENT[0].store(name.as_ptr() as usize, Ordering::Relaxed);
    CURRENT[1].store(name.len(), Ordering::Relaxed);
}

fn current() -> Option<&'static str> {
    let [address, length] = [0, 1].map(|index: usize| CURRENT[index].load(Ordering::Relaxed));
    if address == 0 {
        return None;
    }
    // SAFETY: `set_current` stored a static text, and this guest has one thread.
    let bytes = unsafe { core::slice::from_raw_parts(address as *const u8, length) };
    core::str::from_utf8(bytes).ok()
}

/// Runs the tests that the guest's command line selects, and ends the guest.
///
/// The command line is what follows `cargo test --`, and the name of `cargo test NAME`.
pub fn run(command_line: &str, tests: &[Test]) -> ! {
    let options = Options::of(command_line);
    for word in options.unknown() {
        report(Level::Warning, format_args!("the option {word} is ignored"));
    }
    let selected = || tests.iter().filter(|test| options.selects(test.name));
    for test in selected() {
        if options.list {
            report(Level::Info, format_args!("{}: test", test.name));
            continue;
        }
        set_current(test.name);
        (test.run)();
        report(Level::Info, format_args!("test {}: ok", test.name));
    }
    let left_out = tests.len() - selected().count();
    report(Level::Debug, format_args!("{} tests, {left_out} filtered out", tests.len()));
    exit(true)
}

/// Logs a line, and writes it to COM1.
pub fn report(level: Level, text: fmt::Arguments<'_>) {
    let line = <Line>::of(text);
    // Without pvio, the line is on COM1.
    let _ = line.log(level);
    for byte in line.as_str().bytes().chain([b'\n']) {
        // SAFETY: only a UART has this port, and sending a byte harms nothing.
        unsafe { outb(byte, COM1) };
    }
}

/// Ends the guest: by a hypercall, or else with the status 33 for success, 35 for failure.
pub fn exit(success: bool) -> ! {
    let _ = control::exit(u8::from(!success));
    // SAFETY: QEMU's isa-debug-exit has this port, or nobody.
    unsafe { outb(if success { 16 } else { 17 }, DEBUG_EXIT) };
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => report(Level::Error, format_args!("{place}: {}", info.message())),
        None => report(Level::Error, format_args!("{}", info.message())),
    }
    if let Some(name) = current() {
        report(Level::Error, format_args!("test {name}: FAILED"));
    }
    exit(false)
}
