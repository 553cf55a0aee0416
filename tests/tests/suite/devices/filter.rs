//! `filter`: a script between the guest and QEMU's own device.

use std::path::Path;

use pvio_cli::expected_forms;
use pvio_cli::machine::Machine;
use pvio_tests::boot_images::boot_sector;
use pvio_tests::{
    Host, Monitor, assert_consistent, bios, guest, on_both_qemus, refusal, run_seabios,
};

use super::latches::assert_is_qemus_latch;
use super::script::Scripts;

on_both_qemus! {
    programs_cannot_tell_a_filter_from_qemus_latch
    filter_changes_keeps_and_answers_accesses
    filter_gets_whole_accesses
    filter_follows_a_device_that_moves
    filters_do_not_disturb_seabios
    disk_that_reports_errors_does_not_boot
    mistake_in_a_filter_lets_accesses_pass
    wrong_filter_keeps_qemu_from_starting
    filter_without_exports_is_refused
}

/// The option for a filter with a script.
fn filter(scripts: &Scripts, ports: &str, script: &str) -> String {
    scripts.of_kind("filter", ports, script, "")
}

const UNCHANGED: &str = "fn answer(offset, size) { }
    fn read(offset, size, value) { value }
    fn write(offset, size, value) { value }";

fn programs_cannot_tell_a_filter_from_qemus_latch(host: &Host) {
    let scripts = Scripts::new();
    assert_is_qemus_latch(host, 0xf117, &filter(&scripts, "0xe0-0xe3", UNCHANGED));
}

/// A stopped machine with QEMU's latch of four bytes at 0xe0.
fn with_latch(host: &Host, option: &str) -> Monitor {
    let machine = host.machine().plugin(&["summary=off", option]);
    Monitor::start_stopped(machine.args(["-device", "pc-testdev"]))
}

fn filter_changes_keeps_and_answers_accesses(host: &Host) {
    let scripts = Scripts::new();
    let script = "
        fn reset() { this.reads = 0; }
        fn answer(offset, size) { if offset == 3 { this.reads += 1; 0x70 + this.reads } }
        fn read(offset, size, value) { if offset == 1 { value ^ 0xff } }
        fn write(offset, size, value) { if value != 0x13 { value + 1 } }
    ";
    let mut monitor = with_latch(host, &filter(&scripts, "0xe0-0xe3", script));
    for (port, value) in [(0xe0, 0x20), (0xe1, 0x30), (0xe0, 0x13), (0xe3, 0x55)] {
        monitor.write(port, 1, value);
    }
    assert_eq!(monitor.read(0xe0, 1), 0x21, "0x13 was kept");
    assert_eq!(monitor.read(0xe1, 1), 0x31 ^ 0xff);
    assert_eq!([(); 2].map(|()| monitor.read(0xe3, 1)), [0x71, 0x72]);
    assert_eq!(monitor.read(0xe0, 4), 0x5600_3121, "the device has what it got");
    assert!(monitor.quit().status.success());
}

/// A filter at one port of a device that takes words, as IDE's data port does.
fn filter_gets_whole_accesses(host: &Host) {
    let scripts = Scripts::new();
    let script = "fn write(offset, size, value) { log(`${size}`); value ^ 0x01010101 }";
    let mut monitor = with_latch(host, &filter(&scripts, "0xe0", script));
    monitor.write(0xe0, 4, 0x4433_2211);
    assert_eq!(monitor.read(0xe0, 4), 0x4532_2310);
    assert_eq!(monitor.read(0xe2, 2), 0x4532);
    let ended = monitor.quit();
    assert_eq!(ended.stderr, "pvio: filter at 0x00e0: 4\n");
}

/// Code in real mode.
struct Code(Vec<u8>);

impl Code {
    fn outl(&mut self, port: u16, value: u32) {
        let ([a, b], [c, d, e, f]) = (port.to_le_bytes(), value.to_le_bytes());
        // mov dx, port; mov eax, value; out dx, eax
        self.0.extend([0xba, a, b, 0x66, 0xb8, c, d, e, f, 0x66, 0xef]);
    }

    /// Writes to the device's PCI configuration.
    fn configure(&mut self, register: u32, value: u32) {
        self.outl(0xcf8, 0x8000_2000 + register);
        self.outl(0xcfc, value);
    }

    /// Reads a byte, and shows it at port 0x80.
    fn show(&mut self, port: u16) {
        let [a, b] = port.to_le_bytes();
        // mov dx, port; in al, dx; out 0x80, al
        self.0.extend([0xba, a, b, 0xec, 0xe6, 0x80]);
    }
}

/// The device shows its MAC address, 52:54:00:12:34:56, at its first ports.
fn filter_follows_a_device_that_moves(host: &Host) {
    let mut code = Code(Vec::new());
    code.show(0xc000);
    for first in [0xc000_u16, 0xc100, 0xc000] {
        code.configure(4, 0);
        code.show(0xc000);
        code.configure(0x10, u32::from(first) + 1);
        code.configure(4, 1);
        code.show(0xc000);
        code.show(0xc101);
    }
    code.configure(4, 0);
    code.show(0xc000);
    let expected = [0xff, 0xff, 0x52, 0xff, 0xff, 0xff, 0x54, 0xff, 0x52, 0xff, 0xff];
    let scripts = Scripts::new();
    let filters = [
        filter(&scripts, "0xc000-0xc0ff", "fn read(offset, size, value) { value }"),
        filter(&scripts, "0xc100-0xc1ff", "fn read(offset, size, value) { value }"),
    ];
    for filters in [&[][..], &filters[..1], &filters[..]] {
        let options: Vec<&str> = filters.iter().map(String::as_str).collect();
        for vcpus in ["1", "2"] {
            let machine = host.machine().plugin(&["summary=off", "device=post@0x80"]);
            let machine = machine.plugin(&options).bare_guest(&bios(&scripts.0, code.0.clone()));
            let machine = machine.args(["-device", "rtl8139,addr=4,romfile=", "-smp", vcpus]);
            let ended = machine.run().unwrap();
            assert_eq!(ended.status.code(), Some(expected_forms::PASSED), "{}", ended.stderr);
            let stats = ended.stats().unwrap();
            assert_consistent(stats);
            let codes = stats.post.iter();
            let codes: Vec<u32> = codes
                .flat_map(|row| std::iter::repeat_n(row.value.unwrap(), row.count as usize))
                .collect();
            assert_eq!(codes, expected, "{options:?} on {vcpus}");
        }
    }
}

