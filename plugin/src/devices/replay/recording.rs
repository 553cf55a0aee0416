//! The accesses of a trace to some ports, in their order, and the changes of interrupt lines between them.
//!
//! Consecutive accesses that are alike are one [`Run`]: a poll of a status, or the elements of a string. So a second of
//! polling takes 16 bytes, and a string as many bytes as it moves.

use std::collections::HashSet;
use std::path::Path;

use pvio_stats::Call;
use pvio_stats::trace::{CallEvent, InsnEvent, Stage, Trace, TraceError, What};

use super::access::{Access, Key};
use crate::x86::{Direction, Port, PortRange};

/// The largest recording, in bytes of memory.
const MAX_BYTES: usize = 256 << 20;

/// A part of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Accesses of one port.
    Run(Run),
    /// A change of an interrupt line.
    Irq { line: u8, level: bool },
}

/// Consecutive accesses of one port, size and direction: elements of strings, or equal values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub key: Key,
    /// Each element has a value of its own. Otherwise all accesses have the first.
    pub is_string: bool,
    /// The number of accesses, at least 1.
    pub count: u32,
    /// Where the values begin.
    start: u32,
}

/// A recording that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordingError {
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(
        "{path}: its accesses to these ports need more than {limit} MiB of memory; record less, for example by \
         trace=FILE:PORTS"
    )]
    TooLarge { path: String, limit: usize },
}

/// The accesses of a trace to some ports.
#[derive(Debug, Default)]
pub(super) struct Recording {
    pub steps: Vec<Step>,
    values: Vec<u8>,
    /// The number of accesses.
    pub total: u64,
    /// The ports whose accesses begin there, without those of other devices.
    pub ports: HashSet<u16>,
    /// Reads that strings have made. Their port gives new data at each read.
    strings: HashSet<Key>,
    /// The interrupt lines that change anywhere in the trace, a bit for each.
    pub irqs: u16,
    /// True if the trace has interrupt lines at all.
    pub has_irqs: bool,
    /// Lines about what is missing, which continue the name of the file.
    pub problems: Vec<String>,
}

impl Recording {
    /// Reads the accesses that begin in one of `ranges`, and the changes of the lines in `irqs`, a bit for each.
    ///
    /// # Errors
    ///
    /// The file is no trace, or its accesses need too much memory.
    pub fn load(path: &Path, ranges: &[PortRange], irqs: u16) -> Result<Recording, RecordingError> {
        let mut trace = Trace::open(path)?;
        let mut recording = Recording { has_irqs: trace.head().irqs, ..Recording::default() };
        let filter = trace.head().filter.clone();
        let mut gaps = Gaps { unknown: 0, cut: 0, is_filtered: !filters_by_port(&filter) };
        trace.read(|event, _, _| {
            recording.add(&event.what, ranges, irqs, &mut gaps);
            recording.len() <= MAX_BYTES
        });
        if recording.len() > MAX_BYTES {
            let path = path.display().to_string();
            return Err(RecordingError::TooLarge { path, limit: MAX_BYTES >> 20 });
        }
        recording.problems.extend_from_slice(trace.problems());
        recording.problems.extend(gaps.lines(&filter));
        Ok(recording)
    }

    /// Bytes of memory.
    fn len(&self) -> usize {
        self.steps.len() * size_of::<Step>() + self.values.len()
    }

    fn add(&mut self, what: &What, ranges: &[PortRange], irqs: u16, gaps: &mut Gaps) {
        match *what {
            What::Insn(InsnEvent { stage, form, port: Some(port), value, .. }) => {
                let Some(range) = ranges.iter().find(|range| range.contains(port)) else { return };
                if takes_back(stage) {
                    self.take_back(port);
                } else if is_access(stage) {
                    match (value, form.size().bytes()) {
                        (Some(value), Some(size)) => {
                            let end = (size, form.direction(), range.last());
                            gaps.cut +=
                                u64::from(self.push_cut(port, end, value, form.is_string()));
                        }
                        _ => gaps.unknown += 1,
                    }
                }
            }
            What::Call(CallEvent::Access { call, port, value, .. }) => {
                let Some(range) = ranges.iter().find(|range| range.contains(port)) else { return };
                if let Some((direction, width)) = call.port_io() {
                    let end = (width.bytes(), direction, range.last());
                    gaps.cut += u64::from(self.push_cut(port, end, value, is_string_call(call)));
                }
            }
            What::Irq { line, level } => {
                let bit = 1u16.checked_shl(line.into()).unwrap_or(0);
                self.irqs |= bit;
                // Without an access before it, nothing could cause it.
                if irqs & bit != 0 && !self.steps.is_empty() {
                    self.steps.push(Step::Irq { line, level });
                }
            }
            What::Filter(_) | What::Off => gaps.is_filtered = true,
            What::Insn(_) | What::Call(CallEvent::Ended { .. }) | What::Window(..) => {}
        }
    }

