//! Random dumps.

use fastrand::Rng;
use pvio_x86::{AccessSize, Direction, InsnForm, Mode, Port, PortForm};

use super::site;
use crate::rows::add_up;
use crate::{
    AccessCounts, AccessRow, Call, CallAccessRow, CallAt, CallCallerRow, CallCounts, CallSiteRow,
    CallerRow, ChainEnd, Counts, FirstAccess, FormRow, FrameRow, HypercallRow, Instructions,
    PortRow, PostRow, Privilege, ProcessRow, QemuRow, SCHEMA, SectionRow, SiteRow, Snapshot,
    SymbolFileRow, Tables, UndecidedFormRow, ValueMoment, ValueRow, VcpuRow, WindowRow,
};

/// Returns any dump that can be read. Its counts need not add up.
pub fn random(rng: &mut Rng) -> Snapshot {
    let omitted = rng.u8(..5) == 0;
    let reasons = ["one thread", "no vCPU, none at all"];
    let windows = ["a", "b", "c\n"].into_iter().filter(|_| rng.bool()).collect::<Vec<_>>();
    let mut windows: Vec<_> = windows.into_iter().map(|name| window(rng, name, omitted)).collect();
    rng.shuffle(&mut windows);
    Snapshot {
        schema: SCHEMA.into(),
        pvio: ["0.1.0", "0.2.0"][rng.usize(..2)].into(),
        qemu: QemuRow {
            version: rng.bool().then(|| ["10.0.13", "11.1.3"][rng.usize(..2)].into()),
            plugin_api: rng.i32(4..8),
            target: ["i386", "x86_64"][rng.usize(..2)].into(),
        },
        ended: ["shutdown", "quit", "running"][rng.usize(..3)].into(),
        runs: rng.u64(1..3),
        tables: random_tables(rng, omitted),
        vcpus_omitted: omitted.then(|| reasons[rng.usize(..2)].into()),
        symbol_files: (0..rng.usize(..3)).map(|_| symbol_file(rng)).collect(),
        sites_dropped: rng.u64(..9),
        values_clock: rng.bool().then(|| "guest".into()),
        values: values(rng),
        values_dropped: access_counts(rng),
        post_clock: rng.bool().then(|| "host".into()),
        post: (0..rng.usize(..4)).map(|_| post_code(rng)).collect(),
        post_dropped: count(rng),
        windows,
    }
}

fn symbol_file(rng: &mut Rng) -> SymbolFileRow {
    let problem = rng.bool().then(|| "it does not fit".to_owned());
    SymbolFileRow { file: format!("file {}", rng.u8(..3)), problem }
}

fn window(rng: &mut Rng, name: &str, omitted: bool) -> WindowRow {
    let mut tables = random_tables(rng, omitted);
    let rows_dropped = rng.u8(..4) == 0;
    if rows_dropped {
        tables.ports.clear();
        tables.sites.clear();
        tables.accesses.clear();
        tables.callers.clear();
        tables.call_sites.clear();
        tables.call_accesses.clear();
        tables.call_callers.clear();
    }
    let (name, entries, open) = (name.to_owned(), rng.u64(1..9), rng.bool());
    WindowRow { name, entries, open, rows_dropped, tables }
}

fn random_undecided_forms(rng: &mut Rng) -> Vec<UndecidedFormRow> {
    let undecided = InsnForm::all_undecided().filter(|form| form.size().bytes().is_none());
    let mut some = undecided.collect::<Vec<_>>();
    some.retain(|_| rng.bool());
    some.into_iter().map(|form| random_undecided_form(rng, form)).collect()
}

