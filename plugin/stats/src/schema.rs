//! The types of schema `pvio.stats/1`, the JSON dump.
//!
//! `docs/statistics.md` defines every field; `schema/pvio.stats-1.schema.json` is the same as a JSON
//! Schema. Fields may be added. None changes its meaning without a new schema, so readers ignore
//! fields that they do not know, and fields that older versions of pvio did not write have defaults.

use std::borrow::Cow;
use std::ops::Deref;

use pvio_x86::{AccessSize, Direction, InsnForm, Mode, Port, PortForm};
use serde::{Deserialize, Serialize};

use crate::Call;
#[cfg(test)]
use crate::json_schema;

/// The name of the schema.
pub const SCHEMA: &str = "pvio.stats/1";

/// One dump: everything that pvio counted in a run, or in several runs merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// The name of the schema, `pvio.stats/1`.
    #[cfg_attr(test, schemars(extend("const" = SCHEMA)))]
    pub schema: Cow<'static, str>,
    /// The version of pvio.
    pub pvio: Cow<'static, str>,
    /// The QEMU that ran.
    pub qemu: QemuRow,
    /// The reason why the machine ended: `shutdown`, `reset`, `panic`, `quit`, `signal`, `ui`,
    /// `host-error`, `exit`, or `unknown` if QEMU does not say; `running` if it has not ended.
    pub ended: Cow<'static, str>,
    /// The number of runs that were merged into this dump; 1 if none were.
    #[serde(default = "one")]
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub runs: u64,
    /// All counts.
    #[serde(flatten)]
    pub tables: Tables,
    /// The reason why `vcpus` is empty; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus_omitted: Option<Cow<'static, str>>,
    /// The symbol files, in the order of the options.
    #[serde(default)]
    pub symbol_files: Vec<SymbolFileRow>,
    /// The number of translated instructions that got no row in `sites`, for want of room.
    pub sites_dropped: u64,
    /// The clock of the times in `values`: `guest` or `host`; `null` without the option `values`, and in dumps that were merged.
    #[serde(default)]
    pub values_clock: Option<Cow<'static, str>>,
    /// The values that were read and written at the ports of the option `values`, by port.
    #[serde(default)]
    pub values: Vec<ValueRow>,
    /// The accesses whose values found no room in `values`.
    #[serde(default)]
    pub values_dropped: AccessCounts,
    /// Named windows, in the order in which they first began.
    #[serde(default)]
    pub windows: Vec<WindowRow>,
}

fn one() -> u64 {
    1
}

/// The counts of a dump, or of one window in it.
///
/// In the JSON these fields are part of the enclosing object; here both [`Snapshot`] and
/// [`WindowRow`] dereference to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tables {
    /// A row for each vCPU that ran; empty if QEMU mixes them up.
    pub vcpus: Vec<VcpuRow>,
    /// All 24 forms, in a fixed order.
    #[cfg_attr(test, schemars(length(equal = 24)))]
    pub forms: Vec<FormRow>,
    /// The instructions whose form depends on the mode of the code, which is not known; no other table of forms has them.
    #[serde(default)]
    pub forms_undecided: Vec<UndecidedFormRow>,
    /// Every port, direction and size that was used, by port.
    pub ports: Vec<PortRow>,
    /// Every site that ran, by address.
    pub sites: Vec<SiteRow>,
    /// The counts of all instructions without a row in `sites`.
    #[serde(default)]
    pub sites_dropped_counts: Counts,
    /// Every site and port that it accessed, by site.
    #[serde(default)]
    pub accesses: Vec<AccessRow>,
    /// The counts of all accesses without a row in `accesses`.
    #[serde(default)]
    pub accesses_dropped: AccessCounts,
    /// The accesses by process; empty without the option `processes`.
    #[serde(default)]
    pub processes: Vec<ProcessRow>,
    /// The counts of all processes without a row in `processes`.
    #[serde(default)]
    pub processes_dropped_counts: Counts,
    /// The accesses of each site by call chain; empty without the option `callers`.
    #[serde(default)]
    pub callers: Vec<CallerRow>,
    /// Every hypercall that was made, in the order of the ABI's numbers.
    #[serde(default)]
    pub hypercalls: Vec<HypercallRow>,
    /// Instructions of every kind.
    #[serde(flatten)]
    pub instructions: Instructions,
    /// Instructions of every kind by executable section, by address; empty without `insns=FILE`.
    #[serde(default)]
    pub sections: Vec<SectionRow>,
}

