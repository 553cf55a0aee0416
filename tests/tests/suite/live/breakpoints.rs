//! `break=`: the machine stands after an access, for gdb and for the monitor.

use object::{Object, ObjectSymbol};
use pvio_cli::machine::Machine;
use pvio_tests::linux::Debugger;
use pvio_tests::{Host, Monitor, guest, on_both_qemus, refusal, run_guest, wait_until};
use qapi::qmp::RunState;
use serde_json::{Value, json};

use super::{connect, control};

on_both_qemus! {
    monitor_stands_after_the_instruction_and_goes_on
    gdb_stands_after_the_instruction
    pending_interrupt_comes_after_the_stop
    value_that_was_read_decides
    string_is_stopped_after_the_instruction
    count_and_site_choose_the_access
    breakpoints_come_and_go_over_the_socket
    modes_of_qemu_make_no_difference
    instruction_that_faults_is_no_access
    breakpoints_that_never_match_change_no_count
    wrong_breakpoints_are_refused_in_one_line
}

/// The address of a symbol of the guest.
fn address(symbol: &str) -> u64 {
    let elf = std::fs::read(guest("breaks.elf")).unwrap();
    let file = object::File::parse(&*elf).unwrap();
    let found = file.symbols().find(|found| found.name() == Ok(symbol));
    found.unwrap_or_else(|| panic!("no {symbol}")).address()
}

/// Starts the guest, stopped before its first instruction.
fn start(machine: Machine, options: &[&str]) -> Monitor {
    let machine = machine.args(["-S", "-device", "pc-testdev"]).plugin(&["summary=off"]);
    Monitor::start(machine.plugin(options).bare_guest(&guest("breaks.bin")))
}

/// Waits until the machine has stopped as at a debugger's breakpoint.
fn wait_for_stop(monitor: &mut Monitor) {
    let has_stopped = || monitor.status() == RunState::debug;
    wait_until(has_stopped, || "the machine has not stopped".into());
}

/// Waits until the machine has stopped. Returns the linear address at which it stands.
fn stopped_at(monitor: &mut Monitor) -> u64 {
    wait_for_stop(monitor);
    let registers = monitor.ask("info registers");
    let field = |name: &str| {
        let (_, rest) = registers.split_once(name).unwrap_or_else(|| panic!("{registers}"));
        let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap();
        u64::from_str_radix(&rest[..end], 16).unwrap()
    };
    // The guest runs in segment F000h.
    field("IP=") + 0xf0000
}

fn monitor_stands_after_the_instruction_and_goes_on(host: &Host) {
    let mut monitor = start(host.machine(), &["break=0x5000:in"]);
    for _ in 0..3 {
        monitor.cont();
        assert_eq!(stopped_at(&mut monitor), address("after_reads"));
    }
    let ended = monitor.quit();
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("break 1")).collect();
    let (reads, after) = (address("reads"), address("after_reads"));
    let line = |hit| {
        format!(
            "pvio: break 1: in 0x5000 1 0xff at {reads:#x}, vCPU 0, hit {hit}; stopped before {after:#x}"
        )
    };
    assert_eq!(lines, [line(1), line(2), line(3)]);
    // The accesses that were made, and no more.
    let stats = ended.stats().unwrap();
    let row = stats.ports.iter().find(|row| row.port.0 == 0x5000 && row.dir.to_string() == "in");
    assert_eq!(row.unwrap().qemu, 3);
}

fn gdb_stands_after_the_instruction(host: &Host) {
    let mut monitor = start(host.machine(), &["break=0x5020:value=2"]);
    let mut debugger = Debugger::attach(&mut monitor);
    // The stub of QEMU tells EIP.
    assert_eq!(debugger.run_to_stop() + 0xf0000, address("last") + 1);
    assert_eq!(debugger.run_to_stop() + 0xf0000, address("last") + 1);
    assert_eq!(stopped_at(&mut monitor), address("last") + 1);
    let registers = monitor.ask("info registers");
    assert!(registers.contains("02 EBX=") || registers.contains("EBX=00000002"), "{registers}");
}

/// The access raises an interrupt, and interrupts are on.
fn pending_interrupt_comes_after_the_stop(host: &Host) {
    let mut monitor = start(host.machine(), &["break=0x2005:value=1", "break=0x2005:value=0"]);
    for _ in 0..3 {
        monitor.cont();
        assert_eq!(stopped_at(&mut monitor), address("after_raises"));
        assert!(monitor.ask("info registers").contains("II=0"), "the shadow is pvio's, and gone");
        monitor.cont();
        let within = stopped_at(&mut monitor);
        assert!((address("handler")..address("start")).contains(&within), "{within:#x}");
    }
}

fn value_that_was_read_decides(host: &Host) {
    let options = ["device=latch@0x5000", "break=0x5000:in:value=7"];
    let mut monitor = start(host.machine(), &options);
    for _ in 0..2 {
        monitor.cont();
        assert_eq!(stopped_at(&mut monitor), address("after_reads"));
        let registers = monitor.ask("info registers");
        assert!(registers.contains("07 EBX=00000007"), "{registers}");
    }
}

fn string_is_stopped_after_the_instruction(host: &Host) {
    let mut monitor = start(host.machine(), &["break=0x5010:value=3"]);
    monitor.cont();
    assert_eq!(stopped_at(&mut monitor), address("after_string"));
    // With icount QEMU leaves the instruction after each element.
    let mut monitor = start(host.machine().args(["-icount", "shift=3"]), &["break=0x5010:value=3"]);
    monitor.cont();
    assert_eq!(stopped_at(&mut monitor), address("string"));
    let registers = monitor.ask("info registers");
    assert!(registers.contains("ECX=00000002"), "two elements are left: {registers}");
}

