//! `qemu-scripts/guest-test` over many machines: shards, merged reports, and memory.

use std::fs::hard_link;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use pvio_tests::boot_images::boot_sector;
use pvio_tests::guests::{Guests, text};
use pvio_tests::verdict::Step::*;
use pvio_tests::verdict::image;

use super::guest_test_reports::read_junit;

/// The command `pvio merge`, in a directory of guests.
fn merge(guests: &Guests, arguments: &[&str]) -> Command {
    let script = guests.command(&[]).get_program().to_owned();
    let program = std::path::Path::new(&script).ancestors().nth(2).unwrap();
    let mut command = Command::new(program.join("target/release/pvio"));
    command.arg("merge").args(arguments).current_dir(guests.path("."));
    command
}

#[test]
fn shards_run_each_guest_once_and_their_reports_merge() {
    let guests = Guests::new();
    let names: Vec<String> = (0..8).map(|number| format!("{number}.bin")).collect();
    for (number, name) in (0..).zip(&names) {
        guests.add(name, image(&[Exit(u8::from(number == 5))]));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut failed, mut ran) = (0, 0);
    for shard in ["1/3", "2/3", "3/3"] {
        let junit = format!("report-{}.xml", &shard[..1]);
        let options = ["--shard", shard, "--junit", &junit, "--keep", "kept"];
        let output = guests.command(&[&options[..], &names].concat()).output().unwrap();
        failed += output.status.code().unwrap();
        let report = text(&output.stdout);
        ran += report.lines().filter(|line| line.contains("ok ")).count();
    }
    assert_eq!((failed, ran), (1, 8));
    // A guest's number is that on the command line, so that shards can share a directory.
    let stats: Vec<String> = names
        .iter()
        .zip(1..)
        .map(|(name, number)| format!("kept/{number}-{name}/stats.json"))
        .collect();
    let stats: Vec<&str> = stats.iter().map(String::as_str).collect();

    let reports = ["report-1.xml", "report-2.xml", "report-3.xml"];
    let output = merge(&guests, &[&reports[..], &["-o", "all.xml"]].concat()).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let merged = read_junit(&guests.path("all.xml"));
    assert!(
        merged.starts_with("testsuites None 8 1 0 0 True\ntestsuite pvio test 1/3 "),
        "{merged}"
    );
    for name in &names {
        assert_eq!(merged.matches(&format!("pvio test | {name}\n")).count(), 1, "{merged}");
    }
    // A merged report can be merged again.
    let output = merge(&guests, &["all.xml", "report-1.xml"]).output().unwrap();
    guests.add("twice.xml", output.stdout);
    let twice = read_junit(&guests.path("twice.xml"));
    assert_eq!(twice.lines().filter(|line| line.starts_with("testsuite ")).count(), 4, "{twice}");

    let output = merge(&guests, &[&stats[..], &["-o", "all.json"]].concat()).output().unwrap();
    assert_eq!(text(&output.stderr), "");
    let sum = pvio_cli::machine::read_stats(&guests.path("all.json")).unwrap();
    let exits = sum.hypercalls.iter().find(|row| row.call.name() == "exit").unwrap();
    assert_eq!(exits.count, 8);

    let output = merge(&guests, &["all.xml", "all.json"]).output().unwrap();
    let line = "merge: all.xml is a report and all.json is not: merge reports with reports, and dumps with dumps\n";
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(2), line));
}

/// Takes the place of QEMU: prints a line and, for the last guest, keeps how much memory its starter has needed.
const FAKE_QEMU: &str = "#!/bin/sh
case \"$*\" in *last.img*) grep VmHWM /proc/$PPID/status >memory ;; esac
echo passed
";

/// Runs guests on a program that takes the place of QEMU. Returns peak resident memory, in KiB.
fn memory(guests: &Guests, count: usize) -> u64 {
    let mut names: Vec<String> = (1..count).map(|number| format!("guest-{number}.img")).collect();
    names.push("last.img".into());
    for name in &names {
        // It may be there from another run.
        let _ = hard_link(guests.path("sector"), guests.path(name));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let options = ["--success", "passed", "--jobs", "4", "--junit", "report.xml"];
    let mut command = guests.command(&[&options[..], &names].concat());
    command.env("PVIO_QEMU", guests.path("qemu")).stdout(Stdio::null());
    assert!(command.status().unwrap().success());
    let junit = std::fs::read_to_string(guests.path("report.xml")).unwrap();
    assert_eq!(junit.matches("<testcase ").count(), count);
    let line = std::fs::read_to_string(guests.path("memory")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_guests_need_no_more_memory_than_ten() {
    let guests = Guests::new();
    guests.add("sector", boot_sector(b"")).add("qemu", FAKE_QEMU);
    std::fs::set_permissions(guests.path("qemu"), PermissionsExt::from_mode(0o755)).unwrap();
    let (few, many) = (memory(&guests, 10), memory(&guests, 10_000));
    // The names on the command line are in memory: 100 bytes each at most.
    assert!(many < few + 4096, "{few} {many}");
}
