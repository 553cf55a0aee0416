//! However the machine ends, the dump is complete and says how it ended.

use std::process::{Command, Stdio};

use pvio::x86::Mode;
use pvio_cli::expected_forms;
use pvio_cli::machine::{Ended, Machine, read_stats};
use pvio_tests::{
    Host, Monitor, assert_consistent, assert_forms, guest, on_both_qemus, start_busy, wait_until,
};

on_both_qemus! {
    power_off_is_a_shutdown
    debug_exit_is_a_shutdown_and_keeps_its_status
    quit_in_the_monitor_leaves_a_whole_dump
    sigterm_leaves_a_whole_dump
    sigint_leaves_a_whole_dump
    killed_qemu_leaves_no_file
    qemu_that_never_ran_writes_no_dump
    daemonized_qemu_writes_dump_and_tables
    full_disk_is_reported_and_leaves_no_file
    tables_go_where_the_option_summary_says
    dump_goes_to_an_open_pipe
    dump_on_stdout_is_appended
}

/// Starts four vCPUs that write to ports without end.
fn spinning(host: &Host, options: &[&str]) -> Monitor {
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

fn power_off_is_a_shutdown(host: &Host) {
    let ended = host.machine().plugin(&[]).bare_guest(&guest("poweroff.bin")).run().unwrap();
    assert!(ended.status.success());
    assert_eq!(ended.stats().unwrap().ended, "shutdown");
}

fn debug_exit_is_a_shutdown_and_keeps_its_status(host: &Host) {
    let ended = host.machine().plugin(&[]).bare_guest(&guest("forms.bin")).run().unwrap();
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED));
    assert_eq!(ended.stats().unwrap().ended, "shutdown");
}

fn quit_in_the_monitor_leaves_a_whole_dump(host: &Host) {
    assert_ended_while_spinning(&spinning(host, &[]).quit(), "quit");
}

fn sigterm_leaves_a_whole_dump(host: &Host) {
    let monitor = spinning(host, &[]);
    monitor.running().signal(libc::SIGTERM).unwrap();
    assert_ended_while_spinning(&monitor.wait(), "signal");
}

fn sigint_leaves_a_whole_dump(host: &Host) {
    let monitor = spinning(host, &[]);
    monitor.running().signal(libc::SIGINT).unwrap();
    assert_ended_while_spinning(&monitor.wait(), "signal");
}

fn killed_qemu_leaves_no_file(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let stats = directory.path().join("stats.json");
    let monitor = spinning(host, &[&format!("stats={}", stats.display())]);
    monitor.running().signal(libc::SIGKILL).unwrap();
    assert!(!monitor.wait().status.success());
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

/// QEMU finds this error after it has loaded the plugin.
fn qemu_that_never_ran_writes_no_dump(host: &Host) {
    let machine = host.machine().plugin(&[]).bare_guest(&guest("poweroff.bin"));
    let ended = machine.args(["-device", "no-such-device"]).run().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stats.is_none());
    assert!(!ended.stderr.contains("pvio"), "{}", ended.stderr);
}

fn daemonized_qemu_writes_dump_and_tables(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let stats = directory.path().join("stats.json");
    let summary = directory.path().join("summary.txt");
    // Relative paths: the daemon leaves the directory.
    let status = host
        .bare_guest_command("stats=stats.json,summary=summary.txt", "forms")
        .current_dir(&directory)
        .arg("-daemonize")
        .status()
        .unwrap();
    assert!(status.success());
    wait_until(|| stats.exists() && summary.exists(), || "no dump".to_owned());
    assert_forms(&read_stats(&stats).unwrap(), 1, &Mode::ALL);
    assert!(std::fs::read_to_string(summary).unwrap().contains("The 24 forms"));
}

/// The disk is a file system of one page, in its own mount namespace.
fn full_disk_is_reported_and_leaves_no_file(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    // SAFETY: has no arguments and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    let namespace: &[&str] = if is_root { &["--mount"] } else { &["--mount", "--map-root-user"] };
    let script = r#"
        directory=$1; shift
        mount -t tmpfs -o size=4k none "$directory" || exit 99
        "$@"; status=$?
        echo "left: [$(ls -A "$directory")]"
        exit $status"#;
    let options = format!("summary=off,stats={}/stats.json", directory.path().display());
    let qemu = host.bare_guest_command(&options, "forms");
    let output = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(qemu.get_program())
        .args(qemu.get_args())
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

fn tables_go_where_the_option_summary_says(host: &Host) {
    let on = machine_with_summary(host, "on").run().unwrap();
    assert!(on.stderr.contains("The 24 forms"), "{}", on.stderr);
    assert!(!on.stderr.contains('\x1b'), "colours, but stderr is not a terminal");

    let off = machine_with_summary(host, "off").run().unwrap();
    assert_eq!(off.stderr, "");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("summary.txt");
    let file = machine_with_summary(host, path.to_str().unwrap()).run().unwrap();
    assert_eq!(file.stderr, "");
    assert_eq!(std::fs::read_to_string(path).unwrap(), on.stderr);
}

/// A shell opens such a pipe for `|` or a process substitution.
fn dump_goes_to_an_open_pipe(host: &Host) {
    let mut command = host.bare_guest_command("summary=off,stats=/dev/stdout", "poweroff");
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    assert_consistent(&serde_json::from_slice(&output.stdout).unwrap());
}

/// Here stdout is a file, and QEMU writes to it, too.
fn dump_on_stdout_is_appended(host: &Host) {
    let machine = host.machine().plugin(&["summary=off", "stats=/dev/stdout"]);
    let machine = machine.bare_guest(&guest("forms.bin")).args(["-monitor", "stdio"]);
    let ended = machine.run().unwrap();
    let (before, json) = ended.stdout.split_at(ended.stdout.find("{\n").expect("a dump"));
    assert!(before.contains("monitor"), "{before}");
    assert_consistent(&serde_json::from_str(json).unwrap());
}
