//! pvio's devices under Linux: used by programs, and by the kernel's own driver.

use std::collections::HashSet;

use pvio::stats::{Counts, SiteRow, Snapshot};
use pvio::x86::{Direction, Port, PortForm};
use pvio_tests::{Host, LinuxGuest, assert_consistent, guest, on_both_qemus, parse_hex};

on_both_qemus! {
    program_reaches_a_device_only_with_linuxs_permission
    each_run_of_a_program_is_counted_at_its_own_address
    linux_drives_the_uart_by_interrupt
    linux_console_on_pvios_uart_is_in_its_file
}

/// The accesses of `tests/guests/linux/ioperm.c` with permission: function, form, executions, accesses.
const GRANTED: [(&str, &str, u64, u64); 6] = [
    ("write_byte", "out dx,al", 200, 200),
    ("read_byte", "in al,dx", 200, 200),
    ("write_long", "out dx,eax", 1, 1),
    ("read_word", "in ax,dx", 1, 1),
    ("write_string", "rep outsb", 1, 50),
    ("read_string", "rep insb", 1, 50),
];

fn site<'a>(stats: &'a Snapshot, symbol: &str) -> &'a SiteRow {
    let is_in = |name: &str| name.split('+').next() == Some(symbol);
    let mut sites = stats.sites.iter().filter(|site| site.symbol.as_deref().is_some_and(is_in));
    let site = sites.next().unwrap_or_else(|| panic!("no site in {symbol}: {:#?}", stats.sites));
    assert!(sites.next().is_none(), "several sites in {symbol}");
    site
}

fn program_reaches_a_device_only_with_linuxs_permission(host: &Host) {
    let program = guest("ioperm");
    let linux = LinuxGuest::new(
        "/ioperm grant; echo \"granted: status $?\"; /ioperm; echo \"refused: status $?\"",
        &[("ioperm", &std::fs::read(&program).unwrap())],
    )
    .unwrap();
    let symbols = format!("symbols={}", program.display());
    let machine = host.machine().plugin(&["device=latch@0x300", &symbols]);
    let ended = linux.on(machine).run().unwrap();
    assert!(ended.stdout.contains("granted: status 0"), "{}", ended.stdout);
    // 128 + SIGSEGV.
    assert!(ended.stdout.contains("refused: status 139"), "{}", ended.stdout);

    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    for (symbol, form, executions, accesses) in GRANTED {
        let site = site(stats, symbol);
        assert_eq!(site.form.to_string(), form);
        // Without exception events, `in` and `out` of user mode cannot be verified. String
        // instructions can: they access memory.
        let sure = host.reports_exceptions() || form.starts_with("rep");
        let refused = u64::from(symbol == "write_byte" && !sure);
        let expected = if sure { (executions, accesses, 0) } else { (0, 0, executions + refused) };
        let counts = site.counts;
        assert_eq!((counts.executions, counts.accesses, counts.unverified), expected, "{symbol}");
    }
    for row in &stats.forms {
        let faults = u64::from(row.form.to_string() == "out dx,al");
        assert_eq!(row.faults, host.reports_exceptions().then_some(faults), "{}", row.form);
        assert_eq!(row.attempts, row.executions + row.faults.unwrap_or(0) + row.unverified);
    }
}

