//! The connection to a device's program: frames out, answers and interrupts in. What it holds is bounded.

use std::io::Read;
use std::os::unix::net::UnixStream;

use arrayvec::ArrayVec;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::fault::{Fault, NoAnswer};
use super::frame::{ANSWER, FRAME, Frame, MAX_DATA, kind};
use super::patience::Patience;

/// The most requests whose answers are yet to come: resets, and accesses that QEMU has ended.
const MAX_EXPECTED: usize = 16;

/// Room for an answer with data, and for what follows it.
const INPUT: usize = 2 * (FRAME + MAX_DATA);

/// The most bytes that wait until the program reads.
const MAX_OUTPUT: usize = 64 << 10;

/// A frame of the program's, as far as it is news.
#[derive(Debug)]
pub(super) enum Event {
    /// The answer to the request with this number: its value, and where its data are in the input.
    Answer(u32, u32, std::ops::Range<usize>),
    /// The level of the interrupt line.
    Irq(bool),
}

/// A connection.
pub(super) struct Connection {
    stream: UnixStream,
    input: Box<[u8; INPUT]>,
    /// The received bytes that are not taken.
    begin: usize,
    end: usize,
    /// Bytes that the program is yet to read. Usually empty: the socket has room.
    output: Vec<u8>,
    /// The requests that want answers, oldest first.
    expected: ArrayVec<Frame, MAX_EXPECTED>,
    last_id: u32,
}

impl Connection {
    /// `stream` does not block.
    pub fn new(stream: UnixStream) -> Connection {
        Connection {
            stream,
            input: Box::new([0; INPUT]),
            begin: 0,
            end: 0,
            output: Vec::new(),
            expected: ArrayVec::new(),
            last_id: 0,
        }
    }

    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The events to wait for.
    pub fn interest(&self) -> PollFlags {
        let output = if self.output.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        PollFlags::IN | output
    }

    /// Returns true if bytes wait until the program reads.
    pub fn is_writing(&self) -> bool {
        !self.output.is_empty()
    }

    /// Sends a request that wants an answer. Returns its number.
    pub fn request(&mut self, frame: Frame, data: &[u8]) -> Result<u32, Fault> {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let frame = Frame { id: self.last_id, ..frame };
        let unanswered = self.expected.len();
        self.expected.try_push(frame).map_err(|_| Fault::Unanswered(unanswered))?;
        self.post(frame, data)?;
        Ok(frame.id)
    }

    /// Sends a frame, now or later.
    pub fn post(&mut self, frame: Frame, data: &[u8]) -> Result<(), Fault> {
        if self.output.len() > MAX_OUTPUT {
            return Err(Fault::Unanswered(self.expected.len()));
        }
        // One system call for both parts.
        let mut whole = [0; FRAME + MAX_DATA];
        let whole = &mut whole[..FRAME + data.len()];
        whole[..FRAME].copy_from_slice(&frame.to_bytes());
        whole[FRAME..].copy_from_slice(data);
        let sent = match self.output.is_empty() {
            true => self.send(whole)?,
            false => 0,
        };
        self.output.extend_from_slice(&whole[sent..]);
        Ok(())
    }

    /// Sends what the socket takes. Returns the number of bytes.
    fn send(&self, bytes: &[u8]) -> Result<usize, Fault> {
        loop {
            match send(&self.stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => return Ok(sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(0),
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(Fault::Closed),
                Err(error) => return Err(Fault::Io(error.into())),
            }
        }
    }

    /// Sends bytes that wait, as far as the program takes them.
    pub fn flush(&mut self) -> Result<(), Fault> {
        if self.is_writing() {
            let sent = self.send(&self.output)?;
            self.output.drain(..sent);
        }
        Ok(())
    }

    /// Receives what is there, as far as there is room. Returns false if nothing is.
    pub fn receive(&mut self) -> Result<bool, Fault> {
        if self.begin > 0 {
            self.input.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        loop {
            use std::io::ErrorKind::{ConnectionReset, Interrupted, WouldBlock};
            match self.stream.read(&mut self.input[self.end..]) {
                Ok(0) => return Err(Fault::Closed),
                Ok(len) => {
                    self.end += len;
                    return Ok(true);
                }
                Err(error) if error.kind() == Interrupted => {}
                Err(error) if error.kind() == WouldBlock => return Ok(false),
                Err(error) if error.kind() == ConnectionReset => return Err(Fault::Closed),
                Err(error) => return Err(Fault::Io(error)),
            }
        }
    }

    /// Takes a whole frame, if one is there, without its data.
    pub fn take_frame(&mut self) -> Option<Frame> {
        let bytes = self.input[self.begin..self.end].first_chunk()?;
        let frame = Frame::from_bytes(bytes);
        self.begin += FRAME;
        Some(frame)
    }

    /// Takes the next event that has come whole.
    pub fn take_event(&mut self) -> Result<Option<Event>, Fault> {
        let at = self.begin;
        let Some(frame) = self.take_frame() else { return Ok(None) };
        match frame.kind {
            kind::IRQ if frame.value > 1 => Err(Fault::Level(frame)),
            kind::IRQ => Ok(Some(Event::Irq(frame.value == 1))),
            kind::END => Err(Fault::Ended),
            answer if answer & ANSWER != 0 => {
                let Some(&request) = self.expected.first() else {
                    return Err(Fault::Unasked(frame));
                };
                if (answer, frame.id) != (request.kind | ANSWER, request.id) {
                    return Err(Fault::WrongAnswer(frame, request));
                }
                let len = match request.kind {
                    kind::READ_STRING => request.count as usize * usize::from(request.size),
                    _ => 0,
                };
                if self.end - self.begin < len {
                    self.begin = at;
                    return Ok(None);
                }
                let data = self.begin..self.begin + len;
                self.begin += len;
                self.expected.remove(0);
                Ok(Some(Event::Answer(frame.id, frame.value, data)))
            }
            _ => Err(Fault::UnknownKind(frame)),
        }
    }

    /// The data of an answer that was just taken.
    pub fn data(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.input[range]
    }

    /// Waits until the program has read all that was sent.
    pub fn drain(&mut self, patience: &mut Patience) -> Result<(), NoAnswer> {
        if !self.is_writing() {
            return Ok(());
        }
        let wait = patience.begin()?;
        while self.is_writing() {
            patience.wait(&wait, &self.stream, PollFlags::OUT).map_err(
                |no_room| match no_room {
                    NoAnswer::Fault(Fault::Silent(limit)) => NoAnswer::Fault(Fault::Stuck(limit)),
                    other => other,
                },
            )?;
            self.flush()?;
        }
        Ok(patience.end(&wait)?)
    }
}