/// The QEMU that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct QemuRow {
    /// The release; `null` if QEMU does not say.
    pub version: Option<String>,
    /// The version of the plugin API.
    pub plugin_api: i32,
    /// The emulated architecture: `i386` or `x86_64`.
    pub target: String,
}

/// One symbol file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SymbolFileRow {
    /// The file as the option names it.
    pub file: String,
    /// The reason why the file names nothing, or not all; `null` if it fits the guest.
    pub problem: Option<String>,
}

/// One vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct VcpuRow {
    /// QEMU's index of the vCPU, from 0.
    pub vcpu: u32,
    /// Port instructions that retired.
    pub executions: u64,
    /// Elements that port instructions moved.
    pub accesses: u64,
    /// Hypercalls made.
    pub hypercalls: u64,
    /// Instructions of every kind.
    #[serde(flatten)]
    pub instructions: Instructions,
}

/// Instructions of every kind, where they are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Instructions {
    /// Instructions that retired; `null` if they are not counted, or QEMU does not report faults.
    #[serde(default)]
    pub instructions: Option<u64>,
    /// Instructions that began, on a QEMU that does not report faults; otherwise `null`.
    #[serde(default)]
    pub instructions_unverified: Option<u64>,
}

impl Instructions {
    /// The instructions that retired, or that began if QEMU does not report which retired.
    pub fn counted(self) -> Option<u64> {
        self.instructions.or(self.instructions_unverified)
    }
}

/// One executable section of the file of the option `insns`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SectionRow {
    /// The name in the file.
    pub name: String,
    /// The linear address of the first byte, in hexadecimal.
    #[cfg_attr(test, schemars(schema_with = "json_schema::address"))]
    pub start: String,
    /// The linear address after the last byte, in hexadecimal.
    #[cfg_attr(test, schemars(schema_with = "json_schema::address"))]
    pub end: String,
    /// Instructions at these addresses.
    #[serde(flatten)]
    pub instructions: Instructions,
}

/// One of the 24 forms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FormRow {
    /// The form in Intel syntax.
    #[cfg_attr(test, schemars(schema_with = "json_schema::form"))]
    pub form: PortForm,
    /// Instructions that started; a restart belongs to the same attempt.
    pub attempts: u64,
    /// Instructions that retired.
    pub executions: u64,
    /// Elements moved to or from a port.
    pub accesses: u64,
    /// Bytes moved: accesses times the size.
    pub bytes: u64,
    /// Attempts that ended by a fault; `null` if QEMU does not report exceptions.
    pub faults: Option<u64>,
    /// Attempts that a hypervisor in the guest intercepted; `null` if pvio cannot see them.
    #[serde(default)]
    pub exits: Option<u64>,
    /// Attempts that retired or faulted; QEMU does not report which.
    pub unverified: u64,
}

/// Instructions of unknown mode that may have one of two forms.
///
/// Of a `rep` the form may be known, but not how wide the register with the count is: an attempt may lack its execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UndecidedFormRow {
    /// The forms in Intel syntax, with `|` between them.
    #[cfg_attr(test, schemars(schema_with = "json_schema::insn_form"))]
    pub form: InsnForm,
    /// The mode of the code, always `null`: not known.
    #[cfg_attr(test, schemars(schema_with = "json_schema::mode"))]
    pub mode: Option<Mode>,
    /// Instructions that started; a restart belongs to the same attempt.
    pub attempts: u64,
    /// Instructions that retired.
    pub executions: u64,
    /// Elements moved to or from a port.
    pub accesses: u64,
    /// Attempts that ended by a fault; `null` if QEMU does not report exceptions.
    pub faults: Option<u64>,
    /// Attempts that a hypervisor in the guest intercepted; `null` if pvio cannot see them.
    pub exits: Option<u64>,
    /// Attempts that retired or faulted; QEMU does not report which.
    pub unverified: u64,
}

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
    /// Bytes in one access; `null` if the mode of the code, which decides it, is not known.
    #[cfg_attr(test, schemars(schema_with = "json_schema::size"))]
    pub size: AccessSize,
    /// Whether anything was at the port at the time of the dump; `null` if QEMU does not say.
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
    /// Whether it was by hypercall.
    pub hypercall: bool,
}

