//! shim-rust: uses all of the shim for Rust, and checks that it makes no difference whether calls are answered.
//!
//!      device=latch@0x5000  device=stream@0x300:in=IN:out=OUT  -serial file:TEXT
//!
//! Without these it reads all ones, notices that there is no device, and passes. IN, of at most 40,000 bytes and
//! a multiple of 20 bytes, is copied to OUT. TEXT has the results. It ends by a hypercall, with
//! status 0, or by isa-debug-exit; `tests/guests/README.md` counts its accesses and calls.

#![no_std]

mod driver;
mod paged;

use core::fmt;
use core::panic::PanicInfo;

use driver::{FROM_LATCH, FROM_NOBODY, LATCH, drive};
use pvio_guest::batch::{Batch, CompactBatch, CompactRecord, Error, Record};
use pvio_guest::control::{self, Level, Line, Window};
use pvio_guest::files::{Reader, Writer};
use pvio_guest::{CallError, Detected, Hypercall, Mailbox, Native};
use pvio_guest::{Port, PortIo, PortReadOnly, PortWriteOnly, Value};

const COM1: u16 = 0x3f8;
const STREAM: u16 = 0x300;
const STREAM_LEFT: u16 = STREAM + 4;
/// QEMU's isa-debug-exit: its exit status becomes twice the value, plus one.
const DEBUG_EXIT: u16 = 0xf4;
const PASSED: u8 = 0;
const FAILED: u8 = 1;

/// True if a device serves the ports of the checks.
#[derive(Clone, Copy)]
struct Served {
    latch: bool,
    stream: bool,
}

/// The function that `entry.S` calls.
#[unsafe(no_mangle)]
extern "C" fn guest() -> ! {
    let detected = pvio_guest::detect();
    match detected {
        Detected::Native => print(format_args!("hypercalls: unheard")),
        Detected::Hypercall(_, host) => print(format_args!("hypercalls: {host:?}")),
    }
    let heard = detected.host().is_some();
    check_control(heard);
    let latch = check_ways(&detected);
    check_ports(latch);
    let stream = check_strings();
    check_batch(Served { latch, stream });
    check_compact_batch(Served { latch, stream });
    check_texts(heard);
    check_files(&detected);
    print(format_args!("page faults: {}", paged::faults()));
    print(format_args!("passed"));
    end(0, PASSED)
}

/// Ends the machine: by a hypercall if a host answers, else by QEMU's device.
fn end(status: u8, otherwise: u8) -> ! {
    let _ = control::exit(status);
    // SAFETY: the machine ends, or nobody is at the port.
    unsafe { pvio_guest::native::outb(otherwise, DEBUG_EXIT) };
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    print(format_args!("failed: {info}"));
    // The status that isa-debug-exit makes of FAILED.
    end(3, FAILED)
}

/// Writes a line to QEMU's own COM1 with one string instruction.
fn print(text: fmt::Arguments<'_>) {
    let line: Line = Line::of(format_args!("{text}\n"));
    // SAFETY: COM1 is at this port, or nobody.
    unsafe { pvio_guest::outsb(COM1, line.as_str().as_bytes()) };
}

/// Returns the expected answer of a control call.
fn answer(heard: bool) -> Result<(), CallError> {
    if heard { Ok(()) } else { Err(CallError::Unanswered) }
}

/// Windows, and calls with nothing but a number.
fn check_control(heard: bool) {
    assert_eq!(control::dump(), answer(heard));
    let of_window = |error: CallError| if heard { error } else { CallError::Unanswered };
    assert_eq!(control::end("none"), Err(of_window(CallError::State)));
    assert_eq!(control::begin(""), Err(of_window(CallError::Length)));
    for _ in 0..2 {
        let window = Window::begin("twice");
        assert_eq!(control::begin("twice"), Err(of_window(CallError::State)));
        assert_eq!(window.map(drop), answer(heard));
    }
    assert_eq!(Window::begin("ended").and_then(Window::end), answer(heard));
    assert_eq!(control::begin("open"), answer(heard));
}

