//! Rows about ports: accesses, first accesses and values.

use std::borrow::Cow;

use pvio_x86::{Direction, Port, Width};
use serde::{Deserialize, Serialize};

#[cfg(test)]
use crate::json_schema;

/// One port, in one direction, at one size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PortRow {
    /// The address.
    #[cfg_attr(test, schemars(with = "u16"))]
    pub port: Port,
    /// The name of what is there: the kind of one of pvio's devices, a PC's name for one of QEMU's,
    /// or QEMU's own name. A usual name in parentheses means that nothing is there, or that QEMU
    /// does not say; `null` if there is none either.
    pub name: Option<Cow<'static, str>>,
    /// The direction, as the processor sees it.
    #[cfg_attr(test, schemars(schema_with = "json_schema::direction"))]
    pub dir: Direction,
    /// Bytes in one access.
    #[cfg_attr(test, schemars(schema_with = "json_schema::size"))]
    pub size: Width,
    /// True if anything was at the port at the time of the dump; `null` if QEMU does not say.
    #[serde(default)]
    pub served: Option<bool>,
    /// The first access since QEMU started; `null` in windows and in dumps that were merged.
    #[serde(default)]
    pub first: Option<FirstAccess>,
    /// Accesses by instruction that one of pvio's devices served.
    pub device: u64,
    /// Accesses by instruction that QEMU served.
    pub qemu: u64,
    /// Accesses by hypercall, whoever served them.
    pub hypercall: u64,
    /// Accesses that were made or faulted; QEMU does not report which.
    pub unverified: u64,
}

/// The first access to a port, in one direction, at one size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FirstAccess {
    /// Its place in the order of the first accesses of all rows, from 1.
    pub rank: u64,
    /// The linear address of the instruction; `null` for a hypercall, and for a site without a row.
    #[cfg_attr(test, schemars(schema_with = "json_schema::optional_address"))]
    pub pc: Option<String>,
    /// The symbol of the instruction, as in `sites`.
    pub symbol: Option<String>,
    /// True if a hypercall made it.
    pub hypercall: bool,
}

impl FirstAccess {
    /// Returns its source as text: the instruction's address, `hypercall`, or `-` if unknown.
    pub fn by(&self) -> &str {
        match self.hypercall {
            true => "hypercall",
            false => self.pc.as_deref().unwrap_or("-"),
        }
    }
}

impl PortRow {
    /// All accesses, by instruction and by hypercall.
    pub fn accesses(&self) -> u64 {
        self.device + self.qemu + self.hypercall
    }
}

/// The accesses of one site to one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AccessRow {
    /// The index of the site's row in `sites`, from 0.
    pub site: usize,
    /// The address of the port.
    #[cfg_attr(test, schemars(with = "u16"))]
    pub port: Port,
    /// The direction, as the processor sees it.
    #[cfg_attr(test, schemars(schema_with = "json_schema::direction"))]
    pub dir: Direction,
    /// Bytes in one access.
    #[cfg_attr(test, schemars(schema_with = "json_schema::size"))]
    pub size: Width,
    /// The accesses of the site to the port.
    #[serde(flatten)]
    pub counts: AccessCounts,
}

/// Accesses to ports by instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AccessCounts {
    /// Elements moved.
    pub accesses: u64,
    /// Accesses that were made or faulted; QEMU does not report which.
    pub unverified: u64,
}

/// One value at a port, in one direction, at one size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ValueRow {
    /// The address of the port.
    #[cfg_attr(test, schemars(with = "u16"))]
    pub port: Port,
    /// The direction, as the processor sees it.
    #[cfg_attr(test, schemars(schema_with = "json_schema::direction"))]
    pub dir: Direction,
    /// Bytes in one access.
    #[cfg_attr(test, schemars(schema_with = "json_schema::size"))]
    pub size: Width,
    /// The value that was read or written; `null` if it is not known.
    pub value: Option<u32>,
    /// Accesses with this value, by instruction and by hypercall.
    #[serde(flatten)]
    pub counts: AccessCounts,
    /// The moment of the first access; `null` in merged dumps.
    pub first: Option<ValueMoment>,
    /// The moment of the last access; `null` in merged dumps.
    pub last: Option<ValueMoment>,
}

/// A moment in a run: just before an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ValueMoment {
    /// Nanoseconds by the clock of `values_clock`.
    pub time_ns: u64,
    /// The accesses to all ports before it, since the last reset of the statistics.
    pub accesses: u64,
}
