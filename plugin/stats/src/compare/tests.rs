use fastrand::Rng;
use pvio_x86::{Direction, Port, PortForm, Width};

use super::*;
use crate::schema::CallAccessRow;
use crate::test_data::{call_chain, call_site, random, site, smp_snapshot};
use crate::{Call, merge};

/// The differences between two lists of sites: (address before, address after, accesses before and after).
fn sites(before: &[SiteRow], after: &[SiteRow]) -> Vec<(Option<u64>, Option<u64>, [u64; 2])> {
    let address = |row: &Option<SiteRow>| row.as_ref().and_then(SiteRow::address);
    let changes = Matching::of(before, after).changes();
    let line = |change: &Change<SiteRow>| {
        (address(&change.before), address(&change.after), change.accesses())
    };
    changes.iter().map(line).collect()
}

#[test]
fn equal_dumps_do_not_differ() {
    let mut rng = Rng::with_seed(1);
    for _ in 0..100 {
        let dump = random(&mut rng);
        assert!(Diff::new(&dump, &dump).is_empty());
    }
}

#[test]
fn doubled_dumps_differ_by_all_that_they_have() {
    let twice = merge(&[smp_snapshot(), smp_snapshot()]).unwrap();
    let diff = Diff::new(&smp_snapshot(), &twice);
    assert!(!diff.is_empty());
    assert_eq!(diff.tables.accesses, [70_000, 140_000]);
    let [form] = &diff.tables.forms[..] else { panic!("{:?}", diff.tables.forms) };
    assert_eq!(form.before.as_ref().unwrap().form, PortForm::OutDxAl);
    assert_eq!((form.difference(), form.percent()), (70_000, Some(100.0)));
    assert_eq!(diff.tables.ports.len(), 1);
    assert_eq!(diff.tables.sites.len(), 1);
    let back = Diff::new(&twice, &smp_snapshot());
    assert_eq!(back.tables.forms[0].percent(), Some(-50.0));
}

#[test]
fn rows_of_one_dump_alone_are_there() {
    let mut after = smp_snapshot();
    after.tables.ports[0].port.0 = 0x2f8;
    after.tables.hypercalls = vec![HypercallRow {
        call: Call::Outsb,
        count: 2,
        bytes: 10,
        declined: 0,
        denied: 0,
        errors: 0,
    }];
    let diff = Diff::new(&smp_snapshot(), &after).tables;
    let ports: Vec<_> = diff.ports.iter().map(Change::accesses).collect();
    assert_eq!(ports, [[0, 70_000], [70_000, 0]], "by port");
    assert_eq!(diff.ports[0].percent(), None);
    assert_eq!(diff.hypercalls[0].accesses(), [0, 2]);
    assert_eq!(diff.accesses, [70_000, 70_010]);
    assert!(diff.forms.is_empty() && diff.sites.is_empty());
}

#[test]
fn another_server_of_a_port_is_a_difference() {
    let mut after = smp_snapshot();
    let port = &mut after.tables.ports[0];
    (port.device, port.qemu) = (port.qemu, port.device);
    port.name = Some("uart16550".into());
    assert_eq!(Diff::new(&smp_snapshot(), &after).tables.ports[0].difference(), 0);
}

#[test]
fn what_one_qemu_does_not_report_is_not_a_difference() {
    let mut after = smp_snapshot();
    after.tables.forms.iter_mut().for_each(|row| (row.faults, row.exits) = (None, None));
    after.tables.instructions.instructions = Some(5);
    assert!(Diff::new(&smp_snapshot(), &after).is_empty());
    after.tables.forms[0].executions = 1;
    assert_eq!(Diff::new(&smp_snapshot(), &after).tables.forms.len(), 1);
}

#[test]
fn sites_of_a_kernel_that_has_moved_match_by_symbol() {
    let before = [site(0x1000, Some("outb+0x1"), 5), site(0x2000, Some("inb+0x1"), 7)];
    let after = [site(0x9000, Some("inb+0x1"), 7), site(0x9100, Some("outb+0x1"), 6)];
    assert_eq!(sites(&before, &after), [(Some(0x1000), Some(0x9100), [5, 6])]);
}

#[test]
fn sites_without_a_symbol_match_by_address_mode_and_bytes() {
    let named = |pc, accesses| site(pc, Some("outb"), accesses);
    let bare = |pc, accesses| site(pc, None, accesses);
    assert_eq!(sites(&[bare(1, 5)], &[bare(1, 6)]), [(Some(1), Some(1), [5, 6])]);
    assert_eq!(sites(&[named(1, 5)], &[bare(1, 6)]), [(Some(1), Some(1), [5, 6])]);
    let other_bytes = SiteRow { bytes: "6e".into(), ..bare(1, 6) };
    let apart = [(Some(1), None, [5, 0]), (None, Some(1), [0, 6])];
    assert_eq!(sites(&[bare(1, 5)], &[other_bytes]), apart);
    // Two symbols at one address are two pieces of code.
    assert_eq!(sites(&[named(1, 5)], &[site(1, Some("inb"), 6)]), apart);
}

