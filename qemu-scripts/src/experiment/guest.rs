//! Runs the guest, and reads what it has written.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::stats::Snapshot;
use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::metrics::NOT_REPORTED;
use super::{Cell, Mechanism};
use crate::machine::Machine;
use crate::paths;

/// What the guest ends QEMU with when all went well.
const PASSED: i32 = 1;

/// The port of the device.
const PORT: u16 = 0xe0;

/// What the virtual device of the guest gives, again and again: `pattern` in `device.c`.
const PATTERN: [u8; 16] = [
    0x1b, 0xe4, 0x7a, 0x05, 0xc9, 0x36, 0x90, 0x5f, 0xa2, 0x6d, 0x08, 0xf1, 0x43, 0xbe, 0x27, 0xd8,
];

/// How often the guest does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// How often a loop repeats an operation of one element: a multiple of 16, so that each loop begins at
    /// the begin of the pattern.
    pub scalars: u32,
    /// How often one of many elements.
    pub strings: u32,
    /// How often all of that.
    pub rounds: u32,
}

impl Size {
    /// How often the loop of a cell repeats it.
    pub fn repeats(self, cell: Cell) -> u32 {
        if cell.elements == 1 { self.scalars } else { self.strings }
    }

    /// How many bytes are read of the plugin's device.
    fn bytes_read(self) -> u64 {
        let of_cell = |cell: Cell| {
            let elements = u64::from(self.repeats(cell)) * u64::from(cell.elements);
            elements * u64::from(cell.form.width().bytes())
        };
        2 * u64::from(self.rounds) * Cell::all().map(of_cell).sum::<u64>()
    }
}

/// One access to the device's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// `out` or `in`.
    pub is_out: bool,
    /// In bytes.
    pub size: u8,
    /// The port.
    pub port: u16,
    /// What was written or read.
    pub value: u32,
}

/// One loop that was run.
#[derive(Clone, Debug)]
pub struct Loop {
    /// By which way.
    pub mechanism: Mechanism,
    /// Of which operation; `None`, of nothing.
    pub cell: Option<Cell>,
    /// How often it was repeated.
    pub repeats: u32,
    /// How long it took, by RDTSC.
    pub cycles: u64,
    /// What the monitor's device has seen: how many accesses, and a digest of the last 16,384.
    pub accesses: u32,
    /// The digest.
    pub log_digest: u32,
    /// A digest of the guest's memory.
    pub memory: u32,
    /// All accesses, in a run with logs.
    pub log: Vec<Access>,
}

/// What a run left.
#[derive(Debug)]
pub struct Run {
    /// The loops of each round.
    pub rounds: Vec<Vec<Loop>>,
    /// What the plugin's device has seen, in a run with logs.
    pub access_log: Vec<Access>,
    /// The plugin's statistics.
    pub stats: Snapshot,
}

