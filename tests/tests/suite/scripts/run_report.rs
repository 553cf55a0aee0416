//! `qemu-scripts/run --report` writes a page at the end of a run, however QEMU ends.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pvio_cli::{expected_forms, paths};
use pvio_tests::{Host, guest};

/// The script, with a guest in place of the BIOS.
fn run(report: &Path, options: &[&str], image: &str) -> Command {
    // A shell does not catch what its starter ignores, as some do with SIGINT.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(paths::repository().join("qemu-scripts/run"));
    command.env("PVIO_QEMU", Host::NEWEST.program("qemu-system-x86_64"));
    command.arg("--report").arg(report).args(options).arg("summary=off").arg("--");
    command.args(["-machine", "pc", "-m", "64", "-display", "none", "-nodefaults", "-no-reboot"]);
    command.args(["-accel", "tcg", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-bios"]);
    command.arg(guest(image));
    command
}

#[test]
fn a_page_is_there_when_the_guest_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let (page, dump) = (directory.path().join("page.html"), directory.path().join("stats.json"));
    let with_dump = format!("stats={}", dump.display());
    for options in [&[][..], &[&*with_dump]] {
        let output = run(&page, options, "forms.bin").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected_forms::PASSED), "{stderr}");
        assert!(stderr.contains("report written to "), "{stderr}");
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(text.contains("port accesses: ") && text.ends_with("</html>"), "{text}");
        assert_eq!(dump.exists(), !options.is_empty());
        std::fs::remove_file(&page).unwrap();
    }
}

#[test]
fn a_signal_to_the_script_ends_qemu_and_leaves_a_page() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("page.html");
    for signal in ["INT", "TERM"] {
        let mut command = run(&page, &[], "spin.bin");
        command.args(["-monitor", "stdio"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The monitor greets shortly before QEMU handles signals.
        let mut greeting = [0; 1];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut greeting).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        // The shell's own: a program of this name is in no essential package.
        let kill = format!("kill -s {signal} {}", child.id());
        let status = Command::new("sh").args(["-c", &kill]).status();
        assert!(status.unwrap().success());
        let started = Instant::now();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if started.elapsed() > Duration::from_secs(60) => {
                    panic!("{signal}: it runs on")
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert!(status.success(), "{signal}: {status}");
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(text.contains("ended by signal"), "{signal}: {text}");
        std::fs::remove_file(&page).unwrap();
    }
}

#[test]
fn a_page_that_could_not_be_written_is_refused_before_the_run() {
    let output = run(Path::new("/nonexistent/page.html"), &[], "spin.bin").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr, "run: --report /nonexistent/page.html: its directory does not exist\n");
    assert_eq!(output.status.code(), Some(1));
}
