//! QEMU's own record of what reaches its devices: the trace events `memory_region_ops_read` and
//! `memory_region_ops_write`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pvio::x86::{Direction, Port, Width};
use pvio_cli::machine::Machine;
use tempfile::TempDir;

/// An access as a device sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// The vCPU that makes it; `None` where QEMU itself does.
    pub vcpu: Option<u32>,
    /// The name of the region.
    pub region: String,
    /// Where.
    pub port: Port,
    /// Which way.
    pub dir: Direction,
    /// How much.
    pub size: Width,
}

/// A log of trace events in the making.
#[derive(Debug)]
pub struct Trace {
    directory: TempDir,
}

impl Trace {
    /// An empty one.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Trace {
        Trace { directory: tempfile::tempdir().unwrap() }
    }

    /// A machine that writes it.
    pub fn on(&self, machine: Machine) -> Machine {
        machine.args(["-trace", "memory_region_ops_*", "-D"]).args([self.path()])
    }

    /// How often each access to a port was made, once the machine has ended.
    pub fn port_events(&self) -> BTreeMap<Event, u64> {
        let log = std::fs::read_to_string(self.path()).unwrap();
        // Most lines are like one of a few hundred others, but for the value.
        let mut counts = BTreeMap::new();
        for line in log.lines() {
            let event = event(line).unwrap_or_else(|| panic!("no event of a region: {line}"));
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

/// The event in a line such as
/// `memory_region_ops_read cpu 0 mr 0x5555 addr 0x71 value 0x0 size 1 name 'rtc'`: `Some(None)` for
/// memory. An address is that in memory or in the port space, where the region is; and the first 64 KiB of
/// memory are RAM, which raises no events.
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
