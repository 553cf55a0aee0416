//! `script`: devices in Rhai, as the guest and the user see them.

mod linux_programs;
mod printer;
mod reload;
mod timers;

use std::path::PathBuf;

use pvio_cli::paths;
use pvio_tests::{Host, Monitor, assert_consistent, guest, on_both_qemus, refusal, wait_until};

use super::latches::assert_is_qemus_latch;

on_both_qemus! {
    dongle_of_the_documentation_unlocks_its_driver
    programs_cannot_tell_a_latch_in_rhai_from_qemus
    value_is_cut_to_the_size_of_the_access
    interrupt_line_follows_the_script
    clock_is_the_guests
    clock_under_icount_is_a_mistake
    mistake_at_run_time_is_reported_once
    reset_revives_a_device_with_new_state
    state_is_not_saved
    wrong_script_keeps_qemu_from_starting
}

/// A directory with scripts.
pub(super) struct Scripts(pub tempfile::TempDir);

impl Scripts {
    pub fn new() -> Scripts {
        Scripts(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a script. Returns `file=PATH`.
    fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        format!("file={}", self.path(name).display())
    }

    /// A script of a kind at a port, with `settings`.
    pub fn of_kind(&self, kind: &str, ports: &str, text: &str, settings: &str) -> String {
        let file = self.file(&format!("{ports}.rhai"), text);
        format!("device={kind}@{ports}:{file}{settings}")
    }

    /// A device at a port, with `settings`.
    fn device(&self, ports: &str, text: &str, settings: &str) -> String {
        self.of_kind("script", ports, text, settings)
    }
}

fn stopped(host: &Host, devices: &[String]) -> Monitor {
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    Monitor::start_stopped(host.machine().plugin(&["summary=off"]).plugin(&devices))
}

/// The script in `docs/devices.md`, which a command there writes.
pub(crate) fn documented_script() -> String {
    let page = std::fs::read_to_string(paths::repository().join("docs/devices.md")).unwrap();
    let (_, rest) = page.split_once("cat > dongle.rhai <<'END'\n").unwrap();
    rest.split_once("END\n").unwrap().0.to_owned()
}

fn dongle_of_the_documentation_unlocks_its_driver(host: &Host) {
    let script = documented_script();
    assert!(script.lines().filter(|line| !line.is_empty()).count() <= 25, "{script}");
    let scripts = Scripts::new();
    let device = scripts.device("0x378-0x37a", &script, "");
    let machine = host.machine().plugin(&["summary=off", &device, "device=debug-exit@0xf4"]);
    let ended = machine.bare_guest(&guest("dongle.bin")).run().unwrap();
    assert_eq!(ended.status.code(), Some(42), "{}", ended.stderr);
    assert_eq!(ended.stderr, "pvio: script at 0x0378-0x037a: control: 12\n");
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    let rows = stats.ports.iter().filter(|row| (0x378..=0x37a).contains(&row.port.0));
    let (device, calls) = rows.fold((0, 0), |sum, row| {
        assert_eq!(row.qemu, 0, "{row:?}");
        (sum.0 + row.device, sum.1 + row.hypercall)
    });
    // Three rounds of 3 bytes and 8 bits, and 3 accesses more; the last round is by hypercalls.
    assert_eq!((device, calls), if host.api >= 5 { (25, 11) } else { (36, 0) });
}

const LATCH: &str = "
fn reset() { this.bytes = blob(4); }
fn read(offset, size) { this.bytes.parse_le_int(offset, size) }
fn write(offset, size, value) { this.bytes.write_le(offset, size, value); }
";

/// All forms and sizes, in every kind of code. The other latch is that of QEMU's `pc-testdev`.
fn programs_cannot_tell_a_latch_in_rhai_from_qemus(host: &Host) {
    let scripts = Scripts::new();
    assert_is_qemus_latch(host, 0x5c21, &scripts.device("0xe0-0xe3", LATCH, ""));
}

fn value_is_cut_to_the_size_of_the_access(host: &Host) {
    let scripts = Scripts::new();
    let text = "
        fn reset() { this.last = -1; }
        fn read(offset, size) { if offset == 0 { 0x123456789abc } else { this.last } }
        fn write(offset, size, value) { this.last = offset * 0x1000000 + size * 0x10000 + value % 0x10000; }
    ";
    let mut monitor = stopped(host, &[scripts.device("0x300-0x307", text, "")]);
    let read = |monitor: &mut Monitor, port| [1, 2, 4].map(|size| monitor.read(port, size));
    assert_eq!(read(&mut monitor, 0x300), [0xbc, 0x9abc, 0x5678_9abc]);
    // -1
    assert_eq!(read(&mut monitor, 0x301), [0xff, 0xffff, 0xffff_ffff]);
    for (size, value) in [(1, 0x80), (2, 0x8001), (4, 0xffff_8002)] {
        monitor.write(0x302, size, value);
        let low = value & 0xffff;
        assert_eq!(monitor.read(0x301, 4), 0x0200_0000 + (u32::from(size) << 16) + low);
    }
    // Three bytes are within the range.
    monitor.write(0x305, 4, 0x4433_2211);
    assert_eq!(monitor.read(0x301, 4), 0x0503_2211);
    let ended = monitor.quit();
    assert_eq!(ended.stderr, "");
}

/// QEMU's interrupt controller says what it sees.
fn interrupt_line_follows_the_script(host: &Host) {
    let scripts = Scripts::new();
    let text = "
        fn read(offset, size) { oops() }
        fn write(offset, size, value) { if value == 0 { lower_irq() } else { raise_irq() } }
    ";
    let mut monitor = stopped(host, &[scripts.device("0x300", text, ":irq=5")]);
    // Line 5 is level-triggered, so its request shows the level.
    monitor.write(0x4d0, 1, 0x20);
    let is_requested = |monitor: &mut Monitor| {
        let text = monitor.ask("info pic");
        let requests = text.split("pic0: irr=").nth(1).unwrap();
        u8::from_str_radix(&requests[..2], 16).unwrap() & 0x20 != 0
    };
    assert!(!is_requested(&mut monitor));
    for level in [true, false, true] {
        monitor.write(0x300, 1, u32::from(level));
        assert_eq!(is_requested(&mut monitor), level);
    }
    // A device that fails lowers its line.
    assert_eq!(monitor.read(0x300, 1), 0xff);
    assert!(!is_requested(&mut monitor));
    let ended = monitor.quit();
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

const CLOCK: &str = "
fn read(offset, size) { now_ns() / 1000 }
fn write(offset, size, value) {}
";

fn clock_is_the_guests(host: &Host) {
    let scripts = Scripts::new();
    let mut monitor = stopped(host, &[scripts.device("0x300-0x303", CLOCK, "")]);
    let begin = monitor.read(0x300, 4);
    assert_eq!(monitor.read(0x300, 4), begin, "the clock runs while the machine is stopped");
    monitor.cont();
    wait_until(|| monitor.read(0x300, 4) > begin, || "the clock stands still".to_owned());
    monitor.stop();
    let end = monitor.read(0x300, 4);
    assert_eq!(monitor.read(0x300, 4), end);
    assert_eq!(monitor.quit().stderr, "");
}

fn clock_under_icount_is_a_mistake(host: &Host) {
    let scripts = Scripts::new();
    let device = scripts.device("0x300", CLOCK, "");
    let machine = host.machine().plugin(&["summary=off", &device]);
    let mut monitor = Monitor::start_stopped(machine.args(["-icount", "shift=4"]));
    assert_eq!(monitor.read(0x300, 1), 0xff);
    let ended = monitor.quit();
    let expected = "0x300.rhai:2:25: the guest's clock cannot be read";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
}

/// Each script fails in `read`. Its position and text follow.
const MISTAKES: [(&str, &str); 12] = [
    ("fn read(offset, size) { loop {} }", "2:1: the call takes too many operations"),
    ("fn read(offset, size) { read(offset, size) }", "2:1: the functions call each other"),
    (
        "fn read(offset, size) { let a = \"x\"; loop { a += a; } }",
        "2:1: Length of string too large",
    ),
    (
        "fn read(offset, size) { let a = []; loop { a.push(blob(1000)); } }",
        "2:1: Size of array/BLOB too large",
    ),
    ("fn read(offset, size) { let i = 0; loop { this[`${i}`] = blob(4096); i += 1; } }", "2:1: "),
    (
        "fn read(offset, size) { for i in 0..255 { this[`${i}`] = blob(4096); } 1 }",
        "2:1: this holds more than 1048576 bytes",
    ),
    (
        "fn read(offset, size) { let a = []; for i in 0..4000 { a = [a]; } if a == a { 1 } else { 2 } }",
        "arrays and maps cannot be compared",
    ),
    ("fn read(offset, size) { \"7\" }", "2:1: read returned a string; return an integer"),
    ("fn read(offset, size) { }", "2:1: read returned nothing; return an integer"),
    ("fn read(offset, size) { 1 / offset }", "2:27: Division by zero: 1 / 0"),
    ("fn read(offset, size) {\n  help(1, 2)\n}", "3:3: Function not found: help (i64, i64)"),
    ("fn read(offset, size) { throw `a\nb\x1b[2J` }", "2:25: a\\nb\\u{1b}[2J"),
];

fn mistake_at_run_time_is_reported_once(host: &Host) {
    let scripts = Scripts::new();
    let port = |index: usize| 0x300 + 4 * index as u16;
    let mut devices: Vec<String> = Vec::new();
    for (index, (read, _)) in MISTAKES.iter().enumerate() {
        let text = format!("fn write(offset, size, value) {{}}\n{read}\n");
        let first = port(index);
        devices.push(scripts.device(&format!("{first:#x}-{:#x}", first + 3), &text, ""));
    }
    devices.push("device=latch@0x3e0-0x3e3".to_owned());
    let mut monitor = stopped(host, &devices);
    for (index, (read, _)) in MISTAKES.iter().enumerate() {
        for size in [1, 2, 4] {
            monitor.write(port(index), size, 0);
            let ones = u32::MAX >> (32 - 8 * u32::from(size));
            assert_eq!(monitor.read(port(index), size), ones, "{read}");
        }
    }
    monitor.write(0x3e0, 4, 0x4433_2211);
    assert_eq!(monitor.read(0x3e0, 4), 0x4433_2211);
    let ended = monitor.quit();
    assert!(ended.status.success());
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), MISTAKES.len(), "{}", ended.stderr);
    for (index, ((read, expected), line)) in MISTAKES.iter().zip(lines).enumerate() {
        let device = format!("pvio: script at {:#06x}-{:#06x}: ", port(index), port(index) + 3);
        assert!(line.starts_with(&device) && line.contains(expected), "{read}: {line}");
        let end = "in the call read(0x0, 0x1): until the next reset the device reads as all ones, and \
                   writes to it are lost";
        assert!(line.ends_with(end), "{line}");
    }
}

