//! `pvio cost`: the sums of all tables are equal, and clusters predict the exits of the same driver by batches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pvio::stats::Snapshot;
use pvio::x86::{Direction, Port};
use pvio_cli::cost::amount::Unit;
use pvio_cli::cost::callers::Callers;
use pvio_cli::cost::clusters::{Clusters, Kind, Rule, add_trace};
use pvio_cli::cost::groups::Groups;
use pvio_cli::cost::json::to_json;
use pvio_cli::cost::model::{ExitClass, built_in};
use pvio_cli::cost::page::Format;
use pvio_cli::cost::price::{Costed, Price, Sum};
use pvio_cli::cost::report::{Run, Style, render};
use pvio_cli::machine::Machine;
use pvio_tests::{Host, boot_linux, on_both_qemus, run_guest};
use serde_json::Value;
use tempfile::TempDir;

on_both_qemus! {
    sums_of_a_linux_boot_are_equal_under_every_model
    sums_of_all_forms_are_equal_under_every_model
    clusters_of_a_driver_are_its_loops
    batches_have_the_accesses_and_exits_that_clusters_predict
}

/// Time does not end a cluster: the host may be busy.
const RULE: Rule = Rule { near: 128, within: 60_000_000_000, most: 65_536 };

struct Traced {
    _directory: TempDir,
    path: PathBuf,
    stats: Snapshot,
}

fn traced(machine: Machine, options: &[&str], run: impl FnOnce(Machine) -> Snapshot) -> Traced {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    let option = format!("trace={}", path.display());
    let stats = run(machine.plugin(&["summary=off", &option]).plugin(options));
    Traced { _directory: directory, path, stats }
}

fn clusters(path: &Path) -> Clusters {
    let mut clusters = Clusters::new(RULE);
    add_trace(&mut clusters, path).unwrap();
    clusters
}

fn total<K>(sums: BTreeMap<K, Sum>) -> Sum {
    let mut total = Sum::default();
    for sum in sums.into_values() {
        total.accesses += sum.accesses;
        total.price += sum.price;
        total.saved += sum.saved;
    }
    total
}

/// Fails unless the sums of each table are the totals, under every model.
fn assert_sums(stats: &Snapshot) {
    let groups = Groups::of(stats);
    let by_port = stats.ports.iter().map(|row| row.device + row.qemu).sum::<u64>();
    for model in built_in() {
        let costed = Costed::new(&groups, &model);
        let name = &model.name;
        let all = total(costed.by(|group| group.form));
        assert_eq!((all.accesses, all.price), (by_port, costed.total()), "{name}");
        assert_eq!(total(costed.by(|group| (group.port, group.dir, group.size))), all, "{name}");
        assert_eq!(total(costed.by(|group| group.site)), all, "{name}");
        let mut by_class = Price::default();
        for class in [ExitClass::User, ExitClass::Kernel, ExitClass::Coalesced] {
            by_class += costed.of_class(class);
        }
        assert_eq!(by_class, costed.total(), "{name}");
        if let Some(callers) = Callers::of(stats) {
            let mut by_caller = Sum::default();
            for row in callers.cost(stats, &costed) {
                by_caller.accesses += row.accesses;
                by_caller.price += row.price;
                by_caller.saved += row.saved;
            }
            assert_eq!(by_caller, all, "{name}");
        }
    }
}

fn sums_of_a_linux_boot_are_equal_under_every_model(host: &Host) {
    let run = |machine| boot_linux(machine).stats().unwrap().clone();
    let traced = traced(host.machine(), &["callers=on"], run);
    assert_sums(&traced.stats);
    let (groups, models) = (Groups::of(&traced.stats), built_in());
    let clusters = clusters(&traced.path);
    let scalars = groups.groups.iter().filter(|group| !group.is_string());
    let scalars: u64 = scalars.map(|group| group.accesses).sum();
    assert_eq!(clusters.accesses, scalars);
    assert_eq!(clusters.clustered() + clusters.singles + clusters.dropped, scalars);
    // The kernel reads the clock by index and data.
    let is_clock = |port: Port| (0x70..=0x71).contains(&port.0);
    let has_clock = clusters.shapes.keys().any(|shape| {
        shape.kind == Kind::Pair && shape.points.iter().all(|point| is_clock(point.port))
    });
    assert!(has_clock, "{:#?}", clusters.shapes.keys());
    let run = Run {
        dump: &traced.stats,
        groups: &groups,
        models: &models,
        clusters: Some(&clusters),
        is_mixed: false,
    };
    let style = Style { format: Format::Text { colour: false }, top: 10, all: false };
    let text = render(&run, style);
    assert!(text.contains("io_serial_out+0x") && text.contains("sites to change first"), "{text}");
    let json: Value = serde_json::from_str(&to_json(&run, 10)).unwrap();
    assert_eq!(json["models"].as_array().unwrap().len(), models.len());
    assert_eq!(json["clusters"]["exits_saved"], clusters.saved_exits());
}

