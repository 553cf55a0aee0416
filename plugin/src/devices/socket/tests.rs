//! What a session does with frames that a guest's accesses seldom meet.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::connection::Connection;
use super::fault::{Fault, NoAnswer};
use super::frame::{ANSWER, FRAME, Frame, kind};
use super::patience::Patience;
use super::session::Session;
use crate::devices::Interrupt;

/// The levels that a line was set to.
#[derive(Clone, Default)]
struct Line(Arc<Mutex<Vec<bool>>>);

impl Line {
    fn take(&self) -> Vec<bool> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Interrupt for Line {
    fn set(&self, level: bool) {
        self.0.lock().unwrap().push(level);
    }
}

struct Test {
    session: Session,
    theirs: UnixStream,
    line: Line,
    stop: Arc<AtomicBool>,
}

impl Test {
    fn new() -> Test {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (line, stop) = (Line::default(), Arc::<AtomicBool>::default());
        let is_stopped = Arc::clone(&stop);
        let is_stopped = Arc::new(move || is_stopped.load(Ordering::Relaxed));
        let patience = Patience::new(Duration::from_secs(600), is_stopped);
        let session = Session::new(Connection::new(ours), patience, Some(Box::new(line.clone())));
        Test { session, theirs, line, stop }
    }

    /// Sends before it is asked: numbers count from 1.
    fn send(&mut self, frames: &[Frame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.to_bytes()).collect();
        self.theirs.write_all(&bytes).unwrap();
    }

    fn read(&mut self) -> Result<Option<u32>, NoAnswer> {
        let frame = Frame { kind: kind::READ, size: 1, ..Frame::default() };
        self.session.ask(frame, &[], &mut [])
    }

    fn read_string(&mut self, data: &mut [u8]) -> Result<Option<u32>, NoAnswer> {
        let count = data.len() as u32;
        let frame = Frame { kind: kind::READ_STRING, size: 1, count, ..Frame::default() };
        self.session.ask(frame, &[], data)
    }
}

fn answer(request: u8, id: u32, value: u32) -> Frame {
    Frame { kind: request | ANSWER, id, value, ..Frame::default() }
}

fn irq(level: u32) -> Frame {
    Frame { kind: kind::IRQ, value: level, ..Frame::default() }
}

#[test]
fn data_of_a_string_and_frames_around_it_are_told_apart() {
    let mut test = Test::new();
    test.send(&[irq(1), answer(kind::READ_STRING, 1, 0)]);
    // The data look like frames.
    let data: Vec<u8> = irq(0).to_bytes().repeat(256);
    test.theirs.write_all(&data).unwrap();
    test.send(&[irq(0)]);
    let mut received = vec![0; data.len()];
    assert!(test.read_string(&mut received).is_ok());
    assert!(received == data);
    test.send(&[answer(kind::READ, 2, 0x5a)]);
    assert_eq!(test.read().unwrap(), Some(0x5a));
    assert_eq!(test.line.take(), [true, false]);
    let mut sent = [0; 2 * FRAME];
    test.theirs.read_exact(&mut sent).unwrap();
    let first = Frame { kind: kind::READ_STRING, size: 1, count: 4096, id: 1, ..Frame::default() };
    assert_eq!(sent[..FRAME], first.to_bytes());
}

#[test]
fn data_that_are_too_long_are_a_frame_of_an_unknown_kind() {
    let mut test = Test::new();
    test.send(&[answer(kind::READ_STRING, 1, 0)]);
    test.theirs.write_all(&[0x66; 8 + FRAME]).unwrap();
    let fault = test.read_string(&mut [0; 8]).unwrap_err();
    assert!(matches!(fault, NoAnswer::Fault(Fault::UnknownKind(_))), "{fault:?}");
}

#[test]
fn late_answers_are_dropped_in_order() {
    let mut test = Test::new();
    test.stop.store(true, Ordering::Relaxed);
    let mut data = [0xff; 16];
    assert!(matches!(test.read_string(&mut data), Err(NoAnswer::Stopped)));
    // From now on, accesses do not even ask.
    assert!(matches!(test.read(), Err(NoAnswer::Stopped)));
    test.stop.store(false, Ordering::Relaxed);
    test.send(&[answer(kind::READ_STRING, 1, 0)]);
    test.theirs.write_all(&[0xee; 16]).unwrap();
    test.send(&[answer(kind::READ, 2, 7)]);
    assert_eq!(test.read().unwrap(), Some(7));
    assert_eq!(data, [0xff; 16]);
}

#[test]
fn unanswered_resets_are_bounded() {
    let mut test = Test::new();
    for _ in 0..16 {
        test.session.reset().unwrap();
    }
    assert!(matches!(test.session.reset(), Err(Fault::Unanswered(16))));
}

#[test]
fn interrupts_count_again_after_the_answer_to_the_latest_reset() {
    let mut test = Test::new();
    test.session.reset().unwrap();
    test.session.reset().unwrap();
    assert_eq!(test.line.take(), [false, false]);
    test.send(&[irq(1), answer(kind::RESET, 1, 0), irq(1)]);
    test.session.catch_up().unwrap();
    assert!(test.line.take().is_empty());
    test.send(&[answer(kind::RESET, 2, 0), irq(1)]);
    test.session.catch_up().unwrap();
    assert_eq!(test.line.take(), [true]);
    // A dead program's line is low.
    test.session.bury();
    assert_eq!(test.line.take(), [false]);
    assert_eq!(test.read().unwrap(), None);
}

#[test]
fn answer_to_no_request_is_a_fault_between_accesses() {
    let mut test = Test::new();
    test.send(&[answer(kind::READ, 1, 0)]);
    assert!(matches!(test.session.catch_up(), Err(Fault::Unasked(_))));
}

#[test]
fn posted_frames_that_nobody_reads_are_bounded() {
    let mut test = Test::new();
    test.stop.store(true, Ordering::Relaxed);
    let frame = Frame { kind: kind::WRITE_STRING, size: 1, count: 4096, ..Frame::default() };
    let fault = loop {
        match test.session.tell(frame, &[0; 4096]) {
            Ok(()) | Err(NoAnswer::Stopped) => {}
            Err(NoAnswer::Fault(fault)) => break fault,
        }
    };
    assert!(matches!(fault, Fault::Unanswered(0)), "{fault}");
}
