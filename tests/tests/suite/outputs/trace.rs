//! The trace has every access; the statistics of the trace equal those that the plugin counted in the same run.

use std::fs;
use std::path::{Path, PathBuf};

use pvio_cli::machine::{Ended, Machine};
use pvio_stats::Snapshot;
use pvio_stats::trace::{Event, Stage, Trace, What, statistics};
use pvio_tests::{
    GuestTest, Host, assert_consistent, boot_linux, guest, on_both_qemus, parse_hex, wait_until,
};
use tempfile::TempDir;

on_both_qemus! {
    statistics_of_a_trace_are_those_of_the_plugin
    statistics_of_several_vcpus_are_those_of_the_plugin
    statistics_of_a_linux_boot_are_those_of_the_plugin
    windows_and_hypercalls_are_those_of_the_plugin
    trace_has_the_accesses_of_the_log
    filtered_trace_has_what_the_filter_covers
    typical_access_takes_at_most_ten_bytes
    trace_that_is_cut_off_is_read_up_to_there
    trace_of_a_killed_qemu_has_addresses
    full_disk_is_reported
    old_trace_is_replaced_when_the_machine_runs
}

struct Traced {
    directory: TempDir,
    ended: Ended,
}

impl Traced {
    fn path(&self) -> PathBuf {
        self.directory.path().join("trace")
    }

    fn trace(&self) -> Trace {
        Trace::open(&self.path()).unwrap()
    }
}

/// Runs a machine with a filtered trace and other options, by `run`.
fn traced(
    machine: Machine,
    filter: &str,
    options: &[&str],
    run: impl FnOnce(Machine) -> Ended,
) -> Traced {
    let directory = tempfile::tempdir().unwrap();
    let option = format!("trace={}{filter}", directory.path().join("trace").display());
    let ended = run(machine.plugin(&["summary=off", &option]).plugin(options));
    Traced { directory, ended }
}

fn bare(name: &'static str, status: i32) -> impl FnOnce(Machine) -> Ended {
    move |machine| GuestTest::new(machine, name).exit_status(status).run().ended
}

/// Fails unless the statistics of the trace are those of the dump, in all their tables.
#[track_caller]
fn assert_same(traced: &Traced) -> Snapshot {
    let (of_trace, lines) = statistics(&mut traced.trace());
    assert_eq!(lines, [""; 0]);
    let counted = traced.ended.stats().unwrap();
    assert_consistent(&of_trace);
    assert_eq!(of_trace.forms, counted.forms);
    assert_eq!(of_trace.ports, counted.ports);
    assert_eq!(of_trace.sites, counted.sites);
    assert_eq!(of_trace.accesses, counted.accesses);
    assert_eq!(of_trace.vcpus, counted.vcpus);
    assert_eq!(of_trace.hypercalls, counted.hypercalls);
    assert_eq!(of_trace.processes, counted.processes);
    assert_eq!(of_trace.callers, counted.callers);
    assert_eq!(of_trace.call_sites, counted.call_sites);
    assert_eq!(of_trace.call_accesses, counted.call_accesses);
    assert_eq!(of_trace.call_callers, counted.call_callers);
    assert_eq!(of_trace.windows, counted.windows);
    assert_eq!(&of_trace, counted, "all else");
    of_trace
}

/// Faults, exits of nested guests, strings that restart, unverified attempts, aliases, interrupts.
fn statistics_of_a_trace_are_those_of_the_plugin(host: &Host) {
    for (name, status) in [
        ("forms", 1),
        ("forms-aliases", 1),
        ("callers", 1),
        ("insns", 1),
        ("around-debug", 3),
        ("around-pages", 3),
        ("around-privilege", 3),
        ("around-strings", 3),
        ("around-svm", 1),
        ("site-ports", 1),
        ("call-sites", 1),
    ] {
        let run = traced(host.machine(), "", &["callers=on", "processes=on"], |machine| {
            machine.bare_guest(&guest(&format!("{name}.bin"))).run().unwrap()
        });
        assert_eq!(run.ended.status.code(), Some(status), "{name}: {}", run.ended.stderr);
        assert_same(&run);
    }
}

