//! An arbitrary program as a device: whatever it sends, QEMU goes on.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::fault::NoAnswer;
use super::frame::{Frame, MAX_DATA, kind};
use super::patience::Patience;
use super::session::Session;
use crate::devices::Interrupt;
use crate::fuzzing::{Bytes, assert_message};

struct Line;

impl Interrupt for Line {
    fn set(&self, _level: bool) {}
}

/// Makes accesses while a program sends frames.
///
/// Each turn has a byte that says what the guest does, a byte with the length of what the program sends before it, and that.
/// At the end the program closes the connection, so that no access waits.
pub fn socket_frames(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (ours, mut theirs) = UnixStream::pair().expect("a process may have sockets");
    ours.set_nonblocking(true).expect("a socket becomes non-blocking");
    let line: Option<Box<dyn Interrupt>> = match bytes.byte() & 1 {
        0 => None,
        _ => Some(Box::new(Line)),
    };
    let patience = Patience::new(Duration::from_secs(600), Arc::new(|| false));
    let mut session = Session::new(Connection::new(ours), patience, line);
    // The answers come before the questions, since all runs in one thread.
    let mut turns = Vec::new();
    while !bytes.is_empty() && turns.len() < 64 {
        let action = bytes.byte();
        let len = usize::from(bytes.byte());
        theirs.write_all(bytes.take(len)).expect("a socket takes this much");
        turns.push(action);
    }
    theirs.shutdown(Shutdown::Write).expect("a socket can be closed");
    for action in turns {
        let (size, count) = (1 << (action >> 3 & 1), u32::from(action >> 4) * 17);
        let mut buffer = [0; MAX_DATA];
        let len = count as usize * usize::from(size);
        let frame = |kind| Frame { kind, size, count, ..Frame::default() };
        let fault = match action & 7 {
            0 | 1 => session.ask(frame(kind::READ), &[], &mut []).err(),
            2 => session.ask(frame(kind::WRITE), &[], &mut []).err(),
            3 => session.ask(frame(kind::READ_STRING), &[], &mut buffer[..len]).err(),
            4 => session.ask(frame(kind::WRITE_STRING), &buffer[..len], &mut []).err(),
            5 => session.tell(frame(kind::SAW_WRITE), &[]).err(),
            6 => session.reset().err().map(NoAnswer::Fault),
            _ => session.catch_up().err().map(NoAnswer::Fault),
        };
        if let Some(NoAnswer::Fault(fault)) = fault {
            assert_message(&fault);
            session.bury();
        }
        session.take_needs_line();
    }
    session.end();
}
