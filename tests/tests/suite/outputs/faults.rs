//! Files that cannot be written, kills, and directories that go away: files are whole or absent, and a line says why.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use pvio_cli::expected_forms::PASSED;
use pvio_cli::machine::{Ended, Machine, read_stats};
use pvio_cli::stats::trace::{Trace, statistics};
use pvio_tests::{
    Compiler, FailingFiles, Fault, Host, Monitor, assert_consistent, file_names, guest,
    number_from_env, on_both_qemus, path_str, start_busy,
};

use crate::hypercalls::stream_sequence;

on_both_qemus! {
    each_failing_call_on_a_file_is_reported_or_not_noticed
    each_failing_call_on_a_file_of_the_guest_fails_its_hypercall
    killed_qemu_leaves_files_whole_or_absent_and_a_readable_trace
    directory_that_goes_away_costs_its_file_only
    qemu_without_file_descriptors_ends_in_order
    qemu_without_memory_leaves_files_as_they_were
    time_of_day_that_is_set_back_changes_no_time
}

/// How often a test that runs QEMU many times does so: in the suite, and with PVIO_TEST_LONG, in a long part.
fn rounds(in_suite: usize, long: usize) -> usize {
    if std::env::var_os("PVIO_TEST_LONG").is_some() { long } else { in_suite }
}

/// An output, and a guest that writes to it.
struct Written {
    /// The option, before the path of the file.
    option: &'static str,
    guest: &'static str,
    /// The file is replaced at the end, or not at all; otherwise it grows.
    is_replaced: bool,
}

const OUTPUTS: [Written; 6] = [
    Written { option: "stats=", guest: "forms.bin", is_replaced: true },
    Written { option: "summary=", guest: "forms.bin", is_replaced: true },
    Written { option: "trace=", guest: "forms.bin", is_replaced: false },
    Written { option: "access-log=", guest: "forms.bin", is_replaced: false },
    Written { option: "log=", guest: "calls-limits64.bin", is_replaced: false },
    Written {
        option: "device=console@0x5170-0x5173:file=",
        guest: "forms.bin",
        is_replaced: false,
    },
];

/// Returns true if the guest has run to its end, which gives QEMU the same status as a failure of its own.
fn has_begun(status: ExitStatus, stderr: &str) -> bool {
    status.code() == Some(PASSED) && !stderr.contains("qemu-system-x86_64: ")
}

const OLD: &[u8] = b"what an earlier run wrote";

impl Written {
    fn machine(&self, host: &Host, directory: &Path) -> Machine {
        let option = format!("{}{}", self.option, directory.join("out").display());
        let machine = host.machine().plugin(&["summary=off", &option]);
        match self.option {
            "summary=" => host.machine().plugin(&[&option]),
            _ => machine,
        }
        .bare_guest(&guest(self.guest))
    }

    /// Fails unless the guest ran to its end, or the run did not begin.
    fn check(&self, ended: &Ended, directory: &Path, fault: Fault, at: u64) {
        let what = format!("{} call {at}, {fault:?}: {}", self.option, ended.stderr);
        let file = std::fs::read(directory.join("out")).unwrap();
        let has_begun = !ended.stderr.contains("Could not load plugin");
        // 3: the guest was told that its line was not logged.
        let is_right = matches!(ended.status.code(), Some(PASSED | 3));
        assert!(is_right || !has_begun, "{what}: {}", ended.status);
        let lines: Vec<_> = ended.stderr.lines().filter(|line| line.contains("pvio: ")).collect();
        if fault.is_transparent() {
            assert!(has_begun && lines.is_empty(), "{what}");
            assert_ne!(file, OLD, "{what}");
            self.check_whole(directory, &what);
        } else if !has_begun {
            // The first line says which file and why; QEMU adds one of its own.
            assert_eq!(ended.status.code(), Some(1), "{what}");
            assert!(lines.len() == 1 && lines[0].contains("/out"), "{what}");
            assert_eq!(file, OLD, "{what}");
        } else {
            // A trace and an access log have one line at once, and one at the end.
            assert!((1..=2).contains(&lines.len()), "{what}");
            let why = ["No space left on device", "Input/output error"];
            assert!(lines.iter().any(|line| why.iter().any(|why| line.contains(why))), "{what}");
            let names = ["/out", "the guest's log", "console at 0x5170"];
            assert!(names.iter().any(|name| lines[0].contains(name)), "{what}");
            assert!(!self.is_replaced || file == OLD, "{what}");
        }
        assert_eq!(file_names(directory), ["out"], "{what}");
    }