fn reset_revives_a_device_with_new_state(host: &Host) {
    let scripts = Scripts::new();
    let text = "
        fn reset() { this.count = 100; }
        fn read(offset, size) { this.count += 1; this.count }
        fn write(offset, size, value) { this.count = (); }
    ";
    let mut monitor = stopped(host, &[scripts.device("0x300", text, "")]);
    for _ in 0..3 {
        assert_eq!([(); 2].map(|()| monitor.read(0x300, 1)), [101, 102]);
        monitor.write(0x300, 1, 0);
        assert_eq!([(); 2].map(|()| monitor.read(0x300, 1)), [0xff; 2]);
        monitor.reset();
    }
    assert_eq!(monitor.read(0x300, 1), 101);
    let ended = monitor.quit();
    // The same mistake is reported once, however often the guest makes it.
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains(":3:44: "), "{}", ended.stderr);
}

fn state_is_not_saved(host: &Host) {
    let scripts = Scripts::new();
    let mut monitor = stopped(host, &[scripts.device("0x300", LATCH, "")]);
    let reason = "pvio's device script at 0x0300 has state that QEMU cannot save or migrate";
    assert_eq!(monitor.migrate(&scripts.path("saved")), Err(reason.to_owned()));
    assert!(monitor.quit().status.success());
}

