//! One connection: what it has sent, and what it is yet to be sent.
//!
//! A client that does not read gets no more: its requests are not read while an answer waits, and its
//! events are left out. So it holds one answer and one event at most.

use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::rates::Subscription;
use super::request::{MAX_LINE, answer, greeting};

/// The time that a client may leave an answer unread.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connected client.
pub(super) struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    /// The rest of a line that is too long is being skipped.
    skips: bool,
    output: Vec<u8>,
    /// The number of bytes of the output that were sent.
    sent: usize,
    /// When the client last took something, if an answer waits.
    waits_since: Instant,
    /// The client sends no more, but may still read.
    has_closed_input: bool,
    /// The connection is broken.
    is_broken: bool,
    pub subscription: Option<Subscription>,
}

impl Client {
    pub fn new(stream: UnixStream) -> std::io::Result<Client> {
        stream.set_nonblocking(true)?;
        let mut client = Client {
            stream,
            input: Vec::new(),
            skips: false,
            output: Vec::new(),
            sent: 0,
            waits_since: Instant::now(),
            has_closed_input: false,
            is_broken: false,
            subscription: None,
        };
        client.send(greeting());
        Ok(client)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// The events to wait for.
    pub fn interest(&self) -> PollFlags {
        match (self.is_writing(), self.has_closed_input) {
            (true, _) => PollFlags::OUT,
            (false, false) => PollFlags::IN,
            // The end of the connection is reported in any case.
            (false, true) => PollFlags::empty(),
        }
    }

    /// Returns true if output waits to be sent.
    pub fn is_writing(&self) -> bool {
        self.sent < self.output.len()
    }

    /// When the client is given up, if something waits to be sent.
    pub fn deadline(&self) -> Option<Instant> {
        self.is_writing().then(|| self.waits_since + PATIENCE)
    }

    /// Sends a line, now or later.
    pub fn send(&mut self, line: Vec<u8>) {
        if !self.is_writing() {
            self.output = line;
            self.sent = 0;
            self.waits_since = Instant::now();
        } else {
            self.output.extend_from_slice(&line);
        }
        self.flush();
    }

    /// Sends what waits, as far as the client takes it.
    pub fn flush(&mut self) {
        while self.is_writing() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&self.stream, &self.output[self.sent..], flags) {
                Ok(len) => {
                    self.sent += len;
                    self.waits_since = Instant::now();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.is_broken = true;
                    break;
                }
            }
        }
        self.output = Vec::new();
        self.sent = 0;
    }

    /// Reads what the client has sent, as far as there is room for it.
    pub fn receive(&mut self) {
        let mut piece = [0; 4096];
        while self.input.len() <= MAX_LINE {
            match self.stream.read(&mut piece) {
                Ok(0) => {
                    self.has_closed_input = true;
                    return;
                }
                Ok(len) => self.input.extend_from_slice(&piece[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.is_broken = true;
                    return;
                }
            }
        }
    }

    /// Returns true if a request can be taken.
    pub fn has_line(&self) -> bool {
        !self.is_writing() && self.input.contains(&b'\n')
    }

    /// Takes the next request, if it is whole and nothing waits to be sent.
    pub fn next_line(&mut self) -> Option<Vec<u8>> {
        while !self.is_writing() {
            let end = self.input.iter().position(|&byte| byte == b'\n');
            if end.unwrap_or(self.input.len()) > MAX_LINE && !self.skips {
                self.skips = true;
                let why = format!("a request has {MAX_LINE} bytes at most");
                self.send(answer(Err(why), None));
            }
            let Some(end) = end else {
                if self.skips {
                    self.input = Vec::new();
                }
                return None;
            };
            let mut line: Vec<u8> = self.input.drain(..=end).collect();
            line.pop();
            if !std::mem::take(&mut self.skips) {
                return Some(line);
            }
        }
        None
    }

    /// The connection is broken, or closed at both ends.
    pub fn hang_up(&mut self) {
        self.is_broken = true;
    }

    /// Returns true if the connection is over: the client has closed it, or does not read.
    pub fn is_over(&self, now: Instant) -> bool {
        let is_stalled = self.deadline().is_some_and(|deadline| now >= deadline);
        let wants_more = self.is_writing() || self.has_line() || self.subscription.is_some();
        self.is_broken || is_stalled || self.has_closed_input && !wants_more
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};

    use super::*;

    fn client() -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Client::new(ours).unwrap(), theirs)
    }

    #[test]
    fn a_line_that_is_too_long_is_one_error_and_the_next_line_is_read() {
        let (mut client, mut other) = client();
        let writer = std::thread::spawn(move || {
            other.write_all(&vec![b'x'; 3 * MAX_LINE]).unwrap();
            other.write_all(b"\nnext\n").unwrap();
            other
        });
        let line = loop {
            client.receive();
            assert!(client.input.len() <= MAX_LINE + 4096);
            if let Some(line) = client.next_line() {
                break line;
            }
        };
        assert_eq!(line, b"next");
        let mut lines = BufReader::new(writer.join().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().starts_with(r#"{"pvio":"#));
        assert!(lines.next().unwrap().unwrap().contains("65536 bytes at most"));
        drop(client);
        assert!(lines.next().is_none());
    }

    #[test]
    fn a_client_that_does_not_read_is_not_read_and_given_up() {
        let (mut client, mut other) = client();
        other.write_all(b"one\ntwo\n").unwrap();
        client.receive();
        client.send(vec![b'.'; 8 << 20]);
        assert!(client.is_writing() && client.next_line().is_none());
        let now = Instant::now();
        assert!(!client.is_over(now) && client.is_over(now + PATIENCE));
    }

    #[test]
    fn requests_are_answered_after_the_client_has_closed_its_side() {
        let (mut client, mut other) = client();
        other.write_all(b"one\ntwo\n").unwrap();
        other.shutdown(std::net::Shutdown::Write).unwrap();
        client.receive();
        for line in [b"one", b"two"] {
            client.receive();
            assert!(!client.is_over(Instant::now()));
            assert_eq!(client.next_line().unwrap(), line);
        }
        assert!(client.is_over(Instant::now()));
    }
}
