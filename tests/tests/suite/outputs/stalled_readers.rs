//! If a reader of pvio's output stops reading, the machine waits 10 seconds, reports that, and continues.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pvio_cli::machine::read_stats;
use pvio_tests::{Host, assert_consistent, on_both_qemus};

on_both_qemus! {
    console_gives_up_a_stalled_stdout
    tables_give_up_a_stalled_stderr
    access_log_gives_up_a_stalled_stdout
    fifo_without_a_reader_is_refused
}

/// The time that pvio waits for a reader.
const PATIENCE: Duration = Duration::from_secs(10);

/// A pipe without room for another byte, as if its reader had stopped.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    // SAFETY: sets the size of our own pipe.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    writer.write_all(&vec![b'.'; usize::try_from(size).unwrap()]).unwrap();
    (reader, writer)
}

/// QEMU with a guest that powers off.
fn qemu(host: &Host, options: &str) -> Command {
    let mut command = host.bare_guest_command(options, "poweroff");
    command.stdin(Stdio::null());
    command
}

/// Waits until QEMU ends. It must wait for its stalled reader, but only once.
fn assert_ends_in_time(mut child: Child) {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE + Duration::from_secs(30) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("QEMU waits without end");
        }
        sleep(Duration::from_millis(10));
    }
    assert!(child.wait().unwrap().success());
    assert!(started.elapsed() > PATIENCE, "QEMU did not wait for the reader");
}

/// Runs the guest with a stalled stdout. Returns stderr.
fn with_stalled_stdout(host: &Host, option: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let (stats, stderr) = (directory.path().join("stats"), directory.path().join("stderr"));
    let (_reader, writer) = full_pipe();
    let child = qemu(host, &format!("summary=off,stats={},{option}", stats.display()))
        .stdout(writer)
        .stderr(File::create(&stderr).unwrap())
        .spawn();
    assert_ends_in_time(child.unwrap());
    assert_consistent(&read_stats(&stats).unwrap());
    std::fs::read_to_string(stderr).unwrap()
}

fn console_gives_up_a_stalled_stdout(host: &Host) {
    assert_eq!(
        with_stalled_stdout(host, "device=console@0x80"),
        "pvio: nobody read stdout for 10 seconds: all further output to it is lost\n\
         pvio: console at 0x0080: its output is incomplete: its reader has stopped\n"
    );
}

fn access_log_gives_up_a_stalled_stdout(host: &Host) {
    assert_eq!(
        with_stalled_stdout(host, "access-log=/dev/stdout"),
        "pvio: nobody read /dev/stdout for 10 seconds: all further output to it is lost\n\
         pvio: the access log is incomplete: its reader has stopped\n"
    );
}

fn tables_give_up_a_stalled_stderr(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let stats = directory.path().join("stats");
    let (_reader, writer) = full_pipe();
    let child = qemu(host, &format!("stats={}", stats.display())).stderr(writer).spawn();
    assert_ends_in_time(child.unwrap());
    assert_consistent(&read_stats(&stats).unwrap());
}

/// Opening `/dev/stdout` opens the FIFO again, which would wait for a new reader.
fn fifo_without_a_reader_is_refused(host: &Host) {
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
