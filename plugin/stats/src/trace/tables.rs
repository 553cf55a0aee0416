//! Makes a dump's rows from the counts, in the same order as the plugin.

mod calls;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use pvio_x86::{InsnForm, Port, PortForm};

use self::calls::{call_access_rows, dropped_call_counts};
use super::decode::Definitions;
use super::describe::{End, FrameName, SiteNames};
use super::event::{Owner, SiteDefinition};
use super::file::Trace;
use super::tally::{Source, Tally, Totals, column, form, port};
use crate::port_names::usual_name;
use crate::{
    AccessCounts, AccessRow, Call, CallerRow, ChainEnd, Counts, FirstAccess, FormRow, FrameRow,
    HypercallRow, PortRow, Privilege, ProcessRow, SCHEMA, SiteRow, Snapshot, Tables,
    UndecidedFormRow, VcpuRow, WindowRow,
};

/// Makes the dump.
pub(super) fn snapshot(trace: &Trace, tally: &Tally, definitions: &Definitions) -> Snapshot {
    let head = trace.head();
    let none = End::default();
    let end = trace.end().unwrap_or(&none);
    let mut vcpus: Vec<u32> = match trace.end() {
        Some(end) => end.vcpus.clone(),
        None => trace.vcpus().map(|(_, vcpu)| vcpu).collect(),
    };
    vcpus.sort_unstable();
    let vcpus_omitted = end.vcpus_omitted.clone().or_else(|| {
        vcpus.is_empty().then_some(Cow::Borrowed("the trace has no events of any vCPU"))
    });
    if vcpus_omitted.is_some() {
        vcpus.clear();
    }
    let maker = RowMaker {
        trace,
        definitions,
        vcpus: &vcpus,
        both: end.sites_of_both.iter().copied().collect(),
        names: end.sites.iter().map(|names| (names.site, names)).collect(),
        call_names: end.call_sites.iter().map(|names| (names.site, names)).collect(),
        chains: Chains::new(trace, tally, definitions),
    };
    let mut tables = maker.tables(&tally.totals);
    maker.add_firsts(&mut tables.ports, tally);
    let windows = tally.windows.iter().map(|window| WindowRow {
        name: window.name.to_string(),
        entries: window.entries,
        open: window.open,
        rows_dropped: window.rows_dropped,
        tables: maker.tables(&window.totals),
    });
    Snapshot {
        schema: SCHEMA.into(),
        pvio: head.pvio.clone(),
        qemu: head.qemu.clone(),
        ended: match trace.end() {
            Some(end) => end.ended.clone(),
            None => "unknown".into(),
        },
        runs: 1,
        tables,
        vcpus_omitted,
        symbol_files: end.symbol_files.clone(),
        sites_dropped: end.sites_dropped,
        values_clock: None,
        values: Vec::new(),
        values_dropped: AccessCounts::default(),
        post_clock: None,
        post: Vec::new(),
        post_dropped: 0,
        windows: windows.collect(),
    }
}

/// The call chains of all stacks.
struct Chains<'a> {
    frames: Cow<'a, [FrameName]>,
    by_stack: HashMap<(u32, u32), (Vec<usize>, ChainEnd)>,
}

impl<'a> Chains<'a> {
    fn new(trace: &'a Trace, tally: &Tally, definitions: &Definitions) -> Chains<'a> {
        if let Some(end) = trace.end() {
            let stacks = end.stacks.iter();
            let by_stack = stacks
                .map(|stack| ((stack.stream, stack.stack), (stack.frames.clone(), stack.end)));
            return Chains { frames: Cow::Borrowed(&end.frames), by_stack: by_stack.collect() };
        }
        // The end is missing: what was unwound when a stack was traced has addresses.
        let windows = tally.windows.iter().map(|window| &window.totals);
        let totals = windows.chain([&tally.totals]);
        let both = |totals: &'_ Totals| {
            let keys = totals.stacks.keys().chain(totals.call_stacks.keys());
            keys.copied().collect::<Vec<_>>()
        };
        let stacks: BTreeSet<_> = totals.flat_map(both).collect();
        let mut numbers = BTreeMap::new();
        let mut frames = Vec::new();
        let mut by_stack = HashMap::new();
        for &(_, (stream, stack)) in &stacks {
            let Some(definition) = definitions.stack(stream, stack) else { continue };
            let Some(end) = definition.end else { continue };
            let chain = definition.frames.iter().map(|&(pc, interrupted)| {
                *numbers.entry((pc, interrupted)).or_insert_with(|| {
                    frames.push(FrameName { pc, symbol: None, interrupted });
                    frames.len() - 1
                })
            });
            by_stack.insert((stream, stack), (chain.collect(), end));
        }
        Chains { frames: Cow::Owned(frames), by_stack }
    }
}

