//! `pvio test --unittests`: lists of tests in the format of kvm-unit-tests.

use std::collections::BTreeSet;

use pvio_tests::boot_images::*;
use pvio_tests::guests::{Guests, text};
use pvio_tests::{Host, on_packaged_qemus};

use super::guest_test_reports::read_junit;

on_packaged_qemus! {
    every_key_of_a_list_means_what_it_means_to_its_own_runner
    group_selects_tests_that_do_not_run_by_default
    shards_jobs_and_reports_combine_with_a_list
}

const LIST: &str = include_str!("unittests.cfg");

/// 32-bit code that writes a value to isa-debug-exit.
fn exit(value: u8) -> Vec<u8> {
    vec![0xb0, value, 0xe6, 0xf4, 0xfa, 0xf4, 0xeb, 0xfd]
}

/// A directory as that of kvm-unit-tests, with its guests.
fn project(host: &Host) -> Guests {
    let guests = Guests::on(host);
    std::fs::create_dir(guests.path("x86")).unwrap();
    let kernel = |code: &[u8]| elf32(&multiboot_1(0), code);
    guests
        .add("config.mak", "ARCH=x86_64\nCONFIG_EFI=\n")
        .add("x86/unittests.cfg", LIST)
        .add("x86/pass.flat", kernel(&exit(0)))
        .add("x86/fail.flat", kernel(&exit(1)))
        // The exit of kvm-unit-tests writes half of 77.
        .add("x86/skip.flat", kernel(&exit(38)))
        .add("x86/print.flat", kernel(&[PRINT_COMMAND_LINE, &exit(0)].concat()))
        .add("x86/hang.flat", kernel(b"\xf4\xeb\xfd"));
    guests
}

const OPTION: [&str; 2] = ["--unittests", "x86/unittests.cfg"];

fn every_key_of_a_list_means_what_it_means_to_its_own_runner(host: &Host) {
    let guests = project(host);
    let report = guests.test_without_calls(&[&OPTION[..], &["--keep", "kept"]].concat(), false);
    let lines: Vec<&str> = report
        .lines()
        .filter_map(|line| {
            let is_result = line.starts_with("ok ") || line.starts_with("not ok ");
            is_result.then(|| line.split_once(" - ").unwrap().1)
        })
        .collect();
    assert_eq!(
        lines,
        [
            "passes # time=T",
            "fails # time=T",
            "skips # SKIP it skipped itself",
            "arguments # time=T",
            "old_parameters # time=T",
            "q35 # time=T",
            &format!(
                "no-q35 # SKIP QEMU does not start: {}: -device pcie-root-port,bus=pcie.0,id=root: Bus 'pcie.0' not found",
                "qemu-system-x86_64"
            ),
            "i386 # SKIP i386 only",
            "x86_64 # time=T",
            "kvm # SKIP kvm only, and pvio runs guests by tcg",
            "tcg # time=T",
            "enable-kvm # SKIP kvm only (-enable-kvm), and pvio runs guests by tcg",
            "host # SKIP QEMU does not start: qemu-system-x86_64: CPU model 'host' requires KVM or HVF",
            "checked # time=T",
            "unchecked # SKIP /proc/sys/kernel/ostype not equal to Hurd",
            "disabled # SKIP disabled because: [[ \"$TARGET\" = qemu ]] && [[ \"$CONFIG_EFI\" != y ]]",
            "enabled # time=T",
            "by-hand # SKIP test marked as manual run only: choose a group of it by --group",
            "migrates # SKIP the test migrates its machine, which pvio test does not support",
            "panics # SKIP the test must panic, which pvio test does not support",
            "host-only # SKIP no gen-se-header available for pv-host test",
            "absent # SKIP test file \"x86/absent.flat\" not found",
            "no-file # SKIP the list names no file for it",
            "hangs # time=T",
            "prints-an-error # time=T",
            "quotes # time=T",
        ]
    );
    let failed: Vec<&str> = report
        .lines()
        .filter_map(|line| line.strip_prefix("not ok ")?.split(" - ").nth(1)?.split(' ').next())
        .collect();
    assert_eq!(failed, ["fails", "hangs", "prints-an-error", "quotes"]);
    let seen = "a device ended QEMU with status 3, but expected exit status 1; isa-debug-exit makes 2n + 1 of n, and \
                the guest wrote 1 (0x1)";
    assert!(report.contains(seen), "{report}");
    assert!(report.contains("still running after 2 s"), "{report}");
    let printed = "exit status 1, but QEMU printed: CPU Reset (CPU 0)";
    assert!(report.contains(printed), "{report}");
    assert!(report.contains("message: \"bash cannot expand "), "{report}");

    let kept = |name: &str| guests.path(&format!("kept/{name}/serial.txt"));
    let serial = |name| std::fs::read_to_string(kept(name)).unwrap();
    assert_eq!(serial("4-arguments"), "x86/print.flat one two three qemu  end\n");
    assert_eq!(serial("5-old_parameters"), "x86/print.flat old\n");
    let stats = guests.path("kept/4-arguments/stats.json");
    assert_eq!(pvio_cli::machine::read_stats(&stats).unwrap().vcpus.len(), 2);
}

