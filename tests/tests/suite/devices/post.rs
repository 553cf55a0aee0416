//! `post`: the codes that firmware writes, kept while QEMU's device has its accesses. And the warnings of devices that
//! hide others.

use std::process::Command;

use pvio::x86::{Port, Width};
use pvio_cli::expected_forms;
use pvio_cli::machine::{Ended, Machine};
use pvio_cli::paths;
use pvio_tests::{Host, assert_consistent, bios, guest, on_both_qemus, refusal, without_exports};

on_both_qemus! {
    post_keeps_codes_with_their_times
    post_leaves_accesses_to_qemus_device
    post_keeps_codes_of_every_vcpu_and_of_hypercalls
    post_has_one_port
    device_that_hides_others_is_warned_of
    device_in_place_of_qemus_is_not_warned_of
}

without_exports! {
    post_keeps_codes_with_their_times
}

/// Runs a BIOS that writes codes to port 0x80.
fn run_codes(machine: Machine) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let code = [
        0xb0, 0x01, 0xe6, 0x80, 0xe6, 0x80, 0xe6,
        0x80, // mov al, 1; out 0x80, al; out 0x80, al; out 0x80, al
        0xb0, 0x02, 0xe6, 0x80, // mov al, 2; out 0x80, al
        0xe4, 0x80, // in al, 0x80
        0xb8, 0xef, 0xbe, 0xe7, 0x80, // mov ax, 0xbeef; out 0x80, ax
        0xe6, 0x84, // out 0x84, al
        0xb0, 0x01, 0xe6, 0x80, // mov al, 1; out 0x80, al
        // A string from the ROM: mov dx, 0x80; mov si, 0xe000; mov cx, 3; cs rep outsb
        0xba, 0x80, 0x00, 0xbe, 0x00, 0xe0, 0xb9, 0x03, 0x00, 0x2e, 0xf3, 0x6e,
    ];
    let ended = machine.bare_guest(&bios(&directory, code.to_vec())).run().unwrap();
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED), "{}", ended.stderr);
    ended
}

fn post_keeps_codes_with_their_times(host: &Host) {
    let ended = run_codes(host.machine().plugin(&["device=post@0x80"]));
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    let codes: Vec<_> = stats
        .post
        .iter()
        .map(|row| (row.port, row.size.0, row.value, row.vcpu, row.count, row.unverified))
        .collect();
    let code = |size, value, count| (Port(0x80), Some(size), Some(value), Some(0), count, 0);
    let (byte, word) = (Width::Byte, Width::Word);
    let expected = [
        code(byte, 1, 3),
        code(byte, 2, 1),
        code(word, 0xbeef, 1),
        code(byte, 1, 1),
        code(byte, 0xb0, 1),
        code(byte, 1, 1),
        code(byte, 0xe6, 1),
    ];
    assert_eq!(codes, expected);
    let clock = if host.exports { "guest" } else { "host" };
    assert_eq!((stats.post_clock.as_deref(), stats.post_dropped), (Some(clock), 0));
    let mut last = 0;
    for row in &stats.post {
        assert!(last <= row.first_ns && row.first_ns <= row.last_ns, "{:?}", stats.post);
        last = row.last_ns;
    }
    assert!(stats.post[0].first_ns < last, "time passes");
    // The summary has them, and so has `pvio show`.
    let table = format!(
        "POST codes, times by the {clock}'s clock\n  port      code  times   first s    last s\n"
    );
    assert!(ended.stderr.contains(&table), "{}", ended.stderr);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), stats.to_json()).unwrap();
    let pvio = paths::repository().join("target/release/pvio");
    let shown = Command::new(pvio).arg("show").arg(file.path()).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(&table) && shown.contains("  0x0080  0xbeef      1  "), "{shown}");
}