impl FirstAccess {
    /// What made it, as a word of text: the address of the instruction, or `hypercall`; `-` if it is not known.
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

/// One port instruction: its address, mode and bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SiteRow {
    /// The linear address at run time, in hexadecimal; of code in a file, the first one at which it was seen.
    #[cfg_attr(test, schemars(schema_with = "json_schema::address"))]
    pub pc: String,
    /// The mode of the code: 16, 32 or 64 bits; `null` if QEMU does not say.
    #[cfg_attr(test, schemars(schema_with = "json_schema::mode"))]
    pub mode: Option<Mode>,
    /// The instruction's bytes, in hexadecimal, prefixes included.
    #[cfg_attr(test, schemars(schema_with = "json_schema::bytes"))]
    pub bytes: String,
    /// The instruction in Intel syntax.
    pub insn: String,
    /// The form of the instruction; both forms, with `|` between them, if the mode decides it and is not known.
    #[cfg_attr(test, schemars(schema_with = "json_schema::insn_form"))]
    pub form: InsnForm,
    /// The symbol at or before the address, and the offset from it; `null` if there is none.
    pub symbol: Option<String>,
    /// The source of the symbol: `guest kernel`, `firmware`, or a file as the option names it; `null` without a
    /// symbol.
    #[serde(default)]
    pub named_by: Option<String>,
    /// The file and the line of the source that the instruction is from, as `path/file.c:123`; absent without debug
    /// information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The path of the file that the instruction is mapped from, in the guest; absent if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The offset of the instruction in that file, in hexadecimal; absent without a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "json_schema::address"))]
    pub offset: Option<String>,
    /// What the instruction did.
    #[serde(flatten)]
    pub counts: Counts,
}

impl SiteRow {
    /// The symbol, or else the place in a file, as `/bin/true+0x1234`; `None` if neither is known.
    pub fn label(&self) -> Option<Cow<'_, str>> {
        let place = || Some(format!("{}+{}", self.file.as_deref()?, self.offset.as_deref()?));
        self.symbol.as_deref().map(Cow::Borrowed).or_else(|| place().map(Cow::Owned))
    }

    /// The label, and after it the name of the source file without directories, and the line: `send+0x3 (uart.c:45)`.
    pub fn label_with_source(&self) -> Option<Cow<'_, str>> {
        let label = self.label()?;
        let Some(source) = &self.source else { return Some(label) };
        let file = source.rsplit('/').next().unwrap_or(source);
        Some(Cow::Owned(format!("{label} ({file})")))
    }

    /// The linear address as a number; `None` if [`SiteRow::pc`] is not one.
    pub fn address(&self) -> Option<u64> {
        parse_address(&self.pc)
    }
}

/// The accesses of one site with one call chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CallerRow {
    /// The site's address, as in `sites`.
    #[cfg_attr(test, schemars(schema_with = "json_schema::address"))]
    pub pc: String,
    /// The site's mode.
    #[cfg_attr(test, schemars(schema_with = "json_schema::mode"))]
    pub mode: Option<Mode>,
    /// The site's bytes.
    #[cfg_attr(test, schemars(schema_with = "json_schema::bytes"))]
    pub bytes: String,
    /// The site's symbol.
    pub symbol: Option<String>,
    /// The callers, the innermost first.
    pub frames: Vec<FrameRow>,
    /// Why there are no more frames.
    pub end: ChainEnd,
    /// Elements moved.
    pub accesses: u64,
}

/// One caller in a call chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FrameRow {
    /// The linear address to which the call returns, or that of the interrupted instruction.
    #[cfg_attr(test, schemars(schema_with = "json_schema::address"))]
    pub pc: String,
    /// The symbol and the offset from it; `null` if there is none.
    pub symbol: Option<String>,
    /// The frame called nothing: an interrupt or an exception interrupted it. Absent if false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
}