/// The same driver by each way; whether there is a latch.
fn check_ways(detected: &Detected) -> bool {
    let native = {
        let _window = Window::begin("native");
        drive(&Native)
    };
    assert!(native == FROM_LATCH || native == FROM_NOBODY, "{native:x?}");
    print(format_args!("latch: {}", native == FROM_LATCH));
    static MAILBOX: Mailbox = Mailbox::new();
    // SAFETY: it stays where it is, and there is one CPU, without interrupts.
    let registered = unsafe { MAILBOX.register(MAILBOX.any_key()) };
    print(format_args!("mailbox: {registered:?}"));
    let _window = Window::begin("paravirtual");
    assert_eq!(drive(&Hypercall::FLAT), native);
    assert_eq!(drive(detected), native);
    assert_eq!(drive(&Native as &dyn PortIo), native);
    assert_eq!(drive(detected.port_io()), native);
    assert_eq!(drive(&MAILBOX), native);
    // SAFETY: as above.
    unsafe {
        assert_eq!(MAILBOX.release(), registered.map(|_| ()));
        assert_eq!(MAILBOX.release(), Err(CallError::Unanswered));
    }
    native == FROM_LATCH
}

/// Ports as values.
fn check_ports(latch: bool) {
    fn check<T: Value + PartialEq + fmt::Debug>(written: T, from_nobody: T, latch: bool) {
        let expected = if latch { written } else { from_nobody };
        // SAFETY: behind the port there is a latch or nobody.
        unsafe {
            let mut port = Port::<T>::new(LATCH);
            port.write(written);
            assert_eq!(port.read(), expected);
            PortWriteOnly::<T>::new(LATCH).write(written);
            assert_eq!(PortReadOnly::<T>::new(LATCH).read(), expected);
        }
    }
    check(0x5a_u8, u8::MAX, latch);
    check(0xa55a_u16, u16::MAX, latch);
    check(0x1234_5678_u32, u32::MAX, latch);
}

/// Copies the stream, through pages that are absent, and back out of pages that seem unused. Whether
/// there is a stream.
fn check_strings() -> bool {
    // SAFETY: behind the port there is a stream or nobody.
    let left = unsafe { pvio_guest::inl(STREAM_LEFT) };
    print(format_args!("stream: {left:#x}"));
    if left == u32::MAX {
        return false;
    }
    // Half of it in bytes, then 16 and 32 bits at a time.
    let left = left as usize;
    assert!(left.is_multiple_of(20) && left <= 40_000);
    let (bytes, words, longs) = (left / 2, left * 3 / 20, left / 20);
    let start = 100;
    paged::unmap();
    // SAFETY: no two of these overlap, and the stream is where it is.
    unsafe {
        let bytes: &mut [u8] = paged::slice(start, bytes);
        let words: &mut [u16] = paged::slice(start + bytes.len(), words);
        let longs: &mut [u32] = paged::slice(start + bytes.len() + 2 * words.len(), longs);
        pvio_guest::insb(STREAM, bytes);
        pvio_guest::insw(STREAM, words);
        pvio_guest::insl(STREAM, longs);
        assert_eq!(pvio_guest::inl(STREAM_LEFT), 0);
        paged::forget();
        pvio_guest::outsb(STREAM, bytes);
        pvio_guest::outsw(STREAM, words);
        pvio_guest::outsl(STREAM, longs);
    }
    true
}

/// Scalars and strings by one batch, with nothing of it in memory when it runs.
fn check_batch(served: Served) {
    const RECORDS: usize = 11;
    paged::unmap();
    // SAFETY: no two of these overlap.
    let (records, text, read) = unsafe {
        (
            // Four of the records are in the first page.
            paged::slice::<Record>(paged::PAGE - 4 * size_of::<Record>(), RECORDS),
            paged::slice::<u8>(3 * paged::PAGE - 2, 4),
            paged::slice::<u16>(5 * paged::PAGE - 4, 4),
        )
    };
    text.copy_from_slice(b"text");
    let run = |records, text, read| -> Result<(u8, u16, u32), Error> {
        let mut batch = Batch::new(records);
        batch.outl(0x0403_0201, LATCH)?;
        let byte = batch.inb(LATCH + 1)?;
        let word = batch.inw(LATCH + 2)?;
        batch.ins::<u16>(LATCH, read)?;
        batch.outb(0xaa, LATCH)?;
        batch.outw(0xccbb, LATCH + 1)?;
        let long = batch.inl(LATCH)?;
        batch.outs::<u8>(STREAM, text)?;
        batch.outs::<u16>(LATCH, &[1, 0x0807])?;
        batch.outs::<u32>(LATCH, &[])?;
        batch.outb(0, LATCH)?;
        assert_eq!(batch.outb(0, LATCH), Err(Error::NoRoom));
        paged::unmap();
        // SAFETY: behind the ports there are a latch and a stream or nobody.
        let results = unsafe { batch.run() }?;
        Ok((results.get(byte), results.get(word), results.get(long)))
    };
    let results = run(records, &*text, &mut *read);
    if served.latch {
        assert_eq!(results, Ok((0x02, 0x0403, 0x04cc_bbaa)));
        assert_eq!(*read, [0x0201; 4]);
        // SAFETY: there is a latch.
        assert_eq!(unsafe { pvio_guest::inw(LATCH) }, 0x0800);
    } else {
        assert_eq!(results, Ok((u8::MAX, u16::MAX, u32::MAX)));
        assert_eq!(*read, [u16::MAX; 4]);
    }
    print(format_args!("batch: written to the stream: {}", served.stream));
}

