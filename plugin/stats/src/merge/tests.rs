use fastrand::Rng;

use super::*;
use crate::schema::{SectionRow, SymbolFileRow};
use crate::test_data::{random, smp_snapshot};

/// The dump with windows and symbol files in an order that does not depend on where they came first.
fn in_order(mut dump: Snapshot) -> Snapshot {
    dump.windows.sort_by(|one, other| one.name.cmp(&other.name));
    dump.symbol_files.sort_by_key(|row: &SymbolFileRow| (row.file.clone(), row.problem.clone()));
    dump
}

#[test]
fn merging_groups_equals_merging_all() {
    let mut rng = Rng::with_seed(1);
    for _ in 0..300 {
        let dumps: Vec<_> = (0..rng.usize(2..7)).map(|_| random(&mut rng)).collect();
        let whole = merge(&dumps).unwrap();
        let (one, other) = dumps.split_at(rng.usize(1..dumps.len()));
        let groups = [merge(one).unwrap(), merge(other).unwrap()];
        assert_eq!(merge(&groups).unwrap(), whole);
        // A merged dump can be written and read.
        assert_eq!(Snapshot::from_json(&whole.to_json()).unwrap(), whole);
    }
}

#[test]
fn the_order_of_dumps_matters_only_for_the_order_of_windows_and_files() {
    let mut rng = Rng::with_seed(2);
    for _ in 0..300 {
        let mut dumps: Vec<_> = (0..rng.usize(2..6)).map(|_| random(&mut rng)).collect();
        let before = in_order(merge(&dumps).unwrap());
        rng.shuffle(&mut dumps);
        assert_eq!(in_order(merge(&dumps).unwrap()), before);
    }
}

#[test]
fn one_dump_alone_stays_as_it_is() {
    assert_eq!(merge(&[smp_snapshot()]).unwrap(), smp_snapshot());
    assert_eq!(merge(&[]), Err(MergeError::Nothing));
}

#[test]
fn equal_runs_are_multiplied() {
    let merged = merge(&[smp_snapshot(), smp_snapshot(), smp_snapshot()]).unwrap();
    assert_eq!(merged.runs, 3);
    assert_eq!(merged.forms[9].executions, 210_000);
    assert_eq!(merged.forms[9].faults, Some(6));
    assert_eq!(merged.ports[0].qemu, 210_000);
    assert_eq!(merged.ports[0].name.as_deref(), Some("COM1"));
    assert_eq!(merged.sites[0].counts.accesses, 210_000);
    assert_eq!(merged.vcpus[1].accesses, 105_000);
    assert_eq!((&*merged.ended, &*merged.pvio), ("shutdown", "1.2.3"));
    assert_eq!(merged.discrepancies(), []);
}

#[test]
fn what_one_run_does_not_know_the_sum_does_not_know() {
    let mut other = smp_snapshot();
    other.qemu.version = None;
    other.qemu.plugin_api = 4;
    other.ended = "quit".into();
    other.tables.forms[9].faults = None;
    other.tables.vcpus.clear();
    other.vcpus_omitted = Some("mixed, sadly".into());
    other.tables.ports[0].served = None;
    other.tables.instructions.instructions_unverified = Some(7);
    let merged = merge(&[smp_snapshot(), other]).unwrap();
    assert_eq!((merged.qemu.version.as_deref(), merged.qemu.plugin_api), (None, 4));
    assert_eq!(merged.ended, "quit, shutdown");
    assert_eq!((merged.forms[9].faults, merged.forms[8].faults), (None, Some(0)));
    assert_eq!(merged.vcpus, []);
    assert_eq!(merged.vcpus_omitted.as_deref(), Some("mixed, sadly"));
    assert_eq!(merged.ports[0].served, Some(true));
    assert_eq!(merged.instructions, Instructions::default());
}

#[test]
fn a_window_without_rows_takes_those_of_the_others() {
    let mut dumps = [smp_snapshot(), smp_snapshot()];
    for (dump, rows_dropped) in dumps.iter_mut().zip([false, true]) {
        let tables = dump.tables.clone();
        let (name, entries, open) = ("w".to_owned(), 2, rows_dropped);
        dump.windows = vec![WindowRow { name, entries, open, rows_dropped, tables }];
    }
    dumps[1].windows[0].tables.ports.clear();
    dumps[1].windows[0].tables.sites_dropped_counts =
        std::mem::take(&mut dumps[1].windows[0].tables.sites)[0].counts;
    let window = &merge(&dumps).unwrap().windows[0];
    assert_eq!((window.entries, window.open, window.rows_dropped), (4, true, true));
    assert_eq!((window.ports.len(), window.sites.len()), (0, 0));
    assert_eq!(window.sites_dropped_counts.accesses, 140_000);
    assert_eq!(window.forms[9].accesses, 140_000);
}

#[test]
fn a_sum_that_does_not_fit_is_an_error() {
    let half = 1 << 63;
    type Change = fn(&mut Snapshot, u64);
    let changes: [(Change, &str); 6] = [
        (|dump, half| dump.runs = half, "runs"),
        (|dump, half| dump.sites_dropped = half, "sites_dropped"),
        (|dump, half| dump.tables.forms[0].faults = Some(half), "forms"),
        (|dump, half| dump.tables.ports[0].hypercall = half, "ports"),
        (|dump, half| dump.tables.sites_dropped_counts.executions = half, "sites"),
        (
            |dump, half| {
                dump.tables.sections = vec![SectionRow {
                    name: String::new(),
                    start: "0x0".into(),
                    end: "0x1".into(),
                    instructions: Instructions { instructions: Some(half), ..Default::default() },
                }];
            },
            "sections",
        ),
    ];
    for (change, name) in changes {
        let mut dump = smp_snapshot();
        change(&mut dump, half);
        assert_eq!(merge(&[dump.clone(), dump]), Err(MergeError::Overflow(name)));
    }
}
