//! Makes a snapshot: the rows of a dump from the totals of one moment.

mod calls;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use pvio_stats::port_names::{region_name, usual_name};
use pvio_stats::trace::End;
use pvio_stats::{
    AccessCounts, AccessRow, Call, CallAt, Counts, FormRow, HypercallRow, Instructions, PortRow,
    ProcessRow, QemuRow, SCHEMA, SectionRow, SiteRow, Snapshot, SymbolFileRow, Tables,
    UndecidedFormRow, VcpuRow, WindowRow,
};

use self::calls::{call_access_rows, dropped_call_counts};
use super::access_counters::AccessKey;
use super::call_counters::CallRowId;
use super::call_sites::CallSites;
use super::chain_rows::ChainRows;
use super::counters::{SITE_DROPPED, port_of_row};
use super::first_accesses::add_firsts;
use super::instructions::InstructionCounts;
use super::moment::Moment;
use super::processes::{PROCESS_DROPPED, ProcessTable};
use super::sites::{SiteId, Sites};
use super::statistics::Statistics;
use super::totals::Totals;
use super::windows::Window;
use crate::processes::Owner;
use crate::qemu::{AtPort, Ended, HostInfo};
use crate::sections::Section;
use crate::symbols::{Names, SiteName, Symbols};
use crate::untrusted_text::escape;
use crate::x86::{InsnForm, Port, PortForm};

/// The reason for omitting the rows by vCPU where QEMU mixes them up.
const SHARED_THREAD: &str = "QEMU ran several vCPUs on one thread (thread=single or icount), \
                             where its plugin callbacks name the wrong vCPU";

/// The reason for having no rows by vCPU where nothing was counted.
const NO_VCPU: &str = "QEMU ran no vCPU under TCG, the only accelerator that calls plugins";

/// The facts about the machine in a snapshot, in addition to the counts.
#[derive(Clone, Copy)]
pub struct SnapshotContext<'a> {
    /// The QEMU that ran.
    pub host: &'a HostInfo,
    /// The reason why the machine ended; `None` while it runs.
    pub ended: Option<Ended>,
    /// The symbols that name sites.
    pub symbols: &'a Symbols,
    /// The kind of pvio's device at a port; `None` if pvio has none there.
    pub own_kind: &'a dyn Fn(Port) -> Option<&'static str>,
    /// Returns what QEMU's port bus has at a port.
    pub at_port: &'a dyn Fn(Port) -> AtPort,
}

impl Statistics {
    /// Makes a snapshot of what [`Statistics::read`] returned.
    pub fn snapshot_of(&self, moment: Moment, context: &SnapshotContext<'_>) -> Snapshot {
        self.snapshot_and(moment, context, |_, _| ()).0
    }

    /// As [`Statistics::snapshot_of`], with what a trace has at its end.
    pub fn snapshot_and_trace_end(
        &self,
        moment: Moment,
        context: &SnapshotContext<'_>,
    ) -> (Snapshot, End) {
        self.snapshot_and(moment, context, |names, snapshot| {
            self.trace_end(context, names, snapshot)
        })
    }

