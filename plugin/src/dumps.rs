//! Writes dumps of the statistics: when the machine ends, and when the guest asks for one.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pvio_guest::abi::DUMPS_MAX;
use pvio_stats::trace::End;

use crate::bus::PortBus;
use crate::devices::PostCodes;
use crate::kernel_boots::KernelBoots;
use crate::observers::Observers;
use crate::qemu::report::{say, show};
use crate::qemu::{AtPort, Ended, HostInfo, PluginLog, PortPresence};
use crate::running_kernel::RunningKernel;
use crate::stats::{
    Destination, DestinationError, Moment, Snapshot, SnapshotContext, Statistics, render,
};
use crate::symbols::Symbols;
use crate::x86::Port;

/// A dump that was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// The guest has used up its dumps.
    #[error("there have been {DUMPS_MAX} dumps already")]
    TooMany,
    /// A destination cannot be written; the reason is on stderr.
    #[error("the dump was not written")]
    Failed,
}

/// The destination of the text tables.
pub enum TextOutput {
    /// To stderr, in colour if that is a terminal.
    Stderr,
    /// To QEMU's log.
    QemuLog(PluginLog),
    /// To a file.
    File(Destination),
}

/// Writes the dumps of one machine.
pub struct Dumps {
    /// The QEMU that runs.
    pub host: HostInfo,
    /// The statistics to dump.
    pub statistics: Arc<Statistics>,
    /// pvio's devices, for the ports' rows.
    pub bus: Arc<PortBus>,
    /// The observers, for POST codes; `None` if there are none.
    pub observers: Option<Arc<Observers>>,
    /// QEMU's devices, for the ports' rows.
    pub presence: PortPresence,
    /// Names for sites.
    pub symbols: Arc<Symbols>,
    /// Tracks which kernel runs; `None` if names need no kernel.
    pub kernels: Option<Arc<KernelBoots>>,
    /// The kernel that unwinds stacks; `None` if call chains are not counted.
    pub running_kernel: Option<Arc<RunningKernel>>,
    /// True if the last dump also makes the end of a trace.
    pub has_trace: bool,
    /// Destination of the JSON.
    pub json: Option<Destination>,
    /// Destination of the text tables.
    pub text: Option<TextOutput>,
    /// The number of dumps that the guest has asked for. Locked while a dump is written, so that
    /// dumps do not mix.
    pub count: Mutex<usize>,
}

impl Dumps {
    /// Writes the dump at the end of the machine. Errors go to stderr.
    ///
    /// Returns the end of the trace, if there is a trace.
    pub fn at_end(&self, how: Ended) -> Option<End> {
        let _one_at_a_time = self.lock();
        self.statistics.settle();
        // The errors are on stderr already.
        let mut end = None;
        let _ = self.write(Some(how), Destination::write, &mut end);
        end
    }

    /// Writes a dump while the machine runs: the first to `FILE.1`, the next to `FILE.2`, and so
    /// on. A stream takes them all.
    ///
    /// # Errors
    ///
    /// The guest has used up its dumps, or a destination cannot be written.
    pub fn now(&self) -> Result<(), DumpError> {
        let mut count = self.lock();
        if *count == DUMPS_MAX {
            return Err(DumpError::TooMany);
        }
        *count += 1;
        let number = *count;
        self.write(
            None,
            |destination, contents| destination.write_numbered(number, contents),
            &mut None,
        )
    }

    fn write(
        &self,
        ended: Option<Ended>,
        put: impl Fn(&Destination, &[u8]) -> Result<(), DestinationError>,
        trace_end: &mut Option<End>,
    ) -> Result<(), DumpError> {
        self.prepare(ended.is_some());
        let moment = self.statistics.read();
        let snapshot = match ended.filter(|_| self.has_trace) {
            None => self.snapshot_of(moment, ended),
            Some(_) => {
                let own_kind = |port| self.bus.kind_at(port);
                let at_port = |port: Port| self.presence.at(port.0);
                let context = self.context(&self.symbols, ended, &own_kind, &at_port);
                let (snapshot, end) = self.statistics.snapshot_and_trace_end(moment, &context);
                *trace_end = Some(end);
                self.with_post_codes(snapshot)
            }
        };
        if ended.is_some() {
            for file in &snapshot.symbol_files {
                if let Some(problem) = &file.problem {
                    say(format_args!("option \"symbols={}\": {problem}", file.file));
                }
            }
        }
        let json = self.json.as_ref().map(|destination| put(destination, &snapshot.to_json()));
        let text = match &self.text {
            None => None,
            Some(TextOutput::Stderr) => {
                show(&render(&snapshot, wants_colour()));
                None
            }
            Some(TextOutput::QemuLog(log)) => {
                log.write(&render(&snapshot, false));
                None
            }
            Some(TextOutput::File(destination)) => {
                Some(put(destination, render(&snapshot, false).as_bytes()))
            }
        };
        let mut result = Ok(());
        for error in [json, text].into_iter().flatten().filter_map(Result::err) {
            say(error);
            result = Err(DumpError::Failed);
        }
        result
    }

