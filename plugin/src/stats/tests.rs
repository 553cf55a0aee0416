//! Windows and resets against a model that adds every count to each open window.

mod merged_parts;
mod model;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use pvio_guest::abi::WINDOWS_MAX;

use self::model::Model;
use super::*;
use crate::qemu::{ApiLevel, AtPort, HostInfo, VcpuIndex};
use crate::symbols::Symbols;
use crate::x86::{InsnForm, Mode, Port, PortForm};

const VCPUS: u32 = 3;

fn snapshot(statistics: &Statistics) -> Snapshot {
    let context = SnapshotContext {
        host: &HostInfo {
            api: ApiLevel::NEWEST,
            version: None,
            target: "x86_64".into(),
            max_vcpus: VCPUS as usize,
            icount: false,
            recorded: false,
            command_line: Default::default(),
            memory_is_readable: true,
        },
        ended: None,
        symbols: &Symbols::default(),
        own_kind: &|port| port.0.is_multiple_of(2).then_some("latch"),
        at_port: &|_| AtPort::Unknown,
    };
    statistics.snapshot_of(statistics.read(), &context)
}

/// The origin of calls at an address; without one, of those whose site has no row.
fn origin(statistics: &Statistics, pc: Option<u64>) -> CallOrigin {
    let key = CallSiteKey { pc: pc.unwrap_or(0), at: CallAt::Instruction, mode: Mode::Bits32 };
    let site = match pc {
        Some(_) => statistics.call_sites.enter(0, key, &[]).0,
        None => CallSiteId::DROPPED,
    };
    CallOrigin { site, key, caller: CallerId::default(), process: None }
}

