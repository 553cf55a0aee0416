//! `access-log=`: one line for each access to chosen ports.
//!
//! ```text
//! # seconds vcpu pc direction port size value
//!     0.004211036 0 0xfd0a1 out 0x0070 1 0x0f
//! ```
//!
//! Records are 40 bytes, put together without formatting or system calls; a thread of its own writes
//! them, which starts with the first full buffer (QEMU may fork before). When it does not keep up, the
//! guest waits: nothing is left out. What cannot be written is said, at once and at the end.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::files::OutputFile;
use crate::qemu::report::say;
use crate::x86::{Direction, Port, PortForm, PortRange, Width};

/// How many records are handed to the writer at once.
const BATCH: usize = 16 * 1024;

/// How many such batches may wait.
const WAITING: usize = 4;

/// The first line.
const HEADER: &[u8] = b"# seconds vcpu pc direction port size value\n";

/// Which way an access goes, and how much it moves.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Which way.
    pub direction: Direction,
    /// How much.
    pub width: Width,
}

impl From<PortForm> for Access {
    fn from(form: PortForm) -> Access {
        Access { direction: form.direction(), width: form.width() }
    }
}

/// One access.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Since the log was opened.
    pub time: Duration,
    /// The number of the vCPU; `None` where QEMU mixes them up.
    pub vcpu: Option<u32>,
    /// The instruction's linear address.
    pub pc: u64,
    /// Which way.
    pub direction: Direction,
    /// The port.
    pub port: Port,
    /// How much.
    pub width: Width,
    /// What was read or written; `None` where the machine ended before it could be seen, or (where
    /// vCPUs share a thread) another vCPU read in between.
    pub value: Option<u32>,
    /// Whether it may have been refused for want of privilege, which QEMU before 11.0 does not tell.
    pub in_question: bool,
}

impl Record {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Record { time, vcpu, pc, direction, port, width, value, in_question } = self;
        let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
        write!(out, "{seconds:>5}.{nanos:09} ")?;
        match vcpu {
            Some(vcpu) => write!(out, "{vcpu}")?,
            None => write!(out, "-")?,
        }
        write!(out, " {pc:#x} {direction:<3} {port} {} ", width.bytes())?;
        match value {
            Some(value) => {
                let digits = 2 + 2 * usize::from(width.bytes());
                write!(out, "{value:#0digits$x}")?;
            }
            None => write!(out, "-")?,
        }
        writeln!(out, "{}", if *in_question { "?" } else { "" })
    }
}

/// The log of a machine's accesses.
pub struct AccessLog {
    path: PathBuf,
    ports: Vec<PortRange>,
    opened: Instant,
    vcpus_mixed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    records: Vec<Record>,
    /// The latest `in` or `out` of each vCPU, until it is known to have retired.
    pending: Vec<Option<Record>>,
    writer: Writer,
}

/// The file, before and after a thread has it.
enum Writer {
    Here(BufWriter<OutputFile>),
    Thread(SyncSender<Vec<Record>>, JoinHandle<io::Result<BufWriter<OutputFile>>>),
    /// Writing has failed, which was said; or all is written.
    Closed,
}

impl AccessLog {
    /// Opens the file, which is made empty with the first line. No `ports` means all.
    pub fn create(path: &Path, ports: Vec<PortRange>) -> io::Result<AccessLog> {
        let file = BufWriter::new(OutputFile::open(path)?);
        let records = Vec::with_capacity(BATCH);
        let writer = Writer::Here(file);
        Ok(AccessLog {
            path: path.to_owned(),
            ports,
            opened: Instant::now(),
            vcpus_mixed: AtomicBool::new(false),
            state: Mutex::new(State { records, pending: Vec::new(), writer }),
        })
    }

    /// The vCPUs cannot be told apart: records name none from now on.
    pub fn vcpus_are_mixed(&self) {
        self.vcpus_mixed.store(true, Ordering::Relaxed);
    }

