//! `qemu-scripts/guest-test`: verdicts by exit status, by lines of output and by power-off.

use pvio_tests::guests::{Guests, text};
use pvio_tests::verdict::Step::*;
use pvio_tests::verdict::image;
use pvio_tests::{Host, on_packaged_qemus};

on_packaged_qemus! {
    exit_status_of_qemu_is_a_verdict
    line_on_the_serial_port_or_debug_console_is_a_verdict
    power_off_is_success_only_by_option
    file_beside_the_guest_has_the_same_settings
    guest_that_lacks_its_exit_device_is_told
}

const DEVICE: [&str; 3] = ["--", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"];

/// The messages of the guests that failed, by number.
fn failures(report: &str) -> Vec<(u32, String)> {
    let mut failures = Vec::new();
    let mut number = 0;
    for line in report.lines() {
        if let Some(rest) = line.strip_prefix("not ok ") {
            number = rest.split(' ').next().unwrap().parse().unwrap();
        } else if let Some(message) = line.strip_prefix("  message: ") {
            failures.push((number, message.trim_matches('"').to_owned()));
        }
    }
    failures
}

fn exit_status_of_qemu_is_a_verdict(host: &Host) {
    let guests = Guests::on(host);
    guests
        .add("good.bin", image(&[DebugExit(16)]))
        .add("bad.bin", image(&[DebugExit(17)]))
        .add("off.bin", image(&[PowerOff]))
        .add("reset.bin", image(&[TripleFault]))
        .add("broken", [&[0; 0x202][..], b"HdrS"].concat());
    let names = ["good.bin", "bad.bin", "off.bin", "reset.bin", "broken"];
    let test = |status| {
        let options = ["--success-status", status];
        failures(&guests.test_without_calls(&[&options[..], &names, &DEVICE].concat(), false))
    };
    let formula = "isa-debug-exit makes 2n + 1 of n, and the guest wrote";
    let others = |expected: &str| {
        [
            (3, format!("the guest powered off, but expected exit status {expected}")),
            (
                4,
                format!(
                    "the guest reset the machine (triple fault?), but expected exit status {expected}"
                ),
            ),
            (5, "QEMU did not run the guest: exit status 1".into()),
        ]
    };
    let seen = |status, expected| {
        format!(
            "a device ended QEMU with status {status}, but expected exit status {expected}; {formula}"
        )
    };
    let mut expected = vec![(2, format!("{} 17 (0x11)", seen(35, 33)))];
    expected.extend(others("33"));
    assert_eq!(test("33"), expected);

    // The value that the guest writes is not the status.
    let expected =
        (1, format!("{} 16 (0x10); for that value, --success-status is 33", seen(33, 16)));
    assert_eq!(test("16")[0], expected);

    // A QEMU that does not start has status 1, and a reset has status 0.
    let failed = |status| test(status).into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(failed("1"), [1, 2, 3, 4, 5]);
    assert_eq!(failed("0"), [1, 2, 4, 5]);
}

fn line_on_the_serial_port_or_debug_console_is_a_verdict(host: &Host) {
    let guests = Guests::on(host);
    guests
        .add("serial.bin", image(&[Serial("booting\r\nall tests passed\r\n"), Spin]))
        .add("console.bin", image(&[Console("all tests passed\n"), Halt]))
        // Nothing ends this line.
        .add("prompt.bin", image(&[Serial("all tests passed"), Halt]))
        .add("panic.bin", image(&[Serial("panicked at kernel.c\r\nall tests passed\r\n"), Halt]))
        .add("other.bin", image(&[Serial("all tests passed?\r\nno\r\n"), PowerOff]))
        .add("late.bin", image(&[Console("panicked at the end"), DebugExit(16)]));
    let names = ["serial.bin", "console.bin", "prompt.bin", "panic.bin", "other.bin", "late.bin"];
    let options = [
        "--success",
        "^all tests passed$",
        "--failure",
        "panicked",
        "--success-status",
        "33",
        "--keep",
        "kept",
    ];
    let report = guests.test_without_calls(&[&options[..], &names, &DEVICE].concat(), false);
    let line = "a line that matches /panicked/, which means failure:";
    assert_eq!(
        failures(&report),
        [
            (4, format!("{line} panicked at kernel.c")),
            (
                5,
                "the guest powered off, but expected exit status 33 or a line that matches /^all tests passed$/".into()
            ),
            (6, format!("{line} panicked at the end")),
        ]
    );
    // What was seen is quoted, and kept.
    assert!(report.contains("  serial:\n    - \"all tests passed?\"\n    - \"no\"\n"), "{report}");
    assert!(report.contains("  console:\n    - \"panicked at the end\"\n"), "{report}");
    let kept = std::fs::read_to_string(guests.path("kept/2-console.bin/console.txt")).unwrap();
    assert_eq!(kept, "all tests passed\n");
}

fn power_off_is_success_only_by_option(host: &Host) {
    let guests = Guests::on(host);
    guests.add("off.bin", image(&[PowerOff])).add("reset.bin", image(&[TripleFault]));
    let report = guests.test_without_calls(&["--success-power-off", "off.bin"], true);
    assert_eq!(report, "TAP version 13\n1..1\nok 1 - off.bin # time=T\n");
    let failed = |arguments: &[&str]| failures(&guests.test_without_calls(arguments, false));
    assert_eq!(
        failed(&["off.bin"]),
        [(
            1,
            "no verdict: the guest powered off; if that is success, add --success-power-off".into()
        )]
    );
    let reset = "the guest reset the machine (triple fault?), but expected a power-off";
    assert_eq!(failed(&["--success-power-off", "reset.bin"]), [(1, reset.into())]);
}

fn file_beside_the_guest_has_the_same_settings(host: &Host) {
    let guests = Guests::on(host);
    guests
        .add("good.bin", image(&[DebugExit(16)]))
        .add("other.bin", image(&[Serial("done\n"), Spin]))
        .add("off.bin", image(&[PowerOff]))
        .add(
            "guest.toml",
            "success-status = 33\n\
             arguments = [\"-device\", \"isa-debug-exit,iobase=0xf4,iosize=0x04\"]\n\
             options = [\"device=latch@0x300\"]\n\
             [guest.\"other.bin\"]\nsuccess = \"^done$\"\ntimeout = 20\n\
             [guest.\"off.bin\"]\nsuccess-power-off = true\n",
        );
    let names = ["good.bin", "other.bin", "off.bin"];
    let report = guests.test_without_calls(&names, true);
    assert_eq!(failures(&report), []);
    // An option comes before the file.
    let report = guests.test_without_calls(&["--success-status", "35", "good.bin"], false);
    assert!(report.contains("status 33, but expected exit status 35"), "{report}");
}

fn guest_that_lacks_its_exit_device_is_told(host: &Host) {
    let guests = Guests::on(host);
    guests.add("good.bin", image(&[DebugExit(16)]));
    let options = ["--success-status", "33", "--timeout", "10", "good.bin"];
    assert_eq!(
        failures(&guests.test_without_calls(&options, false)),
        [(
            1,
            "still running after 10 s, but expected exit status 33; it wrote to port 0xf4, where no device is: \
             add -- -device isa-debug-exit,iobase=0xf4,iosize=0x04"
                .into()
        )]
    );
}

#[test]
fn wrong_file_or_pattern_is_one_line_before_the_first_boot() {
    let guests = Guests::new();
    guests.add("pass.bin", image(&[Exit(0)]));
    let refused = |contents: &str| {
        guests.add("guest.toml", contents);
        let output = guests.command(&["pass.bin"]).output().unwrap();
        let line = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        line.trim_end().to_owned()
    };
    let unknown = refused("timeout = 3\nsucess-status = 33\n");
    let expected =
        "guest-test: ./guest.toml: line 2: unknown field `sucess-status`, expected one of `boot`, ";
    assert!(unknown.starts_with(expected), "{unknown}");
    assert!(
        refused("success = 'a('").contains("./guest.toml: line 1: pattern \"a(\": unclosed group")
    );
    let missing = refused("[guest.'pas.bin']\ntimeout = 3\n");
    assert!(missing.contains("guest \"pas.bin\": there is no such file beside it"), "{missing}");
    assert!(refused("success = ").contains("./guest.toml: line 1: "));

    std::fs::remove_file(guests.path("guest.toml")).unwrap();
    let output = guests.command(&["--success", "a(", "pass.bin"]).output().unwrap();
    let line = text(&output.stderr);
    assert!(line.contains("'--success <REGEX>': unclosed group"), "{line}");
    assert_eq!(output.status.code(), Some(2));
}
