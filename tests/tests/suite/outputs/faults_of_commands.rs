//! Commands whose files cannot be written: a file is whole or as it was, and a line says why.

use std::path::Path;
use std::process::{Command, Output};

use pvio_tests::{FailingFiles, Fault, Host, file_names, guest};

/// Commands that write one file, whose path is their last argument. `{dump}` and `{trace}` are files of a run.
const COMMANDS: [&[&str]; 9] = [
    &["report", "{dump}", "-o"],
    &["merge", "{dump}", "{dump}", "-o"],
    &["stats", "{trace}", "-o"],
    &["diff", "{dump}", "{dump}", "-o"],
    &["cost", "{trace}", "--model", "kvm-intel", "-o"],
    &["export", "--format", "csv", "--table", "ports", "{dump}", "-o"],
    &["export", "--format", "parquet", "--table", "ports", "{dump}", "-o"],
    &["export", "--format", "flamegraph", "{dump}", "-o"],
    &["export", "--format", "perfetto", "{trace}", "-o"],
];

const OLD: &[u8] = b"what an earlier run wrote";

/// The program, with a faulty call in a directory.
fn pvio(files: &FailingFiles, directory: &Path, at: u64, fault: Fault) -> Command {
    let mut command = Command::new(pvio_cli::paths::repository().join("target/release/pvio"));
    command.envs(files.environment(directory, at, fault)).env("RUST_BACKTRACE", "1");
    command
}

/// Fails unless one line says why the output, which it names, cannot be written.
fn check_failure(output: &Output, name: &str, what: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{what}: {stderr}");
    let lines: Vec<_> = stderr.lines().filter(|line| line.contains("cannot be written")).collect();
    let why = ["No space left on device", "Input/output error"];
    assert!(lines.len() == 1 && why.iter().any(|why| lines[0].contains(why)), "{what}: {stderr}");
    assert!(lines[0].contains(name) && !stderr.contains("backtrace"), "{what}: {stderr}");
}

#[test]
fn each_failing_call_on_an_output_of_a_command_leaves_the_old_file() {
    let files = FailingFiles::new();
    let run = tempfile::tempdir().unwrap();
    let path = |name: &str| run.path().join(name).display().to_string();
    let options = [format!("stats={}", path("dump")), format!("trace={}", path("trace"))];
    let machine = Host::NEWEST.machine().plugin(&["summary=off", "callers=on"]);
    let machine = machine.plugin(&options.each_ref().map(String::as_str));
    machine.bare_guest(&guest("forms.bin")).run().unwrap();

    for arguments in COMMANDS {
        let run = |at, fault| {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("out"), OLD).unwrap();
            let mut command = pvio(&files, directory.path(), at, fault);
            for argument in arguments {
                let argument = argument.replace("{dump}", &path("dump"));
                command.arg(argument.replace("{trace}", &path("trace")));
            }
            let output = command.arg(directory.path().join("out")).output().unwrap();
            assert_eq!(file_names(directory.path()), ["out"], "{arguments:?}");
            (output, std::fs::read(directory.path().join("out")).unwrap())
        };
        let (output, whole) = run(0, Fault::Full);
        assert!(output.status.success() && whole != OLD, "{arguments:?}: {output:?}");
        let calls = files.calls();
        assert!(calls >= 3, "{arguments:?}: {calls} calls: it is opened, written and renamed");
        for at in 1..=calls {
            for fault in Fault::ALL {
                let what = format!("{arguments:?}, call {at}, {fault:?}");
                let (output, found) = run(at, fault);
                if fault.is_transparent() {
                    assert!(output.status.success(), "{what}: {output:?}");
                    assert!(found == whole, "{what}");
                } else {
                    check_failure(&output, "/out", &what);
                    assert!(found == OLD, "{what}");
                }
            }
        }
    }
}

#[test]
fn each_failing_call_on_a_file_of_guest_test_leaves_files_whole_or_absent() {
    let files = FailingFiles::new();
    let qemu = Host::NEWEST.program("qemu-system-x86_64");
    let run = |at, fault| {
        let directory = tempfile::tempdir().unwrap();
        let mut command = pvio(&files, directory.path(), at, fault);
        command.env("PVIO_QEMU", &qemu).arg("test").arg(guest("poweroff.bin"));
        command.args(["--success-power-off", "--junit"]).arg(directory.path().join("junit.xml"));
        command.arg("--keep").arg(directory.path().join("kept"));
        (command.output().unwrap(), directory)
    };
    let (output, whole) = run(0, Fault::Full);
    assert!(output.status.success(), "{output:?}");
    let kept = Path::new("kept/1-poweroff.bin");
    assert_eq!(file_names(whole.path()), ["junit.xml", "kept"]);
    let expected = file_names(&whole.path().join(kept));
    assert!(expected.contains(&"stats.json".to_owned()), "{expected:?}");
    for at in 1..=files.calls() {
        for fault in [Fault::Full, Fault::Interrupted, Fault::Short] {
            let what = format!("call {at}, {fault:?}");
            let (output, directory) = run(at, fault);
            if fault.is_transparent() {
                assert!(output.status.success(), "{what}: {output:?}");
                assert_eq!(file_names(&directory.path().join(kept)), expected, "{what}");
            } else {
                check_failure(&output, &directory.path().display().to_string(), &what);
            }
            let there = file_names(&directory.path().join(kept));
            for name in &there {
                let [found, whole] = [&directory, &whole].map(|directory| {
                    std::fs::read(directory.path().join(kept).join(name)).unwrap()
                });
                assert!(expected.contains(name), "{what}: {name} is no file of a run");
                match name.as_str() {
                    "stats.json" => {
                        drop(serde_json::from_slice::<serde_json::Value>(&found).unwrap())
                    }
                    _ => assert_eq!(found, whole, "{what}: {name}"),
                }
            }
            if let Ok(report) = std::fs::read_to_string(directory.path().join("junit.xml")) {
                assert!(report.trim_end().ends_with("</testsuites>"), "{what}: {report}");
            }
        }
    }
}