/// Why a call chain has no more frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ChainEnd {
    /// The last frame was entered from user mode.
    User,
    /// The stack begins with the last frame.
    Bottom,
    /// The next caller cannot be known.
    Unknown,
    /// The chain has more frames than the option `callers` asks for, or than 64.
    Depth,
    /// There was no room for more chains: nothing is known of these.
    Dropped,
}

impl ChainEnd {
    /// The word in the dump.
    pub fn name(self) -> &'static str {
        match self {
            ChainEnd::User => "user",
            ChainEnd::Bottom => "bottom",
            ChainEnd::Unknown => "unknown",
            ChainEnd::Depth => "depth",
            ChainEnd::Dropped => "dropped",
        }
    }
}

/// Reads an address as the dump writes it: hexadecimal after `0x`.
pub(crate) fn parse_address(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| is_plain)
}

/// A process of a Linux guest, or another address space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProcessRow {
    /// The number of the process; `null` if no Linux process is known.
    pub pid: Option<u32>,
    /// The name of the thread; `null` without a number.
    pub comm: Option<String>,
    /// The physical address of the page table (CR3), in hexadecimal, where no process is known; `null` where one is, and
    /// for code without paging.
    #[cfg_attr(test, schemars(schema_with = "json_schema::optional_address"))]
    pub cr3: Option<String>,
    /// The number of Linux kernels that ran before, in the same machine.
    pub boot: u32,
    /// What its instructions did, and those of the kernel in its name.
    #[serde(flatten)]
    pub counts: Counts,
    /// Those of the accesses that supervisor code made.
    pub kernel_accesses: u64,
}

/// What one or several instructions did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Counts {
    /// Instructions that retired.
    pub executions: u64,
    /// Elements moved.
    pub accesses: u64,
    /// Attempts that retired or faulted; QEMU does not report which.
    pub unverified: u64,
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
    /// Bytes in one access; `null` if the mode of the code, which decides it, is not known.
    #[cfg_attr(test, schemars(schema_with = "json_schema::size"))]
    pub size: AccessSize,
    /// How often the site accessed the port.
    #[serde(flatten)]
    pub counts: AccessCounts,
}

/// How often ports were accessed by instruction.
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
    /// Bytes in one access; `null` if the mode of the code, which decides it, is not known.
    #[cfg_attr(test, schemars(schema_with = "json_schema::size"))]
    pub size: AccessSize,
    /// What was read or written; `null` if it is not known.
    pub value: Option<u32>,
    /// How often, by instruction and by hypercall.
    #[serde(flatten)]
    pub counts: AccessCounts,
    /// When for the first time; `null` in dumps that were merged.
    pub first: Option<ValueMoment>,
    /// When for the last time; `null` in dumps that were merged.
    pub last: Option<ValueMoment>,
}

/// A moment in a run: just before an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ValueMoment {
    /// Nanoseconds by the clock of `values_clock`.
    pub time_ns: u64,
    /// The accesses to all ports before, since the last reset of the statistics.
    pub accesses: u64,
}

/// One call of the hypercall interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HypercallRow {
    /// The name of the call; `unknown` for a number without a call.
    #[cfg_attr(test, schemars(with = "String"))]
    pub call: Call,
    /// How often it was made; an operation in a batch counts too.
    pub count: u64,
    /// Bytes moved between guest and host.
    pub bytes: u64,
    /// How often the guest was told to execute the instruction itself.
    pub declined: u64,
    /// How often the caller's ring was not allowed to make it.
    pub denied: u64,
    /// How often it was invalid, or the host failed.
    pub errors: u64,
}

/// A named window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WindowRow {
    /// The name that the guest gave it.
    pub name: String,
    /// How often it began.
    pub entries: u64,
    /// Whether it was still open at the time of the dump; its counts end there.
    pub open: bool,
    /// Whether `ports` was emptied, and `sites` and `accesses` were moved to their dropped counts, for
    /// want of room.
    #[serde(default)]
    pub rows_dropped: bool,
    /// The counts between each begin and its end.
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