    fn push(&self, state: &mut State, record: Record) {
        state.records.push(record);
        if state.records.len() == BATCH {
            let batch = std::mem::replace(&mut state.records, Vec::with_capacity(BATCH));
            if !state.writer.send(batch) {
                state.writer = Writer::Closed;
                say(format_args!(
                    "{} cannot be written: the access log is incomplete from here on",
                    self.path.display()
                ));
            }
        }
    }

    /// Writes everything, at the end of the machine.
    pub fn finish(&self) -> io::Result<()> {
        let mut state = self.lock();
        let State { records, pending, writer } = &mut *state;
        records.extend(pending.iter_mut().filter_map(Option::take));
        let rest = std::mem::take(records);
        let mut file = match std::mem::replace(writer, Writer::Closed) {
            Writer::Here(mut file) => {
                file.write_all(HEADER)?;
                file
            }
            Writer::Thread(batches, thread) => {
                drop(batches);
                thread.join().map_err(|_| io::Error::other("the writer panicked"))??
            }
            Writer::Closed => return Err(io::Error::other("writing failed before")),
        };
        rest.iter().try_for_each(|record| record.write(&mut file))?;
        file.flush()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Hands a batch to the thread, which starts with the first; `false` where it has given up, of
    /// which the first to notice tells the user.
    fn send(&mut self, batch: Vec<Record>) -> bool {
        *self = match std::mem::replace(self, Writer::Closed) {
            Writer::Here(file) => {
                let (batches, receiver) = sync_channel::<Vec<Record>>(WAITING);
                let thread = std::thread::spawn(move || {
                    let mut file = file;
                    file.write_all(HEADER)?;
                    for batch in receiver {
                        batch.iter().try_for_each(|record| record.write(&mut file))?;
                    }
                    Ok(file)
                });
                Writer::Thread(batches, thread)
            }
            other => other,
        };
        match self {
            Writer::Thread(batches, _) => batches.send(batch).is_ok(),
            // Said before.
            _ => true,
        }
    }
}

/// A vCPU's way into the log, for its own thread.
pub struct VcpuLog {
    log: Arc<AccessLog>,
    vcpu: u32,
    /// Where the log keeps this vCPU's latest `in` or `out`, until it is known to have retired.
    place: usize,
}

impl VcpuLog {
    /// For one vCPU.
    pub fn new(log: Arc<AccessLog>, vcpu: u32) -> VcpuLog {
        let mut state = log.lock();
        let place = state.pending.len();
        state.pending.push(None);
        drop(state);
        VcpuLog { log, vcpu, place }
    }

    /// Whether accesses to a port are logged.
    pub fn covers(&self, port: Port) -> bool {
        self.log.ports.is_empty() || self.log.ports.iter().any(|range| range.contains(port))
    }

    fn record(&self, pc: u64, what: Access, port: Port, value: Option<u32>) -> Record {
        let mixed = self.log.vcpus_mixed.load(Ordering::Relaxed);
        Record {
            time: self.log.opened.elapsed(),
            vcpu: (!mixed).then_some(self.vcpu),
            pc,
            direction: what.direction,
            port,
            width: what.width,
            value: value.map(|value| low_bytes(value, what.width)),
            in_question: false,
        }
    }

    /// Logs an access of which all is known: an element of a string instruction, or one by hypercall.
    pub fn access(&self, pc: u64, what: Access, port: Port, value: u32) {
        let record = self.record(pc, what, port, Some(value));
        self.log.push(&mut self.log.lock(), record);
    }

    /// An `in` or `out` starts, which may be refused without anybody telling. What an `in` reads is not
    /// known yet.
    pub fn starts(
        &self,
        pc: u64,
        form: PortForm,
        port: Port,
        value: Option<u32>,
        in_question: bool,
    ) {
        let record = Record { in_question, ..self.record(pc, form.into(), port, value) };
        let mut state = self.log.lock();
        // The one before was not seen to end, and neither to fault.
        if let Some(before) = state.pending[self.place].replace(record) {
            self.log.push(&mut state, before);
        }
    }

    /// The `in` or `out` that started has retired, and an `in` has left its value in EAX.
    pub fn retired(&self, eax: impl FnOnce() -> u32) {
        let mut state = self.log.lock();
        if let Some(mut record) = state.pending[self.place].take() {
            record.value.get_or_insert_with(|| low_bytes(eax(), record.width));
            self.log.push(&mut state, record);
        }
    }