fn random_tables(rng: &mut Rng, omitted: bool) -> Tables {
    let mut tables = Tables {
        vcpus: if omitted { Vec::new() } else { (0..rng.u32(1..4)).map(|_| vcpu(rng)).collect() },
        forms: PortForm::ALL.map(|form| random_form(rng, form)).into(),
        forms_undecided: random_undecided_forms(rng),
        ports: (0..rng.usize(..6)).map(|_| port(rng)).collect(),
        sites: (0..rng.usize(..6)).map(|_| random_site(rng)).collect(),
        sites_dropped_counts: counts(rng),
        accesses: Vec::new(),
        accesses_dropped: access_counts(rng),
        callers: Vec::new(),
        hypercalls: (0..rng.usize(..6)).map(|_| hypercall(rng)).collect(),
        instructions: instructions(rng),
        sections: (0..rng.usize(..3)).map(|_| section(rng)).collect(),
        processes: (0..rng.usize(..4)).map(|_| process(rng)).collect(),
        processes_dropped_counts: counts(rng),
        processes_dropped_hypercall: count(rng),
        call_sites: (0..rng.usize(..6)).map(|_| call_site(rng)).collect(),
        call_sites_dropped_counts: call_counts(rng),
        call_accesses: Vec::new(),
        call_accesses_dropped: count(rng),
        call_callers: Vec::new(),
    };
    // A dump's rows are sorted and unique.
    tables.vcpus.sort_by_key(|row| row.vcpu);
    tables.vcpus.dedup_by_key(|row| row.vcpu);
    tables.ports.sort_by_key(|row| (row.port, row.dir, row.size));
    tables.ports.dedup_by_key(|row| (row.port, row.dir, row.size));
    tables.sites = add_up(tables.sites.iter());
    tables.processes = add_up(tables.processes.iter());
    for site in 0..tables.sites.len() {
        for row in &tables.ports {
            if rng.bool() {
                let (port, dir, size) = (row.port, row.dir, row.size);
                let counts = access_counts(rng);
                tables.accesses.push(AccessRow { site, port, dir, size, counts });
            }
        }
    }
    tables.call_sites = add_up(tables.call_sites.iter());
    for site in 0..tables.call_sites.len() {
        for row in &tables.ports {
            if rng.bool() {
                let (port, dir, size) = (row.port, row.dir, row.size);
                let accesses = count(rng);
                tables.call_accesses.push(CallAccessRow { site, port, dir, size, accesses });
            }
        }
    }
    let callers: Vec<CallCallerRow> = (0..rng.usize(..6)).map(|_| call_caller(rng)).collect();
    tables.call_callers = add_up(callers.iter());
    let callers: Vec<CallerRow> = (0..rng.usize(..6)).map(|_| caller(rng)).collect();
    tables.callers = add_up(callers.iter());
    tables.hypercalls.sort_by_key(|row| row.call);
    tables.hypercalls.dedup_by_key(|row| row.call);
    tables.sections.sort_by_key(|row| row.start.clone());
    tables.sections.dedup_by_key(|row| row.start.clone());
    tables
}

fn count(rng: &mut Rng) -> u64 {
    rng.u64(..1_000_000)
}

fn known(rng: &mut Rng) -> Option<u64> {
    (rng.u8(..4) > 0).then(|| count(rng))
}

fn counts(rng: &mut Rng) -> Counts {
    Counts { executions: count(rng), accesses: count(rng), unverified: count(rng) }
}

fn access_counts(rng: &mut Rng) -> AccessCounts {
    AccessCounts { accesses: 1 + count(rng), unverified: count(rng) }
}

fn instructions(rng: &mut Rng) -> Instructions {
    Instructions { instructions: known(rng), instructions_unverified: known(rng) }
}

fn vcpu(rng: &mut Rng) -> VcpuRow {
    VcpuRow {
        vcpu: rng.u32(..4),
        executions: count(rng),
        accesses: count(rng),
        hypercalls: count(rng),
        instructions: instructions(rng),
    }
}

fn random_form(rng: &mut Rng, form: PortForm) -> FormRow {
    FormRow {
        form,
        attempts: count(rng),
        executions: count(rng),
        accesses: count(rng),
        bytes: count(rng),
        faults: known(rng),
        exits: known(rng),
        unverified: count(rng),
    }
}

fn random_undecided_form(rng: &mut Rng, form: InsnForm) -> UndecidedFormRow {
    UndecidedFormRow {
        form,
        mode: None,
        attempts: count(rng),
        executions: count(rng),
        accesses: count(rng),
        faults: known(rng),
        exits: known(rng),
        unverified: count(rng),
    }
}

fn port(rng: &mut Rng) -> PortRow {
    PortRow {
        port: Port(rng.u16(..4)),
        name: rng.bool().then(|| ["COM1", "latch", "(COM1)"][rng.usize(..3)].into()),
        dir: [Direction::In, Direction::Out][rng.usize(..2)],
        size: AccessSize::from_index(rng.usize(..AccessSize::COUNT)),
        served: [None, Some(false), Some(true)][rng.usize(..3)],
        first: first_access(rng),
        device: count(rng),
        qemu: count(rng),
        hypercall: count(rng),
        unverified: count(rng),
    }
}

fn first_access(rng: &mut Rng) -> Option<FirstAccess> {
    let pc = rng.bool().then(|| format!("{:#x}", rng.u64(..)));
    let symbol = pc.is_some().then(|| "inb".to_owned());
    let (rank, hypercall) = (rng.u64(1..9), pc.is_none() && rng.bool());
    rng.bool().then_some(FirstAccess { rank, pc, symbol, hypercall })
}

