//! What the devices of one recording share.

use std::collections::BTreeMap;
use std::path::Path;

use super::player::{Counts, Player};
use super::recording::{Recording, RecordingError};
use crate::devices::Interrupt;
use crate::devices::settings::NumberedInterrupt;
use crate::qemu::report::say;
use crate::untrusted_text::escape;
use crate::x86::{Port, PortRange};

/// QEMU's exit status after a difference, with `strict`.
const DIFFERS: u8 = 1;

/// A recording that cannot be replayed as the option asks.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    #[error(transparent)]
    Recording(#[from] RecordingError),
    #[error(
        "{path} has no accesses to these ports{problem}; name ports that its driver used (pvio trace prints them)"
    )]
    NoAccesses { path: String, problem: String },
    #[error(
        "irq={line} cannot be replayed: {path} has no interrupt lines, because the QEMU that wrote it did not let pvio \
         see them; remove irq=, and let the driver poll"
    )]
    NoLines { path: String, line: u8 },
    #[error(
        "irq={line} cannot be replayed: in {path} line {line} does not change; the lines that do are {known}"
    )]
    QuietLine { path: String, line: u8, known: String },
    #[error("{path} {problem}; strict needs a whole recording: remove strict, or record it again")]
    Incomplete { path: String, problem: String },
}

/// A device of the recording.
pub(super) struct Part {
    pub range: PortRange,
    /// The line that it drives.
    pub interrupt: Option<NumberedInterrupt>,
    pub is_strict: bool,
    pub exit: Box<dyn Fn(u8) + Send>,
}

/// A recording that is replayed, and its devices.
pub(super) struct Session {
    path: String,
    ranges: Vec<PortRange>,
    lines: BTreeMap<u8, Box<dyn Interrupt>>,
    /// Ends the run; `None` if a difference does not.
    exit: Option<Box<dyn Fn(u8) + Send>>,
    player: Player,
    /// The problems that were reported.
    problems: Vec<String>,
}

impl Session {
    pub fn new(path: &str) -> Session {
        Session {
            path: path.to_owned(),
            ranges: Vec::new(),
            lines: BTreeMap::new(),
            exit: None,
            player: Player::default(),
            problems: Vec::new(),
        }
    }

    /// Adds a device, before the machine starts. Returns true for the first.
    ///
    /// # Errors
    ///
    /// The file does not have what the device needs.
    pub fn add(&mut self, part: Part) -> Result<bool, ReplayError> {
        let is_first = self.ranges.is_empty();
        self.ranges.push(part.range);
        if part.is_strict {
            self.exit = Some(part.exit);
        }
        let line = part.interrupt.as_ref().map(|(line, _)| *line);
        self.lines.extend(part.interrupt);
        let lines = self.lines.keys().fold(0, |bits, line| bits | 1u16 << line);
        // Again from the start, because the accesses of all devices have one order.
        let recording = Recording::load(Path::new(&self.path), &self.ranges, lines)?;
        let path = || escape(self.path.as_bytes());
        if !recording.ports.iter().any(|&port| part.range.contains(Port(port))) {
            // They may be in what is missing.
            let problem = recording.problems.first().map(|problem| format!(", and {problem}"));
            let problem = problem.unwrap_or_default();
            return Err(ReplayError::NoAccesses { path: path(), problem });
        }
        if let Some(line) = line {
            if !recording.has_irqs {
                return Err(ReplayError::NoLines { path: path(), line });
            }
            if recording.irqs & 1 << line == 0 {
                let known = (0..16).filter(|line| recording.irqs & 1 << line != 0);
                let known: Vec<String> = known.map(|line: u8| line.to_string()).collect();
                return Err(ReplayError::QuietLine { path: path(), line, known: known.join(", ") });
            }
        }
        for problem in &recording.problems {
            if self.exit.is_some() {
                return Err(ReplayError::Incomplete { path: path(), problem: problem.clone() });
            }
            if !self.problems.contains(problem) {
                say(format_args!("warning: {} {problem}", path()));
                self.problems.push(problem.clone());
            }
        }
        self.player = Player::new(recording);
        Ok(is_first)
    }

    pub fn read(&mut self, port: u16, data: &mut [u8]) {
        let value = self.player.read(port, data.len() as u8);
        data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
        self.settle();
    }

    pub fn write(&mut self, port: u16, data: &[u8]) {
        let mut value = [0; 4];
        value[..data.len()].copy_from_slice(data);
        self.player.write(port, data.len() as u8, u32::from_le_bytes(value));
        self.settle();
    }

    pub fn read_string(&mut self, port: u16, size: usize, mut data: &mut [u8]) {
        while !data.is_empty() {
            let len = self.player.read_elements(port, size as u8, data) * size;
            self.settle();
            if len == 0 {
                self.read(port, &mut data[..size]);
            }
            data = &mut data[len.max(size)..];
        }
    }

    pub fn write_string(&mut self, port: u16, size: usize, mut data: &[u8]) {
        while !data.is_empty() {
            let len = self.player.write_elements(port, size as u8, data) * size;
            self.settle();
            if len == 0 {
                self.write(port, &data[..size]);
            }
            data = &data[len.max(size)..];
        }
    }

    /// Makes what an access has caused: changes of lines, and the report of the first difference.
    fn settle(&mut self) {
        for (line, level) in self.player.irqs.drain(..) {
            if let Some(interrupt) = self.lines.get(&line) {
                interrupt.set(level);
            }
        }
        if let Some(difference) = self.player.difference.take() {
            for line in difference.lines() {
                say(format_args!("{}: {line}", self.name()));
            }
            if let Some(exit) = &self.exit {
                exit(DIFFERS);
            }
        }
    }

    /// For a reset of the machine.
    pub fn lower_lines(&mut self) {
        for line in self.lines.values() {
            line.set(false);
        }
    }

    fn name(&self) -> String {
        format!("replay of {}", escape(self.path.as_bytes()))
    }

    /// Reports how much was replayed, when the machine ends.
    pub fn report_end(&self) {
        let Counts { passed, left_out, extra, differences } = self.player.counts();
        let total = self.player.recording().total;
        let reads = match (left_out, extra) {
            (0, 0) => String::new(),
            _ => format!(" ({left_out} left out, {extra} reads more)"),
        };
        let differences = match (differences, self.player.first_difference) {
            (0, _) | (_, None) => "no difference".to_owned(),
            (1, Some(first)) => format!("1 difference, after {first}"),
            (count, Some(first)) => format!("{count} differences, the first after {first}"),
        };
        say(format_args!(
            "{}: {passed} of {total} recorded accesses replayed{reads}; {differences}",
            self.name()
        ));
    }
}
