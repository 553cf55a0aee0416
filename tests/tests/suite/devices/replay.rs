//! `replay`: a recorded device, as its driver sees it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use pvio_cli::machine::{Ended, Machine};
use pvio_stats::trace::{Trace, What};
use pvio_tests::{
    Host, LinuxGuest, assert_consistent, bios, guest, on_both_qemus, refusal, wait_for,
};
use tempfile::TempDir;

use super::script::documented_script;

on_both_qemus! {
    seabios_boots_from_a_recorded_disk
    seabios_reads_a_recorded_cmos
    seabios_programs_a_recorded_pit
    linux_reads_a_recorded_disk_by_interrupt
    linux_talks_through_a_recorded_uart_that_it_polls
    driver_by_hypercalls_is_replayed
    first_difference_is_reported_with_both_histories
    strict_ends_the_run_at_the_first_difference
    cut_recording_is_used_with_a_warning
    wrong_replay_keeps_qemu_from_starting
}

/// A directory for a recording and the files of its guest.
struct Recording(TempDir);

impl Recording {
    fn new() -> Recording {
        Recording(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The option that records.
    fn record(&self) -> String {
        format!("trace={}", self.path("trace").display())
    }

    /// The option that replays.
    fn replay(&self, ports: &str, settings: &str) -> String {
        format!("device=replay@{ports}:file={}{settings}", self.path("trace").display())
    }

    fn trace(&self) -> Trace {
        Trace::open(&self.path("trace")).unwrap()
    }
}

/// Adds a disk to IDE's first channel.
fn with_disk(machine: Machine, image: &Path) -> Machine {
    let drive = format!("if=ide,format=raw,file.locking=off,file={}", image.display());
    machine.args(["-drive", &drive])
}

/// A PC that boots by SeaBIOS. What the guest writes to port 0xe9 is on stdout.
fn pc(host: &Host, options: &[&str]) -> Machine {
    let machine = host.machine().plugin(&["summary=off"]).plugin(options);
    let arguments = ["-machine", "pc", "-m", "64", "-display", "none", "-nodefaults", "-no-reboot"];
    machine.args(arguments).args(["-debugcon", "stdio"])
}

/// Fails unless the run ended well, and every recorded access was replayed without a difference.
#[track_caller]
fn assert_replayed(ended: &Ended) {
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    // A replay that hides several of QEMU's devices is warned of, as any device is.
    let is_warning = |line: &&str| line.starts_with("pvio: warning: replay at ");
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| !is_warning(line)).collect();
    let [line] = lines[..] else { panic!("{lines:#?}") };
    let (_, text) = line.split_once("/trace: ").expect("the file");
    let mut words = text.split(' ');
    let (replayed, total) = (words.next().unwrap(), words.nth(1).unwrap());
    assert_eq!(replayed, total, "{line}");
    assert!(replayed.parse::<u64>().unwrap() > 0 && line.ends_with("; no difference"), "{line}");
    assert_consistent(ended.stats().unwrap());
}

/// A disk whose boot sector prints a text, and the first bytes of the second sector. Then it turns the machine off.
fn boot_disk(text: &str) -> Vec<u8> {
    let mut code = vec![
        0xfc, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, // cld; xor ax, ax; mov ds, ax; mov es, ax
        0xb8, 0x08, 0x02, 0xbb, 0x00, 0x7e, // mov ax, 0x0208 (read 8 sectors); mov bx, 0x7e00
        0xb9, 0x02, 0x00, 0x30, 0xf6, 0xcd,
        0x13, // mov cx, 2 (from sector 2); xor dh, dh; int 0x13
        0xbe, 0x00, 0x7e, // mov si, 0x7e00
        0xb9, 0x00, 0x10, 0xba, 0xe9, 0x00, 0xf3,
        0x6e, // mov cx, 4096; mov dx, 0xe9; rep outsb
        0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef,
        0xf4, // mov dx, 0x604; mov ax, 0x2000; out dx, ax; hlt
    ];
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    let mut rest = text.repeat(4096 / text.len() + 1).into_bytes();
    rest.truncate(4096);
    code.extend(rest);
    code.resize(1 << 20, 0);
    code
}

fn seabios_boots_from_a_recorded_disk(host: &Host) {
    let recording = Recording::new();
    std::fs::write(recording.path("disk"), boot_disk("from the disk. ")).unwrap();
    let machine = with_disk(pc(host, &[&recording.record()]), &recording.path("disk"));
    let recorded = machine.run().unwrap();
    assert!(recorded.stdout.ends_with("from the disk. from the disk. f"), "{}", recorded.stdout);

    // Without a disk: the machine has IDE, but nothing at it.
    let devices = [recording.replay("0x1f0-0x1f7", ":strict"), recording.replay("0x3f6", "")];
    let replayed = pc(host, &devices.each_ref().map(String::as_str)).run().unwrap();
    assert_eq!(replayed.stdout, recorded.stdout, "{}", replayed.stderr);
    assert_replayed(&replayed);
}

/// SeaBIOS reads the order of boot devices from the CMOS.
fn seabios_reads_a_recorded_cmos(host: &Host) {
    let recording = Recording::new();
    std::fs::write(recording.path("disk"), boot_disk("booted. ")).unwrap();
    let machine = |options: &[&str], order| {
        let machine = with_disk(pc(host, options), &recording.path("disk"));
        machine.args(["-boot", order]).run().unwrap()
    };
    let recorded = machine(&[&recording.record()], "order=c");
    assert!(recorded.stdout.starts_with("booted. "), "{}", recorded.stdout);
    // By its own CMOS, this machine boots from a network that it does not have.
    let replay = recording.replay("0x70-0x71", "");
    let replayed = machine(&[&replay], "order=n,strict=on");
    assert_eq!(replayed.stdout, recorded.stdout, "{}", replayed.stderr);
    assert_replayed(&replayed);
}

fn seabios_programs_a_recorded_pit(host: &Host) {
    let recording = Recording::new();
    std::fs::write(recording.path("disk"), boot_disk("booted. ")).unwrap();
    let run =
        |options: &[&str]| with_disk(pc(host, options), &recording.path("disk")).run().unwrap();
    let recorded = run(&[&recording.record()]);
    let replayed = run(&[&recording.replay("0x40-0x43", ":strict")]);
    assert_eq!(replayed.stdout, recorded.stdout, "{}", replayed.stderr);
    assert_replayed(&replayed);
}

fn linux_reads_a_recorded_disk_by_interrupt(host: &Host) {
    let recording = Recording::new();
    let mut disk = boot_disk("a disk that Linux reads. ");
    fastrand::Rng::with_seed(19).fill(&mut disk[8192..]);
    std::fs::write(recording.path("disk"), &disk).unwrap();
    // How far Linux reads ahead, and so the sizes of its requests, depend on the time that each takes.
    let script = "busybox mount -t sysfs sysfs /sys
        echo 0 > /sys/block/sda/queue/read_ahead_kb
        sha256sum /dev/sda";
    let linux = LinuxGuest::with_disk(script, &[]).unwrap();
    let machine = host.machine().plugin(&["summary=off", &recording.record()]);
    let recorded = linux.on(with_disk(machine, &recording.path("disk"))).run().unwrap();
    let of = |ended: &Ended, what: &str| {
        let line = ended.stdout.lines().find(|line| line.contains(what));
        line.unwrap_or_else(|| panic!("{what}: {}{}", ended.stdout, ended.stderr)).trim().to_owned()
    };
    let sum = of(&recorded, "  /dev/sda");

    let devices = [recording.replay("0x1f0-0x1f7", ":irq=14"), recording.replay("0x3f6", "")];
    let devices = devices.each_ref().map(String::as_str);
    let machine = host.machine().plugin(&["summary=off"]).plugin(&devices);
    let replayed = linux.on(machine).run().unwrap();
    assert_eq!(of(&replayed, "  /dev/sda"), sum, "{}", replayed.stderr);
    assert_replayed(&replayed);

    // The driver did wait for interrupts.
    let mut raised = 0;
    recording.trace().read(|event, _, _| {
        raised += u32::from(event.what == What::Irq { line: 14, level: true });
        true
    });
    assert!(raised > 10, "{raised}");
}

/// Adds a second serial port, at a socket. The first one is the console.
fn with_uart(machine: Machine, socket: &Path) -> Machine {
    let chardev = format!("socket,id=com2,path={},server=on,wait=off", socket.display());
    machine.args(["-chardev", &chardev, "-serial", "chardev:com2"])
}

/// Answers the guest's question. Returns all that the guest has sent.
fn answer(socket: &Path) -> String {
    let mut stream = wait_for(|| UnixStream::connect(socket).map_err(|error| error.to_string()));
    let (mut all, mut byte, mut is_answered) = (String::new(), [0], false);
    while stream.read(&mut byte).is_ok_and(|count| count > 0) {
        all.push(char::from(byte[0]));
        if all.ends_with("name? ") && !is_answered {
            stream.write_all(b"Ada Lovelace\n").unwrap();
            is_answered = true;
        }
    }
    all
}

fn linux_talks_through_a_recorded_uart_that_it_polls(host: &Host) {
    let recording = Recording::new();
    let text: String = (0..60).map(|line| format!("line {line} of the text\n")).collect();
    let script = "/noirq /dev/ttyS1 || echo refused
        exec 3<>/dev/ttyS1
        stty raw -echo <&3
        printf 'name? ' >&3
        read -r name <&3
        echo \"heard $name\"
        { echo \"hello $name\"; cat /text; } >/both
        cat /both >&3
        exec 3>&-
        echo \"lines of interrupts: $(grep -c ttyS1 /proc/interrupts)\"";
    let files = [("noirq", &*std::fs::read(guest("noirq")).unwrap()), ("text", text.as_bytes())];
    let linux = LinuxGuest::new(script, &files).unwrap();
    let socket = recording.path("socket");
    let machine = host.machine().plugin(&["summary=off", &recording.record()]);
    let running = with_uart(linux.on(machine), &socket).start().unwrap();
    let sent = answer(&socket);
    let recorded = running.wait().unwrap();
    let heard = |ended: &Ended| {
        assert!(!ended.stdout.contains("refused"), "{}", ended.stdout);
        // Linux polls the port: it has no interrupt.
        assert!(ended.stdout.contains("lines of interrupts: 0"), "{}", ended.stdout);
        let mut lines = ended.stdout.lines().map(str::trim_end);
        lines.find(|line| line.starts_with("heard ")).map(str::to_owned)
    };
    assert_eq!(heard(&recorded).as_deref(), Some("heard Ada Lovelace"), "{}", recorded.stdout);
    assert_eq!(sent, format!("name? hello Ada Lovelace\n{text}"));

    // All is sent by one call: a timer between two calls would find the buffer empty, or not. Without the second port. The replay compares each byte that the driver sends.
    let machine = host.machine().plugin(&["summary=off", &recording.replay("0x2f8-0x2ff", "")]);
    let replayed = linux.on(machine).run().unwrap();
    assert_eq!(heard(&replayed), heard(&recorded), "{}", replayed.stderr);
    assert_replayed(&replayed);
}

/// The driver's last round is by hypercalls, where the QEMU answers them.
fn driver_by_hypercalls_is_replayed(host: &Host) {
    let recording = Recording::new();
    let script = recording.path("dongle.rhai");
    std::fs::write(&script, documented_script()).unwrap();
    let run = |options: &[&str]| {
        let machine = host.machine().plugin(&["summary=off", "device=debug-exit@0xf4"]);
        machine.plugin(options).bare_guest(&guest("dongle.bin")).run().unwrap()
    };
    let dongle = format!("device=script@0x378-0x37a:file={}", script.display());
    let recorded = run(&[&dongle, &recording.record()]);
    assert_eq!(recorded.status.code(), Some(42), "{}", recorded.stderr);
    let replayed = run(&[&recording.replay("0x378-0x37a", "")]);
    assert_eq!(replayed.status.code(), Some(42), "{}", replayed.stderr);
    assert!(replayed.stderr.ends_with("36 of 36 recorded accesses replayed; no difference\n"));
    let calls: u64 = replayed.stats().unwrap().ports.iter().map(|row| row.hypercall).sum();
    assert_eq!(calls > 0, host.api >= 5);
}

/// Code that writes to a port and reads it, for each pair of port and value.
fn driver(pairs: &[(u8, u8)]) -> Vec<u8> {
    // mov al, value; out port, al; in al, port
    pairs.iter().flat_map(|&(port, value)| [0xb0, value, 0xe6, port, 0xe4, port]).collect()
}

const PAIRS: [(u8, u8); 4] = [(0xe0, 1), (0xe1, 2), (0xe2, 3), (0xe3, 4)];

/// Records a driver of the latch at 0xe0 in QEMU's test device.
fn record_a_latch(host: &Host) -> Recording {
    let recording = Recording::new();
    let image = bios(&recording.0, driver(&PAIRS));
    let machine = host.machine().plugin(&["summary=off", &recording.record()]);
    let ended = machine.bare_guest(&image).args(["-device", "pc-testdev"]).run().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    recording
}

fn first_difference_is_reported_with_both_histories(host: &Host) {
    let recording = record_a_latch(host);
    let changed = [(0xe0, 1), (0xe1, 9), (0xe1, 2), (0xe2, 3), (0xe3, 4), (0xe3, 5)];
    let image = bios(&recording.0, driver(&changed));
    let machine = host.machine().plugin(&["summary=off", &recording.replay("0xe0-0xe3", "")]);
    let ended = machine.bare_guest(&image).run().unwrap();
    assert_eq!(ended.status.code(), Some(1), "the guest's own end: {}", ended.stderr);
    let name = format!("pvio: replay of {}: ", recording.path("trace").display());
    let lines: Vec<&str> =
        ended.stderr.lines().map(|line| line.strip_prefix(&name).unwrap()).collect();
    let expected = [
        "first difference, after 2 of 8 recorded accesses: the driver makes out 0x00e1 1 0x09; next recorded: \
         out 0x00e1 1 0x02",
        "recorded before: out 0x00e0 1 0x01; in 0x00e0 1 0x01",
        "recorded next: out 0x00e1 1 0x02; in 0x00e1 1 0x02; out 0x00e2 1 0x03; in 0x00e2 1 0x03; out 0x00e3 1 0x04; \
         in 0x00e3 1 0x04",
        "the driver before: out 0x00e0 1 0x01; in 0x00e0 1 0x01",
        "8 of 8 recorded accesses replayed (0 left out, 1 reads more); 3 differences, the first after 2",
    ];
    assert_eq!(lines, expected);
}

fn strict_ends_the_run_at_the_first_difference(host: &Host) {
    let recording = record_a_latch(host);
    for (last, status) in [(9, 1), (4, 42)] {
        let mut code = driver(&[PAIRS[0], PAIRS[1], PAIRS[2], (0xe3, last)]);
        // mov al, 42; out 0xf5, al; hlt
        code.extend([0xb0, 42, 0xe6, 0xf5, 0xf4]);
        let image = bios(&recording.0, code);
        let replay = recording.replay("0xe0-0xe3", ":strict");
        let machine = host.machine().plugin(&["summary=off", &replay, "device=debug-exit@0xf5"]);
        let arguments = ["-m", "64", "-display", "none", "-nodefaults", "-bios"];
        let ended = machine.args(arguments).args([&image]).run().unwrap();
        assert_eq!(ended.status.code(), Some(status), "{}", ended.stderr);
        let is_told = ended.stderr.contains("first difference, after 6 of 8 recorded accesses");
        assert_eq!(is_told, status == 1, "{}", ended.stderr);
    }
}

fn cut_recording_is_used_with_a_warning(host: &Host) {
    let recording = record_a_latch(host);
    let path = recording.path("trace");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let image = bios(&recording.0, driver(&PAIRS));
    let run = |settings: &str| {
        let replay = recording.replay("0xe0-0xe3", settings);
        host.machine().plugin(&["summary=off", &replay]).bare_guest(&image).run().unwrap()
    };
    let ended = run("");
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let [warning, .., end] = lines[..] else { panic!("{lines:?}") };
    let begin = format!("pvio: warning: {} is damaged or cut off at byte ", path.display());
    assert!(warning.starts_with(&begin), "{warning}");
    assert!(warning.ends_with("(the file ends within a chunk); only the data before that is used"));
    assert!(end.ends_with("8 of 8 recorded accesses replayed; no difference"), "{end}");
    let refused = refusal(&run(":strict"));
    assert!(refused.ends_with("strict needs a whole recording: remove strict, or record it again"));

    // Within the accesses: what is left is none.
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let refused = run("");
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("has no accesses to these ports"), "{}", refused.stderr);
    assert!(refused.stderr.contains(", and is damaged or cut off at byte "), "{}", refused.stderr);
}

fn wrong_replay_keeps_qemu_from_starting(host: &Host) {
    let recording = record_a_latch(host);
    let path = recording.path("trace");
    std::fs::write(recording.path("text"), "no trace").unwrap();
    let text = recording.path("text");
    for (ports, settings, expected) in [
        (
            "0xe0",
            String::new(),
            "a replay device needs file=TRACE; name a file that the option trace=FILE wrote",
        ),
        ("0xe0", ":file=/nonexistent".to_owned(), "/nonexistent"),
        (
            "0xe0",
            format!(":file={}", text.display()),
            "is not a trace of pvio; name a file that the option trace=FILE wrote",
        ),
        ("0x300", format!(":file={}", path.display()), "has no accesses to these ports"),
        (
            "0xe0",
            format!(":file={}:irq=13", path.display()),
            "line 13 does not change; the lines that do are",
        ),
        (
            "0xe0",
            format!(":file={}:irq=16", path.display()),
            "irq=16 is not an interrupt line of the ISA bus",
        ),
        (
            "0xe0",
            format!(":file={}:strict=yes", path.display()),
            "strict=yes is neither on nor off",
        ),
        ("0xe0", format!(":file={}:loop", path.display()), "this kind has no setting \"loop\""),
    ] {
        let device = format!("device=replay@{ports}{settings}");
        let machine = host.machine().plugin(&[&device]).bare_guest(&guest("poweroff.bin"));
        let line = refusal(&machine.run().unwrap());
        assert!(line.contains(expected), "{device}: {line}");
    }
    // The trace of this run would replace what it replays.
    let machine = host.machine().plugin(&[&recording.replay("0xe0", ""), &recording.record()]);
    let line = refusal(&machine.bare_guest(&guest("poweroff.bin")).run().unwrap());
    assert!(line.contains("trace") && line.contains("\"file\" of \"replay@0xe0\""), "{line}");
    assert!(std::fs::metadata(path).unwrap().len() > 0);
}
