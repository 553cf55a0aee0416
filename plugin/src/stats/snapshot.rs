//! All counters at one moment, in the shape of the JSON dump: schema `pvio.stats/1`.
//!
//! Fields may be added; none changes its meaning without a new schema.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::counters::{FormColumn, PORT_ROWS, PortColumn, SiteColumn, port_of_row};
use super::{SiteId, Statistics, Tally, port_name};
use crate::qemu::{Ended, HostInfo};
use crate::symbols::Symbols;
use crate::x86::{Direction, Mode, Port, PortForm, Width, intel_syntax};

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
    /// `exit`, or `unknown` where QEMU does not tell.
    pub ended: Cow<'static, str>,
    /// A row for each vCPU that ran; empty when they cannot be told apart.
    pub vcpus: Vec<VcpuRow>,
    /// Why `vcpus` is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus_omitted: Option<Cow<'static, str>>,
    /// All 24, in the order of [`PortForm::ALL`].
    pub forms: Vec<FormRow>,
    /// Every port, direction and size that was used, by port.
    pub ports: Vec<PortRow>,
    /// Every site that ran, by address.
    pub sites: Vec<SiteRow>,
    /// How many translated instructions got no row in `sites`, for want of room.
    pub sites_dropped: u64,
    /// What the instructions without a row did.
    pub sites_dropped_counts: Counts,
    /// Hypercalls by call.
    pub hypercalls: Vec<HypercallRow>,
    /// Named windows.
    pub windows: Vec<WindowRow>,
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

/// One vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuRow {
    /// QEMU's number of it.
    pub vcpu: u32,
    /// Instructions that retired.
    pub executions: u64,
    /// Elements moved.
    pub accesses: u64,
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
    /// Attempts that retired or faulted for want of privilege, where QEMU does not report which.
    pub unverified: u64,
}

/// One port, in one direction, at one size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRow {
    /// The address.
    pub port: Port,
    /// What a PC has there, if something.
    pub name: Option<Cow<'static, str>>,
    /// Which way.
    pub dir: Direction,
    /// Bytes in an access.
    pub size: Width,
    /// Whether anything was at the port when the machine ended; `null` where QEMU does not tell.
    pub served: Option<bool>,
    /// Accesses that a device of pvio's served.
    pub device: u64,
    /// Accesses that QEMU served.
    pub qemu: u64,
    /// Accesses that came as hypercalls.
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
    /// Its name.
    pub call: String,
    /// How often it was made.
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
    /// How often it was entered.
    pub entries: u64,
    /// Whether it was open at the end.
    pub open: bool,
}

/// What the vCPU rows cannot show, and why.
const SHARED_THREAD: &str = "QEMU ran several vCPUs on one thread (thread=single or icount), \
                             where its plugin callbacks name the wrong one";

/// Why nothing at all was counted.
const NO_VCPU: &str = "QEMU ran no vCPU under TCG, the only accelerator that calls plugins";

/// What a snapshot is told of the machine, beside the counters.
pub struct Surroundings<'a> {
    /// The QEMU that ran.
    pub host: &'a HostInfo,
    /// How the machine ended.
    pub ended: Ended,
    /// Names for sites.
    pub symbols: &'a Symbols,
    /// Whether a device of pvio's is at a port.
    pub is_own: &'a dyn Fn(Port) -> bool,
    /// Whether anything is at a port; `None` where QEMU does not tell.
    pub is_served: &'a dyn Fn(Port) -> Option<bool>,
}

impl Statistics {
    /// Everything as it stands now.
    pub fn snapshot(&self, surroundings: &Surroundings<'_>) -> Snapshot {
        let Surroundings { host, ended, symbols, .. } = *surroundings;
        let tallies = self.lock();
        let all: Vec<&Tally> = tallies.iter().map(|(_, tally)| &**tally).collect();
        let mixed = self.vcpus_mixed.load(Ordering::Relaxed);
        let mut vcpus: Vec<VcpuRow> = match mixed {
            true => Vec::new(),
            false => tallies.iter().map(|(index, tally)| vcpu_row(index.0, tally)).collect(),
        };
        vcpus.sort_by_key(|row| row.vcpu);
        Snapshot {
            schema: SCHEMA.into(),
            pvio: env!("CARGO_PKG_VERSION").into(),
            qemu: QemuRow {
                version: host.version.map(|version| version.to_string()),
                plugin_api: host.api.0,
                target: host.target.clone(),
            },
            ended: ended_name(ended).into(),
            vcpus,
            vcpus_omitted: match (mixed, tallies.is_empty()) {
                (true, _) => Some(SHARED_THREAD.into()),
                (false, true) => Some(NO_VCPU.into()),
                (false, false) => None,
            },
            forms: PortForm::ALL.map(|form| form_row(form, &all, host.reports_exceptions())).into(),
            ports: (0..PORT_ROWS).filter_map(|row| port_row(row, &all, surroundings)).collect(),
            sites: self.site_rows(&all, symbols),
            sites_dropped: self.sites.dropped(),
            sites_dropped_counts: counts_of_site(None, &all),
            hypercalls: Vec::new(),
            windows: Vec::new(),
        }
    }

