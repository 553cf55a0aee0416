//! Guests on the C header and on the assembler's include (`tests/guests/shim`, `shim-16.S`): where they
//! are heard and where nobody hears them.

use std::collections::BTreeMap;
use std::fs::OpenOptions;

use pvio::stats::{Call, Snapshot, Tables};
use pvio::x86::{Direction, Port, Width};
use pvio_cli::expected_forms;
use pvio_cli::machine::Machine;
use pvio_tests::{Host, LinuxGuest, assert_consistent, guest, on_both_qemus};
use tempfile::TempDir;

on_both_qemus! {
    without_the_plugin_it_is_the_instructions
    where_nobody_hears_it_is_the_instructions
    strings_are_in_es_where_a_tree_says_so
    macros_that_keep_registers_do
}

const GUESTS: [&str; 3] = ["shim-c32", "shim-c64", "shim-16"];

/// What the guests read from the stream: 4095 bytes, 2048 words, 2048 longs.
const STREAM: usize = 4095 + 2 * 2048 + 4 * 2048;

/// The files of a run.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        let stream: Vec<u8> = (0..STREAM).map(|i| (7 * i + i / 256) as u8).collect();
        std::fs::write(files.path("in"), stream).unwrap();
        // The guests know what is in a sector.
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

    fn machine(&self, machine: Machine, name: &str) -> Machine {
        machine.bare_guest(&guest(&format!("{name}.bin"))).args([
            "-serial",
            &format!("file:{}", self.path("serial")),
            "-debugcon",
            &format!("file:{}", self.path("console")),
            "-drive",
            &format!("file={},format=raw,if=ide", self.path("disk")),
        ])
    }

    fn with_devices(&self, machine: Machine) -> Machine {
        let stream = format!("device=stream@0x300:in={}:out={}", self.path("in"), self.path("out"));
        machine.plugin(&["summary=off", "device=latch@0x5000", &stream])
    }

    /// What a guest must have left, however it went there.
    fn assert_right(&self, name: &str) {
        assert_eq!(self.read("serial"), b"by hypercall\nby instruction\n", "{name}");
        assert_eq!(self.read("console"), b"", "{name}");
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.read("console")).into_owned()
    }
}

fn run_without_plugin(machine: Machine, name: &str) {
    let files = Files::new();
    let machine = files.machine(machine, name).args(["-device", "pc-testdev"]);
    let ended = machine.run().unwrap();
    let status = ended.status.code();
    assert_eq!(status, Some(expected_forms::PASSED), "{name}: {}{}", files.said(), ended.stderr);
    files.assert_right(name);
}

fn without_the_plugin_it_is_the_instructions(host: &Host) {
    GUESTS.iter().for_each(|name| run_without_plugin(host.machine(), name));
}

/// On the processor itself, where there is one to be had. (Not `shim-c32`: a KVM that is itself in a
/// guest may have no 32-bit paging.)
#[test]
fn under_kvm_it_is_the_instructions() {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        eprintln!("/dev/kvm: {error}: not tried");
        return;
    }
    for name in ["shim-c64", "shim-16"] {
        run_without_plugin(Host::NEWEST.machine().args(["-accel", "kvm"]), name);
    }
}

/// Runs a guest whose calls nobody answers, with the plugin.
fn run_unheard(host: &Host, name: &str, options: &[&str]) -> Snapshot {
    let files = Files::new();
    let machine = files.with_devices(files.machine(host.machine(), name)).plugin(options);
    let ended = machine.run().unwrap();
    let status = ended.status.code();
    assert_eq!(status, Some(expected_forms::PASSED), "{name}: {}{}", files.said(), ended.stderr);
    files.assert_right(name);
    assert!(files.read("out") == files.read("in"), "{name}: the stream");
    let stats = ended.stats().unwrap().clone();
    assert_consistent(&stats);
    stats
}

/// API 4 has nothing to answer with; elsewhere it is switched off.
fn where_nobody_hears_it_is_the_instructions(host: &Host) {
    for name in GUESTS {
        let options: &[&str] = if host.api == 4 { &[] } else { &["hypercall=off"] };
        let stats = run_unheard(host, name, options);
        assert!(stats.hypercalls.is_empty(), "{name}: {:?}", stats.hypercalls);
        assert!(stats.ports.iter().all(|row| row.hypercall == 0), "{name}: {:?}", stats.ports);
    }
}

