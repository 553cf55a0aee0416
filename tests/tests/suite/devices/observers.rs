//! Observers: what they see, compared with the access log of the same run and with QEMU's trace.

use std::collections::BTreeMap;

use pvio_cli::expected_forms;
use pvio_cli::machine::Machine;
use pvio_tests::{
    Host, assert_consistent, bios, guest, on_both_qemus, parse_hex, refusal, run_guest,
    without_exports,
};

on_both_qemus! {
    observer_sees_every_form_in_every_mode
    observer_sees_four_vcpus
    observer_sees_vcpus_that_share_a_thread
    observer_sees_the_same_under_icount
    observer_sees_no_access_that_faulted
    observer_sees_strings_that_are_interrupted
    observer_sees_nested_guests
    observer_sees_hypercalls
    observer_sees_what_qemus_trace_has
    observers_and_a_device_share_ports
    mistake_in_an_observer_is_reported_once_and_harms_nobody
    wrong_observer_keeps_qemu_from_starting
    reset_revives_an_observer_with_new_state
    time_of_an_access_is_the_guests
}

without_exports! {
    observer_sees_every_form_in_every_mode
    observer_sees_no_access_that_faulted
}

/// Logs each access, in the words of the access log.
const LOGGER: &str = r#"
fn line(dir, offset, size, value) {
    let mark = if may_have_faulted() { "?" } else { "" };
    let v = vcpu();
    log(`seen ${if v == () { "-" } else { v }} ${pc()} ${dir} ${offset} ${size} ${if value == () { "-" } else { value }}${mark} ${by_hypercall()}`);
}
fn read(offset, size, value) { line("in", offset, size, value); }
fn write(offset, size, value) { line("out", offset, size, value); }
"#;

/// An access: the vCPU, the code, the direction, the port, the size, the value, and whether it may have faulted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Access {
    vcpu: String,
    pc: u64,
    direction: String,
    port: u64,
    size: u64,
    value: Option<u64>,
    in_question: bool,
}

fn logged(log: &str) -> Vec<Access> {
    let access = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_time, vcpu, pc, direction, port, size, value, ..] = words[..] else {
            panic!("{line}")
        };
        Access {
            vcpu: vcpu.into(),
            pc: parse_hex(pc),
            direction: direction.into(),
            port: parse_hex(port),
            size: size.parse().unwrap(),
            value: (value != "-").then(|| parse_hex(value.trim_end_matches('?'))),
            in_question: value.ends_with('?'),
        }
    };
    log.lines().skip(1).map(access).collect()
}

/// The accesses that the observer saw, and how many of them were by hypercall.
fn seen(stderr: &str) -> (Vec<Access>, usize) {
    let mut by_hypercall = 0;
    let access = |line: &str| {
        let words: Vec<&str> = line.split_once(": seen ")?.1.split(' ').collect();
        let [vcpu, pc, direction, offset, size, value, call] = words[..] else { panic!("{line}") };
        by_hypercall += usize::from(call == "true");
        Some(Access {
            vcpu: vcpu.into(),
            pc: pc.parse::<i64>().unwrap() as u64,
            direction: direction.into(),
            port: offset.parse().unwrap(),
            size: size.parse().unwrap(),
            value: value.trim_end_matches('?').parse().ok(),
            in_question: value.ends_with('?'),
        })
    };
    (stderr.lines().filter_map(access).collect(), by_hypercall)
}

fn by_vcpu(accesses: &[Access]) -> BTreeMap<&str, Vec<&Access>> {
    let mut vcpus: BTreeMap<&str, Vec<&Access>> = BTreeMap::new();
    for access in accesses {
        vcpus.entry(&access.vcpu).or_default().push(access);
    }
    vcpus
}

/// Runs a guest, and fails unless an observer of all ports sees what the access log has, in the order of each vCPU.
///
/// Returns what it saw, and how many accesses were by hypercall.
fn assert_as_logged(machine: Machine, name: &str) -> (Vec<Access>, usize) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("logger.rhai"), LOGGER).unwrap();
    let log = format!("access-log={}", path("log").display());
    let observer = format!("device=observe@0-0xffff:file={}", path("logger.rhai").display());
    let run = run_guest(machine.plugin(&["summary=off", &log, &observer]), name);
    let (seen, by_hypercall) = seen(&run.ended.stderr);
    let expected = logged(&std::fs::read_to_string(path("log")).unwrap());
    assert!(!expected.is_empty());
    let (left, right) = (by_vcpu(&seen), by_vcpu(&expected));
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    for (vcpu, expected) in right {
        let seen = &left[vcpu];
        let differs = seen.iter().zip(&expected).position(|(left, right)| left != right);
        assert_eq!(differs.map(|index| (seen[index], expected[index])), None, "{name}");
        assert_eq!(seen.len(), expected.len(), "{name}");
    }
    if let Some(stats) = &run.ended.stats {
        assert_consistent(stats);
        let made: u64 = stats.ports.iter().map(|row| row.qemu + row.device + row.hypercall).sum();
        let certain = seen.iter().filter(|access| !access.in_question).count();
        assert_eq!(certain as u64, made, "{name}");
    }
    (seen, by_hypercall)
}