    fn site_rows(&self, tallies: &[&Tally], symbols: &Symbols) -> Vec<SiteRow> {
        let mut ran: Vec<_> = self
            .sites
            .iter()
            .map(|(id, site)| (site, counts_of_site(Some(id), tallies)))
            .filter(|(_, counts)| *counts != Counts::default())
            .collect();
        ran.sort_by_key(|(site, _)| (site.key.pc, site.key.mode));
        ran.into_iter()
            .map(|(site, counts)| {
                let key = &site.key;
                // Without the mode the text is as good as any: it is one in which the bytes decode.
                let mode = key.mode.unwrap_or(Mode::Bits32);
                SiteRow {
                    pc: format!("{:#x}", key.pc),
                    mode: key.mode,
                    bytes: key.bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                    insn: intel_syntax(&key.bytes, mode, key.pc),
                    form: site.form,
                    symbol: symbols.name(key.pc),
                    counts,
                }
            })
            .collect()
    }
}

fn ended_name(ended: Ended) -> &'static str {
    match ended {
        Ended::Shutdown => "shutdown",
        Ended::Reset => "reset",
        Ended::Panic => "panic",
        Ended::Quit => "quit",
        Ended::Signal => "signal",
        Ended::Ui => "ui",
        Ended::HostError => "host-error",
        Ended::Exit => "exit",
        Ended::Unknown => "unknown",
    }
}

fn sum(tallies: &[&Tally], counter: impl Fn(&Tally) -> u64) -> u64 {
    tallies.iter().map(|tally| counter(tally)).sum()
}

fn vcpu_row(vcpu: u32, tally: &Tally) -> VcpuRow {
    let total = |column| PortForm::ALL.into_iter().map(|form| tally.form(form, column)).sum();
    VcpuRow {
        vcpu,
        executions: total(FormColumn::Executions),
        accesses: total(FormColumn::Accesses),
    }
}

fn form_row(form: PortForm, tallies: &[&Tally], faults_known: bool) -> FormRow {
    let total = |column| sum(tallies, |tally| tally.form(form, column));
    let accesses = total(FormColumn::Accesses);
    FormRow {
        form,
        attempts: total(FormColumn::Attempts),
        executions: total(FormColumn::Executions),
        accesses,
        bytes: accesses * u64::from(form.width().bytes()),
        faults: faults_known.then(|| total(FormColumn::Faults)),
        unverified: total(FormColumn::Unverified),
    }
}

fn port_row(row: usize, tallies: &[&Tally], surroundings: &Surroundings<'_>) -> Option<PortRow> {
    let accesses = sum(tallies, |tally| tally.port(row, PortColumn::Accesses));
    let unverified = sum(tallies, |tally| tally.port(row, PortColumn::Unverified));
    if accesses + unverified == 0 {
        return None;
    }
    let (port, dir, size) = port_of_row(row);
    // Devices stay where they are for as long as the machine runs.
    let is_own = (surroundings.is_own)(port);
    Some(PortRow {
        port,
        name: port_name(port).map(Cow::Borrowed),
        dir,
        size,
        served: (surroundings.is_served)(port),
        device: if is_own { accesses } else { 0 },
        qemu: if is_own { 0 } else { accesses },
        hypercall: 0,
        unverified,
    })
}

fn counts_of_site(site: Option<SiteId>, tallies: &[&Tally]) -> Counts {
    let total = |column| sum(tallies, |tally| tally.site(site, column));
    Counts {
        executions: total(SiteColumn::Executions),
        accesses: total(SiteColumn::Accesses),
        unverified: total(SiteColumn::Unverified),
    }
}
