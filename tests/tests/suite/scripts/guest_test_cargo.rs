//! `pvio test` as the runner of Cargo: real `cargo test` of the project in guest-shim/examples, and arguments of guests.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use pvio_cli::paths;
use pvio_tests::boot_images::*;
use pvio_tests::guests::{Guests, text, without_times};
use pvio_tests::verdict::Step::*;
use pvio_tests::{ExampleProject, Host, guest, on_packaged_qemus, verdict};

on_packaged_qemus! {
    kernels_and_efi_applications_are_tested_by_cargo
    arguments_after_the_program_are_the_guests
    test_that_fails_is_named
    settings_are_those_of_the_package
    bootimage_passes_its_image_on
    guest_that_has_no_command_line_gets_a_file
    kernels_of_every_protocol_get_a_command_line
}

/// The report without times and the lines of the log that are no results.
fn results(output: &Output) -> String {
    let report = without_times(&text(&output.stdout));
    report.lines().filter(|line| !line.starts_with("# [") && !line.starts_with("    # ")).fold(
        String::new(),
        |mut all, line| {
            all += line;
            all.push('\n');
            all
        },
    )
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

/// A report of one guest. Its tests are known only if pvio answers its hypercalls.
fn report(host: &Host, name: &str, tests: &[&str]) -> String {
    let mut report = "TAP version 13\n1..1\n".to_owned();
    if host.api > 4 && !tests.is_empty() {
        report += &format!("# Subtest: {name}\n");
        for (number, test) in (1..).zip(tests) {
            report += &format!("    ok {number} - {test}\n");
        }
        report += &format!("    1..{}\n", tests.len());
    }
    format!("{report}ok 1 - {name} # time=T\n")
}

fn kernels_and_efi_applications_are_tested_by_cargo(host: &Host) {
    let project = ExampleProject::on(host);
    let output = project.cargo(&["test"]);
    assert_success(&output);
    let expected = [
        report(host, "kernel_tests", &["layout_is_that_of_pvh", "command_line_may_be_absent"]),
        report(host, "kernel", &[]),
        report(host, "processor", &["paging_is_on", "vectors_work", "interrupts_are_off"]),
        report(host, "timer", &["mode_reads_back", "counter_counts_down"]),
        report(host, "uefi_tests", &["layout_is_that_of_uefi"]),
        report(host, "firmware", &["table_is_valid", "clock_has_a_date"]),
    ];
    assert_eq!(results(&output), expected.concat());
    // Optimised code runs as well.
    assert_success(&project.cargo(&["test", "--release"]));
}

fn arguments_after_the_program_are_the_guests(host: &Host) {
    let project = ExampleProject::on(host);
    let run = |arguments: &[&str], program: &str| {
        let output = project.cargo_with_runner("pvio test --keep kept", arguments);
        assert_success(&output);
        // Cargo runs a test in the package's directory, a program in the user's.
        let kept = ["kernel-tests/kept", "uefi-tests/kept", "kept"].map(|kept| project.path(kept));
        let files = kept.iter().map(|kept| kept.join(format!("1-{program}/serial.txt")));
        let file = files.into_iter().find(|file| file.exists()).unwrap();
        let serial = std::fs::read_to_string(&file).unwrap();
        kept.iter().for_each(|kept| drop(std::fs::remove_dir_all(kept)));
        serial
    };
    let ran = |serial: String| {
        // The firmware's escape sequences may be on the same line.
        let passed =
            |line: &str| Some(line.strip_suffix(": ok")?.rsplit_once("test ")?.1.to_owned());
        serial.lines().filter_map(passed).collect::<Vec<_>>()
    };
    let processor = ["test", "-p", "kernel-tests", "--test", "processor"];
    let firmware = ["test", "-p", "uefi-tests", "--test", "firmware"];
    let processor = |more: &[&str]| run(&[&processor[..], more].concat(), "processor");
    let firmware = |more: &[&str]| run(&[&firmware[..], more].concat(), "firmware");
    assert_eq!(ran(processor(&["vectors"])), ["vectors_work"]);
    assert_eq!(ran(firmware(&["clock"])), ["clock_has_a_date"]);
    let options = ["--", "--nocapture", "--test-threads", "1", "-q", "--skip", "vectors"];
    assert_eq!(ran(processor(&options)), ["paging_is_on", "interrupts_are_off"]);
    assert_eq!(ran(firmware(&["--", "--exact", "table_is_valid"])), ["table_is_valid"]);
    assert!(ran(firmware(&["--", "--exact", "table"])).is_empty());
    let list = "table_is_valid: test\nclock_has_a_date: test\n2 tests, 0 filtered out\n";
    assert_eq!(
        firmware(&["--", "--list"]).replace('\r', "").split_once("table_is").unwrap().1,
        list.split_once("table_is").unwrap().1
    );
    // They are neither options nor guests, though they look like these.
    let odd = processor(&["--", "--jobs", "--junit=x", "Cargo.toml"]);
    assert!(
        odd.contains("the option --jobs is ignored\nthe option --junit=x is ignored\n"),
        "{odd}"
    );
    assert!(ran(odd).is_empty());
    // A word with spaces stays one, and QEMU's arguments follow another "--".
    let hello = run(&["run", "-p", "kernel-tests", "--", "a", "b c", "--", "-smp", "2"], "kernel");
    assert_eq!(hello, "hello, \"a \\\"b c\\\"\"\n");
}

fn test_that_fails_is_named(host: &Host) {
    let project = ExampleProject::on(host);
    let timer = "kernel-tests/tests/timer.rs";
    project.edit(timer, "assert_eq!(status & 0x3f,", "assert_eq!(status & 0x1f,");
    let firmware = "uefi-tests/tests/firmware.rs";
    project.edit(firmware, "matches!(month, 1..=0x12)", "month > 0x12");
    let output = project.cargo(&["test", "--no-fail-fast", "--tests"]);
    assert!(!output.status.success());
    let report = text(&output.stdout);
    let failed: Vec<&str> = report.lines().filter(|line| line.starts_with("not ok ")).collect();
    let names: Vec<&str> = failed.iter().map(|line| line.split_once(" # ").unwrap().0).collect();
    assert_eq!(names, ["not ok 1 - timer", "not ok 1 - firmware"], "{report}");
    for (test, why) in [
        ("mode_reads_back", "timer.rs:36:5: assertion `left == right` failed: the status is 0x"),
        ("clock_has_a_date", "firmware.rs:38:5: the month is 0x"),
    ] {
        let line = match host.api > 4 {
            true => format!("    not ok 1 - {test}\n"),
            false => format!("    - \"test {test}: FAILED\"\n"),
        };
        let line =
            if test == "clock_has_a_date" { line.replace("not ok 1", "not ok 2") } else { line };
        assert!(report.contains(&line) && report.contains(why), "{test}: {report}");
    }
    // A test that passed before it is reported, and one that did not run is not.
    assert!(!report.contains("counter_counts_down"), "{report}");
    let passed =
        if host.api > 4 { "    ok 1 - table_is_valid\n" } else { "test table_is_valid: ok" };
    assert!(report.contains(passed), "{report}");
}

/// `guest.toml` in the directory of the package, where a test's name has no hash.
fn settings_are_those_of_the_package(host: &Host) {
    let project = ExampleProject::on(host);
    let file = project.path("kernel-tests/guest.toml");
    let settings = std::fs::read_to_string(&file).unwrap();
    let single = "[guest.processor]\nfailure = \"^test vectors_work: ok$\"\n";
    std::fs::write(&file, settings + single).unwrap();
    let arguments = ["test", "-p", "kernel-tests", "--test", "processor", "--test", "timer"];
    let output = project.cargo(&[&arguments[..], &["--no-fail-fast"]].concat());
    let report = text(&output.stdout);
    let why = "/^test vectors_work: ok$/, which means failure: test vectors_work: ok";
    assert!(report.contains("not ok 1 - processor") && report.contains(why), "{report}");
    assert!(report.contains("\nok 1 - timer"), "{report}");
}

/// As bootimage's runner does: makes an image beside the program, and runs `run-command`, `test-args` and the rest.
const BOOTIMAGE: &str = "#!/bin/sh
image=$(dirname \"$1\")/bootimage-$(basename \"$1\").bin
cp boot.img \"$image\" || exit
shift
exec pvio test --success-status 33 --keep kept \"$image\" -- -device isa-debug-exit,iobase=0xf4,iosize=0x04 -m 24 \"$@\"
";

fn bootimage_passes_its_image_on(host: &Host) {
    let project = ExampleProject::on(host);
    let package = project.path("kernel-tests");
    let runner = package.join("bootimage");
    std::fs::write(&runner, BOOTIMAGE).unwrap();
    std::fs::set_permissions(&runner, std::fs::Permissions::from_mode(0o755)).unwrap();
    let test = |code: &[u8]| {
        std::fs::write(package.join("boot.img"), boot_sector(code)).unwrap();
        let runner = runner.to_str().unwrap();
        let arguments = ["test", "-p", "kernel-tests", "--test", "timer", "--", "-smp", "2"];
        project.cargo_with_runner(runner, &arguments)
    };
    let output = test(EXIT_33);
    assert_success(&output);
    assert_eq!(results(&output), "TAP version 13\n1..1\nok 1 - bootimage-timer.bin # time=T\n");
    let stats = package.join("kept/1-bootimage-timer.bin/stats.json");
    assert_eq!(pvio_cli::machine::read_stats(&stats).unwrap().vcpus.len(), 2);
    // `mov al,17; out 0xf4,al`
    let output = test(b"\xb0\x11\xe6\xf4\xf4");
    assert!(!output.status.success());
    assert!(results(&output).contains("status 35, but expected exit status 33"));
}

fn guest_that_has_no_command_line_gets_a_file(host: &Host) {
    let guests = Guests::on(host);
    guests.add("bios.bin", std::fs::read(guest("arguments.bin")).unwrap());
    std::fs::rename(guests.path("bios.bin"), guests.path("arguments")).unwrap();
    let device = ["--", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"];
    let run = |options: &[&str]| {
        let own = ["--success-status", "1", "--keep", "kept", "arguments"];
        guests.command(&[options, &own, &device].concat()).output().unwrap()
    };
    let output = run(&["--append", "--nocapture", "--append=a,b \"c d\""]);
    assert_success(&output);
    let warnings = text(&output.stderr);
    let line = "guest-test: warning: arguments: a guest that boots as bios has no command line: \
                \"--nocapture a,b \\\"c d\\\"\" is only in its fw_cfg file opt/pvio/arguments\n";
    assert!(warnings.starts_with(line), "{warnings}");
    let serial = std::fs::read_to_string(guests.path("kept/1-arguments/serial.txt")).unwrap();
    assert_eq!(serial, "--nocapture a,b \"c d\"\n");
    // Without arguments there is no file, and the guest fails.
    assert_eq!(run(&[]).status.code(), Some(1));
}

fn kernels_of_every_protocol_get_a_command_line(host: &Host) {
    let guests = Guests::on(host);
    guests.add("multiboot", elf32(&multiboot_1(0), &[PRINT_COMMAND_LINE, EXIT_33].concat()));
    let device = ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"];
    let options = ["--success", "multiboot x=1 NAME$", "--append", "NAME", "multiboot"];
    let report = guests
        .test_without_calls(&[&options[..], &["--", "-append", "x=1"], &device].concat(), true);
    assert!(report.contains("\nok 1 - multiboot"), "{report}");
    let report =
        guests.test_without_calls(&[&options[..2], &["multiboot", "--"], &device].concat(), false);
    assert!(report.contains("expected a line that matches"), "{report}");

    let arguments = paths::linux_arguments(&[]).unwrap();
    let kernel = arguments.iter().position(|argument| argument == "-kernel").unwrap();
    std::os::unix::fs::symlink(&arguments[kernel + 1], guests.path("linux")).unwrap();
    let others: Vec<&str> =
        arguments[..kernel].iter().chain(&arguments[kernel + 2..]).map(|a| &**a).collect();
    let options = ["--success", "Command line: .* pvio.test=NAME\\s*$", "--timeout", "120"];
    let append = ["--append", "pvio.test=NAME", "linux", "--"];
    guests.test_without_calls(&[&options[..], &append, &others].concat(), true);
}

/// Whether Cargo started it is known by a variable and by the guest's place.
#[test]
fn what_follows_a_guest_is_a_guest_elsewhere() {
    let guests = Guests::new();
    let pass = verdict::image(&[Exit(0)]);
    std::fs::create_dir(guests.path("target")).unwrap();
    guests.add("a.bin", &pass).add("NAME", &pass);
    guests.add("target/a.bin", &pass).add("target/NAME", &pass);
    let run = |package: bool, arguments: &[&str]| {
        let mut command = guests.command(arguments);
        command.env_remove("CARGO_PKG_NAME").env_remove("CARGO_MANIFEST_DIR");
        if package {
            command.env("CARGO_PKG_NAME", "kernel");
        }
        let output = command.output().unwrap();
        (text(&output.stdout).matches("\nok ").count(), text(&output.stderr))
    };
    // Without the file by which Cargo marks its target directory.
    assert_eq!(run(true, &["target/a.bin", "NAME"]), (2, String::new()));
    let tag =
        "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag.\n";
    guests.add("target/CACHEDIR.TAG", tag);
    let lost = |name: &str, what: &str| {
        format!(
            "guest-test: warning: {name}: a guest that boots as bios has no command line: {what:?} is only in its \
             fw_cfg file opt/pvio/arguments\n"
        )
    };
    assert_eq!(run(true, &["target/a.bin", "NAME"]), (1, lost("a.bin", "NAME")));
    assert_eq!(run(true, &["target/a.bin", "-q", "--no"]), (1, lost("a.bin", "-q --no")));
    assert_eq!(run(false, &["target/a.bin", "NAME"]), (2, String::new()));
    assert_eq!(run(true, &["a.bin", "NAME"]), (2, String::new()));
    assert_eq!(run(true, &["target/a.bin", "target/NAME"]), (2, String::new()));
    assert_eq!(run(true, &["--runner=never", "target/a.bin", "NAME"]), (2, String::new()));
    assert_eq!(
        run(false, &["--runner", "a.bin", "target/NAME"]),
        (1, lost("a.bin", "target/NAME"))
    );
    let (passed, error) = run(false, &["--runner=maybe", "a.bin"]);
    assert!(
        passed == 0 && error.contains("invalid value 'maybe' for '--runner[=<WHEN>]'"),
        "{error}"
    );
}

#[test]
fn file_that_qemu_takes_for_its_own_is_said() {
    let guests = Guests::new();
    guests.add("pvh.bin", elf64(62, &pvh_note(), EXIT_33));
    let device = ["--", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"];
    let options = ["--success-status", "33", "--timeout", "2", "pvh.bin"];
    let output = guests.command(&[&options[..], &device].concat()).output().unwrap();
    let line = "guest-test: warning: QEMU takes pvh.bin in the working directory for its own file of that name: rename \
                it if that is not what you want\n";
    assert_eq!((output.status.code(), &*text(&output.stderr)), (Some(1), line));
    // From another directory, the same file passes.
    let path = guests.path("pvh.bin");
    let elsewhere = Guests::new();
    let path = [&options[..2], &[Path::to_str(&path).unwrap()]].concat();
    elsewhere.test(&[&path[..], &device].concat(), true);
}