fn wrong_script_keeps_qemu_from_starting(host: &Host) {
    const WRITE: &str = "fn write(offset, size, value) {}\n";
    const READ: &str = "fn read(offset, size) { 0 }\n";
    let both = format!("{READ}{WRITE}");
    let cases = [
        ("fn read(offset, size) { 1 + }".to_owned(), ":1:29: "),
        (format!("{both}import \"other\" as other;"), ":3:1: 'import' is a reserved keyword"),
        (format!("{both}fn x() {{ eval(\"1\") }}"), ":3:10: reserved keyword 'eval' is disabled"),
        (format!("{both}fn x() {{ vaule + 1 }}"), ":3:10: Undefined variable: vaule"),
        (format!("{both}let count = 0;\nfn x() {{ count }}"), ":4:10: Undefined variable: count"),
        (
            READ.to_owned(),
            ":1:1: the script has no function write; write fn write(offset, size, value)",
        ),
        (WRITE.to_owned(), ":1:1: the script has no function read; write fn read(offset, size)"),
        (
            format!("{WRITE}\n  fn read(offset) {{ 0 }}"),
            ":3:3: read has 1 parameter; write fn read(offset, size)",
        ),
        (format!("{both}fn reset(hard) {{}}"), ":3:1: reset has 1 parameter; write fn reset()"),
        (format!("{both}const A = 1 / 0;"), ":3:13: Division by zero"),
        (format!("{both}while true {{ }}"), "the call takes too many operations"),
        (
            format!("{both}fn reset() {{ this.a = nothing(); }}"),
            ":3:23: Function not found: nothing",
        ),
        (format!("{both}fn reset() {{ raise_irq(); }}"), ":3:14: the device has no interrupt"),
    ];
    let scripts = Scripts::new();
    let refused = |options: &[&str]| {
        let machine = host.machine().plugin(options).bare_guest(&guest("poweroff.bin"));
        refusal(&machine.run().unwrap())
    };
    for (text, expected) in cases {
        let line = refused(&[&scripts.device("0x300", &text, "")]);
        let begin = format!(
            "pvio: option \"device\": script at 0x0300: {}",
            scripts.path("0x300.rhai").display()
        );
        assert!(line.starts_with(&begin) && line.contains(expected), "{text}: {line}");
    }
    let good = scripts.file("good.rhai", &both);
    for (settings, expected) in [
        (String::new(), "a script device needs file=SCRIPT; name a script in the language Rhai"),
        (":file=/nonexistent".to_owned(), "file=/nonexistent cannot be read: No such file"),
        (":file=/dev/null".to_owned(), "is a character device; name a regular file"),
        (format!(":{good}:ops=0"), "ops=0 is not a number of operations; write 1 to 1000000"),
        (format!(":{good}:ops=many"), "ops=many is not a number of operations"),
        (format!(":{good}:memory=1"), "this kind has no setting \"memory\""),
        (format!(":{good}:irq=16"), "irq=16 is not an interrupt line of the ISA bus"),
    ] {
        let line = refused(&[&format!("device=script@0x300{settings}")]);
        assert!(line.contains(expected), "{settings}: {line}");
    }
    std::fs::write(scripts.path("binary"), [b'/', b'/', 0xff, 0xfe]).unwrap();
    let binary = format!("device=script@0x300:file={}", scripts.path("binary").display());
    assert!(
        refused(&[&binary]).contains("binary cannot be read: stream did not contain valid UTF-8")
    );
}