fn count_and_site_choose_the_access(host: &Host) {
    let symbols = format!("symbols={}", guest("breaks.elf").display());
    for site in [format!("{:#x}", address("last")), "last".to_owned()] {
        let option = format!("break=0x5000-0x5fff:site={site}:count=5");
        let mut monitor = start(host.machine(), &[&symbols, &option]);
        for round in [5, 6] {
            monitor.cont();
            assert_eq!(stopped_at(&mut monitor), address("last") + 1);
            let registers = monitor.ask("info registers");
            assert!(registers.contains(&format!("EBX={round:08x}")), "{registers}");
        }
        assert!(monitor.quit().stderr.contains(" last, vCPU 0, hit 5;"));
    }
}

fn breakpoints_come_and_go_over_the_socket(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let (option, path) = control(directory.path());
    let mut monitor = start(host.machine(), &[&option]);
    let mut connection = connect(&path);
    monitor.cont();
    let set = connection.ask("break", json!({ "at": "0x5020:out" })).unwrap();
    assert_eq!(set, json!({ "break": 1 }));
    assert_eq!(stopped_at(&mut monitor), address("last") + 1);
    let (name, hit) = connection.next_event().unwrap();
    assert_eq!(name, "break");
    assert_eq!(hit["pc"], format!("{:#x}", address("last")));
    assert_eq!(
        (&hit["port"], &hit["dir"], &hit["break"]),
        (&json!(0x5020), &json!("out"), &json!(1))
    );
    let breaks = |status: Value| status["breaks"].clone();
    assert_eq!(
        breaks(connection.ask("status", json!({})).unwrap()),
        json!([{ "break": 1, "at": "0x5020:out", "hits": 1 }])
    );
    connection.ask("delete", json!({ "break": 1 })).unwrap();
    assert_eq!(breaks(connection.ask("status", json!({})).unwrap()), json!([]));
    monitor.cont();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(monitor.status(), RunState::running);
    let refused = connection.ask("break", json!({ "at": "com1" })).unwrap_err().to_string();
    assert!(refused.starts_with("\"com1\" is no port; write PORT"), "{refused}");
}

fn modes_of_qemu_make_no_difference(host: &Host) {
    for arguments in [
        &["-accel", "tcg,thread=single", "-smp", "2"][..],
        &["-accel", "tcg,one-insn-per-tb=on"],
        &["-icount", "shift=3"],
    ] {
        let mut monitor = start(host.machine().args(arguments), &["break=0x2005:value=1"]);
        for _ in 0..3 {
            monitor.cont();
            assert_eq!(stopped_at(&mut monitor), address("after_raises"), "{arguments:?}");
        }
    }
}

fn instruction_that_faults_is_no_access(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let (option, path) = control(directory.path());
    // The guest runs instructions that it may and may not execute at 0x19000, and accesses QEMU's latch by them.
    let machine = host.machine().args(["-S", "-device", "pc-testdev", "-debugcon", "null"]);
    let machine = machine.plugin(&["summary=off", &option, "break=0xe0-0xe3:site=0x19000"]);
    let mut monitor = Monitor::start(machine.bare_guest(&guest("around-privilege.bin")));
    let mut connection = connect(&path);
    let mut hits = 0;
    monitor.cont();
    // Each stop is an access: its next address is after the instruction.
    for _ in 0..200 {
        let Ok((name, hit)) = connection.next_event() else { break };
        assert_eq!(name, "break");
        let number = |field: &str| {
            let text = hit[field].as_str().unwrap();
            u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
        };
        let len = number("next-pc").wrapping_sub(number("pc"));
        assert!(len <= 4, "stopped elsewhere: {hit}");
        hits += 1;
        wait_for_stop(&mut monitor);
        monitor.cont();
    }
    assert_eq!(hits, 200);
}

fn breakpoints_that_never_match_change_no_count(host: &Host) {
    let count = "break=0-0xffff:count=1000000000000";
    let without = run_guest(host.machine().plugin(&["summary=off"]), "forms");
    let with = run_guest(host.machine().plugin(&["summary=off", count]), "forms");
    let forms = |run: &pvio_tests::GuestRun| run.ended.stats().unwrap().tables.forms.clone();
    assert_eq!(forms(&with), forms(&without));
}

fn wrong_breakpoints_are_refused_in_one_line(host: &Host) {
    let line = |machine: Machine, options: &[&str]| {
        refusal(&machine.plugin(options).bare_guest(&guest("spin.bin")).run().unwrap())
    };
    for (option, why) in [
        ("break=out", "\"out\" is no port; write PORT"),
        ("break=0x80:count=0", "\"count=0\" is no number from 1 on"),
        ("break=0x80:site=", "\"site=\" needs a place"),
        ("break=0x80:maybe", "\"maybe\" is not a filter"),
        ("break", "option \"break\" needs a value; write break=PORT"),
    ] {
        let line = line(host.machine(), &[option]);
        assert!(line.contains(why), "{line}");
    }
    let without_names = line(host.machine(), &["symbols=off", "break=0x80:site=outb"]);
    assert!(without_names.contains("needs names, and symbols=off turns them off"));
    let refused = line(host.machine_without_exports(), &["break=0x80"]);
    assert!(refused.contains("this QEMU does not let plugins stop the machine"), "{refused}");
}
