//! `qemu-scripts/guest-test`: formats of the report, and which guests run how often.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use pvio_cli::paths;
use pvio_guest::abi::level;
use pvio_tests::guests::{Guests, text};
use pvio_tests::verdict::Step::*;
use pvio_tests::verdict::image;
use pvio_tests::{Host, Terminal};

/// A directory with a guest that passes, one whose test fails, and one that fails with hostile text.
fn three() -> Guests {
    let guests = Guests::new();
    guests
        .add("pass.bin", image(&[Exit(0)]))
        .add(
            "test.bin",
            image(&[
                Log(level::INFO, b"test a<b: ok"),
                Log(level::INFO, b"test c: FAILED"),
                Exit(0),
            ]),
        )
        .add("x:y, %.bin", image(&[Serial("50 % <![CDATA[\r\n::error::no\x1b[2J\n"), Exit(7)]));
    guests
}

const THREE: [&str; 3] = ["pass.bin", "test.bin", "x:y, %.bin"];

/// Replaces the times of a guest, such as `(0.1 s)`.
fn without_seconds(report: &str) -> String {
    let lines = report.lines().map(|line| match line.rsplit_once(" s)") {
        Some((before, after)) => {
            let (name, time) = before.rsplit_once(" (").unwrap();
            assert!(time.parse::<f64>().is_ok(), "{line}");
            format!("{name} (T){after}\n")
        }
        None => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn lines_are_for_people() {
    let report = three().test(&[&["--format", "lines"], &THREE[..]].concat(), false);
    assert_eq!(
        without_seconds(&report),
        "\
ok    pass.bin (T)
FAIL  test.bin (T): exit code 0, but 1 of 2 tests failed
      test: c
FAIL  x:y, %.bin (T): exit code 7
      serial: 50 % <![CDATA[
      serial: ::error::no\\u{1b}[2J
3 guests: 1 passed, 2 failed
"
    );
}

#[test]
fn annotations_are_escaped() {
    let report = three().test(&[&["--format", "github"], &THREE[..]].concat(), false);
    let commands: Vec<&str> = report.lines().filter(|line| line.starts_with("::")).collect();
    assert_eq!(
        commands,
        [
            "::error title=test.bin::exit code 0, but 1 of 2 tests failed%0Atest: c",
            "::error title=x%3Ay%2C %25.bin::exit code 7%0Aserial: 50 %25 <![CDATA[%0Aserial: ::error::no\\u{1b}[2J",
        ]
    );
}

/// Reads a JUnit report with Python's parser: the numbers, then a line for each case.
pub(super) fn read_junit(path: &Path) -> String {
    const SCRIPT: &str = "
import sys, xml.etree.ElementTree as tree
for element in tree.parse(sys.argv[1]).getroot().iter():
    if element.tag in ('testsuites', 'testsuite'):
        numbers = [element.get(key) for key in ('tests', 'failures', 'errors', 'skipped')]
        print(element.tag, element.get('name'), *numbers, float(element.get('time')) > 0)
    elif element.tag == 'testcase':
        print(element.get('classname'), '|', element.get('name'))
    else:
        print(' ', element.tag, element.get('message'), repr(element.text))
";
    let output =
        Command::new(paths::python().unwrap()).args(["-c", SCRIPT]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn junit_report_is_read_by_another_program() {
    let guests = three();
    let options = ["--junit", "report.xml", "--jobs", "2"];
    guests.test(&[&options[..], &THREE].concat(), false);
    assert_eq!(
        read_junit(&guests.path("report.xml")),
        "\
testsuites None 5 3 0 0 True
testsuite pvio test 5 3 0 0 True
pvio test | pass.bin
test.bin | a<b
test.bin | c
  failure FAILED None
pvio test | test.bin
  failure exit code 0, but 1 of 2 tests failed 'test: c\\n'
pvio test | x:y, %.bin
  failure exit code 7 'serial: 50 % <![CDATA[\\nserial: ::error::no\\\\u{1b}[2J\\n'
"
    );
    // A file that cannot become a report is refused before a guest runs.
    let output = guests.command(&["--junit", "none/report.xml", "pass.bin"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let line = text(&output.stderr);
    assert_eq!(
        line,
        "guest-test: --junit none/report.xml: this is not a file in an existing directory\n"
    );
}

#[test]
fn guests_are_selected_and_repeated() {
    let guests = three();
    let report =
        guests.test(&[&["--filter", "^p.*n$", "--repeat", "3"], &THREE[..]].concat(), true);
    let run = |number| format!("ok {number} - pass.bin (run {number} of 3) # time=T\n");
    assert_eq!(report, format!("TAP version 13\n1..3\n{}{}{}", run(1), run(2), run(3)));
    let report = guests.test(&[&["--filter", "nothing"], &THREE[..]].concat(), true);
    assert_eq!(report, "TAP version 13\n1..0 # SKIP no guest is selected\n");
}

#[test]
fn fail_fast_reports_the_rest_as_skipped() {
    let guests = three();
    let options = ["--fail-fast", "--jobs", "2", "--junit", "report.xml"];
    let names = ["pass.bin", "test.bin", "pass.bin", "pass.bin"];
    let report = guests.test(&[&options[..], &names].concat(), false);
    let rest = "ok 3 - pass.bin # SKIP a guest before it failed\nok 4 - pass.bin # SKIP a guest before it failed\n";
    assert!(report.ends_with(rest), "{report}");
    let junit = read_junit(&guests.path("report.xml"));
    assert!(junit.starts_with("testsuites None 6 2 0 2 True\n"), "{junit}");
}

/// A QEMU that fails when it boots a guest for the first time.
fn unreliable_qemu(guests: &Guests) {
    let qemu = Host::NEWEST.program("qemu-system-x86_64");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *'-machine none'*) ;; *) [ -e tried ] || {{ touch tried; exit 7; }} ;; esac\n\
         exec {} \"$@\"\n",
        qemu.display()
    );
    guests.add("qemu", script);
    std::fs::set_permissions(guests.path("qemu"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn guest_that_passes_when_it_is_tried_again_is_flaky() {
    let run = |options: &[&str]| {
        let guests = three();
        unreliable_qemu(&guests);
        let mut command =
            guests.command(&[options, &["--junit", "report.xml", "pass.bin"]].concat());
        let output = command.env("PVIO_QEMU", guests.path("qemu")).output().unwrap();
        let junit = read_junit(&guests.path("report.xml"));
        (
            output.status.code().unwrap(),
            pvio_tests::guests::without_times(&text(&output.stdout)),
            junit,
        )
    };
    let reason = "QEMU did not run the guest: exit status 7";
    let (status, report, _) = run(&[]);
    assert!(status == 1 && report.contains(reason), "{report}");
    let (status, report, junit) = run(&["--retries", "2"]);
    let flaky = format!("flaky: passed at attempt 2; attempt 1 failed: {reason}");
    assert_eq!(
        report,
        format!(
            "TAP version 13\n1..1\nok 1 - pass.bin # time=T\n  ---\n  message: \"{flaky}\"\n  ...\n\
             # 1 guest: 1 passed (1 flaky), 0 failed\n"
        )
    );
    assert_eq!(status, 0);
    assert!(
        junit.ends_with(&format!("pvio test | pass.bin\n  flakyFailure {flaky} None\n")),
        "{junit}"
    );
    let (_, report, _) = run(&["--retries", "2", "--format", "github"]);
    assert!(report.contains(&format!("::warning title=pass.bin::{flaky}\n")), "{report}");
}

#[test]
fn guest_that_never_passes_lists_its_attempts() {
    let report = three().test(&["--retries", "1", "x:y, %.bin"], false);
    assert!(report.contains("  attempts:\n    - \"exit code 7\"\n"), "{report}");
}

#[test]
fn terminal_shows_lines_and_the_guest_that_runs() {
    let guests = three();
    guests.add("spin.bin", image(&[Spin]));
    let command = guests.command(&["--timeout", "10", "spin.bin", "pass.bin"]);
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let terminal = Terminal::start();
    let qemu = Host::NEWEST.program("qemu-system-x86_64");
    let directory = guests.path(".");
    let line = format!(
        "clear; cd {} && PVIO_QEMU={} {}",
        directory.display(),
        qemu.display(),
        words.join(" ")
    );
    terminal.type_(&[&line, "Enter"]);
    terminal.wait_for("guest 1 of 2: spin.bin, ");
    let screen = terminal.wait_for("2 guests: 1 passed, 1 failed");
    assert!(screen.contains("\nok    pass.bin (") && !screen.contains("TAP"), "{screen}");
    // The line of the guest that ran is gone.
    assert!(!screen.contains("guest 1 of 2"), "{screen}");
}