fn sums_of_all_forms_are_equal_under_every_model(host: &Host) {
    let run = run_guest(host.machine().plugin(&["summary=off"]), "forms");
    assert_sums(run.stats());
    let groups = Groups::of(run.stats());
    assert_eq!(groups.without_site(), 0);
    assert!(groups.groups.iter().any(|group| group.is_string()));
    // A string exits at each element or at fewer places, never at more.
    for model in built_in() {
        let costed = Costed::new(&groups, &model);
        for (group, price) in groups.groups.iter().zip(&costed.prices) {
            let exits = price.exits;
            assert!(exits > 0 && exits <= group.accesses.into(), "{}: {group:?}", model.name);
        }
    }
}

/// What the guest `clusters` does by each driver.
const ROUNDS: u64 = 5;
const REGISTERS: u64 = 14;
const DWORDS: u64 = 16;

/// The accesses of each port and direction, by instruction and by hypercall.
fn by_port(stats: &Snapshot) -> BTreeMap<(Port, Direction), u64> {
    let rows = stats.ports.iter().map(|row| ((row.port, row.dir), row.accesses()));
    rows.collect()
}

fn run_clusters(machine: Machine) -> Snapshot {
    run_guest(machine, "clusters").stats().clone()
}

fn by_instruction(host: &Host) -> Traced {
    traced(host.machine(), &["hypercall=off"], run_clusters)
}

fn clusters_of_a_driver_are_its_loops(host: &Host) {
    let traced = by_instruction(host);
    let clusters = clusters(&traced.path);
    let found: Vec<_> = (clusters.shapes.iter())
        .map(|(shape, counts)| {
            let ports: Vec<u16> = shape.points.iter().map(|point| point.port.0).collect();
            (shape.kind, ports, counts.times, counts.accesses.clone())
        })
        .collect();
    let [clock, header] = [REGISTERS, DWORDS].map(|registers| vec![ROUNDS * registers; 2]);
    let expected = [
        (Kind::Pair, vec![0x70, 0x71], ROUNDS, clock),
        (Kind::Pair, vec![0xcf8, 0xcfc], ROUNDS, header),
    ];
    assert_eq!(found, expected);
    // The end of the guest is alone.
    assert_eq!((clusters.singles, clusters.exits_left()), (1, 2 * ROUNDS + 1));
    assert!(clusters.loops.is_empty());
    assert_eq!(built_in()[0].unit, Unit::Cycles);
}

fn batches_have_the_accesses_and_exits_that_clusters_predict(host: &Host) {
    // Calls by registers need QEMU 10.1.
    if host.api < 5 {
        return;
    }
    let plain = by_instruction(host);
    let clusters = clusters(&plain.path);
    let batched = run_clusters(host.machine().plugin(&["summary=off"]));
    let count = |name: &str| {
        let row = batched.hypercalls.iter().find(|row| row.call.name() == name);
        row.map_or(0, |row| row.count)
    };
    assert_eq!(by_port(&batched), by_port(&plain.stats));
    let by_instruction: u64 = batched.forms.iter().map(|row| row.accesses).sum();
    assert_eq!((count("batch"), by_instruction), (clusters.times(), clusters.singles));
    assert_eq!(clusters.exits_left(), count("batch") + by_instruction);
    let accesses: u64 = plain.stats.forms.iter().map(|row| row.accesses).sum();
    assert_eq!(clusters.saved_exits(), accesses - count("batch") - by_instruction);
}
