//! Guests that use the C header and the assembly include (`tests/guests/shim`, `shim-16.S`).
//!
//! They do the same whether their calls are answered or not.

use std::collections::BTreeMap;
use std::fs::OpenOptions;

use pvio::stats::{Call, Snapshot};
use pvio::x86::{Direction, Port, Width};
use pvio_cli::expected_forms;
use pvio_cli::machine::Machine;
use pvio_tests::{GuestRun, GuestTest, Host, on_both_qemus};
use tempfile::TempDir;

use super::hypercalls;

on_both_qemus! {
    without_the_plugin_calls_become_instructions
    unanswered_calls_become_instructions
    strings_use_es_if_configured
    keep_macros_keep_all_registers
}

const GUESTS: [&str; 3] = ["shim-c32", "shim-c64", "shim-16"];

/// The size of the stream's input: 4095 bytes, 2048 words, 2048 longs.
const STREAM: usize = 4095 + 2 * 2048 + 4 * 2048;

/// The files of a run.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        let stream: Vec<u8> = (0..STREAM).map(|i| (7 * i + i / 256) as u8).collect();
        std::fs::write(files.path("in"), stream).unwrap();
        // The guests check the contents of the sectors.
        let byte = |sector: usize, i: usize| (512 * sector + 7 * i + i / 256) as u8;
        let disk = (0..64).flat_map(|sector| (0..512).map(move |i| byte(sector, i)));
        std::fs::write(files.path("disk"), disk.collect::<Vec<u8>>()).unwrap();
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn with_devices(&self, machine: Machine) -> Machine {
        let stream = format!("device=stream@0x300:in={}:out={}", self.path("in"), self.path("out"));
        machine.plugin(&["summary=off", "device=latch@0x5000", &stream])
    }

    /// Runs a guest with COM1 and a disk. Fails unless it ends with this status.
    fn run(&self, machine: Machine, name: &str, exit_status: i32) -> GuestRun {
        let serial = format!("file:{}", self.path("serial"));
        let disk = format!("file={},format=raw,if=ide", self.path("disk"));
        let run = GuestTest::new(machine, name).args(["-serial", &serial, "-drive", &disk]);
        run.exit_status(exit_status).run()
    }

    /// Runs one of [`GUESTS`]. Its output must be the same by hypercall and by instruction.
    fn run_guest(&self, machine: Machine, name: &str, exit_status: i32) -> GuestRun {
        let run = self.run(machine, name, exit_status);
        assert_eq!(self.read("serial"), b"by hypercall\nby instruction\n", "{name}");
        assert_eq!(run.text(), "", "{name}");
        run
    }

    fn assert_stream_copied(&self, what: &str) {
        assert!(self.read("out") == self.read("in"), "{what}: the stream's files differ");
    }
}

/// The exit status after isa-debug-exit, if calls are unanswered.
const BY_DEVICE: i32 = expected_forms::PASSED;
/// The exit status after the hypercall `exit`. That of isa-debug-exit is odd.
const BY_CALL: i32 = 0;

fn run_without_plugin(machine: Machine, name: &str) {
    let machine = machine.args(["-device", "pc-testdev"]);
    Files::new().run_guest(machine, name, BY_DEVICE);
}

fn without_the_plugin_calls_become_instructions(host: &Host) {
    GUESTS.iter().for_each(|name| run_without_plugin(host.machine(), name));
}

/// Needs KVM. `shim-c32` is left out: nested KVM may lack 32-bit paging.
#[test]
fn under_kvm_calls_become_instructions() {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        eprintln!("skipped: /dev/kvm: {error}");
        return;
    }
    for name in ["shim-c64", "shim-16"] {
        run_without_plugin(Host::NEWEST.machine().args(["-accel", "kvm"]), name);
    }
}

/// Runs a guest with the plugin, whose calls must be unanswered.
fn run_unanswered(host: &Host, name: &str, options: &[&str]) -> Snapshot {
    let files = Files::new();
    let machine = files.with_devices(host.machine()).plugin(options);
    let run = files.run_guest(machine, name, BY_DEVICE);
    files.assert_stream_copied(name);
    run.stats().clone()
}

/// Plugin API 4 cannot answer calls in registers. On newer QEMUs an option turns them off.
fn unanswered_calls_become_instructions(host: &Host) {
    for name in GUESTS {
        let options: &[&str] = if host.api == 4 { &[] } else { &["hypercall=off"] };
        let stats = run_unanswered(host, name, options);
        assert!(stats.hypercalls.is_empty(), "{name}: {:?}", stats.hypercalls);
        assert!(stats.ports.iter().all(|row| row.hypercall == 0), "{name}: {:?}", stats.ports);
    }
}