    fn snapshot_and<R>(
        &self,
        moment: Moment,
        context: &SnapshotContext<'_>,
        more: impl FnOnce(&Names<'_>, &Snapshot) -> R,
    ) -> (Snapshot, R) {
        let SnapshotContext { host, ended, .. } = *context;
        let Moment { all_counters, totals, windows, value_rows, values_dropped } = moment;
        let mut vcpus: Vec<u32> = all_counters.iter().map(|counters| counters.vcpu.0).collect();
        vcpus.sort_unstable();
        let vcpus_omitted = match (self.are_vcpus_mixed(), vcpus.is_empty()) {
            (true, _) => Some(SHARED_THREAD.into()),
            (false, true) => Some(NO_VCPU.into()),
            (false, false) => None,
        };
        if vcpus_omitted.is_some() {
            vcpus.clear();
        }
        let ran = totals.sites.iter().filter(|&(row, _)| row != SITE_DROPPED);
        let ran = ran.map(|(row, _)| &self.sites.get(SiteId(row as u32)).key);
        let ran = ran.map(|key| (key.pc, &key.bytes[..]));
        let ran: Vec<(u64, &[u8])> = ran.chain(self.calls_that_ran(&totals)).collect();
        let names = context.symbols.judge(&ran);
        let maker = RowMaker {
            context,
            names: &names,
            sites: &self.sites,
            call_sites: &self.call_sites,
            vcpus: &vcpus,
            instructions: self.instructions(),
            processes: self.processes().map(|table| &**table),
            chains: ChainRows::new(
                &all_counters,
                (&self.sites, &self.call_sites),
                &self.frame_names,
                &names,
            ),
        };
        let mut tables = maker.tables(&totals);
        add_firsts(&mut tables.ports, &all_counters, &self.sites, &names);
        let values = self.values.as_ref();
        let snapshot = Snapshot {
            schema: SCHEMA.into(),
            pvio: env!("CARGO_PKG_VERSION").into(),
            qemu: qemu_row(host),
            ended: ended_name(ended).into(),
            runs: 1,
            tables,
            vcpus_omitted,
            symbol_files: names
                .files()
                .map(|(file, problem)| SymbolFileRow { file, problem })
                .collect(),
            sites_dropped: self.sites.dropped(),
            values_clock: values.map(|values| values.clock().into()),
            values: value_rows,
            values_dropped,
            post_clock: None,
            post: Vec::new(),
            post_dropped: 0,
            windows: windows.into_iter().map(|window| maker.window(window)).collect(),
        };
        let more = more(&names, &snapshot);
        (snapshot, more)
    }
}

impl Statistics {
    /// The instructions of hypercalls that were counted: address and bytes.
    fn calls_that_ran(&self, totals: &Totals) -> Vec<(u64, &[u8])> {
        let sites = totals.call_sites.iter();
        let sites = sites.filter_map(|(row, _)| CallRowId(row as u32).site().row());
        let sites: BTreeSet<_> = sites.collect();
        let sites = sites.into_iter().map(|id| self.call_sites.get(id));
        let sites = sites.filter(|site| site.key.at == CallAt::Instruction);
        sites.map(|site| (site.key.pc, site.code)).collect()
    }
}

/// Describes QEMU for a dump.
pub fn qemu_row(host: &HostInfo) -> QemuRow {
    QemuRow {
        version: host.version.map(|version| version.to_string()),
        plugin_api: host.api.0,
        target: host.target.clone(),
    }
}

fn ended_name(ended: Option<Ended>) -> &'static str {
    let Some(ended) = ended else { return "running" };
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

/// Makes rows of totals.
struct RowMaker<'a> {
    context: &'a SnapshotContext<'a>,
    names: &'a Names<'a>,
    sites: &'a Sites,
    call_sites: &'a CallSites,
    /// The vCPUs that get a row.
    vcpus: &'a [u32],
    instructions: Option<&'a dyn InstructionCounts>,
    chains: ChainRows<'a>,
    processes: Option<&'a ProcessTable>,
}