/// Sums up all accesses, and logs the sum when the guest ends: some have too many for a line each.
const SUMMER: &str = "
fn reset() { this.count = 0; this.sum = 0; }
fn add(word) { this.sum = (this.sum * 31 + word) % 0x7fffffff; }
fn access(dir, port, size, value) {
    if dir == 1 && port == 0xf4 { log(`${this.count} ${this.sum}`); }
    this.count += 1;
    this.add(dir); this.add(port); this.add(size); this.add(value);
}
fn read(offset, size, value) { this.access(0, offset, size, value); }
fn write(offset, size, value) { this.access(1, offset, size, value); }
";

/// Runs a guest with many accesses, and fails unless the observer and the access log have the same, in the same order.
fn assert_sum_is_the_logs(machine: Machine, name: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("summer.rhai"), SUMMER).unwrap();
    let log = format!("access-log={}", path("log").display());
    let observer = format!("device=observe@0-0xffff:file={}", path("summer.rhai").display());
    let machine = machine.args(["-device", "pc-testdev"]);
    let run = run_guest(machine.plugin(&["summary=off", &log, &observer]), name);
    let log = logged(&std::fs::read_to_string(path("log")).unwrap());
    let (last, accesses) = log.split_last().unwrap();
    assert_eq!((&*last.direction, last.port), ("out", 0xf4), "{name}");
    let add = |sum: u64, word: u64| (sum * 31 + word) % 0x7fff_ffff;
    let sum = accesses.iter().fold(0, |sum, access| {
        let direction = u64::from(access.direction == "out");
        [direction, access.port, access.size, access.value.unwrap()].into_iter().fold(sum, add)
    });
    let expected = format!("pvio: observe at 0x0000-0xffff: {} {sum}\n", accesses.len());
    assert_eq!(run.ended.stderr, expected, "{name}");
}

fn observer_sees_every_form_in_every_mode(host: &Host) {
    let (seen, _) = assert_as_logged(host.machine(), "forms");
    assert!(seen.iter().all(|access| access.value.is_some()));
}

fn observer_sees_four_vcpus(host: &Host) {
    let (seen, _) = assert_as_logged(host.machine().args(["-smp", "4"]), "forms");
    assert_eq!(by_vcpu(&seen).len(), 4);
}

fn observer_sees_vcpus_that_share_a_thread(host: &Host) {
    let machine = host.machine().args(["-accel", "tcg,thread=single", "-smp", "4"]);
    let (seen, _) = assert_as_logged(machine, "forms");
    assert_eq!(by_vcpu(&seen).into_keys().collect::<Vec<_>>(), ["-"]);
}

fn observer_sees_the_same_under_icount(host: &Host) {
    let icount = ["-icount", "shift=0"];
    assert_as_logged(host.machine().args(icount), "forms");
    assert_sum_is_the_logs(host.machine().args(icount), "around-pages");
}

fn observer_sees_no_access_that_faulted(host: &Host) {
    let machine = host.machine().args(["-device", "pc-testdev"]);
    let (seen, _) = assert_as_logged(machine, "around-privilege");
    let marked = seen.iter().filter(|access| access.in_question).count();
    assert_eq!(marked > 0, !host.reports_exceptions());
}

fn observer_sees_strings_that_are_interrupted(host: &Host) {
    for guest in ["around-pages", "around-debug"] {
        assert_sum_is_the_logs(host.machine(), guest);
    }
}

fn observer_sees_nested_guests(host: &Host) {
    assert_as_logged(host.machine().args(["-cpu", "max,+svm"]), "around-svm");
}

fn observer_sees_hypercalls(host: &Host) {
    let machine = host.machine().plugin(&["device=latch@0x5000"]);
    let (_, by_hypercall) = assert_as_logged(machine, "mailbox-16");
    assert!(by_hypercall > 0);
}