fn post_leaves_accesses_to_qemus_device(host: &Host) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let log = log.path().to_str().unwrap();
    let trace = ["-trace", "memory_region_ops_*", "-D", log];
    let ended = run_codes(host.machine().plugin(&["summary=off", "device=post@0x80"]).args(trace));
    assert_eq!(ended.stderr, "");
    let rows = ended.stats().unwrap().ports.iter().filter(|row| row.port == Port(0x80));
    let (qemu, device) = rows.fold((0, 0), |sum, row| (sum.0 + row.qemu, sum.1 + row.device));
    assert_eq!((qemu, device), (10, 0));
    let trace = std::fs::read_to_string(log).unwrap();
    let own =
        trace.lines().filter(|line| line.contains("ops_write") && line.contains("name 'ioport80'"));
    // QEMU splits the word into bytes.
    assert_eq!(own.count(), 10, "{trace}");
}

fn post_keeps_codes_of_every_vcpu_and_of_hypercalls(host: &Host) {
    let machine =
        host.machine().plugin(&["summary=off", "device=post@0x5000", "device=latch@0x5000"]);
    let machine = machine.bare_guest(&guest("window-smp.bin")).args(["-smp", "2"]);
    let ended = machine.run().unwrap();
    let stats = ended.stats().unwrap();
    let written =
        stats.ports.iter().filter(|row| row.port == Port(0x5000) && row.dir.to_string() == "out");
    let written: u64 = written.map(|row| row.qemu + row.device + row.hypercall).sum();
    let counted: u64 = stats.post.iter().map(|row| row.count).sum();
    assert_eq!(counted + stats.post_dropped, written, "{:?}", stats.ports);
}

fn post_has_one_port(host: &Host) {
    let machine = host.machine().plugin(&["device=post@0x80-0x81"]);
    let line = refusal(&machine.bare_guest(&guest("forms.bin")).run().unwrap());
    let expected = "post at 0x0080-0x0081: this kind has one port; name only the first";
    assert_eq!(line, format!("pvio: option \"device\": {expected}"));
}

/// Runs a guest that uses none of the devices. Returns what pvio says.
fn said(host: &Host, devices: &[&str], arguments: &[&str]) -> String {
    let machine =
        devices.iter().fold(host.machine().plugin(&["summary=off"]), |machine, device| {
            machine.plugin(&[&format!("device={device}")])
        });
    let machine = machine.bare_guest(&guest("poweroff.bin")).args(arguments);
    machine.run().unwrap().stderr
}

fn device_that_hides_others_is_warned_of(host: &Host) {
    assert_eq!(
        said(host, &["latch@0x80", "latch@0x6e", "latch@0x300"], &[]),
        "pvio: warning: latch at 0x0080-0x0083 hides other devices of QEMU, which the guest may need: dma-page at \
         0x0081-0x0083; device=latch@0x0080-0x0080 leaves them alone\n\
         pvio: warning: latch at 0x006e-0x0071 hides other devices of QEMU, which the guest may need: rtc-index at \
         0x0070, rtc at 0x0071; device=latch@0x006e-0x006f leaves them alone\n"
    );
    // Devices of the options count, too, and what a neighbour of pvio's hides.
    let arguments =
        ["-device", "isa-debugcon,iobase=0x302,chardev=none", "-chardev", "null,id=none"];
    assert_eq!(
        said(host, &["latch@0x300", "null@0x304"], &arguments),
        "pvio: warning: latch at 0x0300-0x0303 hides other devices of QEMU, which the guest may need: isa-debugcon at \
         0x0302; device=latch@0x0300-0x0301 leaves them alone\n"
    );
}

fn device_in_place_of_qemus_is_not_warned_of(host: &Host) {
    let devices =
        ["uart16550@0x3f8:file=/dev/null", "latch@0x80-0x80", "script@0x378-0x37a", "null@0x71"];
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("ones.rhai");
    std::fs::write(&script, "fn read(offset, size) { -1 } fn write(offset, size, value) { }")
        .unwrap();
    let devices = devices.map(|device| match device.starts_with("script") {
        true => format!("{device}:file={}", script.display()),
        false => device.to_owned(),
    });
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    let own = ["-serial", "null", "-parallel", "null"];
    assert_eq!(said(host, &devices, &own), "");
}