fn statistics_of_several_vcpus_are_those_of_the_plugin(host: &Host) {
    let smp = |machine: Machine| bare("forms", 1)(machine.args(["-smp", "4"]));
    let stats = assert_same(&traced(host.machine(), "", &[], smp));
    assert_eq!(stats.vcpus.len(), 4);
}

fn statistics_of_a_linux_boot_are_those_of_the_plugin(host: &Host) {
    let run = traced(host.machine(), "", &["callers=on", "processes=on"], boot_linux);
    let stats = assert_same(&run);
    assert!(stats.callers.len() > 100 && stats.processes.len() > 2, "they are compared");
    assert!(stats.sites.iter().any(|site| site.symbol.is_some()), "sites have names");
}

fn windows_and_hypercalls_are_those_of_the_plugin(host: &Host) {
    for name in ["calls-batches64", "calls-hostile32", "mailbox-16"] {
        let run = traced(host.machine(), "", &["device=latch@0x300-0x30f"], |machine| {
            machine.bare_guest(&guest(&format!("{name}.bin"))).run().unwrap()
        });
        assert_same(&run);
    }
    let run = traced(host.machine(), "", &[], |machine| {
        machine.bare_guest(&guest("calls-limits64.bin")).run().unwrap()
    });
    let stats = assert_same(&run);
    if host.reports_exceptions() {
        assert!(!stats.windows.is_empty(), "windows are compared");
        assert!(stats.hypercalls.len() > 3, "hypercalls are compared");
    }
}

/// An access as the log's line says it: vCPU, address, direction, port, size, value.
type Access = (u32, u64, String, u16, u8, Option<u32>);

fn accesses(trace: &mut Trace) -> Vec<Access> {
    let mut found = Vec::new();
    trace.read(|Event { what, .. }, (_, vcpu), definitions| {
        if let What::Insn(insn) = what
            && matches!(insn.stage, Stage::Executed | Stage::Element { .. })
            && let Some(port) = insn.port
        {
            let pc = match insn.code {
                pvio_stats::trace::Code::Site(site) => definitions.site(site).unwrap().pc,
                pvio_stats::trace::Code::Dropped(pc) => pc,
            };
            let (direction, size) = (insn.form.direction(), insn.form.size().bytes().unwrap());
            found.push((vcpu, pc, direction.to_string(), port.0, size, insn.value));
        }
        true
    });
    found
}

fn logged(log: &Path) -> Vec<Access> {
    let text = fs::read_to_string(log).unwrap();
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = (words[6] != "-").then(|| parse_hex(words[6]) as u32);
        let (pc, port) = (parse_hex(words[2]), parse_hex(words[4]) as u16);
        (words[1].parse().unwrap(), pc, words[3].to_owned(), port, words[5].parse().unwrap(), value)
    };
    text.lines().skip(1).map(line).collect()
}

fn trace_has_the_accesses_of_the_log(host: &Host) {
    for name in ["forms", "callers"] {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let machine = host.machine().plugin(&[&format!("access-log={}", log.display())]);
        let run = traced(machine, "", &[], |machine| {
            machine.bare_guest(&guest(&format!("{name}.bin"))).run().unwrap()
        });
        let (traced, logged) = (accesses(&mut run.trace()), logged(&log));
        assert!(logged.len() > 100, "{name}: {}", run.ended.stderr);
        assert_eq!(traced, logged, "{name}");
    }
}