/// Buffers are in a segment other than DS, in 16-bit and in 32-bit code.
fn strings_use_es_if_configured(host: &Host) {
    for name in ["shim-es16", "shim-es32"] {
        for options in [&[][..], &["hypercall=off"]] {
            let files = Files::new();
            let machine = files.with_devices(host.machine()).plugin(options);
            let run = files.run(machine, name, BY_DEVICE);
            files.assert_stream_copied(name);
            let mut calls = run.stats().hypercalls.iter();
            let is_answered = calls.any(|row| row.call == Call::Outsl && row.bytes != 0);
            assert_eq!(is_answered, host.api != 4 && options.is_empty(), "{name} {options:?}");
        }
    }
}

/// The macros `pvio_keep_*` of `pvio16.inc`, answered and unanswered.
fn keep_macros_keep_all_registers(host: &Host) {
    for options in [&[][..], &["hypercall=off"]] {
        let files = Files::new();
        let machine = files.with_devices(host.machine()).plugin(options);
        let run = files.run(machine, "keep-16", BY_DEVICE);
        let calls = run.stats().hypercalls.iter().map(|row| row.count).sum::<u64>();
        let expected = if host.api != 4 && options.is_empty() { 12 } else { 0 };
        assert_eq!(calls, expected, "{options:?}");
    }
}

/// The calls from the `reset` at the start to the end: count, bytes, errors. See `tests/guests/README.md`.
const CALLS_OF_C: [(&str, (u64, u64, u64)); 19] = [
    ("inb", (37, 37, 0)),
    ("inw", (19, 38, 0)),
    ("inl", (22, 88, 0)),
    ("outb", (44, 42, 2)),
    ("outw", (6, 8, 2)),
    ("outl", (20, 80, 0)),
    ("insb", (3, 4095, 0)),
    ("insw", (3, 4096 + 512, 0)),
    ("insl", (4, 8192 + 8, 0)),
    ("outsb", (2, 4095, 0)),
    ("outsw", (3, 4096 + 6, 0)),
    ("outsl", (3, 8192, 0)),
    ("batch", (4, 0, 2)),
    ("batch_compact", (5, 0, 2)),
    ("exit", (1, 0, 0)),
    ("log", (5, 12 + 1024, 2)),
    ("begin", (3, 0, 2)),
    ("end", (2, 0, 1)),
    ("unknown", (3, 0, 3)),
];

/// The calls of `shim-16`: count, bytes, errors.
const CALLS_OF_16: [(&str, (u64, u64, u64)); 20] = [
    ("probe", (1, 0, 0)),
    ("inb", (20, 20, 0)),
    ("inw", (2, 4, 0)),
    ("inl", (4, 16, 0)),
    ("outb", (38, 38, 0)),
    ("outw", (1, 2, 0)),
    ("outl", (2, 8, 0)),
    ("insb", (1, 4095, 0)),
    ("insw", (2, 4096 + 512, 0)),
    ("insl", (1, 8192, 0)),
    ("outsb", (1, 4095, 0)),
    ("outsw", (1, 4096, 0)),
    ("outsl", (1, 8192, 0)),
    ("batch", (1, 0, 0)),
    ("batch_compact", (1, 0, 0)),
    ("exit", (1, 0, 0)),
    ("log", (1, 20, 0)),
    ("begin", (1, 0, 0)),
    ("end", (2, 0, 1)),
    ("unknown", (1, 0, 1)),
];

/// Runs a guest whose calls are answered. Returns its dump and the lines of its log.
fn run_answered(name: &str) -> (Snapshot, Vec<String>) {
    let files = Files::new();
    let log = format!("log={}", files.path("log"));
    let machine = files.with_devices(Host::NEWEST.machine()).plugin(&[&log]);
    let run = files.run_guest(machine, name, BY_CALL);
    files.assert_stream_copied(name);
    let log = String::from_utf8(files.read("log")).unwrap();
    let lines = log.lines().map(|line| line.split_once("] ").expect("a time").1.to_owned());
    (run.stats().clone(), lines.collect())
}