/// Runs the guest under the plugin, on this QEMU: with logs and every instruction counted, or as fast as it
/// goes.
pub fn run(qemu: &Path, size: Size, counting: bool) -> Result<Run> {
    let image = paths::guest("experiment.elf")?;
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    write_pattern(&directory, size.bytes_read())?;
    let mut options = vec![
        "summary=off".to_owned(),
        format!(
            "device=stream@{PORT:#x}-{:#x}:in={}",
            PORT + 7,
            path("pattern").replace(':', "::")
        ),
    ];
    if counting {
        options.push(format!("insns={}", image.display()));
        options.push(format!("access-log={}:{PORT:#x}", path("access.log").replace(':', "::")));
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let Size { scalars, strings, rounds } = size;
    let command_line =
        format!("scalars={scalars} strings={strings} rounds={rounds} logs={}", u8::from(counting));
    let ended = Machine::new(qemu)
        .plugin(&options)
        .args(["-accel", "tcg", "-machine", "pc", "-cpu", "max", "-m", "64"])
        .args(["-display", "none", "-nodefaults", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .args(["-debugcon", &format!("file:{}", path("said").replace(',', ",,"))])
        .args(["-kernel", &image.display().to_string(), "-append", &command_line])
        .run()?;
    let said = std::fs::read_to_string(path("said")).unwrap_or_default();
    if let Some(line) = said.lines().find(|line| line.starts_with("failed: ")) {
        bail!("the guest {line}");
    }
    ensure!(
        // QEMU's own failures have this status, too.
        ended.status.code() == Some(PASSED) && said.ends_with("end\n"),
        "QEMU ended ({}) before the guest did: {}",
        ended.status,
        ended.stderr.trim_end()
    );
    let stats = ended.stats()?.clone();
    ensure!(!counting || stats.instructions.instructions.is_some(), NOT_REPORTED);
    let access_log = match counting {
        true => read_access_log(&std::fs::read_to_string(path("access.log"))?)?,
        false => Vec::new(),
    };
    Ok(Run { rounds: read(&said)?, access_log, stats })
}

fn write_pattern(directory: &TempDir, bytes: u64) -> Result<()> {
    let block = PATTERN.repeat(4096);
    let mut file = File::create(directory.path().join("pattern"))?;
    for _ in 0..bytes.div_ceil(block.len() as u64) {
        file.write_all(&block)?;
    }
    Ok(())
}

/// Reads what the guest has said, round by round.
fn read(said: &str) -> Result<Vec<Vec<Loop>>> {
    let mut rounds: Vec<Vec<Loop>> = Vec::new();
    for line in said.lines() {
        let unclear = || format!("what does the guest mean by {line:?}?");
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["experiment", ..] | ["monitor", "checked"] | ["end"] => {}
            ["round", _] => rounds.push(Vec::new()),
            ["nothing", mechanism, repeats, cycles] => {
                let round = rounds.last_mut().with_context(unclear)?;
                round.push(Loop {
                    mechanism: Mechanism::from_name(mechanism).with_context(unclear)?,
                    cell: None,
                    repeats: repeats.parse().with_context(unclear)?,
                    cycles: read_cycles(cycles).with_context(unclear)?,
                    accesses: 0,
                    log_digest: 0,
                    memory: 0,
                    log: Vec::new(),
                });
            }
            ["cell", mechanism, cell, repeats, cycles, accesses, log, memory] => {
                let round = rounds.last_mut().with_context(unclear)?;
                let number = cell.parse().with_context(unclear)?;
                round.push(Loop {
                    mechanism: Mechanism::from_name(mechanism).with_context(unclear)?,
                    cell: Some(Cell::all().nth(number).with_context(unclear)?),
                    repeats: repeats.parse().with_context(unclear)?,
                    cycles: read_cycles(cycles).with_context(unclear)?,
                    accesses: accesses.parse().with_context(unclear)?,
                    log_digest: u32::from_str_radix(log, 16).with_context(unclear)?,
                    memory: u32::from_str_radix(memory, 16).with_context(unclear)?,
                    log: Vec::new(),
                });
            }
            _ => {
                let last = rounds.last_mut().and_then(|round| round.last_mut());
                let last = last.with_context(unclear)?;
                for word in words {
                    last.log.push(read_access(word).with_context(unclear)?);
                }
            }
        }
    }
    ensure!(said.ends_with("end\n"), "the guest has not come to its end");
    Ok(rounds)
}

/// `high:low`, in hexadecimal.
fn read_cycles(text: &str) -> Option<u64> {
    let (high, low) = text.split_once(':')?;
    let half = |text| u64::from_str_radix(text, 16).ok();
    Some(half(high)? << 32 | half(low)?)
}

/// `o4e0:1f`: an `out` of 4 bytes to port 0xe0.
fn read_access(word: &str) -> Option<Access> {
    let (what, value) = word.split_once(':')?;
    Some(Access {
        is_out: match what.get(..1)? {
            "o" => true,
            "i" => false,
            _ => return None,
        },
        size: what.get(1..2)?.parse().ok()?,
        port: u16::from_str_radix(what.get(2..)?, 16).ok()?,
        value: u32::from_str_radix(value, 16).ok()?,
    })
}

/// Reads pvio's access log.
fn read_access_log(text: &str) -> Result<Vec<Access>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let unclear = || format!("{line:?} is no line of an access log");
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, _, _, direction, port, size, value, ..] = words[..] else { bail!(unclear()) };
            let hex = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16);
            Ok(Access {
                is_out: direction == "out",
                size: size.parse().with_context(unclear)?,
                port: hex(port).with_context(unclear)? as u16,
                value: hex(value).with_context(unclear)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_words_are_read() {
        let said = "experiment nx=1\nmonitor checked\nround 0\nnothing trap 16 0:108f\n\
                    cell trap 9 16 1:2 2 c8bdd5c5 17c88515\no1e0:ff i4e0:12345678\nend\n";
        let rounds = read(said).unwrap();
        let [nothing, cell] = &rounds[0][..] else { panic!("{rounds:?}") };
        assert_eq!(
            (nothing.mechanism, nothing.cell, nothing.cycles),
            (Mechanism::Trap, None, 0x108f)
        );
        assert_eq!((cell.cell.unwrap().number(), cell.cycles), (9, 0x1_0000_0002));
        let second = Access { is_out: false, size: 4, port: 0xe0, value: 0x1234_5678 };
        assert_eq!((cell.log.len(), cell.log[1]), (2, second));
        assert!(read("round 0\n").is_err() && read("what\nend\n").is_err());
    }

    #[test]
    fn an_access_log_is_read() {
        let text = "# seconds vcpu pc direction port size value\tsymbol\n 0.1 0 0xfd0a1 out 0x00e0 1 0x0f\t?\n";
        let access = Access { is_out: true, size: 1, port: 0xe0, value: 15 };
        assert_eq!(read_access_log(text).unwrap(), [access]);
        assert!(read_access_log("0.1 0").is_err());
    }
}
