//! `access-log=`: one line of text for each access to the chosen ports.
//!
//! ```text
//! # seconds vcpu pc direction port size value
//!     0.004211036 0 0xfd0a1 out 0x0070 1 0x0f
//! ```
//!
//! vCPUs append records of 40 bytes, without formatting or system calls. A writer thread formats and
//! writes them. If the writer falls behind, the guest waits; no record is dropped. Write errors are
//! reported at once and again at exit.

mod filter;
mod record;
mod vcpu_log;
mod writer;

#[cfg(test)]
mod tests;

pub use filter::PortFilter;
pub use record::Access;
pub use vcpu_log::VcpuLog;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::files::OutputFile;
use crate::qemu::report::say;
use record::Record;
use writer::Writer;

/// The number of records that go to the writer at once.
const BATCH: usize = 16 * 1024;

/// The log of a machine's accesses, shared by its vCPUs.
pub struct AccessLog {
    path: PathBuf,
    filter: PortFilter,
    opened: Instant,
    vcpus_mixed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    records: Vec<Record>,
    /// For each vCPU, its latest `in` or `out` until it retires or faults.
    pending: Vec<Option<Record>>,
    writer: Writer,
}

impl AccessLog {
    /// Starts a log in an open file. `path` is the file's name, for messages.
    pub fn new(path: PathBuf, file: OutputFile, filter: PortFilter) -> AccessLog {
        let state = State {
            records: Vec::with_capacity(BATCH),
            pending: Vec::new(),
            writer: Writer::new(file),
        };
        AccessLog {
            path,
            filter,
            opened: Instant::now(),
            vcpus_mixed: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Leaves the vCPU out of all further records, because QEMU does not tell vCPUs apart.
    pub fn vcpus_are_mixed(&self) {
        self.vcpus_mixed.store(true, Ordering::Relaxed);
    }

    fn push(&self, state: &mut State, record: Record) {
        state.records.push(record);
        if state.records.len() == BATCH {
            let batch = std::mem::replace(&mut state.records, Vec::with_capacity(BATCH));
            if state.writer.send(batch).is_err() {
                say(format_args!(
                    "{} cannot be written: the access log is incomplete from here on",
                    self.path.display()
                ));
            }
        }
    }

    /// Writes all remaining records when the machine ends.
    ///
    /// # Errors
    ///
    /// The first write error, now or earlier.
    pub fn finish(&self) -> io::Result<()> {
        let mut state = self.lock();
        let State { records, pending, writer } = &mut *state;
        records.extend(pending.iter_mut().filter_map(Option::take));
        writer.finish(std::mem::take(records))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