/// Buffers are in a segment that is not DS, in 16 and in 32-bit code, by calls and by instructions.
fn strings_are_in_es_where_a_tree_says_so(host: &Host) {
    for name in ["shim-es16", "shim-es32"] {
        for options in [&[][..], &["hypercall=off"]] {
            let files = Files::new();
            let machine = files.with_devices(files.machine(host.machine(), name)).plugin(options);
            let ended = machine.run().unwrap();
            let status = ended.status.code();
            assert_eq!(
                status,
                Some(expected_forms::PASSED),
                "{name}: {}{}",
                files.said(),
                ended.stderr
            );
            assert!(files.read("out") == files.read("in"), "{name} {options:?}: the stream");
            let stats = ended.stats().unwrap();
            let called =
                stats.hypercalls.iter().any(|row| row.call == Call::Outsl && row.bytes != 0);
            assert_eq!(called, host.api != 4 && options.is_empty(), "{name} {options:?}");
        }
    }
}

/// `pvio_keep_*` of `pvio16.inc`, answered and not.
fn macros_that_keep_registers_do(host: &Host) {
    for options in [&[][..], &["hypercall=off"]] {
        let files = Files::new();
        let machine = files.with_devices(files.machine(host.machine(), "keep-16")).plugin(options);
        let ended = machine.run().unwrap();
        assert_eq!(
            ended.status.code(),
            Some(expected_forms::PASSED),
            "{options:?}: {}",
            ended.stderr
        );
        let stats = ended.stats().unwrap();
        let calls = stats.hypercalls.iter().map(|row| row.count).sum::<u64>();
        let expected = if host.api != 4 && options.is_empty() { 12 } else { 0 };
        assert_eq!(calls, expected, "{options:?}");
    }
}

/// The rows of a table: count, bytes, errors. Nothing is declined and nobody denied.
fn hypercalls(tables: &Tables) -> BTreeMap<&'static str, (u64, u64, u64)> {
    let rows = tables.hypercalls.iter();
    rows.map(|row| {
        assert_eq!((row.declined, row.denied), (0, 0), "{row:?}");
        (row.call.name(), (row.count, row.bytes, row.errors))
    })
    .collect()
}

/// From the `reset` at the beginning to the end; see `tests/guests/README.md`.
const CALLS_OF_C: [(&str, (u64, u64, u64)); 18] = [
    ("inb", (36, 36, 0)),
    ("inw", (18, 36, 0)),
    ("inl", (20, 80, 0)),
    ("outb", (41, 39, 2)),
    ("outw", (2, 4, 0)),
    ("outl", (19, 76, 0)),
    ("insb", (3, 4095, 0)),
    ("insw", (3, 4096 + 512, 0)),
    ("insl", (4, 8192 + 8, 0)),
    ("outsb", (2, 4095, 0)),
    ("outsw", (3, 4096 + 6, 0)),
    ("outsl", (3, 8192, 0)),
    ("batch", (4, 0, 2)),
    ("exit", (1, 0, 0)),
    ("log", (5, 12 + 1024, 2)),
    ("begin", (3, 0, 2)),
    ("end", (2, 0, 1)),
    ("unknown", (1, 0, 1)),
];

const CALLS_OF_16: [(&str, (u64, u64, u64)); 19] = [
    ("probe", (1, 0, 0)),
    ("inb", (19, 19, 0)),
    ("inw", (2, 4, 0)),
    ("inl", (4, 16, 0)),
    ("outb", (37, 37, 0)),
    ("outw", (1, 2, 0)),
    ("outl", (2, 8, 0)),
    ("insb", (1, 4095, 0)),
    ("insw", (2, 4096 + 512, 0)),
    ("insl", (1, 8192, 0)),
    ("outsb", (1, 4095, 0)),
    ("outsw", (1, 4096, 0)),
    ("outsl", (1, 8192, 0)),
    ("batch", (1, 0, 0)),
    ("exit", (1, 0, 0)),
    ("log", (1, 20, 0)),
    ("begin", (1, 0, 0)),
    ("end", (2, 0, 1)),
    ("unknown", (1, 0, 1)),
];

/// Runs a guest that is heard from its first call to its last, and gives its log, too.
fn run_heard(name: &str) -> (Snapshot, Vec<String>) {
    let files = Files::new();
    let log = format!("log={}", files.path("log"));
    let machine = files.with_devices(files.machine(Host::NEWEST.machine(), name)).plugin(&[&log]);
    let ended = machine.run().unwrap();
    // The guest's own exit: isa-debug-exit has only odd ones.
    assert_eq!(ended.status.code(), Some(0), "{name}: {}{}", files.said(), ended.stderr);
    files.assert_right(name);
    assert!(files.read("out") == files.read("in"), "{name}: the stream");
    let stats = ended.stats().unwrap().clone();
    assert_consistent(&stats);
    let log = String::from_utf8(files.read("log")).unwrap();
    let lines = log.lines().map(|line| line.split_once("] ").expect("a time").1.to_owned());
    (stats, lines.collect())
}

