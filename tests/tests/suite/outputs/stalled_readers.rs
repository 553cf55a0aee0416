//! A reader of pvio's output that has stopped: the machine waits for a while, says so, and goes on.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pvio_cli::machine::read_stats;
use pvio_cli::paths;
use pvio_tests::{Host, assert_consistent, guest, on_both_qemus};

on_both_qemus! {
    a_console_gives_a_stalled_stdout_up
    tables_give_a_stalled_stderr_up
    an_access_log_gives_a_stalled_stdout_up
    a_fifo_whose_reader_has_left_is_refused
}

/// What is waited for a reader.
const PATIENCE: Duration = Duration::from_secs(10);

/// A pipe that takes no byte more, as of a reader that has stopped.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    // SAFETY: sets the size of our own pipe.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    writer.write_all(&vec![b'.'; usize::try_from(size).unwrap()]).unwrap();
    (reader, writer)
}

fn qemu(host: &Host, options: &str) -> Command {
    let mut command = Command::new(host.program("qemu-system-x86_64"));
    command
        .arg("-plugin")
        .arg(format!("{},{options}", paths::plugin().unwrap().display()))
        .args(["-machine", "pc", "-m", "64", "-display", "none", "-nodefaults", "-no-reboot"])
        .arg("-bios")
        .arg(guest("poweroff.bin"))
        .stdin(Stdio::null());
    command
}

/// Waits until it ends, for which one stalled reader may be waited.
fn ends_in_time(mut child: Child) {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE + Duration::from_secs(30) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("QEMU waits for ever");
        }
        sleep(Duration::from_millis(10));
    }
    assert!(child.wait().unwrap().success());
    assert!(started.elapsed() > PATIENCE, "it was waited for");
}

/// Runs the guest with a stalled stdout; what comes back is stderr.
fn with_stalled_stdout(host: &Host, option: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let (stats, stderr) = (directory.path().join("stats"), directory.path().join("stderr"));
    let (_reader, writer) = full_pipe();
    let child = qemu(host, &format!("summary=off,stats={},{option}", stats.display()))
        .stdout(writer)
        .stderr(File::create(&stderr).unwrap())
        .spawn();
    ends_in_time(child.unwrap());
    assert_consistent(&read_stats(&stats).unwrap());
    std::fs::read_to_string(stderr).unwrap()
}

fn a_console_gives_a_stalled_stdout_up(host: &Host) {
    assert_eq!(
        with_stalled_stdout(host, "device=console@0x80"),
        "pvio: stdout was not read for 10 seconds: what is written to it from here on is lost\n\
         pvio: console at 0x0080: its output is incomplete: its reader has stopped\n"
    );
}

fn an_access_log_gives_a_stalled_stdout_up(host: &Host) {
    assert_eq!(
        with_stalled_stdout(host, "access-log=/dev/stdout"),
        "pvio: /dev/stdout was not read for 10 seconds: what is written to it from here on is lost\n\
         pvio: the access log is incomplete: its reader has stopped\n"
    );
}

fn tables_give_a_stalled_stderr_up(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let stats = directory.path().join("stats");
    let (_reader, writer) = full_pipe();
    let child = qemu(host, &format!("stats={}", stats.display())).stderr(writer).spawn();
    ends_in_time(child.unwrap());
    assert_consistent(&read_stats(&stats).unwrap());
}

/// To open such a FIFO once more, as `/dev/stdout`, would wait for another reader.
fn a_fifo_whose_reader_has_left_is_refused(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let reader = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let writer = File::options().write(true).open(&path).unwrap();
    drop(reader);
    let output = qemu(host, "stats=/dev/stdout").stdout(writer).output().unwrap();
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("pvio: option \"stats=/dev/stdout\": "), "{stderr}");
    assert!(stderr.contains("cannot be opened for writing: No such device"), "{stderr}");
}
