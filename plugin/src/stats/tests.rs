//! Windows and resets against a model that adds every count to each open window.

mod merged_parts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use pvio_guest::abi::WINDOWS_MAX;

use super::*;
use crate::qemu::{ApiLevel, AtPort, HostInfo, VcpuIndex};
use crate::symbols::Symbols;
use crate::x86::{Direction, Mode, Port, PortForm, Width};

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

/// Counts by name, without zeros.
type Counts<N> = BTreeMap<String, N>;

/// The counts of all rows, by the names that the model uses.
fn counts_in(tables: &Tables) -> Counts<u64> {
    let mut counts = Counts::new();
    let mut put = |name: String, count| assert!(counts.insert(name, count).is_none());
    for row in &tables.vcpus {
        put(format!("vcpu {} executions", row.vcpu), row.executions);
        put(format!("vcpu {} accesses", row.vcpu), row.accesses);
        put(format!("vcpu {} hypercalls", row.vcpu), row.hypercalls);
    }
    for row in &tables.forms {
        put(format!("{} attempts", row.form), row.attempts);
        put(format!("{} executions", row.form), row.executions);
        put(format!("{} accesses", row.form), row.accesses);
        put(format!("{} faults", row.form), row.faults.unwrap());
        put(format!("{} exits", row.form), row.exits.unwrap());
        put(format!("{} unverified", row.form), row.unverified);
    }
    for row in &tables.ports {
        let name = format!("{} {} {}", row.port, row.dir, row.size.bytes());
        assert_eq!(if row.port.0.is_multiple_of(2) { row.qemu } else { row.device }, 0);
        put(format!("{name} accesses"), row.device + row.qemu);
        put(format!("{name} unverified"), row.unverified);
        put(format!("{name} hypercall"), row.hypercall);
    }
    let sites = tables.sites.iter().map(|row| (&*row.pc, row.counts));
    for (pc, row) in sites.chain([("dropped", tables.sites_dropped_counts)]) {
        put(format!("site {pc} executions"), row.executions);
        put(format!("site {pc} accesses"), row.accesses);
        put(format!("site {pc} unverified"), row.unverified);
    }
    for row in &tables.accesses {
        let (site, size) = (&tables.sites[row.site].pc, row.size.bytes());
        let name = format!("site {site} {} {} {size}", row.port, row.dir);
        put(format!("{name} accesses"), row.counts.accesses);
        put(format!("{name} unverified"), row.counts.unverified);
    }
    put("accesses dropped".into(), tables.accesses_dropped.accesses);
    put("unverified dropped".into(), tables.accesses_dropped.unverified);
    for row in &tables.hypercalls {
        put(format!("{} count", row.call), row.count);
        put(format!("{} bytes", row.call), row.bytes);
        put(format!("{} declined", row.call), row.declined);
        put(format!("{} denied", row.call), row.denied);
        put(format!("{} errors", row.call), row.errors);
    }
    counts.retain(|_, count| *count != 0);
    counts
}

#[derive(Default)]
struct ModelWindow {
    entries: u64,
    open: bool,
    counts: Counts<i64>,
}

/// What the statistics must say.
#[derive(Default)]
struct Model {
    totals: Counts<i64>,
    windows: BTreeMap<String, ModelWindow>,
}

impl Model {
    fn add(&mut self, name: impl Into<String>, count: i64) {
        let name = name.into();
        for window in self.windows.values_mut().filter(|window| window.open) {
            *window.counts.entry(name.clone()).or_default() += count;
        }
        *self.totals.entry(name).or_default() += count;
    }

    fn execution(&mut self, vcpu: u32, form: PortForm, site: &str, sign: i64) {
        self.add(format!("vcpu {vcpu} executions"), sign);
        self.add(format!("{form} executions"), sign);
        self.add(format!("site {site} executions"), sign);
    }

    fn access(&mut self, vcpu: u32, form: PortForm, site: &str, port: Port, sign: i64) {
        self.add(format!("vcpu {vcpu} accesses"), sign);
        self.add(format!("{form} accesses"), sign);
        self.add(format!("site {site} accesses"), sign);
        let (dir, size) = (form.direction(), form.width().bytes());
        self.add(format!("{port} {dir} {size} accesses"), sign);
        self.by_site_and_port("accesses", form, site, port, sign);
    }

    fn by_site_and_port(&mut self, what: &str, form: PortForm, site: &str, port: Port, sign: i64) {
        let (dir, size) = (form.direction(), form.width().bytes());
        match site {
            "dropped" => self.add(format!("{what} dropped"), sign),
            _ => self.add(format!("site {site} {port} {dir} {size} {what}"), sign),
        }
    }

    fn hypercall(&mut self, vcpu: u32, call: Call, outcome: Outcome) {
        self.add(format!("vcpu {vcpu} hypercalls"), 1);
        self.add(format!("{call} count"), 1);
        match outcome {
            Outcome::Ok => {}
            Outcome::Declined => self.add(format!("{call} declined"), 1),
            Outcome::Denied => self.add(format!("{call} denied"), 1),
            Outcome::Error => self.add(format!("{call} errors"), 1),
        }
    }