/// One random action of a guest, on the statistics and on the model.
fn step(
    rng: &mut Rng,
    statistics: &Statistics,
    all_counters: &[Arc<VcpuCounters>],
    model: &mut Model,
) {
    let vcpu = rng.u32(0..VCPUS);
    let counters = &all_counters[vcpu as usize];
    // All decided ones, and those that may have two forms.
    let form = InsnForm::from_index(rng.usize(0..32));
    let port = Port(rng.u16(..4));
    let site = rng.bool().then(|| {
        let (pc, bytes) = (rng.u64(0..8), [0xee].into_iter().collect());
        (
            pc,
            statistics
                .sites
                .enter(SiteKey { pc, mode: Some(Mode::Bits32), bytes }, None, form)
                .unwrap(),
        )
    });
    // A site is of one form.
    let form = site.map_or(form, |(_, id)| statistics.sites.get(id).form);
    let site_name = site.map_or("dropped".to_owned(), |(pc, _)| format!("{pc:#x}"));
    let site = site.map(|(_, id)| id);
    let name = ["", "a", "b", "c"][rng.usize(0..4)];
    let call_pc = rng.bool().then(|| rng.u64(0..4));
    let origin = origin(statistics, call_pc);
    let call_site = call_pc.map_or("dropped".to_owned(), |pc| format!("{pc:#x}"));
    match rng.u8(0..16) {
        14 => {
            let (Some(id), Some(decided)) = (site, form.decided()) else { return };
            counters.scalar(decided, id, port);
            model.add(format!("{form} attempts"), 1);
            model.execution(vcpu, form, &site_name, 1);
            model.access(vcpu, form, &site_name, port, 1);
        }
        15 => {
            let call = [Call::Inb, Call::Outw, Call::Inl][rng.usize(0..3)];
            let (direction, width) = call.port_io().unwrap();
            match counters.call_access_counter(origin.site, call, port).filter(|_| rng.bool()) {
                Some(counter) => {
                    let port = PortCounter::new(port, direction, width);
                    counters.hypercall_moved_one(call, port, counter);
                }
                None => counters.hypercall_moved(&origin, call, port, 1, true),
            }
            model.hypercall(vcpu, (&call_site, call), Outcome::Ok);
            model.hypercall_access((&call_site, call), port, 1);
        }
        0 => {
            counters.attempt(form);
            model.add(format!("{form} attempts"), 1);
        }
        1 | 2 => {
            counters.executed(form, site);
            counters.accessed(form, site, port);
            model.execution(vcpu, form, &site_name, 1);
            model.access(vcpu, form, &site_name, port, 1);
        }
        3 => {
            let port = rng.bool().then_some(port);
            counters.not_executed(form, site, port);
            model.execution(vcpu, form, &site_name, -1);
            if let Some(port) = port {
                model.access(vcpu, form, &site_name, port, -1);
            }
        }
        4 => {
            counters.unverified(form, site, Some(port));
            model.add(format!("{form} unverified"), 1);
            model.add(format!("site {site_name} unverified"), 1);
            let (dir, size) = (form.direction(), form.size());
            model.add(format!("{port} {dir} {size} unverified"), 1);
            model.by_site_and_port("unverified", form, &site_name, port, 1);
        }
        5 => {
            counters.fault(form);
            model.add(format!("{form} faults"), 1);
        }
        6 => {
            counters.fault_resumed(form);
            model.add(format!("{form} faults"), -1);
        }
        7 | 8 => {
            let call = Call::ALL[rng.usize(0..Call::ALL.len())];
            let count = rng.u64(0..5);
            match call.port_io() {
                Some(_) => {
                    counters.hypercall_moved(&origin, call, port, count, false);
                    model.hypercall_access((&call_site, call), port, count as i64);
                }
                None => {
                    counters.hypercall_moved_bytes(origin.site, call, count);
                    model.hypercall_bytes((&call_site, call), count as i64);
                }
            }
            let outcomes = [Outcome::Ok, Outcome::Declined, Outcome::Denied, Outcome::Error];
            let outcome = outcomes[rng.usize(0..4)];
            counters.hypercalls(origin.site, call, outcome, 1);
            model.hypercall(vcpu, (&call_site, call), outcome);
        }
        9 | 10 => {
            counters.calls_by(origin.site);
            let result = statistics.begin(name, counters);
            let outcome = if result.is_ok() { Outcome::Ok } else { Outcome::Error };
            counters.hypercalls(origin.site, Call::Begin, outcome, 1);
            // The call is not in the window, though it is counted after the window began.
            let was_open = model.is_open(name);
            model.hypercall(vcpu, (&call_site, Call::Begin), outcome);
            assert_eq!(result, model.begin(name));
            assert_eq!(result.is_err(), was_open);
        }
        11 | 12 => {
            let result = statistics.end(name);
            assert_eq!(result, model.end(name));
            let outcome = if result.is_ok() { Outcome::Ok } else { Outcome::Error };
            counters.hypercalls(origin.site, Call::End, outcome, 1);
            model.hypercall(vcpu, (&call_site, Call::End), outcome);
        }
        _ if rng.u8(0..10) == 0 => {
            counters.calls_by(origin.site);
            statistics.reset(counters);
            counters.hypercalls(origin.site, Call::Reset, Outcome::Ok, 1);
            model.reset();
        }
        _ => {}
    }
}

#[test]
fn nested_overlapping_and_reset_windows_equal_the_model() {
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let statistics = Statistics::default();
        let all_counters: Vec<_> =
            (0..VCPUS).map(|vcpu| statistics.counters(VcpuIndex(vcpu))).collect();
        let mut model = Model::default();
        for _ in 0..10 {
            for _ in 0..rng.u32(1..60) {
                step(&mut rng, &statistics, &all_counters, &mut model);
            }
            model.assert_is(&snapshot(&statistics));
            // Windows and counts that were taken back have the same sums, but not the same rows.
            let found = snapshot(&statistics).discrepancies();
            let of_calls = found.iter().filter(|it| it.to_string().contains("call"));
            assert_eq!(of_calls.collect::<Vec<_>>(), [] as [&pvio_stats::Discrepancy; 0]);
        }
    }
}

