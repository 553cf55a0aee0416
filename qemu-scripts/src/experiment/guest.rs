//! Runs the guest and parses its output.

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

/// QEMU's exit status if the guest succeeds.
const PASSED: i32 = 1;

/// Port of the device.
const PORT: u16 = 0xe0;

/// Bytes that the monitor's virtual device returns, repeatedly: `pattern` in `device.c`.
const PATTERN: [u8; 16] = [
    0x1b, 0xe4, 0x7a, 0x05, 0xc9, 0x36, 0x90, 0x5f, 0xa2, 0x6d, 0x08, 0xf1, 0x43, 0xbe, 0x27, 0xd8,
];

/// Numbers of repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Repetitions of an operation of one element.
    ///
    /// A multiple of 16, so that every loop starts at the start of the pattern.
    pub scalars: u32,
    /// Repetitions of an operation of many elements.
    pub strings: u32,
    /// Repetitions of all loops.
    pub rounds: u32,
}

impl Size {
    /// Returns the repetitions of an operation in its loop.
    pub fn repeats(self, cell: Cell) -> u32 {
        if cell.elements == 1 { self.scalars } else { self.strings }
    }

    /// Returns an upper limit of the bytes that the guest reads from the plugin's device.
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
    /// True for `out`, false for `in`.
    pub is_out: bool,
    /// Size in bytes.
    pub size: u8,
    /// The port.
    pub port: u16,
    /// The value written or read.
    pub value: u32,
}

/// Results of one loop.
#[derive(Clone, Debug)]
pub struct Loop {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// The operation; `None` for an empty loop.
    pub cell: Option<Cell>,
    /// Number of repetitions.
    pub repeats: u32,
    /// Duration in cycles, by RDTSC.
    pub cycles: u64,
    /// Number of accesses in the monitor's device log.
    pub accesses: u32,
    /// Digest of the last 16,384 accesses in that log.
    pub log_digest: u32,
    /// Digest of the guest's memory.
    pub memory: u32,
    /// The device log, in a run with logs.
    pub log: Vec<Access>,
}

/// Results of a run.
#[derive(Debug)]
pub struct Run {
    /// The loops of each round.
    pub rounds: Vec<Vec<Loop>>,
    /// Accesses to the plugin's device, in a run with logs.
    pub access_log: Vec<Access>,
    /// The plugin's statistics.
    pub stats: Snapshot,
}

