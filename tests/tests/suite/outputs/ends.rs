//! However a machine ends, the dump is there, whole, and says how.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pvio::x86::Mode;
use pvio_cli::machine::{Ended, Machine, Running, read_stats};
use pvio_cli::{expected_forms, paths};
use pvio_tests::{Host, assert_consistent, assert_forms, guest, on_both_qemus, start_busy};

on_both_qemus! {
    powering_off_is_a_shutdown
    debug_exit_is_a_shutdown_and_keeps_its_status
    quitting_in_the_monitor
    sigterm
    sigint
    a_killed_qemu_leaves_nothing
    a_qemu_that_never_ran_dumps_nothing
    under_daemonize
    a_full_disk_is_reported_and_leaves_nothing
    tables_go_where_they_are_told
    a_dump_can_go_to_a_pipe
    a_dump_on_stdout_adds_to_what_is_there
}

/// Four vCPUs that write to ports for ever, with a monitor on stdin.
fn spinning(host: &Host, options: &[&str]) -> Running {
    let machine = host.machine().plugin(options).bare_guest(&guest("spin.bin"));
    start_busy(machine.args(["-smp", "4"]), 4)
}

fn assert_ended_while_spinning(ended: &Ended, how: &str) {
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    assert_eq!(stats.ended, how);
    assert_eq!(stats.vcpus.len(), 4);
    assert!(stats.vcpus.iter().all(|row| row.executions > 1000), "{:?}", stats.vcpus);
    assert!(ended.stderr.contains(&format!("ended by {how}")), "{}", ended.stderr);
}

fn powering_off_is_a_shutdown(host: &Host) {
    let ended = host.machine().plugin(&[]).bare_guest(&guest("poweroff.bin")).run().unwrap();
    assert!(ended.status.success());
    assert_eq!(ended.stats().unwrap().ended, "shutdown");
}

fn debug_exit_is_a_shutdown_and_keeps_its_status(host: &Host) {
    let ended = host.machine().plugin(&[]).bare_guest(&guest("forms.bin")).run().unwrap();
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED));
    assert_eq!(ended.stats().unwrap().ended, "shutdown");
}

fn quitting_in_the_monitor(host: &Host) {
    let mut running = spinning(host, &[]);
    running.say("quit").unwrap();
    assert_ended_while_spinning(&running.wait().unwrap(), "quit");
}

fn sigterm(host: &Host) {
    let running = spinning(host, &[]);
    running.signal(libc::SIGTERM).unwrap();
    assert_ended_while_spinning(&running.wait().unwrap(), "signal");
}

fn sigint(host: &Host) {
    let running = spinning(host, &[]);
    running.signal(libc::SIGINT).unwrap();
    assert_ended_while_spinning(&running.wait().unwrap(), "signal");
}

fn a_killed_qemu_leaves_nothing(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let stats = directory.path().join("stats.json");
    let running = spinning(host, &[&format!("stats={}", stats.display())]);
    running.signal(libc::SIGKILL).unwrap();
    assert!(!running.wait().unwrap().status.success());
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

/// Errors that QEMU finds after it has loaded the plugin.
fn a_qemu_that_never_ran_dumps_nothing(host: &Host) {
    let machine = host.machine().plugin(&[]).bare_guest(&guest("poweroff.bin"));
    let ended = machine.args(["-device", "no-such-device"]).run().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stats.is_none());
    assert!(!ended.stderr.contains("pvio"), "{}", ended.stderr);
}

fn under_daemonize(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let stats = directory.path().join("stats.json");
    let summary = directory.path().join("summary.txt");
    // Relative paths: the daemon leaves the directory.
    let status = Command::new(host.program("qemu-system-x86_64"))
        .current_dir(&directory)
        .arg("-plugin")
        .arg(format!("{},stats=stats.json,summary=summary.txt", paths::plugin().unwrap().display()))
        .args(["-daemonize", "-machine", "pc", "-m", "64", "-display", "none", "-nodefaults"])
        .args(["-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-bios"])
        .arg(guest("forms.bin"))
        .status()
        .unwrap();
    assert!(status.success());
    let since = Instant::now();
    while !(stats.exists() && summary.exists()) {
        assert!(since.elapsed() < Duration::from_secs(60), "no dump");
        sleep(Duration::from_millis(10));
    }
    assert_forms(&read_stats(&stats).unwrap(), 1, &Mode::ALL);
    assert!(std::fs::read_to_string(summary).unwrap().contains("The 24 forms"));
}

/// A file system of one page, in a mount namespace of its own.
fn a_full_disk_is_reported_and_leaves_nothing(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    // SAFETY: has no arguments and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    let options: &[&str] = if is_root { &["--mount"] } else { &["--mount", "--map-root-user"] };
    let script = r#"
        directory=$1; shift
        mount -t tmpfs -o size=4k none "$directory" || exit 99
        "$@"; status=$?
        echo "left: [$(ls -A "$directory")]"
        exit $status"#;
    let stats = format!("stats={}/stats.json", directory.path().display());
    let output = Command::new("unshare")
        .args(options)
        .args(["sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(host.program("qemu-system-x86_64"))
        .arg("-plugin")
        .arg(format!("{},summary=off,{stats}", paths::plugin().unwrap().display()))
        .args(["-machine", "pc", "-m", "64", "-display", "none", "-nodefaults", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-bios"])
        .arg(guest("forms.bin"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(expected_forms::PASSED), "{stderr}");
    assert!(stderr.contains("stats.json was not written: No space left on device"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(stdout.trim(), "left: []");
}

fn machine_with_summary(host: &Host, summary: &str) -> Machine {
    host.machine().plugin(&[&format!("summary={summary}")]).bare_guest(&guest("poweroff.bin"))
}

fn tables_go_where_they_are_told(host: &Host) {
    let on = machine_with_summary(host, "on").run().unwrap();
    assert!(on.stderr.contains("The 24 forms"), "{}", on.stderr);
    assert!(!on.stderr.contains('\x1b'), "stderr is no terminal");

    let off = machine_with_summary(host, "off").run().unwrap();
    assert_eq!(off.stderr, "");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("summary.txt");
    let file = machine_with_summary(host, path.to_str().unwrap()).run().unwrap();
    assert_eq!(file.stderr, "");
    assert_eq!(std::fs::read_to_string(path).unwrap(), on.stderr);
}

/// Where it is open already, as a shell's pipe or process substitution is.
fn a_dump_can_go_to_a_pipe(host: &Host) {
    let output = Command::new(host.program("qemu-system-x86_64"))
        .arg("-plugin")
        .arg(format!("{},summary=off,stats=/dev/stdout", paths::plugin().unwrap().display()))
        .args(["-machine", "pc", "-m", "64", "-display", "none", "-nodefaults", "-no-reboot"])
        .arg("-bios")
        .arg(guest("poweroff.bin"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_consistent(&serde_json::from_slice(&output.stdout).unwrap());
}

/// Here stdout is a file, into which QEMU and the guest may write too.
fn a_dump_on_stdout_adds_to_what_is_there(host: &Host) {
    let machine = host.machine().plugin(&["summary=off", "stats=/dev/stdout"]);
    let machine = machine.bare_guest(&guest("forms.bin")).args(["-monitor", "stdio"]);
    let ended = machine.run().unwrap();
    let (before, json) = ended.stdout.split_at(ended.stdout.find("{\n").expect("a dump"));
    assert!(before.contains("monitor"), "{before}");
    assert_consistent(&serde_json::from_str(json).unwrap());
}
