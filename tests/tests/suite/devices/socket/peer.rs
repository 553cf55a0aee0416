//! A device's program in Rust, which speaks the protocol by the table of `docs/socket-device.md`, or breaks it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use tempfile::TempDir;

pub const HELLO: u8 = 1;
pub const READ: u8 = 2;
pub const WRITE: u8 = 3;
pub const READ_STRING: u8 = 4;
pub const WRITE_STRING: u8 = 5;
pub const RESET: u8 = 6;
pub const IRQ: u8 = 7;
pub const END: u8 = 8;
pub const ANSWER: u8 = 0x80;

/// A frame of the protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame {
    pub kind: u8,
    pub size: u8,
    pub offset: u16,
    pub value: u32,
    pub count: u32,
    pub id: u32,
}

impl Frame {
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind, self.size];
        bytes.extend(self.offset.to_le_bytes());
        for word in [self.value, self.count, self.id] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }

    /// The answer to this request.
    pub fn answer(&self, value: u32) -> Frame {
        Frame { kind: self.kind | ANSWER, value, ..*self }
    }

    pub fn irq(level: u32) -> Frame {
        Frame { kind: IRQ, value: level, ..Frame::default() }
    }
}

/// A program that listens on a socket of its own.
pub struct Peer {
    directory: TempDir,
}

impl Peer {
    /// Serves each connection by `serve`, one after the other, on a thread that ends with the tests.
    pub fn new(mut serve: impl FnMut(Connection) + Send + 'static) -> Peer {
        let peer = Peer { directory: tempfile::tempdir().unwrap() };
        let listener = UnixListener::bind(peer.path()).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(Connection(stream.unwrap()));
            }
        });
        peer
    }

    /// Says hello, answers resets, and calls `serve` for every other request, until it returns false.
    pub fn serving(mut serve: impl FnMut(&mut Connection, Frame) -> bool + Send + 'static) -> Peer {
        Peer::new(move |mut connection| {
            connection.greet();
            while let Some(frame) = connection.next() {
                let goes_on = match frame.kind {
                    RESET => connection.send(frame.answer(0)),
                    _ => serve(&mut connection, frame),
                };
                if !goes_on {
                    break;
                }
            }
        })
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("device")
    }

    /// The option for a device of this program.
    pub fn option(&self, ports: &str, settings: &str) -> String {
        format!("device=socket@{ports}:path={}{settings}", self.path().display())
    }
}

/// One QEMU, as its device sees it.
pub struct Connection(pub UnixStream);

impl Connection {
    /// The next frame; `None` at the end.
    pub fn next(&mut self) -> Option<Frame> {
        let mut bytes = [0; 16];
        self.0.read_exact(&mut bytes).ok()?;
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let offset = u16::from_le_bytes([bytes[2], bytes[3]]);
        let [kind, size] = [bytes[0], bytes[1]];
        Some(Frame { kind, size, offset, value: word(4), count: word(8), id: word(12) })
    }

    /// Sends a frame. Returns false if nobody reads any more.
    pub fn send(&mut self, frame: Frame) -> bool {
        self.raw(&frame.bytes())
    }

    pub fn raw(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Reads the hello and answers it.
    pub fn greet(&mut self) -> Frame {
        let hello = self.next().unwrap_or_default();
        self.send(Frame { size: 0, offset: 0, count: 0, ..hello.answer(hello.value) });
        hello
    }
}