    /// Adds an access, as far as it is within the range that ends at a port. Returns true if it goes beyond.
    fn push_cut(
        &mut self,
        port: Port,
        (size, direction, last): (u8, Direction, Port),
        value: u32,
        is_string: bool,
    ) -> bool {
        let left = u32::from(last.0 - port.0) + 1;
        let own = u32::from(size).min(left) as u8;
        self.push(Access { key: Key { port: port.0, size: own, direction }, value }, is_string);
        own < size
    }

    /// Adds an access.
    pub(super) fn push(&mut self, Access { key, value }: Access, is_string: bool) {
        self.total += 1;
        self.ports.insert(key.port);
        if is_string && key.direction == Direction::In {
            self.strings.insert(key);
        }
        let value = key.low_bytes(value);
        let bytes = &value.to_le_bytes()[..usize::from(key.size)];
        if let Some(Step::Run(run)) = self.steps.last_mut()
            && run.key == key
            && run.is_string == is_string
            && run.count < u32::MAX
        {
            let start = run.start as usize;
            let first = &self.values[start..start + usize::from(key.size)];
            if is_string || first == bytes {
                run.count += 1;
                if is_string {
                    self.values.extend_from_slice(bytes);
                }
                return;
            }
        }
        // No more than `MAX_BYTES` are used.
        let start = self.values.len() as u32;
        self.values.extend_from_slice(bytes);
        self.steps.push(Step::Run(Run { key, is_string, count: 1, start }));
    }

    /// Removes the last access, if it was to this port: it faulted, or a hypervisor in the guest intercepted it.
    fn take_back(&mut self, port: Port) {
        let Some(Step::Run(run)) = self.steps.last_mut() else { return };
        if run.key.port != port.0 || run.is_string {
            return;
        }
        self.total -= 1;
        run.count -= 1;
        if run.count == 0 {
            self.values.truncate(run.start as usize);
            self.steps.pop();
        }
    }

    /// The value of an access of a run.
    ///
    /// # Panics
    ///
    /// If the run has no such access.
    pub fn value(&self, run: &Run, index: u32) -> u32 {
        let size = usize::from(run.key.size);
        let bytes = match run.is_string {
            true => self.elements(run, index, 1),
            false => &self.values[run.start as usize..][..size],
        };
        let mut value = [0; 4];
        value[..size].copy_from_slice(bytes);
        u32::from_le_bytes(value)
    }

    /// The bytes of `count` elements of a string from `index` on.
    ///
    /// # Panics
    ///
    /// If the run is not a string, or has fewer elements.
    pub fn elements(&self, run: &Run, index: u32, count: u32) -> &[u8] {
        assert!(run.is_string && index + count <= run.count, "the string has these elements");
        let size = usize::from(run.key.size);
        &self.values[run.start as usize + index as usize * size..][..count as usize * size]
    }

    /// Returns true if strings have read so: each read gives new data.
    pub fn is_data(&self, key: Key) -> bool {
        self.strings.contains(&key)
    }
}

/// What a trace does not tell.
struct Gaps {
    /// Accesses whose value or size is not known.
    unknown: u64,
    /// Accesses that go beyond the end of a range.
    cut: u64,
    /// Accesses may be missing, because a filter has left them out, or the trace was off.
    is_filtered: bool,
}

impl Gaps {
    fn lines(&self, filter: &str) -> impl Iterator<Item = String> {
        let filtered = match filter {
            "" => "was filtered or off for a part of the run; accesses may be missing".to_owned(),
            filter => format!(
                "is filtered ({filter}); accesses may be missing, so filter a recording by ports alone"
            ),
        };
        let unknown =
            format!("does not have the values of {} of the accesses to these ports", self.unknown);
        let cut = format!(
            "has accesses ({}) that go beyond the last port; their other bytes read as all ones, so give the device those \
             ports as well",
            self.cut
        );
        let lines = [
            self.is_filtered.then_some(filtered),
            (self.unknown > 0).then_some(unknown),
            (self.cut > 0).then_some(cut),
        ];
        lines.into_iter().flatten()
    }
}

/// Returns true if a trace's filter has only ports.
fn filters_by_port(filter: &str) -> bool {
    let is_ports = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
    filter.is_empty() || filter.split(':').all(is_ports)
}

/// Returns true if the event is an access, as far as QEMU reports it.
fn is_access(stage: Stage) -> bool {
    matches!(
        stage,
        Stage::Executed
            | Stage::ResumedAndExecuted
            | Stage::Unverified
            | Stage::ResumedAndUnverified
            | Stage::Element { .. }
    )
}

/// Returns true if the access of an earlier event was not made after all.
fn takes_back(stage: Stage) -> bool {
    matches!(
        stage,
        Stage::UnverifiedBecomesFault | Stage::ExecutedBecomesExit | Stage::UnverifiedBecomesExit
    )
}

fn is_string_call(call: Call) -> bool {
    matches!(call, Call::Insb | Call::Insw | Call::Insl | Call::Outsb | Call::Outsw | Call::Outsl)
}