#[test]
fn of_several_sites_with_one_symbol_equal_addresses_match_first() {
    let named = |pc, accesses| site(pc, Some("outb"), accesses);
    let before = [named(1, 5), named(2, 7)];
    assert_eq!(sites(&before, &[named(2, 7), named(3, 5)]), []);
    assert_eq!(
        sites(&before, &[named(2, 7), named(3, 6), named(4, 1)]),
        [(Some(1), Some(3), [5, 6]), (None, Some(4), [0, 1])]
    );
}

#[test]
fn windows_match_by_name() {
    let window = |name: &str, entries| {
        let (open, rows_dropped, tables) = (false, false, smp_snapshot().tables);
        WindowRow { name: name.into(), entries, open, rows_dropped, tables }
    };
    let [mut before, mut after] = [smp_snapshot(), smp_snapshot()];
    before.windows = vec![window("boot", 1), window("gone", 1), window("same", 1)];
    after.windows = vec![window("same", 1), window("new", 3), window("boot", 2)];
    let windows = Diff::new(&before, &after).windows;
    let entries: Vec<_> = windows.iter().map(|diff| (&*diff.name, diff.entries)).collect();
    assert_eq!(entries, [("boot", [1, 2]), ("gone", [1, 0]), ("new", [0, 3])]);
    assert!(windows[0].tables.is_empty());
    assert_eq!(windows[1].tables.accesses, [70_000, 0]);
    assert_eq!(windows[1].tables.forms.len(), 1, "idle forms are left out");
}

#[test]
fn values_are_compared_at_ports_that_have_some_in_both_dumps() {
    let row = |port, value, accesses| ValueRow {
        port: pvio_x86::Port(port),
        dir: pvio_x86::Direction::Out,
        size: pvio_x86::Width::Byte.into(),
        value: Some(value),
        counts: AccessCounts { accesses, unverified: 0 },
        first: Some(crate::ValueMoment { time_ns: accesses, accesses }),
        last: None,
    };
    let with = |values| Snapshot { values, ..smp_snapshot() };
    let before = with(vec![row(0x70, 1, 1), row(0x80, 1, 1), row(0x80, 2, 2)]);
    let after = with(vec![row(0x80, 1, 1), row(0x80, 2, 3), row(0x80, 4, 1), row(0x84, 1, 1)]);
    let diff = Diff::new(&before, &after);
    let changed: Vec<_> = diff.values.iter().map(Change::accesses).collect();
    assert_eq!(changed, [[2, 3], [0, 1]]);
    assert!(!diff.is_empty() && Diff::new(&before, &with(Vec::new())).is_empty());
}

#[test]
fn call_sites_match_by_symbol_and_call() {
    let counts = |calls| CallCounts { calls, accesses: calls, bytes: calls };
    let dump = |pc, calls, accesses| {
        let mut dump = smp_snapshot();
        let row = call_site(pc, "io_serial_out+0x16", counts(calls));
        let other = CallSiteRow { call: Call::Inb, ..row.clone() };
        dump.tables.call_sites = vec![row, other];
        let (port, dir, size) = (Port(0x3f8), Direction::Out, Width::Byte.into());
        dump.tables.call_accesses =
            vec![CallAccessRow { site: 0, port, dir, size, accesses: calls }];
        dump.tables.call_callers = vec![call_chain(&["console_write+0x5"], accesses)];
        dump
    };
    let (before, after) = (dump(0x1000, 5, 7), dump(0x8000, 5, 7));
    assert!(Diff::new(&before, &after).is_empty(), "the kernel has only moved");
    let diff = Diff::new(&before, &dump(0x8000, 6, 9)).tables;
    let accesses = |changes: &[Change<CallSiteRow>]| -> Vec<_> {
        changes.iter().map(Change::accesses).collect()
    };
    assert_eq!(accesses(&diff.call_sites), [[5, 6], [5, 6]]);
    assert_eq!(diff.accesses_by_call_site[0].accesses(), [5, 6]);
    assert_eq!(diff.call_callers[0].accesses(), [7, 9]);
    // An older pvio did not count by call site.
    let mut old = before.clone();
    (old.tables.call_sites, old.tables.call_accesses) = (Vec::new(), Vec::new());
    old.tables.call_callers.clear();
    old.tables.call_sites_dropped_counts = counts(10);
    assert!(Diff::new(&old, &after).is_empty());
}