    fn check_whole(&self, directory: &Path, what: &str) {
        let path = directory.join("out");
        match self.option {
            "stats=" => assert_consistent(&read_stats(&path).unwrap()),
            "trace=" => assert_eq!(problems(&path), [""; 0], "{what}"),
            _ => assert!(path.metadata().unwrap().len() > 0, "{what}"),
        }
    }
}

fn each_failing_call_on_a_file_is_reported_or_not_noticed(host: &Host) {
    let files = FailingFiles::new();
    // This QEMU's guest has no log by registers.
    let has_log = host.api > Host::STABLE.api;
    for output in OUTPUTS.iter().filter(|output| has_log || output.option != "log=") {
        let run = |at, fault| {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("out"), OLD).unwrap();
            let machine = output.machine(host, directory.path());
            let machine = files.in_directory(machine, directory.path(), at, fault);
            (machine.run().unwrap(), directory)
        };
        let (ended, directory) = run(0, Fault::Full);
        output.check(&ended, directory.path(), Fault::Short, 0);
        let calls = files.calls();
        assert!(calls >= 2, "{}: {calls} calls", output.option);
        let step = calls.div_ceil(rounds(4, 64) as u64);
        for at in (1..=calls).filter(|at| at % step == 0 || [1, calls].contains(at)) {
            for fault in Fault::ALL {
                let (ended, directory) = run(at, fault);
                // A thread that writes makes more calls at one time than at another.
                let fault = if files.calls() < at { Fault::Short } else { fault };
                output.check(&ended, directory.path(), fault, at);
            }
        }
    }
}

/// The guest writes three files to a shared directory, and checks each status.
fn each_failing_call_on_a_file_of_the_guest_fails_its_hypercall(host: &Host) {
    let files = FailingFiles::new();
    let run = |at, fault| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("in"), stream_sequence(100_000)).unwrap();
        let share = format!("share={}", directory.path().display());
        let machine = host.machine().plugin(&["summary=off", &share]);
        let machine = machine.bare_guest(&guest("calls-by-mailbox-files64.bin"));
        let machine = machine.args(["-action", "reboot=reset", "-cpu", "max", "-debugcon", "null"]);
        let machine = files.in_directory(machine, directory.path(), at, fault);
        let ended = machine.time_limit(Duration::from_secs(120)).run().unwrap();
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let entry = entry.unwrap();
            found.insert(entry.file_name(), std::fs::read(entry.path()).unwrap());
        }
        (ended, found)
    };
    let (ended, whole) = run(0, Fault::Full);
    assert_eq!(ended.status.code(), Some(PASSED), "{}", ended.stderr);
    let calls = files.calls();
    assert!(calls >= 8, "{calls} calls: each of two files is opened, written, synced and renamed");
    let step = calls.div_ceil(rounds(16, 64) as u64);
    let is_chosen = |at: &u64| at.is_multiple_of(step) || *at <= 5;
    for at in (1..=calls).filter(is_chosen) {
        for fault in Fault::ALL {
            let (ended, found) = run(at, fault);
            let what = format!("call {at}, {fault:?}: {}", ended.stderr);
            assert!(!ended.stderr.contains("panicked"), "{what}");
            if fault.is_transparent() {
                assert_eq!(ended.status.code(), Some(PASSED), "{what}");
                assert!(found == whole, "{what}");
            } else {
                // The guest's check of the status fails.
                assert_eq!(ended.status.code(), Some(3), "{what}");
                let is_whole = |(name, contents)| whole.get(name) == Some(contents);
                assert!(found.iter().all(is_whole), "{what}: {:?}", found.keys());
            }
        }
    }
}