#[test]
fn windows_and_the_time_between_them_add_up_to_the_whole() {
    let statistics = Statistics::default();
    let counters = statistics.counters(VcpuIndex(0));
    let mut rng = Rng::with_seed(7);
    let by = origin(&statistics, Some(1)).site;
    counters.calls_by(by);
    let access = |count: u64| {
        for _ in 0..count {
            counters.executed(PortForm::OutDxAl, None);
            counters.accessed(PortForm::OutDxAl, None, Port(0x80));
        }
    };
    let mut outside = 0;
    for _ in 0..100 {
        let name = ["a", "b", "c"][rng.usize(0..3)];
        let between = rng.u64(0..5);
        outside += between;
        access(between);
        statistics.begin(name, &counters).unwrap();
        counters.hypercalls(by, Call::Begin, Outcome::Ok, 1);
        access(rng.u64(0..5));
        statistics.end(name).unwrap();
        counters.hypercalls(by, Call::End, Outcome::Ok, 1);
    }
    let snapshot = snapshot(&statistics);
    let accesses = |tables: &Tables| tables.ports.iter().map(|row| row.qemu + row.device).sum();
    let whole: u64 = accesses(&snapshot);
    assert_eq!(whole, outside + snapshot.windows.iter().map(|row| accesses(row)).sum::<u64>());
    assert_eq!(snapshot.windows.iter().map(|row| row.entries).sum::<u64>(), 100);
    let calls = |row: &Tables| row.hypercalls.len() + row.call_sites.len();
    assert!(snapshot.windows.iter().all(|row| calls(row) == 0));
}

/// The ports with a known first access in its order, and what made it.
fn firsts(statistics: &Statistics) -> Vec<(u16, String)> {
    let mut rows = snapshot(statistics).tables.ports;
    let windows = snapshot(statistics).windows;
    assert!(windows.iter().flat_map(|row| &row.ports).all(|row| row.first.is_none()));
    rows.retain(|row| row.first.is_some());
    let rank = |row: &PortRow| row.first.as_ref().unwrap().rank;
    rows.sort_by_key(rank);
    assert!(rows.iter().map(rank).eq(1..=rows.len() as u64));
    rows.iter().map(|row| (row.port.0, row.first.as_ref().unwrap().by().to_owned())).collect()
}

#[test]
fn first_accesses_are_the_earliest_of_all_vcpus_and_outlast_a_reset() {
    let statistics = Statistics::default();
    let [one, other] = [0, 1].map(|vcpu| statistics.counters(VcpuIndex(vcpu)));
    let form = PortForm::OutDxAl;
    let enter = |pc| {
        let key = SiteKey { pc, mode: Some(Mode::Bits64), bytes: [0xee].into_iter().collect() };
        statistics.sites.enter(key, None, form)
    };
    let [a, b] = [0x1000, 0x2000].map(enter);
    statistics.begin("window", &one).unwrap();
    one.accessed(form, a, Port(9));
    other.accessed(form, b, Port(9));
    other.scalar(form, b.unwrap(), Port(7));
    one.scalar(form, a.unwrap(), Port(7));
    one.hypercall_moved(&origin(&statistics, None), Call::Outsb, Port(5), 3, false);
    one.accessed(form, a, Port(5));
    one.accessed(form, None, Port(3));
    let by = |name: &str| name.to_owned();
    let expected = [(9, by("0x1000")), (7, by("0x2000")), (5, by("hypercall")), (3, by("-"))];
    assert_eq!(firsts(&statistics), expected);
    // The first access to port 9 has not been made; the one of the other vCPU has.
    one.not_executed(form, a, Some(Port(9)));
    let expected = [(9, by("0x2000")), (7, by("0x2000")), (5, by("hypercall")), (3, by("-"))];
    assert_eq!(firsts(&statistics), expected);
    statistics.reset(&one);
    assert_eq!(firsts(&statistics), []);
    one.accessed(form, a, Port(1));
    one.accessed(form, a, Port(7));
    assert_eq!(firsts(&statistics), [(7, by("0x2000")), (1, by("0x1000"))]);
}