    /// Finds what names sites and call chains: it may look at the guest's memory.
    ///
    /// On a vCPU's thread in a callback, or on any with QEMU's global lock held.
    pub fn prepare(&self, is_at_end: bool) {
        if let Some(kernels) = &self.kernels {
            kernels.settle();
        }
        if let Some(running) = &self.running_kernel {
            self.statistics.resolve_stacks(running, is_at_end);
        }
    }

    /// Makes a snapshot of counts. It names sites, as [`Dumps::prepare`] does, on the same threads.
    pub fn snapshot_of(&self, moment: Moment, ended: Option<Ended>) -> Snapshot {
        let own_kind = |port| self.bus.kind_at(port);
        let at_port = |port: Port| self.presence.at(port.0);
        let context = self.context(&self.symbols, ended, &own_kind, &at_port);
        self.with_post_codes(self.statistics.snapshot_of(moment, &context))
    }

    /// Makes a snapshot of counts without looking for names, which takes time, on any thread.
    ///
    /// `at_port` looks at the port bus by [`Dumps::presence`] with QEMU's global lock held.
    pub fn without_names(&self, moment: Moment, at_port: &dyn Fn(Port) -> AtPort) -> Snapshot {
        let symbols = Symbols::default();
        let own_kind = |port| self.bus.kind_at(port);
        let context = self.context(&symbols, None, &own_kind, at_port);
        self.with_post_codes(self.statistics.snapshot_of(moment, &context))
    }

    fn with_post_codes(&self, snapshot: Snapshot) -> Snapshot {
        let codes = self.observers.as_ref().and_then(|observers| observers.post_codes());
        let Some((clock, PostCodes { rows, dropped })) = codes else { return snapshot };
        Snapshot { post_clock: Some(clock.into()), post: rows, post_dropped: dropped, ..snapshot }
    }

    fn context<'a>(
        &'a self,
        symbols: &'a Symbols,
        ended: Option<Ended>,
        own_kind: &'a dyn Fn(Port) -> Option<&'static str>,
        at_port: &'a dyn Fn(Port) -> AtPort,
    ) -> SnapshotContext<'a> {
        SnapshotContext { host: &self.host, ended, symbols, own_kind, at_port }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns true if stderr is a terminal with colours, and `NO_COLOR` is not set (no-color.org).
fn wants_colour() -> bool {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    std::io::stderr().is_terminal() && variable("NO_COLOR").is_empty() && variable("TERM") != "dumb"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::qemu::ApiLevel;
    use crate::stats::{Call, CallSiteId, Outcome};

    fn dumps(json: &Path, text: Option<TextOutput>) -> Dumps {
        let host = HostInfo {
            api: ApiLevel::NEWEST,
            version: None,
            target: "x86_64".into(),
            max_vcpus: 1,
            icount: false,
            recorded: false,
            command_line: Default::default(),
            memory_is_readable: true,
        };
        Dumps {
            host,
            statistics: Arc::default(),
            bus: Arc::default(),
            observers: None,
            presence: PortPresence::load(),
            symbols: Arc::default(),
            kernels: None,
            running_kernel: None,
            has_trace: false,
            json: Some(Destination::open(json, None).unwrap()),
            text,
            count: Mutex::default(),
        }
    }

    #[test]
    fn each_dump_has_its_own_file_and_does_not_count_itself() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let text = TextOutput::File(Destination::open(&file("tables"), None).unwrap());
        let dumps = dumps(&file("stats.json"), Some(text));
        let counters = dumps.statistics.counters(crate::qemu::VcpuIndex(0));
        for _ in 0..2 {
            dumps.now().unwrap();
            counters.hypercalls(CallSiteId::DROPPED, Call::Dump, Outcome::Ok, 1);
        }
        dumps.at_end(Ended::Shutdown);
        for (number, name) in ["stats.json.1", "stats.json.2", "stats.json"].iter().enumerate() {
            let json = std::fs::read(file(name)).unwrap();
            let snapshot = Snapshot::from_json(&json).unwrap();
            assert_eq!(snapshot.hypercalls.iter().map(|row| row.count).sum::<u64>(), number as u64);
            assert_eq!(snapshot.ended, if number == 2 { "shutdown" } else { "running" });
        }
        for name in ["tables.1", "tables.2", "tables"] {
            assert!(std::fs::read_to_string(file(name)).unwrap().starts_with("pvio "), "{name}");
        }
    }

    #[test]
    fn dumps_beyond_the_limit_and_failed_writes_are_errors() {
        let dumps = dumps(Path::new("/dev/null"), None);
        for _ in 0..DUMPS_MAX {
            assert_eq!(dumps.now(), Ok(()));
        }
        assert_eq!(dumps.now(), Err(DumpError::TooMany));
        let dumps = self::dumps(Path::new("/dev/full"), None);
        assert_eq!(dumps.now(), Err(DumpError::Failed));
    }
}
