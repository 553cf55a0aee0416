//! QEMU's trace of accesses to its devices: the events `memory_region_ops_read` and `_write`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pvio::x86::{Direction, Port, Width};
use pvio_cli::machine::Machine;
use tempfile::TempDir;

/// An access that reached a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// The vCPU that made it; `None` if QEMU made it itself.
    pub vcpu: Option<u32>,
    /// The name of the memory region.
    pub region: String,
    /// The port.
    pub port: Port,
    /// The direction.
    pub dir: Direction,
    /// The size.
    pub size: Width,
}

/// A file to which a machine writes trace events.
#[derive(Debug)]
pub struct Trace {
    directory: TempDir,
}

impl Trace {
    /// An empty file.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Trace {
        Trace { directory: tempfile::tempdir().unwrap() }
    }

    /// Makes a machine write its events here.
    pub fn on(&self, machine: Machine) -> Machine {
        machine.args(["-trace", "memory_region_ops_*", "-D"]).args([self.path()])
    }

    /// Counts the accesses to ports, after the machine has ended.
    pub fn port_events(&self) -> BTreeMap<Event, u64> {
        let log = std::fs::read_to_string(self.path()).unwrap();
        // Apart from the value, most lines equal one of a few hundred others.
        let mut counts = BTreeMap::new();
        for line in log.lines() {
            let event = event(line).unwrap_or_else(|| panic!("not an event of a region: {line}"));
            if let Some(event) = event {
                *counts.entry(event).or_default() += 1;
            }
        }
        counts
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("trace")
    }
}

/// Parses a line; `Some(None)` for an access to memory.
///
/// For example, `memory_region_ops_read cpu 0 mr 0x5555 addr 0x71 value 0x0 size 1 name 'rtc'`. A line does
/// not say whether its address is a port. The first 64 KiB of memory are RAM, which raises no events, so a
/// 16-bit address is a port.
fn event(line: &str) -> Option<Option<Event>> {
    let (words, name) = line.split_once(" name '")?;
    let words: Vec<&str> = words.split(' ').collect();
    let [what, "cpu", vcpu, "mr", _, "addr", address, "value", _, "size", size] = words[..] else {
        return None;
    };
    let dir = match what {
        "memory_region_ops_read" => Direction::In,
        "memory_region_ops_write" => Direction::Out,
        _ => return None,
    };
    let address = u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?;
    let Ok(port) = u16::try_from(address) else {
        return Some(None);
    };
    Some(Some(Event {
        // QEMU's number for no vCPU is -1.
        vcpu: vcpu.parse().ok(),
        region: name.strip_suffix('\'')?.to_owned(),
        port: Port(port),
        dir,
        size: size.parse::<u8>().ok()?.try_into().ok()?,
    }))
}
