//! The access log has every access, with the value on the bus.

use pvio::x86::Mode;
use pvio_cli::expected_forms;
use pvio_cli::machine::{Ended, Machine};
use pvio_tests::{
    Host, Monitor, assert_consistent, assert_forms, guest, on_both_qemus, parse_hex, wait_until,
};

on_both_qemus! {
    every_access_of_the_forms_guest_is_logged
    only_the_chosen_ports_are_logged
    logged_values_are_those_in_qemus_trace
    log_of_four_vcpus_is_complete
    log_of_four_vcpus_on_one_thread_is_complete
    log_with_icount_is_complete
    access_that_may_have_faulted_is_marked
    log_is_complete_after_quit
    full_disk_is_reported
}

/// A line of a log, without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    vcpu: String,
    direction: String,
    port: u16,
    size: u64,
    value: Option<u64>,
    in_question: bool,
}

fn parse(log: &str) -> Vec<Line> {
    let mut lines = log.lines();
    assert_eq!(lines.next(), Some("# seconds vcpu pc direction port size value\tsymbol\tprocess"));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_time, vcpu, _pc, direction, port, size, value, ..] = words[..] else {
                panic!("{line}")
            };
            Line {
                vcpu: vcpu.into(),
                direction: direction.into(),
                port: parse_hex(port) as u16,
                size: size.parse().unwrap(),
                value: (value != "-").then(|| parse_hex(value.trim_end_matches('?'))),
                in_question: value.ends_with('?'),
            }
        })
        .collect()
}

fn run_logged(machine: Machine, filter: &str) -> (Ended, Vec<Line>) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let option = format!("access-log={}{filter}", log.display());
    let ended = machine.plugin(&["summary=off", &option]).run().unwrap();
    assert_eq!(ended.stderr, "");
    (ended, parse(&std::fs::read_to_string(log).unwrap()))
}

fn every_access_of_the_forms_guest_is_logged(host: &Host) {
    let (ended, lines) = run_logged(host.machine().bare_guest(&guest("forms.bin")), "");
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    for row in &stats.ports {
        let logged = lines.iter().filter(|line| {
            line.port == row.port.0
                && line.direction == row.dir.to_string()
                && line.size == u64::from(row.size.bytes())
        });
        assert_eq!(logged.count() as u64, row.qemu, "{row:?}");
    }
    // No device is at the ports of this guest: reads return all ones, and the guest checks that.
    let reads = lines.iter().filter(|line| line.direction == "in" && line.port != 0x511);
    for line in reads {
        assert_eq!(line.value, Some((1 << (8 * line.size)) - 1), "{line:?}");
    }
}

fn only_the_chosen_ports_are_logged(host: &Host) {
    let machine = host.machine().bare_guest(&guest("poweroff.bin"));
    let (_, lines) = run_logged(machine, ":0xcf8-0xcff:0x604");
    let ports: Vec<u16> = lines.iter().map(|line| line.port).collect();
    assert_eq!(ports, [0xcf8, 0xcfc, 0xcf8, 0xcfc, 0x604]);
}

/// Compares the log with QEMU's own trace of accesses to memory regions.
fn logged_values_are_those_in_qemus_trace(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let machine = host.machine().bare_guest(&guest("poweroff.bin")).args([
        "-trace",
        "memory_region_ops_*",
        "-D",
        trace.to_str().unwrap(),
    ]);
    let (_, lines) = run_logged(machine, ":0x604:0xcf8-0xcff:0x80");
    let trace = std::fs::read_to_string(trace).unwrap();
    // `... addr 0x604 value 0x2000 size 2 name 'acpi-cnt'`
    let field = |line: &str, name: &str| -> Option<String> {
        let mut words = line.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).map(str::to_owned)
    };
    let traced: Vec<(u64, u64)> = trace
        .lines()
        .filter_map(|line| {
            Some((parse_hex(&field(line, "addr")?), parse_hex(&field(line, "value")?)))
        })
        .filter(|(port, _)| matches!(port, 0x604 | 0xcf8..=0xcff | 0x80))
        .collect();
    let logged: Vec<(u64, u64)> =
        lines.iter().map(|line| (line.port.into(), line.value.unwrap())).collect();
    assert_eq!(logged, traced);
    assert_eq!(logged.len(), 15);
}