fn observer_sees_what_qemus_trace_has(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("logger.rhai"), LOGGER).unwrap();
    let observe = |ports: &str| format!("device=observe@{ports}:file={}", path("logger.rhai"));
    let machine = host.machine().plugin(&["summary=off", &observe("0-0xffff")]);
    let machine = machine.bare_guest(&guest("poweroff.bin"));
    let ended =
        machine.args(["-trace", "memory_region_ops_*", "-D", &path("trace")]).run().unwrap();
    // `... addr 0x604 value 0x2000 size 2 name 'acpi-cnt'`
    let field = |line: &str, name: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).map(parse_hex)
    };
    let is_observed = |port: u64| matches!(port, 0x604 | 0xcf8..=0xcff | 0x80);
    let trace = std::fs::read_to_string(path("trace")).unwrap();
    let traced = trace.lines().filter_map(|line| {
        let direction = if line.contains("ops_write") { "out" } else { "in" };
        Some((direction.to_owned(), field(line, "addr")?, field(line, "value")?))
    });
    let traced: Vec<_> = traced.filter(|access| is_observed(access.1)).collect();
    let (seen, _) = seen(&ended.stderr);
    let seen = seen.into_iter().filter(|access| is_observed(access.port));
    let seen: Vec<_> =
        seen.map(|access| (access.direction, access.port, access.value.unwrap())).collect();
    assert_eq!(seen, traced);
    assert_eq!(seen.len(), 15);
}

/// The guest checks what its devices answer, by single elements and by strings.
fn observers_and_a_device_share_ports(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    // The sum and the number of the bytes that pass at the data port, each way.
    let script = "
        fn reset() { this.sum = [0, 0]; this.count = 0; }
        fn add(way, size, value) {
            if size == 1 { this.sum[way] = (this.sum[way] * 31 + value) & 0xffff_ffff; this.count += 1; }
            if value == 0x656e_6f64 { log(`${this.sum[0]} ${this.sum[1]} ${this.count}`); }
        }
        fn read(offset, size, value) { this.add(0, size, value); }
        fn write(offset, size, value) { this.add(1, size, value); }
    ";
    std::fs::write(path("sum.rhai"), script).unwrap();
    let input: Vec<u8> = (0..7001_u32).map(|index| (index * 7 + index / 256) as u8).collect();
    std::fs::write(path("in"), &input).unwrap();
    let devices = [
        format!("stream@0x300:in={}:out={}", path("in"), path("out")),
        format!("console@0xe9-0xec:file={}", path("console")),
        "latch@0x310".into(),
        "latch@0x314".into(),
        "latch@0xfffe-0xffff".into(),
        "debug-exit@0xf4".into(),
        format!("observe@0x300-0x303:file={}", path("sum.rhai")),
        format!("observe@0x2ff-0x301:file={}", path("sum.rhai")),
        "post@0x300".into(),
    ];
    let machine =
        devices.iter().fold(host.machine().plugin(&["summary=off"]), |machine, device| {
            machine.plugin(&[&format!("device={device}")])
        });
    let ended = machine.bare_guest(&guest("devices.bin")).run().unwrap();
    assert_eq!(ended.status.code(), Some(42), "{}", ended.stderr);
    let output = std::fs::read(path("out")).unwrap();
    assert_eq!(output, [&input[..], b"done"].concat());
    // The guest also reads a byte after the end of the file.
    let sum = |bytes: &[u8]| {
        bytes.iter().fold(0, |sum: u32, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
    };
    let read = sum(&[&input[..], &[0xff]].concat());
    let text = format!("{read} {} {}", sum(&input), 2 * input.len() + 1);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(
        lines,
        [
            format!("pvio: observe at 0x0300-0x0303: {text}"),
            format!("pvio: observe at 0x02ff-0x0301: {text}"),
        ]
    );
}

/// Runs a BIOS that writes to port 0x80 with a script that observes it. Returns its lines.
fn run_observed(machine: Machine, code: &[u8], script: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("watch.rhai");
    std::fs::write(&path, script).unwrap();
    let option = format!("device=observe@0x80:file={}", path.display());
    let machine = machine.plugin(&["summary=off", &option]);
    let ended = machine.bare_guest(&bios(&directory, code.to_vec())).run().unwrap();
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED), "{}", ended.stderr);
    let lines = ended.stderr.lines().map(|line| {
        let line = line.strip_prefix("pvio: observe at 0x0080: ").unwrap_or(line);
        line.replace(&path.display().to_string(), "watch.rhai")
    });
    lines.collect()
}

