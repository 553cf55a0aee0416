//! Each subject of `qemu-scripts/bench` runs and gives its rows. The ratios depend on the computer.

use std::path::PathBuf;

use pvio_cli::bench::{
    Row, callers, calls, compute, dispatch, insns, linux, mailbox, ports, processes, strings,
    unclaimed, vcpus,
};
use pvio_tests::{Host, on_both_qemus};

/// The number of pairs of runs. The script makes at least seven.
const PAIRS: usize = 1;

on_both_qemus! {
    counting_where_no_device_is
    devices_of_the_plugin_and_of_qemu
    strings_on_devices_of_the_plugin
    several_vcpus_at_once
    the_mailbox
    a_boot_of_linux
    call_chains
    counting_by_process
}

fn qemu(host: &Host) -> PathBuf {
    host.program("qemu-system-x86_64")
}

/// Fails unless the rows have these names and targets.
#[track_caller]
fn assert_rows(rows: &[Row], expected: &[(&str, Option<f64>)]) {
    let found: Vec<_> = rows.iter().map(|row| (row.what, row.target)).collect();
    assert_eq!(found, expected);
    for row in rows {
        let ratio = row.ratio;
        assert_eq!(ratio.pairs, PAIRS, "{row:?}");
        assert!(
            0.0 < ratio.min && ratio.min <= ratio.median && ratio.median <= ratio.max,
            "{row:?}"
        );
        assert!(ratio.max.is_finite() && row.base > 0.0, "{row:?}");
    }
}

fn counting_where_no_device_is(host: &Host) {
    let target = Some(1.10);
    let expected = [
        ("out dx,al, unclaimed, counted", target),
        ("in al,dx, unclaimed, counted", target),
        ("mov edx,port; out dx,al, unclaimed, counted", target),
        ("mov edx,port; in al,dx, unclaimed, counted", target),
        ("out imm8,al, unclaimed, counted", target),
        ("in al,imm8, unclaimed, counted", target),
    ];
    let rows = unclaimed::rows(&qemu(host), PAIRS).unwrap();
    assert_rows(&rows, &expected);
    // A loop without a port instruction would take less.
    assert!(rows.iter().all(|row| row.base > 20.0), "{rows:?}");
}

fn counting_by_process(host: &Host) {
    let expected = [
        ("a million in and out of a program, with processes", None),
        ("Linux boot with processes", None),
    ];
    assert_rows(&processes::rows(&qemu(host), PAIRS).unwrap(), &expected);
}

#[test]
fn counting_every_instruction() {
    let expected = [
        ("Linux boot with every instruction counted", Some(1.6)),
        ("Linux boot with every instruction counted", None),
    ];
    assert_rows(&insns::rows(&qemu(&Host::NEWEST), PAIRS).unwrap(), &expected);
}

fn devices_of_the_plugin_and_of_qemu(host: &Host) {
    let expected = [
        ("out on the plugin's latch", None),
        ("in on the plugin's latch", None),
        ("out on the plugin's latch", Some(0.70)),
        ("in on the plugin's latch", Some(0.70)),
        ("out on QEMU's latch, counted", None),
        ("in on QEMU's latch, counted", None),
    ];
    assert_rows(&ports::rows(&qemu(host), PAIRS).unwrap(), &expected);
}

fn strings_on_devices_of_the_plugin(host: &Host) {
    let latch = ["rep outsb, plugin's latch, a byte", "rep insb, plugin's latch, a byte"];
    let stream = ["rep outsb, plugin's stream, a byte", "rep insb, plugin's stream, a byte"];
    let expected = [latch, stream, latch].concat();
    let expected: Vec<_> = expected.into_iter().map(|what| (what, Some(0.01))).collect();
    assert_rows(&strings::rows(&qemu(host), PAIRS).unwrap(), &expected);
}

fn the_mailbox(host: &Host) {
    let expected = ["mailbox outb, plugin's latch", "mailbox inb, plugin's latch"]
        .map(|what| (what, Some(0.25)));
    assert_rows(&mailbox::rows(&qemu(host), PAIRS, 0.25).unwrap(), &expected);
}

fn several_vcpus_at_once(host: &Host) {
    let rows = vcpus::rows(&qemu(host), PAIRS).unwrap();
    let expected = ["outs of 2 vCPUs, a latch each", "outs of 4 vCPUs, a latch each"];
    assert_rows(&rows, &expected.map(|what| (what, None)));
}

fn a_boot_of_linux(host: &Host) {
    let rows = linux::rows(&qemu(host), PAIRS).unwrap();
    let expected = [
        ("Linux boot with pvio", Some(1.02)),
        ("Linux boot with pvio", None),
        ("Linux boot with an empty plugin", None),
    ];
    assert_rows(&rows, &[expected, expected].concat());
    let units: Vec<&str> = rows.iter().map(|row| row.unit).collect();
    assert_eq!(units, ["s", "s", "s", "s of CPU", "s of CPU", "s of CPU"]);
}

fn call_chains(host: &Host) {
    let expected = [
        ("added to an access by a chain of 8 callers", Some(1.0)),
        ("Linux boot with call chains", Some(1.10)),
    ];
    assert_rows(&callers::rows(&qemu(host), PAIRS).unwrap(), &expected);
}

#[test]
fn compression_in_linux() {
    let rows = compute::rows(&qemu(&Host::NEWEST), PAIRS).unwrap();
    let expected = [
        ("compression in Linux with pvio", Some(1.02)),
        ("compression in Linux with pvio", None),
        ("compression in Linux with an empty plugin", None),
    ];
    assert_rows(&rows, &expected);
}

#[test]
fn a_device_among_a_thousand() {
    let expected = [
        ("out on one of 1,000 latches", None),
        ("in on one of 1,000 latches", None),
        ("hypercall outb on one of 1,000 latches", None),
    ];
    assert_rows(&dispatch::rows(&qemu(&Host::NEWEST), PAIRS, true).unwrap(), &expected);
    let without_calls = dispatch::rows(&qemu(&Host::STABLE), PAIRS, false).unwrap();
    assert_rows(&without_calls, &expected[..2]);
}

#[test]
fn hypercalls() {
    let expected = [
        ("hypercall outb, plugin's latch", Some(0.80)),
        ("hypercall inb, plugin's latch", Some(0.80)),
        ("hypercall outb, QEMU's latch", Some(1.2)),
        ("hypercall inb, QEMU's latch", Some(1.2)),
        ("batch of 64 outb, each", None),
        ("compact batch of 64 outb, each", Some(0.10)),
        ("hypercall outsb 64 KiB, a byte", Some(1.0 / 500.0)),
        ("hypercall insb 64 KiB, a byte", Some(1.0 / 500.0)),
    ];
    assert_rows(&calls::rows(&qemu(&Host::NEWEST), PAIRS).unwrap(), &expected);
}