fn log_of_four_vcpus_is_complete(host: &Host) {
    let machine = host.machine().bare_guest(&guest("forms.bin")).args(["-smp", "4"]);
    let (ended, lines) = run_logged(machine, "");
    let stats = ended.stats().unwrap();
    for row in &stats.vcpus {
        let own = lines.iter().filter(|line| line.vcpu == row.vcpu.to_string());
        assert_eq!(own.count() as u64, row.accesses, "{row:?}");
    }
    assert_eq!(stats.vcpus.len(), 4);
}

/// Fails unless the log has every access of the guest `forms`, and the guest's own checks pass.
fn assert_complete(machine: Machine, vcpus: u64) {
    let smp = vcpus.to_string();
    let (ended, lines) =
        run_logged(machine.bare_guest(&guest("forms.bin")).args(["-smp", &smp]), "");
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED));
    let stats = ended.stats().unwrap();
    assert_forms(stats, vcpus, &Mode::ALL);
    let accesses: u64 = stats.forms.iter().map(|row| row.accesses).sum();
    assert_eq!(lines.len() as u64, accesses);
    let reads = lines.iter().filter(|line| line.direction == "in" && line.port != 0x511);
    // If vCPUs share a thread, a value is lost when another vCPU reads before the block continues.
    let may_miss = stats.vcpus_omitted.is_some();
    let is_right = |value: Option<u64>, size: u64| {
        value == Some((1 << (8 * size)) - 1) || (may_miss && value.is_none())
    };
    let strange = reads.filter(|line| !is_right(line.value, line.size)).count();
    assert_eq!(strange, 0, "reads that are not all ones");
}

fn log_of_four_vcpus_on_one_thread_is_complete(host: &Host) {
    assert_complete(host.machine().args(["-accel", "tcg,thread=single"]), 4);
}

fn log_with_icount_is_complete(host: &Host) {
    assert_complete(host.machine().args(["-icount", "shift=0"]), 1);
    assert_complete(host.machine().args(["-icount", "shift=0"]), 4);
}

/// If QEMU reports exceptions, an access that faults is not in the log; otherwise it is marked.
fn access_that_may_have_faulted_is_marked(host: &Host) {
    let machine = host.machine().args(["-device", "pc-testdev", "-debugcon", "null"]);
    let machine = machine.bare_guest(&guest("around-privilege.bin"));
    let (ended, lines) = run_logged(machine, ":0xe0-0xe3");
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED));
    let stats = ended.stats().unwrap();
    let ports = stats.ports.iter().filter(|row| (0xe0..=0xe3).contains(&row.port.0));
    let (made, unverified) =
        ports.fold((0, 0), |sum, row| (sum.0 + row.qemu, sum.1 + row.unverified));
    let marked = lines.iter().filter(|line| line.in_question).count() as u64;
    assert_eq!(lines.len() as u64 - marked, made);
    assert!(marked >= unverified, "{marked} of {unverified}");
    assert_eq!(marked > 0, !host.reports_exceptions());
}

fn log_is_complete_after_quit(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let option = format!("access-log={}", log.display());
    let machine = host.machine().plugin(&["summary=off", &option]).bare_guest(&guest("spin.bin"));
    let monitor = Monitor::start(machine.args(["-smp", "2"]));
    // Until the writer thread has written several batches.
    let size = || std::fs::metadata(&log).unwrap().len();
    wait_until(|| size() >= 4 << 20, || format!("{} bytes", size()));
    let ended = monitor.quit();
    let accesses: u64 = ended.stats().unwrap().vcpus.iter().map(|row| row.accesses).sum();
    let lines = parse(&std::fs::read_to_string(log).unwrap());
    assert_eq!(lines.len() as u64, accesses);
}

fn full_disk_is_reported(host: &Host) {
    let machine = host.machine().plugin(&["summary=off", "access-log=/dev/full"]);
    let ended = machine.bare_guest(&guest("forms.bin")).run().unwrap();
    assert!(ended.stderr.contains("the access log is incomplete"), "{}", ended.stderr);
    assert_consistent(ended.stats().unwrap());
}
