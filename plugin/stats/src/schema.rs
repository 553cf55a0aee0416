//! The types of schema `pvio.stats/1`, the JSON dump.
//!
//! `docs/statistics.md` defines every field; `schema/pvio.stats-1.schema.json` is the same as a JSON
//! Schema. Fields may be added. None changes its meaning without a new schema, so readers ignore
//! fields that they do not know, and fields that older versions of pvio did not write have defaults.

mod calls;
mod ports;
mod post;
mod sites;

use std::borrow::Cow;
use std::ops::Deref;

use pvio_x86::{InsnForm, Mode, PortForm};
use serde::{Deserialize, Serialize};

use crate::Call;
#[cfg(test)]
use crate::json_schema;

pub use self::calls::{CallAccessRow, CallAt, CallCallerRow, CallCounts, CallSiteRow};
pub use self::ports::{AccessCounts, AccessRow, FirstAccess, PortRow, ValueMoment, ValueRow};
pub use self::post::PostRow;
pub(crate) use self::sites::parse_address;
pub use self::sites::{CallerRow, ChainEnd, FrameRow, Privilege, SiteRow};

/// The name of the schema.
pub const SCHEMA: &str = "pvio.stats/1";

/// The JSON Schema of dumps.
pub const JSON_SCHEMA: &str = include_str!("../schema/pvio.stats-1.schema.json");

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
    /// The number of translated instructions that got no row in `sites`, for lack of room.
    pub sites_dropped: u64,
    /// The clock of the times in `values`: `guest` or `host`; `null` without the option `values`, and in dumps that were merged.
    #[serde(default)]
    pub values_clock: Option<Cow<'static, str>>,
    /// The values that were read and written at the ports of the option `values`, by port.
    #[serde(default)]
    pub values: Vec<ValueRow>,
    /// The accesses whose values did not fit into `values`.
    #[serde(default)]
    pub values_dropped: AccessCounts,
    /// The clock of the times in `post`: `guest` or `host`; `null` without a device `post`, and in dumps that were merged.
    #[serde(default)]
    pub post_clock: Option<Cow<'static, str>>,
    /// The codes that were written to the ports of devices `post`, in their order; empty in dumps that were merged.
    #[serde(default)]
    pub post: Vec<PostRow>,
    /// The codes before the last that did not fit into `post`.
    #[serde(default)]
    pub post_dropped: u64,
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
    /// The accesses by hypercall of all processes without a row in `processes`.
    #[serde(default)]
    pub processes_dropped_hypercall: u64,
    /// Every hypercall that was made, in the order of the ABI's numbers.
    #[serde(default)]
    pub hypercalls: Vec<HypercallRow>,
    /// Every call site and call that it made, by address.
    #[serde(default)]
    pub call_sites: Vec<CallSiteRow>,
    /// The counts of all hypercalls without a row in `call_sites`.
    #[serde(default)]
    pub call_sites_dropped_counts: CallCounts,
    /// Every row of `call_sites` and port that it accessed, by row.
    #[serde(default)]
    pub call_accesses: Vec<CallAccessRow>,
    /// The accesses by hypercall without a row in `call_accesses`.
    #[serde(default)]
    pub call_accesses_dropped: u64,
    /// The accesses of each call site by call chain; empty without the option `callers`.
    #[serde(default)]
    pub call_callers: Vec<CallCallerRow>,
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
    /// The counts of its instructions, and of the kernel's on its behalf.
    #[serde(flatten)]
    pub counts: Counts,
    /// The accesses among them that supervisor code made.
    pub kernel_accesses: u64,
    /// Its accesses by hypercall, and the kernel's on its behalf. The other counts are of instructions.
    #[serde(default)]
    pub hypercall: u64,
}

/// The counts of one or several instructions.
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

/// One call of the hypercall interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HypercallRow {
    /// The name of the call; `unknown` for a number without a call.
    #[cfg_attr(test, schemars(with = "String"))]
    pub call: Call,
    /// The number of calls; an operation in a batch counts too.
    pub count: u64,
    /// Bytes moved between guest and host.
    pub bytes: u64,
    /// Calls that told the guest to execute the instruction itself.
    pub declined: u64,
    /// Calls that the caller's ring was not allowed to make.
    pub denied: u64,
    /// Calls that were invalid, or at which the host failed.
    pub errors: u64,
}

/// A named window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WindowRow {
    /// The name that the guest gave it.
    pub name: String,
    /// The number of times it began.
    pub entries: u64,
    /// True if it was still open at the time of the dump; its counts end there.
    pub open: bool,
    /// True if `ports` was emptied, and `sites`, `accesses` and those of calls were moved to their dropped counts, for
    /// lack of room.
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