/// Scalars by one compact batch, with nothing of it in memory when it runs.
fn check_compact_batch(served: Served) {
    paged::unmap();
    // SAFETY: nobody else uses these pages now. Two of the records are in the first.
    let records =
        unsafe { paged::slice::<CompactRecord>(paged::PAGE - 2 * size_of::<CompactRecord>(), 3) };
    let run = |records| -> Result<(u8, u16), Error> {
        let mut batch = CompactBatch::new(records);
        batch.outw(0x1211, LATCH)?;
        let byte = batch.inb(LATCH + 1)?;
        let word = batch.inw(LATCH)?;
        assert_eq!(batch.outb(0, LATCH), Err(Error::NoRoom));
        paged::unmap();
        // SAFETY: at the ports there is a latch or nothing.
        let results = unsafe { batch.run() }?;
        Ok((results.get(byte), results.get(word)))
    };
    let expected = if served.latch { (0x12, 0x1211) } else { (u8::MAX, u16::MAX) };
    assert_eq!(run(records), Ok(expected));
}

/// A file is copied through pages that are absent, if the host shares a directory.
fn check_files(detected: &Detected) {
    let Some(host) = detected.host() else {
        assert_eq!(Writer::begin("out").err(), Some(CallError::Unanswered));
        assert_eq!(Reader::open("in").read(&mut [0]), Err(CallError::Unanswered));
        return;
    };
    if !host.features.files() {
        return;
    }
    assert_eq!(Reader::open("none").read(&mut [0]), Err(CallError::Missing));
    assert_eq!(Writer::begin("../out").err(), Some(CallError::Name));
    assert_eq!(Writer::begin("in").err(), Some(CallError::Exists));
    paged::unmap();
    // SAFETY: nobody else uses these pages now.
    let buffer = unsafe { paged::slice::<u8>(100, 2 * paged::PAGE) };
    let mut copy = || -> Result<(), CallError> {
        let mut reader = Reader::open("in");
        let mut writer = Writer::begin("out")?;
        loop {
            paged::unmap();
            match reader.read(buffer)? {
                0 => return writer.finish(),
                count => writer.write(&buffer[..count])?,
            }
        }
    };
    assert_eq!(copy(), Ok(()));
}

/// Lines for the log: from RAM, with numbers in them, and from pages that are absent.
fn check_texts(heard: bool) {
    let text: Line = Line::of(format_args!("error {}", 1));
    assert_eq!(text.log(Level::Error), answer(heard));
    let mut cut = Line::<8>::new();
    let _ = fmt::Write::write_str(&mut cut, "warning: a long one");
    assert_eq!(cut.log(Level::Warning), answer(heard));
    let offset = 7 * paged::PAGE - 5;
    // SAFETY: nobody else uses these pages now.
    let text = unsafe { paged::slice::<u8>(offset, 11) };
    text.copy_from_slice(b"two\xc2\xa0pages.");
    paged::unmap();
    let text = core::str::from_utf8(text).unwrap_or_default();
    // Looking whether it is UTF-8 has brought the pages back.
    paged::unmap();
    assert_eq!(control::log(Level::Info, text), answer(heard));
    assert_eq!(control::log(Level::Debug, "from ROM"), answer(heard));
}