    fn begin(&mut self, name: &str) -> Result<(), WindowError> {
        let window = self.windows.entry(name.into()).or_default();
        if std::mem::replace(&mut window.open, true) {
            return Err(WindowError::Open);
        }
        window.entries += 1;
        Ok(())
    }

    fn end(&mut self, name: &str) -> Result<(), WindowError> {
        let open = self.windows.get_mut(name).filter(|window| window.open);
        open.map(|window| window.open = false).ok_or(WindowError::NotOpen)
    }

    fn reset(&mut self) {
        self.totals.clear();
        self.windows.retain(|_, window| window.open);
        for window in self.windows.values_mut() {
            *window = ModelWindow { entries: 1, open: true, counts: Counts::new() };
        }
    }

    fn assert_is(&self, snapshot: &Snapshot) {
        let clamped = |counts: &Counts<i64>| -> Counts<u64> {
            let positive = counts.iter().filter(|(_, count)| **count > 0);
            positive.map(|(name, &count)| (name.clone(), count as u64)).collect()
        };
        assert_eq!(counts_in(snapshot), clamped(&self.totals));
        assert_eq!(snapshot.windows.len(), self.windows.len());
        for row in &snapshot.windows {
            let window = &self.windows[&row.name];
            assert_eq!((row.entries, row.open), (window.entries, window.open), "{}", row.name);
            assert_eq!(counts_in(row), clamped(&window.counts), "{}", row.name);
        }
    }
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
    let form = PortForm::ALL[rng.usize(0..24)];
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
    match rng.u8(0..16) {
        14 => {
            let Some(id) = site else { return };
            counters.scalar(form, id, port);
            model.add(format!("{form} attempts"), 1);
            model.execution(vcpu, form, &site_name, 1);
            model.access(vcpu, form, &site_name, port, 1);
        }
        15 => {
            let call = [Call::Inb, Call::Outw, Call::Inl][rng.usize(0..3)];
            let (direction, width) = call.port_io().unwrap();
            counters.hypercall_moved_one(call);
            counters.hypercall_access(PortCounter::new(port, direction, width));
            model.hypercall(vcpu, call, Outcome::Ok);
            model.add(format!("{call} bytes"), width.bytes().into());
            model.add(format!("{port} {direction} {} hypercall", width.bytes()), 1);
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
            let (dir, size) = (form.direction(), form.width().bytes());
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
            if let Some((direction, width)) = call.port_io() {
                let bytes = count * u64::from(width.bytes());
                counters.hypercall_moved(call, bytes);
                counters.hypercall_accesses(port, direction, width, count);
                model.add(format!("{call} bytes"), bytes as i64);
                model.add(format!("{port} {direction} {} hypercall", width.bytes()), count as i64);
            }
            let outcomes = [Outcome::Ok, Outcome::Declined, Outcome::Denied, Outcome::Error];
            let outcome = outcomes[rng.usize(0..4)];
            counters.hypercall(call, outcome);
            model.hypercall(vcpu, call, outcome);
        }
        9 | 10 => {
            let result = statistics.begin(name, counters);
            let outcome = if result.is_ok() { Outcome::Ok } else { Outcome::Error };
            counters.hypercall(Call::Begin, outcome);
            // The call is not in the window, though it is counted after the window began.
            let was_open = model.windows.get(name).is_some_and(|window| window.open);
            model.hypercall(vcpu, Call::Begin, outcome);
            assert_eq!(result, model.begin(name));
            assert_eq!(result.is_err(), was_open);
        }
        11 | 12 => {
            let result = statistics.end(name);
            assert_eq!(result, model.end(name));
            let outcome = if result.is_ok() { Outcome::Ok } else { Outcome::Error };
            counters.hypercall(Call::End, outcome);
            model.hypercall(vcpu, Call::End, outcome);
        }
        _ if rng.u8(0..10) == 0 => {
            statistics.reset(counters);
            counters.hypercall(Call::Reset, Outcome::Ok);
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
        }
    }
}

#[test]
fn windows_and_the_time_between_them_add_up_to_the_whole() {
    let statistics = Statistics::default();
    let counters = statistics.counters(VcpuIndex(0));
    let mut rng = Rng::with_seed(7);
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
        counters.hypercall(Call::Begin, Outcome::Ok);
        access(rng.u64(0..5));
        statistics.end(name).unwrap();
        counters.hypercall(Call::End, Outcome::Ok);
    }
    let snapshot = snapshot(&statistics);
    let accesses = |tables: &Tables| tables.ports.iter().map(|row| row.qemu + row.device).sum();
    let whole: u64 = accesses(&snapshot);
    assert_eq!(whole, outside + snapshot.windows.iter().map(|row| accesses(row)).sum::<u64>());
    assert_eq!(snapshot.windows.iter().map(|row| row.entries).sum::<u64>(), 100);
    assert!(snapshot.windows.iter().all(|row| row.hypercalls.is_empty()));
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
    one.hypercall_accesses(Port(5), Direction::Out, Width::Byte, 3);
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
    let all_ports = || {
        for port in 0..=u16::MAX {
            for width in Width::ALL {
                counters.hypercall_accesses(Port(port), Direction::In, width, 1);
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