/// Reads a trace whole. Returns what is wrong with it.
fn problems(path: &Path) -> Vec<String> {
    let mut trace = Trace::open(path).unwrap_or_else(|error| panic!("{error}"));
    let (_, mut lines) = statistics(&mut trace);
    lines.extend(trace.problems().iter().cloned());
    if trace.end().is_none() {
        lines.push("it has no end".to_owned());
    }
    lines
}

/// Four vCPUs that write to ports without end.
fn spinning(host: &Host, directory: &Path) -> Monitor {
    let options = ["stats=", "trace=", "access-log="].map(|option| {
        format!("{option}{}", directory.join(option.trim_end_matches('=')).display())
    });
    let options = options.each_ref().map(|option| &**option);
    let machine = host.machine().plugin(&["summary=off"]).plugin(&options);
    start_busy(machine.bare_guest(&guest("spin.bin")).args(["-smp", "4"]), 4)
}

fn killed_qemu_leaves_files_whole_or_absent_and_a_readable_trace(host: &Host) {
    let seed = number_from_env("PVIO_TEST_SEED", 2007);
    println!("PVIO_TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut dumps = 0;
    let kills = rounds(6, 100);
    for round in 0..kills {
        let directory = tempfile::tempdir().unwrap();
        let monitor = spinning(host, directory.path());
        // Every other machine is killed while it ends.
        if round % 2 == 0 {
            monitor.running().signal(libc::SIGTERM).unwrap();
            std::thread::sleep(Duration::from_micros(random.u64(0..60_000)));
        } else {
            std::thread::sleep(Duration::from_micros(random.u64(0..300_000)));
        }
        // It may have ended already.
        let _ = monitor.running().signal(libc::SIGKILL);
        let ended = monitor.wait();
        let stats = directory.path().join("stats");
        if stats.exists() {
            assert_consistent(&read_stats(&stats).unwrap());
            dumps += 1;
        }
        assert!(!ended.status.success() || stats.exists(), "{}", ended.stderr);
        assert_readable_up_to_its_end(&directory.path().join("trace"));
        // Temporary files of dumps have no other name, and a kill may leave one.
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_known = ["stats", "trace", "access-log"].contains(&&*name);
            assert!(is_known || name.starts_with(".pvio-"), "{name}");
        }
    }
    println!("{dumps} of {kills} machines wrote their dumps before they were killed");
}

/// A trace whose machine ended early has whole chunks, or nothing yet.
fn assert_readable_up_to_its_end(trace: &Path) {
    if trace.metadata().is_ok_and(|file| file.len() > 0) {
        let mut trace = Trace::open(trace).unwrap_or_else(|error| panic!("{error}"));
        assert_consistent(&statistics(&mut trace).0);
    }
}

fn directory_that_goes_away_costs_its_file_only(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let monitor = spinning(host, &inner);
    std::fs::remove_dir_all(&inner).unwrap();
    let ended = monitor.quit();
    assert!(ended.status.success(), "{}", ended.stderr);
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("/inner/stats was not written: No such file"), "{lines:?}");
    assert!(!inner.exists());
}

/// Runs a guest by a command such as `prlimit`, with old files in the directory.
fn limited(host: &Host, limit: &str, directory: &Path) -> Output {
    let out = |name: &str| directory.join(name);
    for name in ["stats", "trace", "log"] {
        std::fs::write(out(name), OLD).unwrap();
    }
    let options = format!(
        "summary=off,stats={},trace={},access-log={},control={}",
        out("stats").display(),
        out("trace").display(),
        out("log").display(),
        out("socket").display(),
    );
    let qemu = host.bare_guest_command(&options, "forms");
    let mut command = Command::new("timeout");
    command.args(["60", "prlimit", limit, "--"]).arg(qemu.get_program()).args(qemu.get_args());
    command.output().unwrap()
}

