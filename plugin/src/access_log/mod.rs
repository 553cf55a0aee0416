//! `access-log=`: one line of text for each access that the filters cover.
//!
//! ```text
//! # seconds vcpu pc direction port size value    symbol    process
//!     0.004211036 0 0xfd0a1 out 0x0070 1 0x0f    ?    -
//! ```
//!
//! Symbols and names of processes may contain spaces, so each follows a tab.
//!
//! vCPUs append records, without formatting or system calls. A writer thread formats and writes them, at the latest
//! [`LATENCY`] after the first. If it falls behind, the guest waits; no record is dropped. Write errors are
//! reported at once and again at exit.

mod code_names;
mod queue;
mod record;
mod vcpu_log;
mod writer;

#[cfg(test)]
mod tests;

pub use code_names::CodeNames;
pub use record::Access;
pub use vcpu_log::{Code, CodeKind, VcpuLog};

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::access_filter::LiveFilter;
use crate::files::OutputFile;
use crate::processes::ProcessFinder;
use queue::Queue;
use record::Record;
use writer::Writer;

/// The longest time until the writer thread takes a record.
const LATENCY: Duration = Duration::from_millis(100);

/// The log of a machine's accesses, shared by its vCPUs.
pub struct AccessLog {
    filter: LiveFilter,
    opened: Instant,
    vcpus_mixed: AtomicBool,
    names: Arc<CodeNames>,
    /// `None` if lines do not name processes.
    processes: Option<Arc<ProcessFinder>>,
    queue: Arc<Queue>,
    writer: Writer,
}

impl AccessLog {
    /// Starts a log in an open file. `path` is the file's name, for messages.
    pub fn new(
        path: PathBuf,
        file: OutputFile,
        filter: LiveFilter,
        names: CodeNames,
        processes: Option<Arc<ProcessFinder>>,
    ) -> AccessLog {
        let names = Arc::new(names);
        let queue = Arc::new(Queue::default());
        let writer = Writer::new(path, file, Arc::clone(&queue), Arc::clone(&names));
        AccessLog {
            filter,
            opened: Instant::now(),
            vcpus_mixed: AtomicBool::new(false),
            names,
            processes,
            queue,
            writer,
        }
    }

    /// Leaves the vCPU out of all further records, because QEMU's callbacks do not distinguish vCPUs.
    pub fn vcpus_are_mixed(&self) {
        // Relaxed: the vCPU that is found to share a thread stores it on that thread, before its first record.
        self.vcpus_mixed.store(true, Ordering::Relaxed);
    }

    /// The filter in force.
    pub fn filter(&self) -> &LiveFilter {
        &self.filter
    }

    fn push(&self, record: Record) {
        if self.filter.get().covers_value(record.value) {
            self.writer.start();
            self.queue.push(record);
        }
    }

    /// Writes all remaining records when the machine ends.
    ///
    /// # Errors
    ///
    /// The first write error, now or earlier.
    pub fn finish(&self) -> io::Result<()> {
        for record in self.queue.take_pending() {
            self.push(record);
        }
        self.queue.close();
        self.writer.finish()
    }
}
