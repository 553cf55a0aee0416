//! The shape of the JSON dump: schema `pvio.stats/1`.
//!
//! Fields may be added; none changes its meaning without a new schema.

use std::borrow::Cow;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::Call;
use crate::x86::{Direction, Mode, Port, PortForm, Width};

/// The name of the schema.
pub const SCHEMA: &str = "pvio.stats/1";

/// A dump of everything that was counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: Cow<'static, str>,
    /// The version of pvio.
    pub pvio: Cow<'static, str>,
    /// The QEMU that ran.
    pub qemu: QemuRow,
    /// How the machine ended: `shutdown`, `reset`, `panic`, `quit`, `signal`, `ui`, `host-error`,
    /// `exit`, or `unknown` where QEMU does not tell; `running` where it has not.
    pub ended: Cow<'static, str>,
    /// All counts.
    #[serde(flatten)]
    pub tables: Tables,
    /// Why `vcpus` is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus_omitted: Option<Cow<'static, str>>,
    /// The files that names of sites were to be taken from, in the order of the options.
    #[serde(default)]
    pub symbol_files: Vec<SymbolFileRow>,
    /// How many translated instructions got no row in `sites`, for want of room.
    pub sites_dropped: u64,
    /// Named windows, in the order in which they first began.
    pub windows: Vec<WindowRow>,
}

/// What was counted, in all or in a window. Its fields are among those of what it is a part of, here as
/// in the JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// A row for each vCPU that ran; empty when they cannot be told apart.
    pub vcpus: Vec<VcpuRow>,
    /// All 24, in the order of [`PortForm::ALL`].
    pub forms: Vec<FormRow>,
    /// Every port, direction and size that was used, by port.
    pub ports: Vec<PortRow>,
    /// Every site that ran, by address.
    pub sites: Vec<SiteRow>,
    /// What the instructions without a row did.
    pub sites_dropped_counts: Counts,
    /// Every hypercall that was made, in the order of [`Call::ALL`].
    pub hypercalls: Vec<HypercallRow>,
    /// Instructions of every kind.
    #[serde(flatten)]
    pub instructions: Instructions,
    /// The same by executable section, where a file's were to be told apart, by address.
    #[serde(default)]
    pub sections: Vec<SectionRow>,
}

/// The QEMU that ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QemuRow {
    /// Its release; `null` where it does not tell.
    pub version: Option<String>,
    /// Its plugin API.
    pub plugin_api: i32,
    /// `i386` or `x86_64`.
    pub target: String,
}

/// One file of symbols.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolFileRow {
    /// What the option says.
    pub file: String,
    /// Why it names nothing, or not all; `null` where it fits the guest as far as can be known.
    pub problem: Option<String>,
}

/// One vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuRow {
    /// QEMU's number of it.
    pub vcpu: u32,
    /// Instructions that retired.
    pub executions: u64,
    /// Elements moved.
    pub accesses: u64,
    /// Hypercalls made.
    pub hypercalls: u64,
    /// Instructions of every kind.
    #[serde(flatten)]
    pub instructions: Instructions,
}

/// Instructions of every kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instructions {
    /// Those that retired; `null` where they are not counted, or QEMU does not report which did.
    #[serde(default)]
    pub instructions: Option<u64>,
    /// Those that began, where QEMU does not report which of them retired; else `null`.
    #[serde(default)]
    pub instructions_unverified: Option<u64>,
}

/// One executable section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectionRow {
    /// Its name in the file.
    pub name: String,
    /// The linear address of its first byte, in hexadecimal.
    pub start: String,
    /// The one behind its last.
    pub end: String,
    /// Instructions in it.
    #[serde(flatten)]
    pub instructions: Instructions,
}

/// One of the 24 operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormRow {
    /// Intel syntax.
    pub form: PortForm,
    /// Instructions that started; a restart is the same attempt.
    pub attempts: u64,
    /// Instructions that retired.
    pub executions: u64,
    /// Elements moved to or from a port.
    pub accesses: u64,
    /// Accesses times the size.
    pub bytes: u64,
    /// Attempts that ended by a fault; `null` where QEMU does not report exceptions.
    pub faults: Option<u64>,
    /// Attempts that a hypervisor in the guest had intercepted; `null` where QEMU does not tell.
    #[serde(default)]
    pub exits: Option<u64>,
    /// Attempts that retired or faulted for want of privilege, where QEMU does not report which.
    pub unverified: u64,
}

/// One port, in one direction, at one size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRow {
    /// The address.
    pub port: Port,
    /// What is there: the kind of a device of pvio's, a PC's name for what QEMU has, or QEMU's own name. In
    /// parentheses what a PC has there usually, where nothing is, or QEMU does not tell.
    pub name: Option<Cow<'static, str>>,
    /// Which way.
    pub dir: Direction,
    /// Bytes in an access.
    pub size: Width,
    /// Whether anything was at the port at the time of the dump; `null` where QEMU does not tell.
    pub served: Option<bool>,
    /// Accesses by instruction that a device of pvio's served.
    pub device: u64,
    /// Accesses by instruction that QEMU served.
    pub qemu: u64,
    /// Accesses that came as hypercalls, whoever served them.
    pub hypercall: u64,
    /// Accesses that were made or faulted, where QEMU does not report which.
    pub unverified: u64,
}

/// One instruction at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteRow {
    /// The linear address, in hexadecimal.
    pub pc: String,
    /// The mode of the code; `null` where QEMU does not tell.
    pub mode: Option<Mode>,
    /// The instruction's bytes, in hexadecimal.
    pub bytes: String,
    /// Intel syntax.
    pub insn: String,
    /// Which of the 24.
    pub form: PortForm,
    /// The function that it is in; `null` without a symbol.
    pub symbol: Option<String>,
    /// How often it retired, and what it moved.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What an instruction, or several together, did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Instructions that retired.
    pub executions: u64,
    /// Elements moved.
    pub accesses: u64,
    /// Attempts that retired or faulted, where QEMU does not report which.
    pub unverified: u64,
}

/// One call of the hypercall interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HypercallRow {
    /// Which.
    pub call: Call,
    /// How often it was made. An operation of a batch is a call as well.
    pub count: u64,
    /// What it moved.
    pub bytes: u64,
    /// How often it was left to the guest.
    pub declined: u64,
    /// How often the caller was not allowed.
    pub denied: u64,
    /// How often it was wrong.
    pub errors: u64,
}

/// A named window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRow {
    /// The name that the guest gave.
    pub name: String,
    /// How often it began.
    pub entries: u64,
    /// Whether it was open at the time of the dump, and counted up to then.
    pub open: bool,
    /// Whether `ports` has no rows, and `sites_dropped_counts` all sites, for want of room.
    pub rows_dropped: bool,
    /// What was counted from each begin to its end.
    #[serde(flatten)]
    pub tables: Tables,
}

impl Deref for Snapshot {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}

impl Deref for WindowRow {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}
