//! `qemu-scripts/guest-test`: its exit statuses, the files of each guest, and how much of a guest's output is quoted.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

use pvio_guest::abi::level;
use pvio_tests::guests::{Guests, text};
use pvio_tests::verdict::Step::*;
use pvio_tests::verdict::image;

/// Runs a command. Returns its exit status, and the line on stderr if there is one.
fn end(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = text(&stderr);
    assert!(stderr.lines().count() <= 1, "{stderr}");
    (status.code().unwrap(), stderr.trim_end().to_owned())
}

#[test]
fn each_exit_status_means_one_thing() {
    let guests = Guests::new();
    guests.add("pass.bin", image(&[Exit(0)])).add("fail.bin", image(&[Exit(1)]));
    guests.add("spin.bin", image(&[Spin]));
    assert_eq!(end(&mut guests.command(&["pass.bin"])), (0, String::new()));
    assert_eq!(end(&mut guests.command(&["pass.bin", "fail.bin"])), (1, String::new()));

    for missing in ["/nonexistent/qemu", "/etc/passwd"] {
        let (status, line) = end(guests.command(&["pass.bin"]).env("PVIO_QEMU", missing));
        assert_eq!(status, 2, "{line}");
        assert!(line.starts_with("guest-test: ") && line.contains(missing), "{line}");
    }
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for guest in ["pass.bin", "fail.bin"] {
        let (status, line) = end(guests.command(&[guest]).stdout(full()));
        assert_eq!(status, 2);
        assert!(line.starts_with("guest-test: stdout cannot be written: No space left"), "{line}");
    }
    // An error message that cannot be written does not change it.
    assert_eq!(end(guests.command(&["missing.bin"]).stderr(full())).0, 2);
    // Nobody reads, or no longer: the guest that would run for ever is stopped.
    let closed = UnixStream::pair().unwrap().0;
    let closed = Stdio::from(OwnedFd::from(closed));
    let mut command = guests.command(&["spin.bin"]);
    assert_eq!(end(command.stdout(closed)), (141, String::new()));
    let output = Command::new("bash")
        .args(["-c", "\"$@\" | head -n 1; exit ${PIPESTATUS[0]}", "bash"])
        .arg(command.get_program())
        .args(["pass.bin", "fail.bin", "pass.bin"])
        .current_dir(command.get_current_dir().unwrap())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "TAP version 13\n");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(141), String::new()));
}

#[test]
fn help_lists_the_exit_statuses() {
    let output = Guests::new().command(&["--help"]).output().unwrap();
    let help = text(&output.stdout);
    let (_, statuses) = help.split_once("Exit status:\n").unwrap();
    let listed: Vec<_> =
        statuses.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(listed, ["0", "1", "2", "130", "141"], "{help}");
}

#[test]
fn each_guest_has_a_file_of_its_own() {
    let guests = Guests::new();
    guests.add("same.bin", image(&[Serial("1"), Exit(0)]));
    std::fs::create_dir(guests.path("b")).unwrap();
    guests.add("b/same.bin", image(&[Serial("2"), Exit(0)]));
    let names = ["same.bin", "b/same.bin"];
    let device = ["--option", "device=uart16550@0x3f8:file=kept/%g/uart"];
    let log = ["--option", "access-log=log %g:0x3f8"];
    let arguments = ["--keep", "kept", "--jobs", "2"];
    let qemu = ["--", "-pidfile", "pid %g"];
    guests.test(&[&arguments[..], &device, &log, &names, &qemu].concat(), true);
    for (label, uart) in [("1-same.bin", "1"), ("2-same.bin", "2")] {
        let read = |path: String| std::fs::read_to_string(guests.path(&path)).unwrap();
        assert_eq!(read(format!("kept/{label}/uart")), uart);
        assert!(!read(format!("log {label}")).is_empty());
        assert!(guests.path(&format!("kept/{label}/stats.json")).exists());
    }
}

#[test]
fn guests_do_not_write_one_file_in_turn() {
    let guests = Guests::new();
    guests.add("a.bin", image(&[Exit(0)])).add("b.bin", image(&[Exit(0)]));
    for (option, path) in [
        ("device=console@0xe9:file=F", "F"),
        ("device=stream@0x300:in=a.bin:out=F", "F"),
        ("device=uart16550@0x2f8:file=F", "F"),
        ("access-log=F:0x60", "F"),
    ] {
        let line = end(&mut guests.command(&["--option", option, "a.bin", "b.bin"]));
        let expected = format!(
            "guest-test: option {option:?}: 2 guests would overwrite {path}; name a file for each, \
             such as {path}.%g, where %g stands for the guest"
        );
        assert_eq!(line, (2, expected));
        assert!(!guests.path(path).exists());
        guests.test(&["--option", option, "a.bin"], true);
        std::fs::remove_file(guests.path(path)).unwrap();
    }
    guests.test(&["--option", "device=console@0xe9:file=/dev/null", "a.bin", "b.bin"], true);
}

#[test]
fn what_is_quoted_is_bounded() {
    let guests = Guests::new();
    let (serial, logged) = ("x".repeat(5000), "y".repeat(1000));
    let end = "\x1b[2J\u{202e}the end";
    let log = Log(level::ERROR, logged.as_bytes());
    guests.add("chatty.bin", image(&[Serial(&serial), Serial(end), log, Exit(1)]));
    let report = guests.test(&["chatty.bin"], false);
    let longest = report.lines().map(str::len).max().unwrap();
    assert!(longest < 700, "{longest}");
    let line = report.lines().find(|line| line.contains("xxx")).unwrap();
    let left_out = serial.len() + end.chars().count() - 512;
    assert!(line.contains(&format!(" [{left_out} characters left out] ")), "{line}");
    assert!(line.ends_with("x\\\\u{1b}[2J\\\\u{202e}the end\""), "{line}");
    assert_eq!(report.lines().filter(|line| line.contains("yyy")).count(), 2, "{report}");
    // It is kept whole where it is asked for.
    guests.test(&["--keep", "kept", "chatty.bin"], false);
    let kept = std::fs::read_to_string(guests.path("kept/1-chatty.bin/serial.txt")).unwrap();
    assert_eq!(kept, serial + end);
}