impl RowMaker<'_> {
    fn window(&self, window: Window) -> WindowRow {
        let Window { name, entries, open, rows_dropped, totals } = window;
        WindowRow { name, entries, open, rows_dropped, tables: self.tables(&totals) }
    }

    fn tables(&self, totals: &Totals) -> Tables {
        let sites = self.sites_in_order(totals);
        let accesses = self.access_rows(totals, &sites);
        let (callers, call_callers) = self.chains.rows(totals);
        let call_rows = self.call_rows_in_order(totals);
        let dropped = process_counts(totals.processes.get(PROCESS_DROPPED));
        let [call_accesses_dropped] = totals.call_accesses_dropped.get(0);
        Tables {
            vcpus: self.vcpus.iter().map(|&vcpu| self.vcpu_row(vcpu, totals)).collect(),
            forms: PortForm::ALL.map(|form| self.form_row(form, totals)).into(),
            forms_undecided: self.undecided_form_rows(totals),
            ports: totals.ports.iter().map(|(row, counts)| self.port_row(row, counts)).collect(),
            accesses_dropped: access_counts(totals.accesses_dropped.get(0)),
            accesses,
            sites: sites.into_iter().map(|(id, counts)| self.site_row(id, counts)).collect(),
            callers,
            processes: self.process_rows(totals),
            processes_dropped_counts: dropped.0,
            processes_dropped_hypercall: dropped.2,
            sites_dropped_counts: counts_of_site(totals.sites.get(SITE_DROPPED)),
            hypercalls: totals.hypercalls.iter().filter_map(hypercall_row).collect(),
            call_accesses: call_access_rows(totals, &call_rows),
            call_accesses_dropped,
            call_sites_dropped_counts: dropped_call_counts(totals),
            call_sites: call_rows.into_iter().map(|row| self.call_site_row(row)).collect(),
            call_callers,
            instructions: self.instructions(totals.instructions.sum()[0].max(0) as u64),
            sections: self.section_rows(totals),
        }
    }

    fn vcpu_row(&self, vcpu: u32, totals: &Totals) -> VcpuRow {
        let [executions, accesses, hypercalls, instructions] = totals.vcpus.get(vcpu as usize);
        let instructions = self.instructions(instructions);
        VcpuRow { vcpu, executions, accesses, hypercalls, instructions }
    }

    fn section_rows(&self, totals: &Totals) -> Vec<SectionRow> {
        let sections = self.instructions.iter().flat_map(|counts| counts.sections().iter());
        let row = |(place, section): (usize, &Section)| SectionRow {
            name: section.name.clone(),
            start: format!("{:#x}", section.start),
            end: format!("{:#x}", section.end),
            instructions: self.instructions(totals.instructions.get(place)[0]),
        };
        sections.enumerate().map(row).collect()
    }

    /// Puts a count of instructions into the field that fits this QEMU.
    fn instructions(&self, count: u64) -> Instructions {
        let count = self.instructions.map(|_| count);
        match self.context.host.reports_exceptions() {
            true => Instructions { instructions: count, instructions_unverified: None },
            false => Instructions { instructions: None, instructions_unverified: count },
        }
    }

    fn form_row(&self, form: PortForm, totals: &Totals) -> FormRow {
        let [attempts, executions, accesses, faults, exits, unverified] =
            totals.forms.get(form.index());
        let host = self.context.host;
        FormRow {
            form,
            attempts,
            executions,
            accesses,
            bytes: accesses * u64::from(form.width().bytes()),
            faults: host.reports_exceptions().then_some(faults),
            exits: host.memory_is_readable.then_some(exits),
            unverified,
        }
    }

    /// The undecided forms that were counted.
    fn undecided_form_rows(&self, totals: &Totals) -> Vec<UndecidedFormRow> {
        let host = self.context.host;
        let counted = InsnForm::all_undecided().map(|form| (form, totals.forms.get(form.index())));
        let counted = counted.filter(|(_, counts)| *counts != [0; 6]);
        let row = |(form, counts): (InsnForm, [u64; 6])| {
            let [attempts, executions, accesses, faults, exits, unverified] = counts;
            UndecidedFormRow {
                form,
                mode: None,
                attempts,
                executions,
                accesses,
                faults: host.reports_exceptions().then_some(faults),
                exits: host.memory_is_readable.then_some(exits),
                unverified,
            }
        };
        counted.map(row).collect()
    }

    fn port_row(&self, row: usize, [accesses, unverified, hypercall]: [u64; 3]) -> PortRow {
        let (port, dir, size) = port_of_row(row);
        // pvio's devices never move, so all accesses went to the one that is there now.
        let is_own = (self.context.own_kind)(port).is_some();
        let (name, served) = identity_of_port(self.context, port);
        PortRow {
            port,
            name,
            dir,
            size,
            served,
            first: None,
            device: if is_own { accesses } else { 0 },
            qemu: if is_own { 0 } else { accesses },
            hypercall,
            unverified,
        }
    }

    /// The rows of processes, by kernel, number and name; address spaces come last.
    fn process_rows(&self, totals: &Totals) -> Vec<ProcessRow> {
        let Some(table) = self.processes else { return Vec::new() };
        let rows = totals.processes.iter().filter(|&(row, _)| row != PROCESS_DROPPED);
        let mut rows: Vec<_> = rows.map(|(row, counts)| (table.get(row), counts)).collect();
        rows.sort_unstable_by_key(|(process, _)| *process);
        rows.into_iter()
            .map(|((boot, owner), counts)| {
                let (counts, kernel_accesses, hypercall) = process_counts(counts);
                let (pid, comm, cr3) = match owner {
                    Owner::Process { pid, comm } => (Some(pid), Some(comm.text()), None),
                    Owner::AddressSpace(table) => (None, None, Some(format!("{table:#x}"))),
                    Owner::Unpaged => (None, None, None),
                };
                ProcessRow { pid, comm, cr3, boot, counts, kernel_accesses, hypercall }
            })
            .collect()
    }

    /// The sites that ran, in the order of their rows.
    fn sites_in_order(&self, totals: &Totals) -> Vec<(SiteId, Counts)> {
        let by_port = totals.accesses.iter().map(|(key, _)| AccessKey(key as u32).site());
        let by_site = totals.sites.iter().filter(|&(row, _)| row != SITE_DROPPED);
        // A count that was made too early and taken back may leave a port without its site.
        let ran: BTreeSet<SiteId> =
            by_site.map(|(row, _)| SiteId(row as u32)).chain(by_port).collect();
        let counts = |id: SiteId| counts_of_site(totals.sites.get(id.0 as usize));
        let mut ran: Vec<_> = ran.into_iter().map(|id| (id, counts(id))).collect();
        ran.sort_unstable_by_key(|&(id, _)| {
            let site = self.sites.get(id);
            let place = site.place.map(|place| (self.sites.path(place.file), place.offset));
            let address = if place.is_some() { None } else { Some(site.key.pc) };
            (place.is_none(), place, address, site.key.mode, &site.key.bytes, site.boot)
        });
        ran
    }

    fn site_row(&self, id: SiteId, counts: Counts) -> SiteRow {
        let site = self.sites.get(id);
        let key = &site.key;
        let insn = site.form.intel_syntax(&key.bytes, key.mode, key.pc);
        let name = self.sites.name_in(id, self.names);
        let source = name.as_ref().and_then(|name| name.source.clone());
        let (symbol, named_by) =
            name.map(|SiteName { symbol, named_by, .. }| (symbol, named_by)).unzip();
        SiteRow {
            pc: format!("{:#x}", key.pc),
            mode: key.mode,
            bytes: key.bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            insn,
            privilege: self.sites.privilege(id),
            form: site.form,
            symbol,
            named_by,
            source,
            file: site.place.map(|place| escape(self.sites.path(place.file).as_bytes())),
            offset: site.place.map(|place| format!("{:#x}", place.offset)),
            counts,
        }
    }

    /// The accesses of these sites by port, in the order of the sites.
    fn access_rows(&self, totals: &Totals, sites: &[(SiteId, Counts)]) -> Vec<AccessRow> {
        let indexes: HashMap<SiteId, usize> =
            sites.iter().enumerate().map(|(index, &(id, _))| (id, index)).collect();
        let row = |(key, counts): (usize, [u64; 2])| {
            let key = AccessKey(key as u32);
            let form = self.sites.get(key.site()).form;
            AccessRow {
                site: indexes[&key.site()],
                port: key.port(),
                dir: form.direction(),
                size: form.size(),
                counts: access_counts(counts),
            }
        };
        let mut rows: Vec<_> = totals.accesses.iter().map(row).collect();
        // Within a site, the totals have them by port.
        rows.sort_by_key(|row| row.site);
        rows
    }
}