struct RowMaker<'a> {
    trace: &'a Trace,
    definitions: &'a Definitions,
    vcpus: &'a [u32],
    /// The sites that ran with both privileges.
    both: HashSet<u32>,
    names: HashMap<u32, &'a SiteNames>,
    call_names: HashMap<u32, &'a SiteNames>,
    chains: Chains<'a>,
}

/// Negative counts are 0.
fn clamp<const N: usize>(counts: &[i64; N]) -> [u64; N] {
    counts.map(|count| count.try_into().unwrap_or(0))
}

fn counts([executions, accesses, unverified]: [u64; 3]) -> Counts {
    Counts { executions, accesses, unverified }
}

impl RowMaker<'_> {
    fn tables(&self, totals: &Totals) -> Tables {
        let sites = self.sites_in_order(totals);
        let of = |vcpu: &u32| totals.vcpus.get(vcpu).map(clamp).unwrap_or_default();
        let vcpu_row = |vcpu: &u32| {
            let [executions, accesses, hypercalls] = of(vcpu);
            let instructions = Default::default();
            VcpuRow { vcpu: *vcpu, executions, accesses, hypercalls, instructions }
        };
        let [accesses, unverified] = clamp(&totals.accesses_dropped);
        let dropped = totals.processes.get(&None).map(clamp).unwrap_or_default();
        let call_rows = self.call_sites_in_order(totals);
        let [call_accesses_dropped] = clamp(&totals.call_accesses_dropped);
        Tables {
            vcpus: self.vcpus.iter().map(vcpu_row).collect(),
            forms: PortForm::ALL.map(|form| self.form_row(form, totals)).into(),
            forms_undecided: self.undecided_form_rows(totals),
            ports: self.port_rows(totals),
            accesses_dropped: AccessCounts { accesses, unverified },
            accesses: self.access_rows(totals, &sites),
            sites: sites
                .iter()
                .map(|&(site, definition)| self.site_row(site, definition, totals))
                .collect(),
            callers: self.caller_rows(totals),
            processes: self.process_rows(totals),
            processes_dropped_counts: counts([dropped[0], dropped[1], dropped[2]]),
            sites_dropped_counts: counts(totals.sites.get(&None).map(clamp).unwrap_or_default()),
            processes_dropped_hypercall: dropped[column::HYPERCALL],
            hypercalls: hypercall_rows(totals),
            call_sites_dropped_counts: dropped_call_counts(totals),
            call_accesses: call_access_rows(totals, &call_rows),
            call_accesses_dropped,
            call_callers: self.call_caller_rows(totals),
            call_sites: call_rows.into_iter().map(|row| self.call_site_row(row)).collect(),
            instructions: Default::default(),
            sections: Vec::new(),
        }
    }

    fn form_row(&self, form: PortForm, totals: &Totals) -> FormRow {
        let counts = clamp(&totals.forms[form.index()]);
        let head = self.trace.head();
        FormRow {
            form,
            attempts: counts[form::ATTEMPTS],
            executions: counts[form::EXECUTIONS],
            accesses: counts[form::ACCESSES],
            bytes: counts[form::ACCESSES] * u64::from(form.width().bytes()),
            faults: head.reports_exceptions.then_some(counts[form::FAULTS]),
            exits: head.reads_memory.then_some(counts[form::EXITS]),
            unverified: counts[form::UNVERIFIED],
        }
    }

    fn undecided_form_rows(&self, totals: &Totals) -> Vec<UndecidedFormRow> {
        let head = self.trace.head();
        let rows = InsnForm::all_undecided().filter_map(|form| {
            let counts = clamp(&totals.forms[form.index()]);
            (counts != [0; 6]).then(|| UndecidedFormRow {
                form,
                mode: None,
                attempts: counts[form::ATTEMPTS],
                executions: counts[form::EXECUTIONS],
                accesses: counts[form::ACCESSES],
                faults: head.reports_exceptions.then_some(counts[form::FAULTS]),
                exits: head.reads_memory.then_some(counts[form::EXITS]),
                unverified: counts[form::UNVERIFIED],
            })
        });
        rows.collect()
    }

    fn port_rows(&self, totals: &Totals) -> Vec<PortRow> {
        let mut rows: Vec<_> =
            totals.ports.iter().map(|(key, counts)| (*key, clamp(counts))).collect();
        rows.retain(|(_, counts)| *counts != [0; 3]);
        rows.sort_unstable_by_key(|&(key, _)| key);
        let known: HashMap<Port, _> = match self.trace.end() {
            Some(end) => end.ports.iter().map(|port| (port.port, port)).collect(),
            None => HashMap::new(),
        };
        let row = |((port, dir, size), counts): (_, [u64; 3])| {
            let own = self.trace.head().device_at(port);
            let known = known.get(&port);
            let name = match (known, own) {
                (Some(known), _) => known.name.clone().map(Cow::Owned),
                (None, Some(kind)) => Some(Cow::Owned(kind.to_owned())),
                (None, None) => usual_name(port),
            };
            let accesses = counts[port::ACCESSES];
            PortRow {
                port,
                name,
                dir,
                size,
                served: known.and_then(|known| known.served),
                first: None,
                device: if own.is_some() { accesses } else { 0 },
                qemu: if own.is_some() { 0 } else { accesses },
                hypercall: counts[port::HYPERCALL],
                unverified: counts[port::UNVERIFIED],
            }
        };
        rows.into_iter().map(row).collect()
    }

    fn add_firsts(&self, rows: &mut [PortRow], tally: &Tally) {
        let mut by_port: HashMap<_, (u64, Source)> = HashMap::new();
        for (&(_, key), firsts) in &tally.firsts {
            if let Some(first) = firsts.first() {
                let earliest = by_port.entry(key).or_insert(first);
                if first.0 < earliest.0 {
                    *earliest = first;
                }
            }
        }
        let mut firsts = BTreeMap::new();
        for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.accesses() > 0) {
            if let Some(&(order, source)) = by_port.get(&(row.port, row.dir, row.size)) {
                firsts.insert((order, index), source);
            }
        }
        for (rank, ((_, index), source)) in (1..).zip(firsts) {
            let site = match source {
                Source::Site(site) => site,
                Source::Hypercall => None,
            };
            let pc = site.and_then(|site| self.definitions.site(site)).map(|site| site.pc);
            rows[index].first = Some(FirstAccess {
                rank,
                pc: pc.map(|pc| format!("{pc:#x}")),
                symbol: site.and_then(|site| self.symbol(site)),
                hypercall: source == Source::Hypercall,
            });
        }
    }

    fn symbol(&self, site: u32) -> Option<String> {
        self.names.get(&site).map(|names| names.symbol.clone())
    }

    /// The sites that ran, in the order of their rows.
    fn sites_in_order(&self, totals: &Totals) -> Vec<(u32, &SiteDefinition)> {
        let positive = |counts: &[i64]| counts.iter().any(|&count| count > 0);
        let by_site = totals.sites.iter().filter(|(_, counts)| positive(&counts[..]));
        let by_port = totals.accesses.iter().filter(|(_, counts)| positive(&counts[..]));
        let ran: BTreeSet<u32> = by_site
            .filter_map(|(&site, _)| site)
            .chain(by_port.map(|(&(site, _), _)| site))
            .collect();
        let defined = ran.into_iter().filter_map(|site| Some((site, self.definitions.site(site)?)));
        let mut sites: Vec<_> = defined.collect();
        sites.sort_by_key(|(_, site)| {
            let address = if site.place.is_some() { None } else { Some(site.pc) };
            (site.place.is_none(), &site.place, address, site.mode, &site.bytes, site.boot)
        });
        sites
    }

    fn site_row(&self, site: u32, definition: &SiteDefinition, totals: &Totals) -> SiteRow {
        let SiteDefinition { pc, mode, form, bytes, place, privilege, .. } = definition;
        let names = self.names.get(&site);
        SiteRow {
            pc: format!("{pc:#x}"),
            mode: *mode,
            bytes: hex(bytes),
            insn: form.intel_syntax(bytes, *mode, *pc),
            privilege: if self.both.contains(&site) { Some(Privilege::Both) } else { *privilege },
            form: *form,
            symbol: names.map(|names| names.symbol.clone()),
            named_by: names.map(|names| names.named_by.clone()),
            source: names.and_then(|names| names.source.clone()),
            file: place.as_ref().map(|place| place.path.clone()),
            offset: place.as_ref().map(|place| format!("{:#x}", place.offset)),
            counts: counts(totals.sites.get(&Some(site)).map(clamp).unwrap_or_default()),
        }
    }

    fn access_rows(&self, totals: &Totals, sites: &[(u32, &SiteDefinition)]) -> Vec<AccessRow> {
        let sites: HashMap<u32, (usize, InsnForm)> = (sites.iter().enumerate())
            .map(|(index, &(site, definition))| (site, (index, definition.form)))
            .collect();
        let rows = totals.accesses.iter().filter_map(|(&(site, port), counts)| {
            let [accesses, unverified] = clamp(counts);
            let &(index, form) = sites.get(&site)?;
            ([accesses, unverified] != [0; 2]).then_some(AccessRow {
                site: index,
                port,
                dir: form.direction(),
                size: form.size(),
                counts: AccessCounts { accesses, unverified },
            })
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable_by_key(|row| (row.site, row.port));
        rows
    }

    fn process_rows(&self, totals: &Totals) -> Vec<ProcessRow> {
        let rows = totals.processes.iter().filter_map(|(&number, counts)| {
            let counts = clamp(counts);
            let definition = self.definitions.process(number?)?;
            (counts != [0; 5]).then_some((definition, counts))
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|&(definition, _)| definition);
        let row = |(definition, all): (&super::ProcessDefinition, [u64; 5])| {
            let (pid, comm, cr3) = match &definition.owner {
                Owner::Process { pid, comm } => (Some(*pid), Some(comm.clone()), None),
                Owner::AddressSpace(table) => (None, None, Some(format!("{table:#x}"))),
                Owner::Unpaged => (None, None, None),
            };
            let kernel_accesses = all[column::KERNEL];
            let counts = counts([all[0], all[1], all[2]]);
            let (boot, hypercall) = (definition.boot, all[column::HYPERCALL]);
            ProcessRow { pid, comm, cr3, boot, counts, kernel_accesses, hypercall }
        };
        rows.into_iter().map(row).collect()
    }

    fn frame(&self, index: usize) -> Option<FrameRow> {
        let FrameName { pc, symbol, interrupted } = self.chains.frames.get(index)?;
        let (symbol, interrupted) = (symbol.clone(), *interrupted);
        Some(FrameRow { pc: format!("{pc:#x}"), symbol, interrupted })
    }

    /// The rows of call chains, by site, and of each the most frequent first.
    fn caller_rows(&self, totals: &Totals) -> Vec<CallerRow> {
        let mut chains: BTreeMap<(u32, &[usize], ChainEnd), u64> = BTreeMap::new();
        for (&(site, stack), counts) in &totals.stacks {
            let [accesses] = clamp(counts);
            let (frames, end) = match self.chains.by_stack.get(&stack) {
                None => (&[][..], ChainEnd::Unknown),
                Some((frames, end)) => (&frames[..], *end),
            };
            if accesses > 0 {
                *chains.entry((site, frames, end)).or_default() += accesses;
            }
        }
        for (&site, counts) in &totals.no_stack {
            let [accesses] = clamp(counts);
            if accesses > 0 {
                *chains.entry((site, &[], ChainEnd::Dropped)).or_default() += accesses;
            }
        }
        let rows = chains
            .into_iter()
            .filter_map(|(key, accesses)| Some((self.definitions.site(key.0)?, key, accesses)));
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|&(site, _, accesses)| {
            (site.pc, site.mode, &site.bytes, site.boot, Reverse(accesses))
        });
        rows.into_iter()
            .map(|(definition, (site, frames, end), accesses)| CallerRow {
                pc: format!("{:#x}", definition.pc),
                mode: definition.mode,
                bytes: hex(&definition.bytes),
                symbol: self.symbol(site),
                frames: frames.iter().filter_map(|&index| self.frame(index)).collect(),
                end,
                accesses,
            })
            .collect()
    }
}

fn hypercall_rows(totals: &Totals) -> Vec<HypercallRow> {
    let rows = Call::ALL.into_iter().zip(&totals.calls).filter_map(|(call, counts)| {
        let [count, bytes, declined, denied, errors] = clamp(counts);
        (count > 0).then_some(HypercallRow { call, count, bytes, declined, denied, errors })
    });
    rows.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