fn group_selects_tests_that_do_not_run_by_default(host: &Host) {
    let guests = project(host);
    let run =
        |more: &[&str], passed| guests.test_without_calls(&[&OPTION[..], more].concat(), passed);
    let all = "TAP version 13\n1..1\nok 1 - by-hand # time=T\n";
    assert_eq!(run(&["--group", "slow"], true), all);
    assert_eq!(run(&["--group", "nodefault"], true), all);
    let good = run(&["--group", "good", "--filter", "^[aq]"], true);
    assert_eq!(good, "TAP version 13\n1..2\nok 1 - arguments # time=T\nok 2 - q35 # time=T\n");
    assert!(run(&["--group", "bad"], false).contains("\nnot ok 1 - fails"));
    // A time limit of the command line comes before that of the list.
    let hangs = run(&["--filter", "hangs", "--timeout", "1", "--retries", "1"], false);
    assert!(hangs.contains("still running after 1 s"), "{hangs}");
    // The other options of QEMU follow those of the list.
    let more = ["--filter", "old", "--append", "new", "--keep", "kept", "--", "-smp", "3"];
    run(&more, true);
    let kept = guests.path("kept/5-old_parameters");
    let serial = std::fs::read_to_string(kept.join("serial.txt")).unwrap();
    assert_eq!(serial, "x86/print.flat old new\n");
    let stats = pvio_cli::machine::read_stats(&kept.join("stats.json")).unwrap();
    assert_eq!(stats.vcpus.len(), 3);
}

fn shards_jobs_and_reports_combine_with_a_list(host: &Host) {
    let guests = project(host);
    let mut names = BTreeSet::new();
    for shard in ["1/2", "2/2"] {
        let options = ["--shard", shard, "--jobs", "3", "--junit", "report.xml", "--fail-fast"];
        let filter = ["--filter", "^(passes|skips|arguments|tcg|kvm|enabled|absent)$"];
        let report = guests.test_without_calls(&[&OPTION[..], &options, &filter].concat(), true);
        let results = report.lines().filter_map(|line| line.split_once(" - "));
        names.extend(results.map(|(_, name)| name.split(' ').next().unwrap().to_owned()));
        let junit = read_junit(&guests.path("report.xml"));
        let skipped = report.matches("# SKIP").count();
        assert!(junit.starts_with("testsuites"), "{junit}");
        assert_eq!(junit.matches("\n  skipped ").count(), skipped, "{junit}");
    }
    let all = ["absent", "arguments", "enabled", "kvm", "passes", "skips", "tcg"];
    assert!(names.iter().eq(all.iter()), "{names:?}");
}

#[test]
fn wrong_list_is_one_line_before_the_first_boot() {
    let guests = project(&Host::NEWEST);
    let refused = |list: &str, more: &[&str]| {
        guests.add("x86/unittests.cfg", list);
        let output = guests.command(&[&OPTION[..], more].concat()).output().unwrap();
        let line = text(&output.stderr);
        assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
        line
    };
    let no_test = refused("# nothing\n", &[]);
    let expected = "guest-test: x86/unittests.cfg: this list has no test: name a unittests.cfg of kvm-unit-tests\n";
    assert_eq!(no_test, expected);
    let timeout = refused("[a]\ntimeout = soon\n", &[]);
    assert!(
        timeout.ends_with("line 2: timeout = soon: write seconds, such as 90 or 90s\n"),
        "{timeout}"
    );
    let group = refused(LIST, &["--group", "god"]);
    assert!(
        group.contains("--group god: no test is in this group; the list has: bad fast good"),
        "{group}"
    );
    guests.add("config.mak", "ARCH=arm64\n");
    let arch = refused(LIST, &[]);
    assert!(
        arch.contains("config.mak: ARCH=arm64: only tests for x86_64 and i386 can run"),
        "{arch}"
    );
    std::fs::remove_file(guests.path("x86/unittests.cfg")).unwrap();
    let output = guests.command(&OPTION).output().unwrap();
    assert!(text(&output.stderr).starts_with("guest-test: x86/unittests.cfg: No such file"));

    // What means nothing is a warning, and the rest runs.
    guests.add("config.mak", "ARCH=i386\n");
    guests.add("x86/unittests.cfg", "[a]\nfile = pass.flat\narch = i386\ntiemout = 3\n");
    let output = guests.command(&OPTION).output().unwrap();
    let warning = "guest-test: warning: x86/unittests.cfg: line 4: unknown key \"tiemout\"; the line is ignored\n";
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), warning));
}