/// What the host declines is done by instruction: accesses are the same in all, wherever they come from.
#[test]
fn what_is_declined_is_done_by_instruction() {
    // Under -icount QEMU's own devices cannot be reached; without exports, no device and no memory can.
    let icount = |machine: Machine| machine.args(["-icount", "shift=0"]);
    let bare = |machine: Machine| {
        let machine = machine.env("PVIO_TEST_WITHOUT_EXPORTS", "1");
        machine.args(["-device", "pc-testdev"]).plugin(&["summary=off"])
    };
    for name in ["shim-c32", "shim-c64"] {
        for has_devices in [true, false] {
            let files = Files::new();
            let machine = files.machine(Host::NEWEST.machine(), name);
            let machine = match has_devices {
                true => files.with_devices(icount(machine)),
                false => bare(machine),
            };
            let ended = machine.run().unwrap();
            assert_eq!(ended.status.code(), Some(0), "{name}: {}{}", files.said(), ended.stderr);
            files.assert_right(name);
            let stats = ended.stats().unwrap();
            assert_consistent(stats);
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
    rows.map(|row| ((row.port, row.dir, row.size), (row.device + row.qemu, row.hypercall)))
        // How often the disk is asked whether it is ready is its own affair; the end differs.
        .filter(|((port, ..), _)| !matches!(port.0, 0x1f7 | 0xf4))
        .collect()
}

#[test]
fn every_call_from_c_is_carried_out_and_counted() {
    for name in ["shim-c32", "shim-c64"] {
        let (stats, log) = run_heard(name);
        assert_eq!(hypercalls(&stats), BTreeMap::from(CALLS_OF_C), "{name}");
        let digits: String = (0..1024).map(|i| char::from(b'0' + (i % 10) as u8)).collect();
        assert_eq!(log, ["info: hello from C".to_owned(), format!("debug: {digits}")], "{name}");

        // What a call does is no instruction's access, and the other way round; together they are
        // what the instructions alone make of the same guest.
        let heard = accesses(&stats);
        let at = |port, dir, size| heard[&(Port(port), dir, size)];
        use Direction::{In, Out};
        assert_eq!(at(0x3f8, Out, Width::Byte), (15, 13), "{name}");
        assert_eq!(at(0x70, Out, Width::Byte), (16, 16), "{name}");
        assert_eq!(at(0xcf8, Out, Width::Dword), (0, 17), "{name}");
        assert_eq!(at(0xcfc, In, Width::Dword), (16, 17), "{name}");
        assert_eq!(at(0x1f0, In, Width::Word), (256, 256), "{name}");
        assert_eq!(at(0x300, In, Width::Byte), (0, 4095), "{name}");
        assert_eq!(at(0x300, Out, Width::Dword), (0, 2048), "{name}");
        assert_eq!(at(0x5000, Out, Width::Dword), (0, 2), "{name}");
        assert_eq!(at(0x5000, In, Width::Dword), (1, 5), "{name}");
        let sums: BTreeMap<_, _> = heard.iter().map(|(&at, (a, b))| (at, a + b)).collect();
        let unheard = accesses(&run_unheard(&Host::STABLE, name, &[]));
        assert_eq!(sums, unheard.iter().map(|(&at, (a, _))| (at, *a)).collect(), "{name}");

        let [window] = &stats.windows[..] else { panic!("{name}: {:?}", stats.windows) };
        assert_eq!((window.name.as_str(), window.entries, window.open), ("window", 1, false));
        let inside = BTreeMap::from([("outb", (1, 1, 0)), ("begin", (1, 0, 1))]);
        assert_eq!(hypercalls(window), inside, "{name}");
        let ports: Vec<_> = window.ports.iter().map(|row| (row.device, row.hypercall)).collect();
        assert_eq!(ports, [(1, 1)], "{name}");
    }
}

#[test]
fn every_call_from_real_mode_is_carried_out_and_counted() {
    let (stats, log) = run_heard("shim-16");
    assert_eq!(hypercalls(&stats), BTreeMap::from(CALLS_OF_16));
    assert_eq!(log, ["info: hello from real mode"]);
    let heard = accesses(&stats);
    assert_eq!(heard[&(Port(0x3f8), Direction::Out, Width::Byte)], (15, 13));
    assert_eq!(heard[&(Port(0x1f0), Direction::In, Width::Word)], (256, 256));
    let [window] = &stats.windows[..] else { panic!("{:?}", stats.windows) };
    assert_eq!((window.name.as_str(), window.entries), ("hello", 1));
    assert_eq!(hypercalls(window), BTreeMap::from([("outb", (1, 1, 0))]));
}

/// Boots Linux with `tests/guests/linux/shim.c`.
fn run_linux(machine: Machine, options: &[&str], status: u8) -> Snapshot {
    let program = std::fs::read(guest("shim")).unwrap();
    let linux = LinuxGuest::new("/shim; echo \"shim: status $?\"", &[("shim", &program)]).unwrap();
    let machine = machine.plugin(&["device=latch@0x300"]).plugin(options);
    let ended = linux.on(machine).run().unwrap();
    assert!(ended.stdout.contains(&format!("shim: status {status}\r\n")), "{}", ended.stdout);
    let stats = ended.stats().unwrap().clone();
    assert_consistent(&stats);
    stats
}

#[test]
fn a_process_may_call_where_any_ring_may() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let options = ["hypercall=any", &format!("log={}", log.display())];
    let stats = run_linux(Host::NEWEST.machine(), &options, 0);
    assert!(std::fs::read_to_string(&log).unwrap().ends_with("] info: hello from a process\n"));

    // How often the kernel's page fault handler has to help is its own affair; what is moved is not.
    let moved = hypercalls(&stats).into_iter().filter(|(_, (_, bytes, _))| *bytes != 0);
    let moved: BTreeMap<_, _> = moved.map(|(call, (_, bytes, _))| (call, bytes)).collect();
    let expected = [
        ("inb", 2),
        ("inw", 2),
        ("inl", 8),
        ("outw", 2),
        ("outl", 4),
        ("insb", 2 * 4096 + 16),
        ("insl", 8),
        ("outsb", 3 * 4096),
        ("log", 20),
    ];
    assert_eq!(moved, BTreeMap::from(expected));
    assert!(hypercalls(&stats)["insb"].0 > 1, "pages that nobody has touched");
    let latch = stats.ports.iter().filter(|row| (0x300..0x304).contains(&row.port.0));
    let latch: Vec<_> = latch.map(|row| (row.device, row.qemu, row.unverified)).collect();
    assert!(latch.iter().all(|&row| row == (0, 0, 0)), "{latch:?}");
}

/// Linux uses protection keys where there are some: memory is judged by them, and found to be open.
#[test]
fn a_process_with_protection_keys_calls_as_others_do() {
    let stats = run_linux(Host::NEWEST.machine().args(["-cpu", "max"]), &["hypercall=any"], 0);
    let calls = hypercalls(&stats);
    assert_eq!((calls["insb"].1, calls["outsb"].1), (2 * 4096 + 16, 3 * 4096));
    assert_eq!(calls["log"].1, 20);
}

/// Where QEMU runs several vCPUs on one thread, the register of the keys is not known, and no page of a
/// process's can be judged from outside: every element goes by a call of its own, and nothing is lost.
#[test]
fn memory_that_cannot_be_judged_costs_calls_alone() {
    let machine = Host::NEWEST.machine().args(["-cpu", "max", "-smp", "2"]);
    let machine = machine.args(["-accel", "tcg,thread=single"]);
    let stats = run_linux(machine, &["hypercall=any"], 4);
    let calls = hypercalls(&stats);
    let (_, insb, _) = calls["insb"];
    let (_, outsb, _) = calls["outsb"];
    assert_eq!((insb, outsb), (0, 0));
    assert_eq!(calls["inb"].1, 2 + 2 * 4096 + 16);
    assert_eq!(calls["outb"].1, 3 * 4096);
    // Each is tried, its page is touched, and it is tried again.
    assert_eq!(calls["insb"].0, 2 * (2 * 4096 + 16));
}

#[test]
fn a_process_is_denied_where_supervisors_alone_may_call() {
    let stats = run_linux(Host::NEWEST.machine(), &["hypercall=kernel"], 3);
    let calls: Vec<_> = stats.hypercalls.iter().collect();
    let [probe] = calls[..] else { panic!("{calls:?}") };
    assert_eq!((probe.call.name(), probe.count, probe.denied), ("probe", 1, 1));
    assert!(stats.ports.iter().all(|row| row.hypercall == 0));
}

#[test]
fn a_process_learns_that_nobody_listens() {
    assert!(run_linux(Host::STABLE.machine(), &[], 2).hypercalls.is_empty());
}