/// Fails unless each file is old or whole, and a run that did not begin has changed none.
fn assert_old_or_whole(directory: &Path, has_begun: bool, what: &str) {
    let stats = directory.join("stats");
    if std::fs::read(&stats).unwrap() != OLD {
        assert_consistent(&read_stats(&stats).unwrap());
    }
    for name in ["stats", "trace", "log"] {
        assert!(has_begun || std::fs::read(directory.join(name)).unwrap() == OLD, "{name}: {what}");
    }
}

fn qemu_without_file_descriptors_ends_in_order(host: &Host) {
    let step = rounds(4, 1);
    let mut begun = 0;
    // A shell, which starts QEMU, needs 12 itself.
    for limit in (12..64).step_by(step) {
        let directory = tempfile::tempdir().unwrap();
        let output = limited(host, &format!("--nofile={limit}"), directory.path());
        let stderr = String::from_utf8_lossy(&output.stderr);
        let what = format!("{limit} descriptors: {}: {stderr}", output.status);
        let has_begun = has_begun(output.status, &stderr);
        begun += usize::from(has_begun);
        // GLib ends QEMU by a trap if it gets no pipe of its own.
        let why = ["GLib-ERROR", "Too many open files", "cannot open shared object file"];
        assert!(has_begun || why.iter().any(|why| stderr.contains(why)), "{what}");
        assert!(!stderr.contains("panicked"), "{what}");
        assert_old_or_whole(directory.path(), has_begun, &what);
    }
    assert!(begun > 0, "no limit was enough");
}

fn qemu_without_memory_leaves_files_as_they_were(host: &Host) {
    let step = rounds(160, 16);
    let mut ended = 0;
    for mebibytes in (16..1600).step_by(step) {
        let directory = tempfile::tempdir().unwrap();
        let bytes: u64 = (mebibytes as u64) << 20;
        let output = limited(host, &format!("--as={bytes}"), directory.path());
        let stderr = String::from_utf8_lossy(&output.stderr);
        let what = format!("{mebibytes} MiB: {}: {stderr}", output.status);
        assert_ne!(output.status.code(), Some(124), "it hangs with {what}");
        // An allocation that fails ends the process: GLib's by a trap, Rust's by an abort.
        let signal = output.status.signal();
        let is_known = [None, Some(libc::SIGABRT), Some(libc::SIGTRAP), Some(libc::SIGSEGV)];
        assert!(is_known.contains(&signal), "{what}");
        let has_ended = has_begun(output.status, &stderr);
        ended += usize::from(has_ended);
        // Memory may run out after the guest has begun, and with it its trace.
        let trace = directory.path().join("trace");
        let is_cut = signal.is_some() && std::fs::read(&trace).unwrap() != OLD;
        if is_cut {
            assert_readable_up_to_its_end(&trace);
        }
        assert_old_or_whole(directory.path(), has_ended || is_cut, &what);
    }
    assert!(ended > 0, "no limit was enough");
}

fn time_of_day_that_is_set_back_changes_no_time(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let source = pvio_cli::paths::repository().join("tests/tools/clock-set-back.c");
    let names = [path_str(&path("clock.so")), path_str(&source)];
    let arguments = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o", &names[0], &names[1]];
    Compiler::gcc().compile(&arguments);
    let trace = format!("trace={}", path("trace").display());
    let machine = host.machine().plugin(&["summary=off", &trace, "values=0-0xffff"]);
    let machine = machine.env("LD_PRELOAD", &names[0]).bare_guest(&guest("forms.bin"));
    let ended = machine.run().unwrap();
    assert_eq!(ended.status.code(), Some(PASSED), "{}", ended.stderr);
    assert_consistent(ended.stats().unwrap());
    assert_eq!(problems(&path("trace")), [""; 0]);
    let mut last = 0;
    let mut trace = Trace::open(&path("trace")).unwrap();
    trace.read(|event, _, _| {
        assert!(event.host >= last && event.host < 120_000_000_000, "{}", event.host);
        last = event.host;
        true
    });
    assert!(last > 0);
}
