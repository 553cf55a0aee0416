//! Hypercalls and the mailbox, from every ring and mode.

use pvio_tests::GuestRun;
use tempfile::TempDir;

mod by_mailbox;
mod files;
mod hostile;
mod limits;
mod mailbox;
mod mailbox_saved;
mod memory;
mod proven_memory;
mod random;
mod rings;

/// The size of the stream's input, as in `tests/guests/calls/lib/strings.h`.
const STREAM_SIZE: u32 = 8 << 20;

/// The bytes that the stream delivers to the guests, and receives from them.
pub(crate) fn stream_sequence(size: u32) -> Vec<u8> {
    (0..size).map(|index| (index.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect()
}

/// The files of a run: the stream's input and output, and others that a test names.
struct RunFiles(TempDir);

impl RunFiles {
    fn new() -> RunFiles {
        let files = RunFiles(tempfile::tempdir().unwrap());
        std::fs::write(files.path("in"), stream_sequence(STREAM_SIZE)).unwrap();
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// The option for the stream.
    fn stream(&self) -> String {
        format!("device=stream@0x300:in={}:out={}", self.path("in"), self.path("out"))
    }

    /// Fails unless the stream received each element of the sequence once, in order.
    fn assert_given(&self, run: &GuestRun) {
        let expected = stream_sequence(run.number("given") as u32);
        assert!(self.read("out") == expected, "{}: wrong bytes in the stream", run.name);
    }
}