/// Returns the name of the device at a port, and whether anything is there.
pub(super) fn identity_of_port(
    context: &SnapshotContext<'_>,
    port: Port,
) -> (Option<Cow<'static, str>>, Option<bool>) {
    let at_port = (context.at_port)(port);
    let own_kind = (context.own_kind)(port).map(Cow::Borrowed);
    let name = own_kind.or_else(|| match &at_port {
        AtPort::Region(region) => Some(region_name(port, region)),
        AtPort::Nothing | AtPort::Unknown => usual_name(port),
    });
    let served = match at_port {
        AtPort::Unknown => None,
        AtPort::Nothing => Some(false),
        AtPort::Region(_) => Some(true),
    };
    (name, served)
}

fn access_counts([accesses, unverified]: [u64; 2]) -> AccessCounts {
    AccessCounts { accesses, unverified }
}

fn process_counts(
    [executions, accesses, unverified, kernel, hypercall]: [u64; 5],
) -> (Counts, u64, u64) {
    (Counts { executions, accesses, unverified }, kernel, hypercall)
}

fn counts_of_site([executions, accesses, unverified]: [u64; 3]) -> Counts {
    Counts { executions, accesses, unverified }
}

fn hypercall_row((row, counts): (usize, [u64; 5])) -> Option<HypercallRow> {
    let [count, bytes, declined, denied, errors] = counts;
    let call = Call::ALL[row];
    (count > 0).then_some(HypercallRow { call, count, bytes, declined, denied, errors })
}
