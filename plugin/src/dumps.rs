//! Dumps of the statistics to where the options say: when the machine ends, and whenever its guest asks
//! for one.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pvio_guest::abi::DUMPS_MAX;

use crate::bus::PortBus;
use crate::options::Summary;
use crate::qemu::report::{say, show};
use crate::qemu::{Ended, HostInfo, PortPresence};
use crate::stats::{Destination, DestinationError, SnapshotContext, Statistics, render};
use crate::symbols::Symbols;

/// A dump that the guest asked for and that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// The guest has had as many as it may have.
    #[error("there have been {DUMPS_MAX} dumps already")]
    Full,
    /// It could not be written; why is on stderr.
    #[error("the dump was not written")]
    Failed,
}

/// What dumps of one machine have in common.
pub struct Dumps {
    /// The QEMU that runs.
    pub host: HostInfo,
    /// What is dumped.
    pub statistics: Arc<Statistics>,
    /// Who has which port.
    pub bus: Arc<PortBus>,
    /// The same of QEMU's own devices.
    pub presence: PortPresence,
    /// Names for sites.
    pub symbols: Symbols,
    /// Where JSON goes.
    pub stats: Option<Destination>,
    /// Where tables go.
    pub summary: Summary,
    /// How many the guest has asked for. Locked while one is written, so that no two get into each
    /// other.
    pub asked: Mutex<usize>,
}

impl Dumps {
    /// Writes the dump of a machine that has ended.
    pub fn at_end(&self, how: Ended) {
        let _one_at_a_time = self.lock();
        self.statistics.settle();
        // What went wrong has been said, and there is nobody else to tell.
        let _ = self.write(Some(how), Destination::write);
    }

    /// Writes a dump of the machine as it stands, beside the one of its end: the first to `FILE.1`, the
    /// next to `FILE.2`, where a file was named; to a stream again.
    pub fn now(&self) -> Result<(), DumpError> {
        let mut asked = self.lock();
        if *asked == DUMPS_MAX {
            return Err(DumpError::Full);
        }
        *asked += 1;
        let number = *asked;
        self.write(None, |destination, contents| destination.write_numbered(number, contents))
    }

    fn write(
        &self,
        ended: Option<Ended>,
        put: impl Fn(&Destination, &[u8]) -> Result<(), DestinationError>,
    ) -> Result<(), DumpError> {
        let snapshot = self.statistics.snapshot(&SnapshotContext {
            host: &self.host,
            ended,
            symbols: &self.symbols,
            own_kind: &|port| self.bus.kind_at(port),
            at_port: &|port| self.presence.at(port.0),
        });
        if ended.is_some() {
            for file in &snapshot.symbol_files {
                if let Some(problem) = &file.problem {
                    say(format_args!("option \"symbols={}\": {problem}", file.file));
                }
            }
        }
        let json = self.stats.as_ref().map(|destination| put(destination, &snapshot.to_json()));
        let tables = match &self.summary {
            Summary::Off => None,
            Summary::Stderr => {
                show(&render(&snapshot, wants_colour()));
                None
            }
            Summary::File(destination) => {
                Some(put(destination, render(&snapshot, false).as_bytes()))
            }
        };
        let mut result = Ok(());
        for error in [json, tables].into_iter().flatten().filter_map(Result::err) {
            say(error);
            result = Err(DumpError::Failed);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether stderr is a terminal with colours whose target has nothing against them.
fn wants_colour() -> bool {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    std::io::stderr().is_terminal() && variable("NO_COLOR").is_empty() && variable("TERM") != "dumb"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::qemu::ApiLevel;
    use crate::stats::{Call, Outcome, Snapshot};

    fn dumps(stats: &Path, summary: Summary) -> Dumps {
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
            presence: PortPresence::load(),
            symbols: Symbols::default(),
            stats: Some(Destination::open(stats, None).unwrap()),
            summary,
            asked: Mutex::default(),
        }
    }

    #[test]
    fn each_dump_has_a_file_and_is_not_in_itself() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let summary = Summary::File(Destination::open(&file("tables"), None).unwrap());
        let dumps = dumps(&file("stats.json"), summary);
        let counters = dumps.statistics.counters(crate::qemu::VcpuIndex(0));
        for _ in 0..2 {
            dumps.now().unwrap();
            counters.hypercall(Call::Dump, Outcome::Ok);
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
    fn a_guest_gets_so_many_and_no_more() {
        let dumps = dumps(Path::new("/dev/null"), Summary::Off);
        for _ in 0..DUMPS_MAX {
            assert_eq!(dumps.now(), Ok(()));
        }
        assert_eq!(dumps.now(), Err(DumpError::Full));
        let dumps = self::dumps(Path::new("/dev/full"), Summary::Off);
        assert_eq!(dumps.now(), Err(DumpError::Failed));
    }
}