#[test]
fn the_number_of_windows_is_limited() {
    let statistics = Statistics::default();
    let by = &*statistics.counters(VcpuIndex(0));
    for window in 0..WINDOWS_MAX {
        statistics.begin(&window.to_string(), by).unwrap();
        statistics.end(&window.to_string()).unwrap();
    }
    assert_eq!(statistics.begin("more", by), Err(WindowError::Full));
    assert_eq!(statistics.begin("0", by), Ok(()), "an old name is always good");
    statistics.reset(by);
    assert_eq!(snapshot(&statistics).windows.len(), 1);
    assert_eq!(statistics.begin("more", by), Ok(()));
}

#[test]
fn windows_without_room_drop_only_ports_and_sites() {
    let statistics = Statistics::default();
    let counters = &*statistics.counters(VcpuIndex(0));
    let origin = origin(&statistics, Some(1));
    let all_ports = || {
        for port in 0..=u16::MAX {
            for call in [Call::Insb, Call::Insw, Call::Insl] {
                counters.hypercall_moved(&origin, call, Port(port), 1, false);
            }
            counters.executed(PortForm::InAlImm, None);
        }
    };
    all_ports();
    for name in ["first", "second"] {
        statistics.begin(name, counters).unwrap();
    }
    all_ports();
    let of = |snapshot: &Snapshot| -> Vec<_> {
        let rows = snapshot.windows.iter();
        rows.map(|row| (row.rows_dropped, row.ports.len(), row.sites_dropped_counts.executions))
            .collect()
    };
    let all = 3 << 16;
    assert_eq!(of(&snapshot(&statistics)), [(false, all, 1 << 16), (true, 0, 1 << 16)]);
    for name in ["first", "second"] {
        statistics.end(name).unwrap();
    }
    assert_eq!(of(&snapshot(&statistics)), [(false, all, 1 << 16), (true, 0, 1 << 16)]);
    // A window that has lost its rows gets them back by a reset.
    statistics.reset(counters);
    statistics.begin("second", counters).unwrap();
    all_ports();
    assert_eq!(of(&snapshot(&statistics)), [(false, all, 1 << 16)]);
}

#[test]
fn windows_begin_and_end_while_other_vcpus_count() {
    const ROUNDS: u64 = 200_000;
    let statistics = Statistics::default();
    let done = AtomicBool::new(false);
    let accesses = |tables: &Tables| tables.forms.iter().map(|row| row.accesses).sum::<u64>();
    std::thread::scope(|scope| {
        let [begins, counters] = [0, 1].map(|vcpu| statistics.counters(VcpuIndex(vcpu)));
        scope.spawn(|| {
            let counters = counters;
            for round in 0..ROUNDS {
                // Every other count is taken back.
                let (form, port) = (PortForm::OutDxAl, Port(round as u16));
                counters.executed(form, None);
                counters.accessed(form, None, port);
                if round % 2 == 1 {
                    counters.not_executed(form, None, Some(port));
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            for name in ["a", "b"] {
                statistics.begin(name, &begins).unwrap();
                statistics.end(name).unwrap();
            }
        }
    });
    let snapshot = snapshot(&statistics);
    assert_eq!(accesses(&snapshot), ROUNDS / 2);
    assert_eq!(snapshot.ports.iter().map(|row| row.qemu + row.device).sum::<u64>(), ROUNDS / 2);
    let within = snapshot.windows.iter().map(|row| accesses(row)).sum::<u64>();
    // At each end, one count may be taken back afterwards.
    let ends = snapshot.windows.iter().map(|row| row.entries).sum::<u64>();
    assert!(within <= ROUNDS / 2 + ends, "{within} within {ends}");
}
