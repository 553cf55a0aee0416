//! Accesses to a device, as QEMU's trace or the recorder logs them.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use pvio::x86::{Direction, Width};

use super::Access;

/// An access that reached a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LoggedAccess {
    /// The access.
    pub access: Access,
    /// The value that was read or written.
    pub value: u32,
}

impl fmt::Debug for LoggedAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} value {:#x}", self.access, self.value)
    }
}

/// The accesses at ports 0xe0 to 0xe3 in a log of `-trace memory_region_ops_*`. Lines are
///
/// ```text
/// memory_region_ops_write cpu 0 mr 0x55d0c0ffee00 addr 0xe0 value 0x12 size 1 name 'pc-testdev-ioport'
/// ```
///
/// Each must name a device that begins with `device`.
pub fn read_log(path: &Path, device: &str) -> Result<Vec<LoggedAccess>> {
    let mut accesses = Vec::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        if let Some(access) = parse(&line, device).with_context(|| line.clone())? {
            accesses.push(access);
        }
    }
    Ok(accesses)
}

fn parse(line: &str, device: &str) -> Result<Option<LoggedAccess>> {
    let Some((_, event)) = line.split_once("memory_region_ops_") else { return Ok(None) };
    let words: Vec<&str> = event.split_whitespace().collect();
    let number = |name: &str| {
        let place = words.iter().position(|&word| word == name).context("a field is missing")?;
        let text = words.get(place + 1).context("a value is missing")?;
        Ok::<_, anyhow::Error>(match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16)?,
            None => text.parse()?,
        })
    };
    let port = number("addr")?;
    if !(0xe0..=0xe3).contains(&port) {
        return Ok(None);
    }
    let direction = match words[0] {
        "read" => Direction::In,
        _ => Direction::Out,
    };
    let size = number("size")?;
    let width = Width::ALL.into_iter().find(|width| u64::from(width.bytes()) == size);
    let (_, name) = event.split_once("name '").context("a name is missing")?;
    anyhow::ensure!(name.starts_with(device), "not for {device}");
    // Bits above the size of a read are undefined.
    let value = number("value")? as u32 & u32::MAX >> (32 - 8 * size);
    let access =
        Access { direction, port: port as u16, width: width.context("a size of 1, 2, 4")? };
    Ok(Some(LoggedAccess { access, value }))
}