/// The shim replaces a declined call by its instruction.
#[test]
fn declined_calls_become_instructions() {
    // With -icount a call cannot access QEMU's devices. Without exports it can access no device or memory.
    let icount = |machine: Machine| machine.args(["-icount", "shift=0"]);
    for name in ["shim-c32", "shim-c64"] {
        for has_devices in [true, false] {
            let files = Files::new();
            let machine = match has_devices {
                true => files.with_devices(icount(Host::NEWEST.machine())),
                false => {
                    let machine = Host::NEWEST.machine_without_exports().plugin(&["summary=off"]);
                    machine.args(["-device", "pc-testdev"])
                }
            };
            let run = files.run_guest(machine, name, BY_CALL);
            let stats = run.stats();
            let rows = stats.ports.iter();
            let by_call = |port| {
                let of_port = rows.clone().filter(|row| row.port == Port(port));
                of_port.map(|row| row.hypercall).sum::<u64>()
            };
            assert_eq!(by_call(0x3f8), 0, "{name}: QEMU's own");
            assert_eq!(by_call(0x5000) > 0, has_devices, "{name}: pvio's");
            let outb = stats.hypercalls.iter().find(|row| row.call == Call::Outb).unwrap();
            assert!(outb.declined > 0, "{name}: {outb:?}");
            assert_eq!(outb.bytes > 0, has_devices, "{name}: {outb:?}");
        }
    }
}

/// Accesses at a port: by instruction, by hypercall.
fn accesses(stats: &Snapshot) -> BTreeMap<(Port, Direction, Width), (u64, u64)> {
    let rows = stats.ports.iter();
    rows.map(|row| {
        ((row.port, row.dir, row.size.0.unwrap()), (row.device + row.qemu, row.hypercall))
    })
    // The number of polls of the disk varies, and the exit differs.
    .filter(|((port, ..), _)| !matches!(port.0, 0x1f7 | 0xf4))
    .collect()
}

#[test]
fn every_call_from_c_is_executed_and_counted() {
    for name in ["shim-c32", "shim-c64"] {
        let (stats, log) = run_answered(name);
        assert_eq!(hypercalls(&stats), BTreeMap::from(CALLS_OF_C), "{name}");
        let digits: String = (0..1024).map(|i| char::from(b'0' + (i % 10) as u8)).collect();
        assert_eq!(log, ["info: hello from C".to_owned(), format!("debug: {digits}")], "{name}");

        // Each access is by a call or by an instruction. The sums are those of a run by instructions alone.
        let answered = accesses(&stats);
        let at = |port, dir, size| answered[&(Port(port), dir, size)];
        use Direction::{In, Out};
        assert_eq!(at(0x3f8, Out, Width::Byte), (15, 13), "{name}");
        assert_eq!(at(0x70, Out, Width::Byte), (16, 16), "{name}");
        assert_eq!(at(0xcf8, Out, Width::Dword), (0, 17), "{name}");
        assert_eq!(at(0xcfc, In, Width::Dword), (16, 17), "{name}");
        assert_eq!(at(0x1f0, In, Width::Word), (256, 256), "{name}");
        assert_eq!(at(0x300, In, Width::Byte), (0, 4095), "{name}");
        assert_eq!(at(0x300, Out, Width::Dword), (0, 2048), "{name}");
        assert_eq!(at(0x5000, Out, Width::Dword), (0, 3), "{name}");
        assert_eq!(at(0x5000, In, Width::Dword), (1, 7), "{name}");
        let sums: BTreeMap<_, _> = answered.iter().map(|(&at, (a, b))| (at, a + b)).collect();
        let unanswered = accesses(&run_unanswered(&Host::STABLE, name, &[]));
        assert_eq!(sums, unanswered.iter().map(|(&at, (a, _))| (at, *a)).collect(), "{name}");

        let [window] = &stats.windows[..] else { panic!("{name}: {:?}", stats.windows) };
        assert_eq!((window.name.as_str(), window.entries, window.open), ("window", 1, false));
        let inside = BTreeMap::from([("outb", (1, 1, 0)), ("begin", (1, 0, 1))]);
        assert_eq!(hypercalls(window), inside, "{name}");
        let ports: Vec<_> = window.ports.iter().map(|row| (row.device, row.hypercall)).collect();
        assert_eq!(ports, [(1, 1)], "{name}");
    }
}

#[test]
fn every_call_from_real_mode_is_executed_and_counted() {
    let (stats, log) = run_answered("shim-16");
    assert_eq!(hypercalls(&stats), BTreeMap::from(CALLS_OF_16));
    assert_eq!(log, ["info: hello from real mode"]);
    let answered = accesses(&stats);
    assert_eq!(answered[&(Port(0x3f8), Direction::Out, Width::Byte)], (15, 13));
    assert_eq!(answered[&(Port(0x1f0), Direction::In, Width::Word)], (256, 256));
    let [window] = &stats.windows[..] else { panic!("{:?}", stats.windows) };
    assert_eq!((window.name.as_str(), window.entries), ("hello", 1));
    assert_eq!(hypercalls(window), BTreeMap::from([("outb", (1, 1, 0))]));
}