/// Runs the guest under the plugin.
///
/// With `counting`, the run has logs and counts every instruction. Without it, the run is fast. A run that counts has
/// a window for each operation by each mechanism, and the plugin has room for 256.
///
/// # Errors
///
/// Fails if QEMU or the guest fails, or if this QEMU does not report which instructions retire.
pub fn run(qemu: &Path, size: Size, ways: &[Mechanism], counting: bool) -> Result<Run> {
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
    let set = ways.iter().fold(0u32, |set, &way| set | 1 << way as u32);
    let command_line = format!(
        "scalars={scalars} strings={strings} rounds={rounds} mechanisms={set} logs={} report=0",
        u8::from(counting)
    );
    let ended = Machine::new(qemu)
        .plugin(&options)
        .args(["-accel", "tcg", "-machine", "pc", "-cpu", "max", "-m", "64"])
        .args(["-display", "none", "-nodefaults", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .args(["-debugcon", &format!("file:{}", path("output").replace(',', ",,"))])
        .args(["-kernel", &image.display().to_string(), "-append", &command_line])
        .run()?;
    let output = std::fs::read_to_string(path("output")).unwrap_or_default();
    if let Some(line) = output.lines().find(|line| line.starts_with("failed: ")) {
        bail!("the guest {line}");
    }
    ensure!(
        // QEMU's own failures have the same status.
        ended.status.code() == Some(PASSED) && output.ends_with("end\n"),
        "QEMU ended ({}) before the guest did: {}",
        ended.status,
        ended.stderr.trim_end()
    );
    let stats = ended.stats()?.clone();
    ensure!(!counting || stats.instructions.instructions.is_some(), NOT_REPORTED);
    let access_log = match counting {
        true => parse_access_log(&std::fs::read_to_string(path("access.log"))?)?,
        false => Vec::new(),
    };
    Ok(Run { rounds: parse(&output)?, access_log, stats })
}

fn write_pattern(directory: &TempDir, bytes: u64) -> Result<()> {
    let block = PATTERN.repeat(4096);
    let mut file = File::create(directory.path().join("pattern"))?;
    for _ in 0..bytes.div_ceil(block.len() as u64) {
        file.write_all(&block)?;
    }
    Ok(())
}

/// Parses the guest's output, round by round.
fn parse(output: &str) -> Result<Vec<Vec<Loop>>> {
    let mut rounds: Vec<Vec<Loop>> = Vec::new();
    for line in output.lines() {
        let malformed = || format!("the guest's line {line:?} is not understood");
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["experiment", ..] | ["monitor", "checked"] | ["end"] => {}
            ["round", _] => rounds.push(Vec::new()),
            ["nothing", mechanism, repeats, cycles] => {
                let round = rounds.last_mut().with_context(malformed)?;
                round.push(Loop {
                    mechanism: Mechanism::from_name(mechanism).with_context(malformed)?,
                    cell: None,
                    repeats: repeats.parse().with_context(malformed)?,
                    cycles: parse_cycles(cycles).with_context(malformed)?,
                    accesses: 0,
                    log_digest: 0,
                    memory: 0,
                    log: Vec::new(),
                });
            }
            ["cell", mechanism, cell, repeats, cycles, accesses, log, memory] => {
                let round = rounds.last_mut().with_context(malformed)?;
                let number = cell.parse().with_context(malformed)?;
                round.push(Loop {
                    mechanism: Mechanism::from_name(mechanism).with_context(malformed)?,
                    cell: Some(Cell::all().nth(number).with_context(malformed)?),
                    repeats: repeats.parse().with_context(malformed)?,
                    cycles: parse_cycles(cycles).with_context(malformed)?,
                    accesses: accesses.parse().with_context(malformed)?,
                    log_digest: u32::from_str_radix(log, 16).with_context(malformed)?,
                    memory: u32::from_str_radix(memory, 16).with_context(malformed)?,
                    log: Vec::new(),
                });
            }
            _ => {
                let last = rounds.last_mut().and_then(|round| round.last_mut());
                let last = last.with_context(malformed)?;
                for word in words {
                    last.log.push(parse_access(word).with_context(malformed)?);
                }
            }
        }
    }
    ensure!(output.ends_with("end\n"), "the guest's output is cut off");
    Ok(rounds)
}

/// Parses cycles: `high:low` in hexadecimal.
fn parse_cycles(text: &str) -> Option<u64> {
    let (high, low) = text.split_once(':')?;
    let half = |text| u64::from_str_radix(text, 16).ok();
    Some(half(high)? << 32 | half(low)?)
}

/// Parses an access: `o4e0:1f` is an `out` of 4 bytes, 0x1f, to port 0xe0.
fn parse_access(word: &str) -> Option<Access> {
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

/// Parses pvio's access log.
fn parse_access_log(text: &str) -> Result<Vec<Access>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let malformed = || format!("{line:?} is not a line of an access log");
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, _, _, direction, port, size, value, ..] = words[..] else { bail!(malformed()) };
            let hex = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16);
            Ok(Access {
                is_out: direction == "out",
                size: size.parse().with_context(malformed)?,
                port: hex(port).with_context(malformed)? as u16,
                value: hex(value).with_context(malformed)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_the_guest_is_parsed() {
        let output = "experiment nx=1\nmonitor checked\nround 0\nnothing trap 16 0:108f\n\
                    cell trap 9 16 1:2 2 c8bdd5c5 17c88515\no1e0:ff i4e0:12345678\nend\n";
        let rounds = parse(output).unwrap();
        let [nothing, cell] = &rounds[0][..] else { panic!("{rounds:?}") };
        assert_eq!(
            (nothing.mechanism, nothing.cell, nothing.cycles),
            (Mechanism::Trap, None, 0x108f)
        );
        assert_eq!((cell.cell.unwrap().number(), cell.cycles), (9, 0x1_0000_0002));
        let second = Access { is_out: false, size: 4, port: 0xe0, value: 0x1234_5678 };
        assert_eq!((cell.log.len(), cell.log[1]), (2, second));
        assert!(parse("round 0\n").is_err() && parse("what\nend\n").is_err());
    }

    #[test]
    fn access_log_is_parsed() {
        let text = "# seconds vcpu pc direction port size value\tsymbol\n 0.1 0 0xfd0a1 out 0x00e0 1 0x0f\t?\n";
        let access = Access { is_out: true, size: 1, port: 0xe0, value: 15 };
        assert_eq!(parse_access_log(text).unwrap(), [access]);
        assert!(parse_access_log("0.1 0").is_err());
    }
}
