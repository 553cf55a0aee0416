//! `trace=`: records every access and hypercall in a compact file that `pvio trace`, `pvio stats` and `pvio export` read.
//!
//! Each vCPU encodes its events into its own buffer, with [`pvio_stats::trace`]. A full buffer becomes a chunk, which
//! a writer thread writes. If the writer falls behind, the guest waits; no event is dropped. Write errors are
//! reported at once and again at the end.
//!
//! | file | knows |
//! | --- | --- |
//! | `vcpu_trace` | the events of one vCPU, and its pending `in` or `out`, whose outcome may still change |
//! | `traced_insn` | the terms of its events |
//! | `definitions` | what the numbers in its events stand for |
//! | `progress` | how far that is, without a lock |
//! | `coverage` | which events the filters cover |
//! | `requests` | what requests from outside the guest have changed, and interrupt lines |
//! | `stream` | the events of either, and their chunks |
//! | `clocks` | the host's time and the guest's |
//! | `writer` | the thread that writes chunks |

mod clocks;
mod coverage;
mod definitions;
mod progress;
mod requests;
mod stream;
#[cfg(test)]
mod tests;
mod traced_insn;
mod vcpu_trace;
mod writer;

pub use traced_insn::{Change, TracedInsn};
pub use vcpu_trace::VcpuTrace;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pvio_stats::trace::{End, Head, StreamEnd, WindowEvent};

use crate::access_filter::{AccessFilter, FilterChangeError, LiveFilter};
use crate::access_log::CodeNames;
use crate::files::OutputFile;
use crate::processes::ProcessFinder;
use crate::qemu::GuestClock;
use crate::stats::{Statistics, VcpuCounters};
use clocks::Clocks;
use requests::Requests;
use writer::Writer;

/// Bytes of events at which a chunk is full.
const FULL: usize = 64 * 1024;

/// The file of a trace, and what its filters need.
pub struct TraceOutput {
    /// The name of the file, for messages.
    pub path: PathBuf,
    /// The file.
    pub file: OutputFile,
    /// The accesses to trace.
    pub filter: LiveFilter,
    /// Names of code; needed if the filter has symbols, or may get some.
    pub names: CodeNames,
    /// Finds processes; `None` if neither the filter nor the statistics need them.
    pub processes: Option<Arc<ProcessFinder>>,
}

/// The trace of a machine, shared by its vCPUs.
pub struct Trace {
    statistics: Arc<Statistics>,
    filter: LiveFilter,
    names: CodeNames,
    processes: Option<Arc<ProcessFinder>>,
    clocks: Clocks,
    vcpus: Arc<Mutex<Vec<Arc<VcpuTrace>>>>,
    requests: Arc<Requests>,
    writer: Writer,
    /// Held while a window changes, so that events have the order of the changes.
    windows: Mutex<()>,
}

impl Trace {
    /// Starts a trace. `head` is the contents of its first chunk, `clock` the guest's clock if it can be read.
    pub fn new(
        output: TraceOutput,
        head: &Head,
        statistics: Arc<Statistics>,
        clock: Option<GuestClock>,
    ) -> Trace {
        let TraceOutput { path, file, filter, names, processes } = output;
        let vcpus = Arc::default();
        let requests = Arc::new(Requests::new(&head.filter));
        let streams = Streams { vcpus: Arc::clone(&vcpus), requests: Arc::clone(&requests) };
        Trace {
            statistics,
            filter,
            names,
            processes,
            clocks: Clocks::new(clock),
            writer: Writer::new(path, file, head.to_chunk(), streams),
            vcpus,
            requests,
            windows: Mutex::new(()),
        }
    }

    /// The trace of the vCPU that counts here, for use on the vCPU's thread.
    pub fn vcpu(self: &Arc<Self>, counters: &Arc<VcpuCounters>) -> Arc<VcpuTrace> {
        let stream = self.statistics.slot_of(counters);
        let vcpu = Arc::new(VcpuTrace::new(Arc::clone(self), stream, Arc::clone(counters)));
        lock(&self.vcpus).push(Arc::clone(&vcpu));
        vcpu
    }

    /// Changes a window for a request from outside the guest, and traces that if it succeeds.
    ///
    /// # Errors
    ///
    /// As `change`.
    pub fn window_from_outside<E>(
        &self,
        window: &WindowEvent,
        change: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let _in_order = lock(&self.windows);
        change()?;
        for vcpu in &*lock(&self.vcpus) {
            vcpu.keep_presumption();
        }
        self.requests.window(&self.clocks, window);
        self.writer.start();
        Ok(())
    }

    /// Changes the filter, and traces that. `filter` is the new one with its text, `is_enabled` turns the trace on
    /// or off; `None` leaves either as it is.
    ///
    /// # Errors
    ///
    /// As [`LiveFilter::change`]. Nothing changes then.
    pub fn change_filter(
        &self,
        filter: Option<(&str, AccessFilter)>,
        is_enabled: Option<bool>,
    ) -> Result<(), FilterChangeError> {
        if filter.is_none() && is_enabled.is_none() {
            return Ok(());
        }
        let (text, filter) = filter.unzip();
        self.filter.change(filter, is_enabled)?;
        self.requests.filter(&self.clocks, text, self.filter.is_enabled());
        self.writer.start();
        Ok(())
    }

    /// Records the level of an interrupt line of the ISA bus, 0 to 15, if it has changed. The filters do not matter.
    pub fn irq_set(&self, line: u8, level: bool) {
        let waiting = self.requests.irq(&self.clocks, line, level, self.filter.is_enabled());
        // The first access starts the writer. Some guests make none.
        if waiting >= FULL {
            self.writer.start();
        }
    }

    /// Whether anything is traced.
    pub fn is_enabled(&self) -> bool {
        self.filter.is_enabled()
    }

    /// Writes the remaining events when the machine ends.
    ///
    /// # Errors
    ///
    /// The first write error, now or earlier.
    pub fn finish(&self, end: End) -> io::Result<()> {
        // Taken, because each vCPU's trace holds this one.
        let vcpus = std::mem::take(&mut *lock(&self.vcpus));
        let streams = vcpus.iter().map(|vcpu| vcpu.finish());
        if let Some(chunk) = self.requests.take() {
            self.writer.push(chunk);
        }
        let streams = streams.chain([self.requests.end()]);
        let streams: Vec<StreamEnd> = streams.filter(|stream| stream.chunks > 0).collect();
        let end = End { streams, ..end };
        self.writer.push(end.to_chunk());
        self.writer.finish()
    }
}

/// The streams of events, for the writer.
struct Streams {
    vcpus: Arc<Mutex<Vec<Arc<VcpuTrace>>>>,
    requests: Arc<Requests>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