fn values(rng: &mut Rng) -> Vec<ValueRow> {
    let moment = |rng: &mut Rng| {
        let (time_ns, accesses) = (count(rng), count(rng));
        rng.bool().then_some(ValueMoment { time_ns, accesses })
    };
    let row = |rng: &mut Rng| ValueRow {
        port: Port(rng.u16(..4)),
        dir: [Direction::In, Direction::Out][rng.usize(..2)],
        size: AccessSize::from_index(rng.usize(..AccessSize::COUNT)),
        value: rng.bool().then(|| rng.u32(..4)),
        counts: access_counts(rng),
        first: moment(rng),
        last: moment(rng),
    };
    let mut rows: Vec<_> = (0..rng.usize(..9)).map(|_| row(rng)).collect();
    rows.sort_by_key(|row| (row.port, row.dir, row.size, row.value));
    rows.dedup_by_key(|row| (row.port, row.dir, row.size, row.value));
    rows
}

fn post_code(rng: &mut Rng) -> PostRow {
    PostRow {
        port: Port(rng.u16(..4)),
        size: AccessSize::from_index(rng.usize(..AccessSize::COUNT)),
        value: rng.bool().then(|| rng.u32(..4)),
        vcpu: rng.bool().then(|| rng.u32(..4)),
        count: count(rng),
        unverified: count(rng),
        first_ns: count(rng),
        last_ns: count(rng),
    }
}

fn random_site(rng: &mut Rng) -> SiteRow {
    let symbol = [None, Some("outb+0x1"), Some("inb")][rng.usize(..3)];
    let mode = [None, Some(Mode::Bits32), Some(Mode::Bits64)][rng.usize(..3)];
    let file = [None, Some("/bin/a"), Some("/bin/b")][rng.usize(..3)].map(str::to_owned);
    let offset = file.as_ref().map(|_| format!("{:#x}", rng.u64(..3)));
    let privilege = [None, Some(Privilege::Supervisor), Some(Privilege::User)][rng.usize(..3)];
    let counts = counts(rng);
    SiteRow { mode, file, offset, privilege, counts, ..site(rng.u64(..4), symbol, 0) }
}

fn process(rng: &mut Rng) -> ProcessRow {
    let is_known = rng.bool();
    ProcessRow {
        pid: is_known.then(|| rng.u32(1..4)),
        comm: is_known.then(|| ["sh", "cat"][rng.usize(..2)].to_owned()),
        cr3: (!is_known && rng.bool()).then(|| format!("{:#x}", rng.u64(..3) << 12)),
        boot: rng.u32(..2),
        counts: counts(rng),
        kernel_accesses: count(rng),
        hypercall: count(rng),
    }
}

fn call_counts(rng: &mut Rng) -> CallCounts {
    CallCounts { calls: 1 + count(rng), accesses: count(rng), bytes: count(rng) }
}

fn call_site(rng: &mut Rng) -> CallSiteRow {
    let symbol = [None, Some("outb+0x1"), Some("inb")][rng.usize(..3)].map(str::to_owned);
    CallSiteRow {
        pc: format!("{:#x}", rng.u64(..4)),
        at: [CallAt::Instruction, CallAt::Return][rng.usize(..2)],
        mode: Some(Mode::ALL[rng.usize(..3)]),
        named_by: symbol.as_ref().map(|_| "test".to_owned()),
        symbol,
        source: None,
        call: Call::ALL[rng.usize(..Call::ALL.len())],
        counts: call_counts(rng),
    }
}

fn call_caller(rng: &mut Rng) -> CallCallerRow {
    let CallSiteRow { pc, at, mode, symbol, counts, .. } = call_site(rng);
    let (frames, end) = chain(rng);
    CallCallerRow { pc, at, mode, symbol, frames, end, accesses: counts.accesses }
}

fn caller(rng: &mut Rng) -> CallerRow {
    let SiteRow { pc, mode, bytes, symbol, counts, .. } = random_site(rng);
    let (frames, end) = chain(rng);
    CallerRow { pc, mode, bytes, symbol, frames, end, accesses: counts.accesses }
}

fn chain(rng: &mut Rng) -> (Vec<FrameRow>, ChainEnd) {
    let frames = (0..rng.usize(..3)).map(|_| FrameRow {
        pc: format!("{:#x}", rng.u64(..3)),
        symbol: rng.bool().then(|| ["main+0x5", "init+0x12"][rng.usize(..2)].into()),
        interrupted: rng.u8(..4) == 0,
    });
    let frames = frames.collect();
    let end = [ChainEnd::User, ChainEnd::Bottom, ChainEnd::Unknown][rng.usize(..3)];
    (frames, end)
}

fn hypercall(rng: &mut Rng) -> HypercallRow {
    HypercallRow {
        call: Call::ALL[rng.usize(..Call::ALL.len())],
        count: count(rng),
        bytes: count(rng),
        declined: count(rng),
        denied: count(rng),
        errors: count(rng),
    }
}

fn section(rng: &mut Rng) -> SectionRow {
    let start = rng.u64(..4) * 0x1000;
    SectionRow {
        name: ".text".into(),
        start: format!("{start:#x}"),
        end: format!("{:#x}", start + 0x1000),
        instructions: instructions(rng),
    }
}