fn filters_do_not_disturb_seabios(host: &Host) {
    let scripts = Scripts::new();
    // CMOS, keyboard, PIT, both interrupt controllers, and PCI, whose accesses change the memory map.
    let ports = ["0x70-0x71", "0x60-0x64", "0x40-0x43", "0x20-0x21", "0xa0-0xa1", "0xcf8-0xcff"];
    let run = |machine: Machine| run_seabios(machine).stdout;
    let machine = || host.machine().plugin(&["summary=off"]);
    let filtered = ports.iter().fold(machine(), |machine, ports| {
        machine.plugin(&[&filter(&scripts, ports, "fn read(offset, size, value) { value }")])
    });
    assert_eq!(run(filtered), run(machine()));
}

/// A disk whose boot sector ends QEMU.
fn disk(directory: &Path) -> String {
    // mov al, n; out 0xf4, al; hlt
    let code = [0xb0, (expected_forms::PASSED as u8) >> 1, 0xe6, 0xf4, 0xf4];
    let path = directory.join("disk.img");
    let mut image = boot_sector(&code);
    image.resize(1 << 20, 0);
    std::fs::write(&path, image).unwrap();
    format!("file={},format=raw,if=ide", path.display())
}

/// SeaBIOS reads the boot sector from an IDE disk by PIO.
fn disk_that_reports_errors_does_not_boot(host: &Host) {
    let scripts = Scripts::new();
    let drive = disk(scripts.0.path());
    let machine = |script: &str| {
        let filter = filter(&scripts, "0x1f0-0x1f7", script);
        host.machine().plugin(&["summary=off", &filter]).args(["-drive", &drive])
    };
    let exit =
        ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-display", "none", "-no-reboot"];
    let ended = machine("fn read(offset, size, value) { value }").args(exit).run().unwrap();
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED), "{}", ended.stderr);
    // The error bit in the status after each READ SECTORS (0x20).
    let faults = "
        fn reset() { this.fails = false; }
        fn write(offset, size, value) {
            if offset == 7 { this.fails = value == 0x20; if this.fails { log(\"fault\"); } }
            value
        }
        fn read(offset, size, value) { if offset == 7 && this.fails { value & 0x77 | 1 } else { value } }
    ";
    let ended = run_seabios(machine(faults));
    assert!(ended.stdout.contains("Boot failed"), "{}", ended.stdout);
    assert!(ended.stderr.contains("filter at 0x01f0-0x01f7: fault"), "{}", ended.stderr);
}

fn mistake_in_a_filter_lets_accesses_pass(host: &Host) {
    let scripts = Scripts::new();
    let script = "fn write(offset, size, value) { if value == 7 { throw \"seven\"; } value + 1 }
fn read(offset, size, value) { \"text\" }";
    let mut monitor = with_latch(host, &filter(&scripts, "0xe0-0xe3", script));
    monitor.write(0xe0, 1, 5);
    monitor.write(0xe1, 1, 7);
    monitor.write(0xe2, 1, 9);
    assert_eq!(monitor.read(0xe0, 4), 0x0009_0706);
    let ended = monitor.quit();
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let [line] = lines[..] else { panic!("{lines:?}") };
    assert!(line.starts_with("pvio: filter at 0x00e0-0x00e3: "), "{line}");
    let end = ":1:49: seven, in the call write(0x1, 0x1, 0x7): until the next reset all accesses pass unchanged";
    assert!(line.ends_with(end), "{line}");
    // A result of the wrong type is a mistake, too.
    let script = "fn read(offset, size, value) { \"text\" }";
    let mut monitor = with_latch(host, &filter(&scripts, "0xe0-0xe3", script));
    monitor.write(0xe0, 1, 5);
    assert_eq!(monitor.read(0xe0, 1), 5);
    let ended = monitor.quit();
    assert!(ended.stderr.contains("read returned a string; return an integer"), "{}", ended.stderr);
}

fn wrong_filter_keeps_qemu_from_starting(host: &Host) {
    let scripts = Scripts::new();
    let refused = |script: &str| {
        let option = filter(&scripts, "0xe0", script);
        let machine = host.machine().plugin(&["summary=off", &option]);
        refusal(&machine.bare_guest(&guest("forms.bin")).run().unwrap())
    };
    let line = refused("fn reset() { }");
    assert!(line.contains("has neither fn read(offset, size, value), fn write("), "{line}");
    let line = refused("fn write(offset, size) { 1 }");
    assert!(
        line.ends_with(":1:1: write has 2 parameters; write fn write(offset, size, value)"),
        "{line}"
    );
}

fn filter_without_exports_is_refused(host: &Host) {
    let scripts = Scripts::new();
    let option = filter(&scripts, "0xe0", UNCHANGED);
    let machine = host.machine_without_exports().plugin(&["summary=off", &option]);
    let line = refusal(&machine.bare_guest(&guest("forms.bin")).run().unwrap());
    assert!(line.starts_with("pvio: option \"device\": this QEMU does not export "), "{line}");
}
