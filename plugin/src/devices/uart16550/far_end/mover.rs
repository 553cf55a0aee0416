//! The thread that moves bytes between the buffers and the far end.

use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::connection::{Connection, Ends};
use super::{LAST_PATIENCE, MOST_TO_GUEST, Shared};

/// The most bytes that move at once: what a pipe takes at once if `poll` says that it takes any (`PIPE_BUF`).
const PIECE: usize = 4096;

/// The time after which is looked again whether somebody has opened a pseudoterminal.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

pub(super) struct Mover {
    shared: Arc<Shared>,
    connection: Connection,
}

/// What can be done without waiting.
#[derive(Default)]
struct Ready {
    accepts: bool,
    reads: bool,
    writes: bool,
}

impl Mover {
    pub fn new(shared: Arc<Shared>, connection: Connection) -> Mover {
        Mover { shared, connection }
    }

    /// Moves bytes until the device is gone.
    pub fn run(mut self) {
        loop {
            let is_connected = matches!(self.connection.ends(), Ends::Connected(..));
            let mut buffers = self.shared.buffers();
            if buffers.is_over {
                drop(buffers);
                self.connection.wait_until_read(LAST_PATIENCE);
                return;
            }
            if !is_connected {
                buffers.to_far_end.clear();
            }
            buffers.is_connected = is_connected;
            let has_room = buffers.to_guest.len() < MOST_TO_GUEST;
            let has_output = !buffers.to_far_end.is_empty();
            drop(buffers);
            let ready = self.wait(has_room, has_output);
            if ready.accepts {
                self.connection.accept();
            }
            if ready.writes {
                self.write();
            }
            if ready.reads {
                self.read();
            }
        }
    }

    fn wait(&self, has_room: bool, has_output: bool) -> Ready {
        let mut ready = Ready::default();
        let (mut input, mut output, mut listener, mut patience) = (None, None, None, None);
        match self.connection.ends() {
            Ends::Listening(socket) => listener = Some(socket),
            Ends::Absent => patience = Some(&LOOK_AGAIN),
            Ends::Connected(from, to) => {
                input = from.filter(|_| has_room);
                output = has_output.then_some(to);
                // A far end that goes while nothing is awaited from it is noticed then.
                patience = (!has_room).then_some(&LOOK_AGAIN);
            }
        }
        let mut ends = vec![PollFd::new(&self.shared.alarm, PollFlags::IN)];
        ends.extend(input.map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN)));
        ends.extend(output.map(|end| PollFd::from_borrowed_fd(end, PollFlags::OUT)));
        ends.extend(listener.map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN)));
        if poll(&mut ends, patience).is_err() {
            // Interrupted, or no memory; then everything is tried.
            return Ready::default();
        }
        let mut events = ends.iter().map(|end| !end.revents().is_empty());
        if events.next() == Some(true) {
            let mut count = [0; 8];
            // It may be empty by now.
            let _ = rustix::io::read(&self.shared.alarm, &mut count);
        }
        ready.reads = input.is_some() && events.next() == Some(true);
        ready.writes = output.is_some() && events.next() == Some(true);
        ready.accepts = listener.is_some() && events.next() == Some(true);
        ready
    }

    fn read(&mut self) {
        let room = MOST_TO_GUEST - self.shared.buffers().to_guest.len();
        let Ends::Connected(Some(input), _) = self.connection.ends() else { return };
        let mut bytes = [0; PIECE];
        match rustix::io::read(input, &mut bytes[..room.min(PIECE)]) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(0) | Err(_) => self.connection.end(),
            Ok(count) => {
                self.shared.buffers().to_guest.extend(&bytes[..count]);
                (self.shared.waker)();
            }
        }
    }

    fn write(&mut self) {
        let Ends::Connected(_, output) = self.connection.ends() else { return };
        let bytes: Vec<u8> = self.shared.buffers().to_far_end.iter().take(PIECE).copied().collect();
        match rustix::io::write(output, &bytes) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // What has not arrived is lost with the connection.
            Err(_) => {
                self.shared.buffers().to_far_end.clear();
                self.connection.end();
            }
            Ok(count) => drop(self.shared.buffers().to_far_end.drain(..count)),
        }
    }
}