/// Linux loads a position-independent program at another address in each run, from the same pages of the page cache.
fn each_run_of_a_program_is_counted_at_its_own_address(host: &Host) {
    /// The executions of each instruction; `None` without permission.
    const RUNS: [Option<u64>; 6] = [Some(3), None, Some(40), None, None, Some(5)];
    let run = |times: &Option<u64>| match times {
        Some(times) => format!("/pie {times}"),
        None => "/pie".into(),
    };
    let commands: String =
        RUNS.iter().map(|times| format!("{} >>/addresses; ", run(times))).collect();
    let script =
        format!("{commands} echo; while read -r line; do echo \"ran at $line\"; done </addresses");
    let program = std::fs::read(guest("pie")).unwrap();
    let linux = LinuxGuest::new(&script, &[("pie", &program)]).unwrap();
    let ended = linux.on(host.machine().plugin(&["device=latch@0x300"])).run().unwrap();
    let told: Vec<Vec<u64>> = ended
        .stdout
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix("ran at "))
        .map(|line| line.split(' ').map(parse_hex).collect())
        .collect();
    assert_eq!(told.len(), RUNS.len(), "{}", ended.stdout);
    let places: HashSet<u64> = told.iter().map(|sites| sites[0]).collect();
    assert_eq!(places.len(), RUNS.len(), "an address for each run: {told:x?}");

    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    let of_pc = |pc: u64| stats.sites.iter().find(|site| site.pc == format!("{pc:#x}"));
    let counts = |pc| of_pc(pc).map(|site| site.counts).unwrap_or_default();
    let sure = host.reports_exceptions();
    for (times, sites) in RUNS.iter().zip(told) {
        let [out, input, string] = sites[..] else { panic!("{sites:x?}") };
        let granted = times.unwrap_or(0);
        // Without exception events, `in` and `out` of user mode cannot be verified.
        let scalars = if sure { [granted, granted] } else { [0, 0] };
        let in_question = if sure { [0, 0] } else { [times.unwrap_or(1), granted] };
        let counted = [counts(out), counts(input)];
        assert_eq!(counted.map(|counts| counts.executions), scalars, "{out:#x}");
        assert_eq!(counted.map(|counts| counts.accesses), scalars, "{out:#x}");
        assert_eq!(counted.map(|counts| counts.unverified), in_question, "{out:#x}");
        let Counts { executions, accesses, unverified, .. } = counts(string);
        assert_eq!([executions, accesses, unverified], [granted, 7 * granted, 0], "{string:#x}");
    }
    let refused = RUNS.iter().filter(|times| times.is_none()).count() as u64;
    for row in &stats.forms {
        let faults = if row.form == PortForm::OutDxAl { refused } else { 0 };
        assert_eq!(row.faults, sure.then_some(faults), "{}", row.form);
        assert_eq!(row.attempts, row.executions + row.faults.unwrap_or(0) + row.unverified);
    }
}

/// More lines than a UART's buffers hold.
const LINES: u32 = 40;

fn linux_drives_the_uart_by_interrupt(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name).display().to_string();
    let lines = |what: &str| -> String {
        (1..=LINES).map(|line| format!("{what} line {line} of {LINES}, far from over\n")).collect()
    };
    let (input, text) = (lines("received"), lines("sent"));
    std::fs::write(path("in"), &input).unwrap();

    // Linux echoes a terminal's input until `stty` stops it.
    let script = format!(
        "exec 3<>/dev/ttyS1
        head -n {LINES} <&3
        stty raw -echo <&3
        cat /text >&3
        grep ttyS1 /proc/interrupts
        exec 3>&-
        grep ^1: /proc/tty/driver/serial"
    );
    let linux = LinuxGuest::new(&script, &[("text", text.as_bytes())]).unwrap();
    let device = format!("device=uart16550@0x2f8:irq=3:file={}:in={}", path("out"), path("in"));
    let ended = linux.on(host.machine().plugin(&[&device])).run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);

    let console = ended.stdout.replace("\r\n", "\n");
    assert!(console.contains("ttyS1 at I/O 0x2f8 (irq = 3, base_baud = 115200) is a 16550A"));
    assert!(console.contains(&input), "{console}");
    assert!(!console.contains("too much work"), "{console}");
    let echo = input.replace('\n', "\r\n");
    assert_eq!(std::fs::read_to_string(path("out")).unwrap(), echo + text.as_str());

    // The driver's own numbers, and the kernel's for the interrupt: "  3:  118  IO-APIC  3-edge  ttyS1".
    let sent = input.len() + LINES as usize + text.len();
    let totals = format!("uart:16550A port:000002F8 irq:3 tx:{sent} rx:{}", input.len());
    assert!(console.contains(&totals), "{totals}: {console}");
    let line = console.lines().find(|line| line.trim_start().starts_with("3: "));
    let count = line.and_then(|line| line.split_whitespace().nth(1)).expect("a line of the IRQ");
    // At least one interrupt for each filling of the receive buffer of 64 bytes.
    let fillings = input.len() as u64 / 64;
    assert!(count.parse::<u64>().unwrap() >= fillings, "{count} interrupts: {console}");

    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    let is_sent = |port, dir| (port, dir) == (Port(0x2f8), Direction::Out);
    let rows = stats.ports.iter().filter(|row| is_sent(row.port, row.dir));
    let written: u64 = rows.map(|row| row.device + row.qemu).sum();
    // The driver also writes the divisor to this port.
    assert!((sent as u64..sent as u64 + 16).contains(&written), "{written} of {sent}");
}

/// pvio's UART hides QEMU's own COM1 from the kernel.
fn linux_console_on_pvios_uart_is_in_its_file(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("console");
    let linux = LinuxGuest::new("echo hello from user space", &[]).unwrap();
    let device = format!("device=uart16550@0x3f8:irq=4:file={}", file.display());
    let ended = linux.on(host.machine().plugin(&[&device])).run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    let console = std::fs::read_to_string(file).unwrap();
    for text in ["Linux version", "hello from user space\r\n", "reboot: Power down"] {
        assert!(console.contains(text), "{text}: {console}");
    }
}