/// mov al, 1; out 0x80, al; mov al, 2; out 0x80, al; in al, 0x80
const TWO_WRITES: [u8; 10] = [0xb0, 1, 0xe6, 0x80, 0xb0, 2, 0xe6, 0x80, 0xe4, 0x80];

fn mistake_in_an_observer_is_reported_once_and_harms_nobody(host: &Host) {
    let script = "fn write(offset, size, value) { log(`${value}`); 1 / (2 - value) }\n\
                  fn read(offset, size, value) { log(\"unreachable\") }";
    assert_eq!(
        run_observed(host.machine(), &TWO_WRITES, script),
        [
            "1",
            "2",
            "watch.rhai:1:52: Division by zero: 1 / 0, in the call write(0x0, 0x1, 0x2): until the next reset the \
             observer sees nothing",
        ]
    );
    let endless = "fn write(offset, size, value) { loop {} }";
    let lines = run_observed(host.machine(), &TWO_WRITES, endless);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("the call takes too many operations"), "{lines:?}");
}

fn reset_revives_an_observer_with_new_state(host: &Host) {
    // in al, 0x92; test al, al; and once more after a reset by port 0xcf9 (0x06), which CMOS byte 0x40 remembers.
    let code = [
        0xb0, 7, 0xe6, 0x80, // mov al, 7; out 0x80, al
        0xb0, 0x40, 0xe6, 0x70, 0xe4, 0x71, // mov al, 0x40; out 0x70, al; in al, 0x71
        0x3c, 0x5a, 0x74, 0x0b, // cmp al, 0x5a; je +11
        0xb0, 0x5a, 0xe6, 0x71, // mov al, 0x5a; out 0x71, al
        0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4, // mov dx, 0xcf9; mov al, 6; out dx, al; hlt
    ];
    let script = "fn reset() { this.n = 0; }
                  fn write(offset, size, value) { this.n += 1; log(`${this.n}`); throw \"dead\"; }";
    let machine = host.machine();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("watch.rhai");
    std::fs::write(&path, script).unwrap();
    let option = format!("device=observe@0x80:file={}", path.display());
    let ended = machine
        .plugin(&["summary=off", &option])
        .bare_guest(&bios(&directory, code.to_vec()))
        .args(["-action", "reboot=reset"])
        .run()
        .unwrap();
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED), "{}", ended.stderr);
    let lines = ended.stderr.lines().filter(|line| line.ends_with(": 1")).count();
    assert_eq!(lines, 2, "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("dead").count(), 1, "{}", ended.stderr);
}

fn time_of_an_access_is_the_guests(host: &Host) {
    let script = "fn write(offset, size, value) { log(`${time_ns() <= now_ns()} ${time_ns() > 0} ${vcpu()}`); }";
    assert_eq!(run_observed(host.machine(), &TWO_WRITES, script), ["true true 0"; 2]);
    // The guest's clock cannot be read in a block there; the host's can.
    let script = "fn write(offset, size, value) { log(`${time_ns() > 0}`); }";
    let machine = host.machine().args(["-icount", "shift=0"]);
    assert_eq!(run_observed(machine, &TWO_WRITES, script), ["true"; 2]);
}

fn wrong_observer_keeps_qemu_from_starting(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("watch.rhai");
    let refused = |script: &str, settings: &str| {
        std::fs::write(&path, script).unwrap();
        let option = format!("device=observe@0x80:file={}{settings}", path.display());
        let machine = host.machine().plugin(&["summary=off", &option]);
        let line = refusal(&machine.bare_guest(&guest("forms.bin")).run().unwrap());
        line.replace(&path.display().to_string(), "watch.rhai")
    };
    let start = "pvio: option \"device\": observe at 0x0080: ";
    for (script, settings, expected) in [
        (
            "fn read(offset, size) { 1 }",
            "",
            "watch.rhai:1:1: read has 2 parameters; write fn read(offset, size, value)",
        ),
        (
            "fn reset() { }",
            "",
            "watch.rhai has neither fn read(offset, size, value) nor fn write(offset, size, value); write one of them",
        ),
        ("fn write(offset, size, value) { x }", "", "watch.rhai:1:33: Undefined variable: x"),
        (
            "fn write(offset, size, value) { }",
            ":irq=5",
            "this kind has no setting \"irq\"; its settings are path, file, ops",
        ),
    ] {
        let line = refused(script, settings);
        assert!(line.starts_with(&format!("{start}{expected}")), "{line}");
    }
}