fn filtered_trace_has_what_the_filter_covers(host: &Host) {
    let all = traced(host.machine(), "", &[], bare("poweroff", 0));
    let some = traced(host.machine(), ":0xcf8-0xcff:out", &[], bare("poweroff", 0));
    let mut expected = accesses(&mut all.trace());
    let count = expected.len();
    expected
        .retain(|(_, _, direction, port, ..)| direction == "out" && (0xcf8..=0xcff).contains(port));
    assert!(!expected.is_empty() && expected.len() < count);
    assert_eq!(accesses(&mut some.trace()), expected);
    let (stats, lines) = statistics(&mut some.trace());
    let counted: u64 = stats.forms.iter().map(|row| row.accesses).sum();
    assert_eq!(counted, expected.len() as u64);
    assert_eq!(
        lines,
        ["is filtered (0xcf8-0xcff:out): only accesses that the filter covers are counted"]
    );
}

fn typical_access_takes_at_most_ten_bytes(host: &Host) {
    let run = traced(host.machine(), "", &[], boot_linux);
    let forms = &run.ended.stats().unwrap().forms;
    let accesses: u64 = forms.iter().map(|row| row.accesses).sum();
    let bytes = fs::metadata(run.path()).unwrap().len();
    assert!(bytes <= 10 * accesses, "{bytes} bytes for {accesses} accesses");
}

/// Cuts within the head, at chunks' borders, within chunks, and before the last byte.
fn trace_that_is_cut_off_is_read_up_to_there(host: &Host) {
    let run = traced(host.machine(), "", &[], bare("forms", 1));
    let whole = fs::read(run.path()).unwrap();
    let all = accesses(&mut run.trace());
    let cut = run.directory.path().join("cut");
    let mut had = 0;
    for len in (1..200).chain((200..whole.len()).step_by(1009)).chain([whole.len() - 1]) {
        fs::write(&cut, &whole[..len]).unwrap();
        let Ok(mut trace) = Trace::open(&cut) else {
            assert!(len < 2000, "{len}: the head is whole");
            continue;
        };
        assert!(!trace.problems().is_empty(), "{len}");
        let some = accesses(&mut trace);
        assert!(all.starts_with(&some) && some.len() >= had, "{len}");
        had = some.len();
    }
    assert_eq!(had, all.len(), "only the end is cut off");
}

fn trace_of_a_killed_qemu_has_addresses(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    let option = format!("trace={}", path.display());
    let machine = host.machine().plugin(&["summary=off", &option]);
    let running = machine.bare_guest(&guest("spin.bin")).start().unwrap();
    let count = || Trace::open(&path).map_or(0, |mut trace| accesses(&mut trace).len());
    wait_until(|| count() > 0, || "no event is in the file".to_owned());
    running.signal(libc::SIGKILL).unwrap();
    let _ = running.wait();
    let (stats, lines) = statistics(&mut Trace::open(&path).unwrap());
    assert!(lines.iter().any(|line| line.contains("has no end")), "{lines:?}");
    assert!(!stats.sites.is_empty());
}

fn full_disk_is_reported(host: &Host) {
    let machine = host.machine().plugin(&["summary=off", "trace=/dev/full"]);
    let ended = machine.bare_guest(&guest("forms.bin")).run().unwrap();
    assert!(
        ended.stderr.contains("/dev/full cannot be written: the trace is incomplete"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("the trace is incomplete: No space left"), "{}", ended.stderr);
    assert_consistent(ended.stats().unwrap());
}

fn old_trace_is_replaced_when_the_machine_runs(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let (path, link) = (directory.path().join("trace"), directory.path().join("link"));
    fs::write(&path, vec![7; 1 << 20]).unwrap();
    std::os::unix::fs::symlink("trace", &link).unwrap();
    let option = format!("trace={}", link.display());
    let refused = host.machine().plugin(&[&option, "nonsense=1"]);
    let ended = refused.bare_guest(&guest("poweroff.bin")).run().unwrap();
    assert!(!ended.status.success());
    assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20, "QEMU did not start");
    let machine = host.machine().plugin(&["summary=off", &option]);
    bare("poweroff", 0)(machine);
    assert!(link.is_symlink());
    assert_eq!(Trace::open(&path).unwrap().problems(), [""; 0]);
}