    /// If the `in` or `out` that started has retired, which is not known yet, an `in` has left its value
    /// in EAX.
    pub fn left(&self, eax: impl FnOnce() -> u32) {
        if let Some(record) = &mut self.log.lock().pending[self.place] {
            record.value.get_or_insert_with(|| low_bytes(eax(), record.width));
        }
    }

    /// The `in` or `out` that started has retired, and left its value.
    pub fn settled(&self) {
        let mut state = self.log.lock();
        if let Some(record) = state.pending[self.place].take() {
            self.log.push(&mut state, record);
        }
    }

    /// The `in` or `out` that started has not retired: it has faulted, or was intercepted.
    pub fn faulted(&self) {
        self.log.lock().pending[self.place] = None;
    }
}

fn low_bytes(value: u32, width: Width) -> u32 {
    let unused = 32 - 8 * u32::from(width.bytes());
    value << unused >> unused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(ports: Vec<PortRange>) -> (tempfile::TempDir, Arc<AccessLog>) {
        let directory = tempfile::tempdir().unwrap();
        let log = AccessLog::create(&directory.path().join("log"), ports).unwrap();
        (directory, Arc::new(log))
    }

    /// The lines without their times.
    fn lines(directory: &tempfile::TempDir) -> Vec<String> {
        let text = std::fs::read_to_string(directory.path().join("log")).unwrap();
        let words = |line: &str| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
        text.lines().skip(1).map(words).collect()
    }

    #[test]
    fn reads_wait_for_their_values_and_faults_are_forgotten() {
        let (directory, log) = log(Vec::new());
        let vcpu = VcpuLog::new(Arc::clone(&log), 3);
        vcpu.starts(0x1000, PortForm::InAxDx, Port(0x60), None, false);
        vcpu.retired(|| 0xffff_1234);
        vcpu.starts(0x1001, PortForm::OutDxAl, Port(0x80), Some(0xabcd_ef12), false);
        vcpu.faulted();
        vcpu.starts(0x1002, PortForm::OutDxAl, Port(0x80), Some(0x34), true);
        vcpu.access(0x1003, PortForm::RepInsd.into(), Port(0x1f0), 0xdead_beef);
        vcpu.starts(0x1004, PortForm::InAlDx, Port(0x64), None, false);
        log.finish().unwrap();
        assert_eq!(
            lines(&directory),
            [
                "3 0x1000 in 0x0060 2 0x1234",
                "3 0x1003 in 0x01f0 4 0xdeadbeef",
                "3 0x1002 out 0x0080 1 0x34?",
                "3 0x1004 in 0x0064 1 -",
            ]
        );
    }

    #[test]
    fn many_records_all_arrive() {
        let (directory, log) = log(Vec::new());
        let count = 10 * BATCH + 17;
        std::thread::scope(|scope| {
            for vcpu in 0..4 {
                let log = &log;
                scope.spawn(move || {
                    let vcpu = VcpuLog::new(Arc::clone(log), vcpu);
                    for value in 0..count as u32 {
                        vcpu.access(0, PortForm::Outsd.into(), Port(0), value);
                    }
                });
            }
        });
        log.finish().unwrap();
        let lines = lines(&directory);
        assert_eq!(lines.len(), 4 * count);
        for vcpu in 0..4 {
            let own = lines.iter().filter(|line| line.starts_with(&vcpu.to_string()));
            assert!(own.enumerate().all(|(n, line)| line.ends_with(&format!(" 4 {n:#010x}"))));
        }
    }

    #[test]
    fn a_full_disk_is_an_error_at_the_end() {
        let log = Arc::new(AccessLog::create(Path::new("/dev/full"), Vec::new()).unwrap());
        let vcpu = VcpuLog::new(Arc::clone(&log), 0);
        for value in 0..20 * BATCH as u32 {
            vcpu.access(0, PortForm::Outsb.into(), Port(0), value);
        }
        assert!(log.finish().is_err());
    }
}
