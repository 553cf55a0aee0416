//! The built-in kinds of devices, as the guest and the user see them.

use pvio::stats::Snapshot;
use pvio::x86::{Direction, Port, Width};
use pvio_cli::machine::Machine;
use pvio_tests::{Host, Monitor, assert_consistent, guest, on_both_qemus};

on_both_qemus! {
    guest_uses_stream_console_latch_and_debug_exit
    stream_of_an_empty_file_is_at_its_end
    latch_takes_every_size_at_every_port
    null_reads_zeros_and_ones_reads_ones
    access_belongs_to_the_device_at_its_first_port
    debug_exit_ends_qemu_and_writes_the_dump
    stream_ends_with_its_file
    console_writes_bytes_unchanged
    uart_delivers_input_when_the_guest_is_ready
    write_error_of_a_device_is_reported_once
    qemus_device_at_the_same_port_sees_no_access
    devices_work_at_adjacent_ports
}

fn with(host: &Host, devices: &[&str]) -> Machine {
    devices.iter().fold(host.machine().plugin(&["summary=off"]), |machine, device| {
        machine.plugin(&[&format!("device={device}")])
    })
}

fn stopped(host: &Host, devices: &[&str]) -> Monitor {
    Monitor::start_stopped(with(host, devices))
}

/// The accesses to a port, by pvio's device or QEMU's.
fn accesses(stats: &Snapshot, port: u16, dir: Direction, size: Width) -> u64 {
    let wanted = (Port(port), dir, size);
    let rows = stats.ports.iter().filter(|row| (row.port, row.dir, row.size) == wanted);
    rows.map(|row| row.device + row.qemu).sum()
}

/// Runs the guest `devices` with input for the stream. Returns what it wrote to stream and console.
fn run_devices(host: &Host, input: &[u8]) -> (Vec<u8>, String, Snapshot) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name).display().to_string();
    std::fs::write(path("in"), input).unwrap();
    let machine = with(
        host,
        &[
            &format!("stream@0x300:in={}:out={}", path("in"), path("out")),
            &format!("console@0xe9-0xec:file={}", path("console")),
            "latch@0x310",
            "latch@0x314",
            "latch@0xfffe-0xffff",
            "debug-exit@0xf4",
        ],
    );
    // The even status is from pvio's debug-exit. QEMU's isa-debug-exit at the same port makes odd ones.
    let ended = machine.bare_guest(&guest("devices.bin")).run().unwrap();
    assert_eq!(ended.status.code(), Some(42), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
    let stats = ended.stats().unwrap().clone();
    assert_consistent(&stats);
    assert_eq!(stats.ended, "shutdown");
    let console = std::fs::read_to_string(path("console")).unwrap();
    (std::fs::read(path("out")).unwrap(), console, stats)
}

fn guest_uses_stream_console_latch_and_debug_exit(host: &Host) {
    // All values of a byte. The length is prime.
    let input: Vec<u8> = (0..20_011_u32).map(|index| (index * 7 + index / 256) as u8).collect();
    let (output, console, stats) = run_devices(host, &input);
    assert_eq!(output, [&input[..], b"done"].concat());
    assert_eq!(console, "written by rep outsb\nand.ok\n");

    use Direction::{In, Out};
    let bytes = input.len() as u64;
    assert_eq!(accesses(&stats, 0x300, In, Width::Byte), bytes + 1);
    assert_eq!(accesses(&stats, 0x300, In, Width::Dword), 1);
    assert_eq!(accesses(&stats, 0x300, Out, Width::Byte), bytes);
    assert_eq!(accesses(&stats, 0x300, Out, Width::Dword), 1);
    assert_eq!(accesses(&stats, 0xfffe, Out, Width::Dword), 1);
    assert_eq!(accesses(&stats, 0xf4, Out, Width::Byte), 1);
}

fn stream_of_an_empty_file_is_at_its_end(host: &Host) {
    assert_eq!(run_devices(host, b"").0, b"done");
}

fn latch_takes_every_size_at_every_port(host: &Host) {
    let mut monitor = stopped(host, &["latch@0x300-0x305"]);
    monitor.write(0x301, 4, 0x4433_2211);
    monitor.write(0x305, 1, 0x55);
    monitor.write(0x302, 2, 0xbbaa);
    assert_eq!(monitor.read(0x300, 1), 0);
    assert_eq!(monitor.read(0x301, 4), 0x44bb_aa11);
    assert_eq!(monitor.read(0x304, 2), 0x5544);
    assert!(monitor.quit().status.success());
}

fn null_reads_zeros_and_ones_reads_ones(host: &Host) {
    let mut monitor = stopped(host, &["null@0x300-0x303", "ones@0x304-0x307"]);
    for size in [1, 2, 4] {
        let ones = u32::MAX >> (32 - 8 * u32::from(size));
        for (port, value) in [(0x300, 0), (0x304, ones)] {
            monitor.write(port, size, 0x1234_5678 & ones);
            assert_eq!(monitor.read(port, size), value);
        }
    }
    assert!(monitor.quit().status.success());
}

/// The guest `devices` does the same with instructions.
fn access_belongs_to_the_device_at_its_first_port(host: &Host) {
    let mut monitor = stopped(host, &["latch@0x300-0x301", "latch@0x302-0x303"]);
    monitor.write(0x302, 2, 0x4433);
    monitor.write(0x300, 4, 0xddcc_bbaa);
    assert_eq!(monitor.read(0x300, 4), 0xffff_bbaa);
    monitor.write(0x301, 2, 0x2211);
    assert_eq!(monitor.read(0x301, 2), 0xff11);
    assert_eq!(monitor.read(0x302, 2), 0x4433);
    assert!(monitor.quit().status.success());
}

fn debug_exit_ends_qemu_and_writes_the_dump(host: &Host) {
    for status in [0, 1, 42, 255] {
        let mut monitor = stopped(host, &["debug-exit@0x500"]);
        assert_eq!(monitor.read(0x500, 4), 0);
        let ended = monitor.ask_last(&format!("o /h 0x500 {:#x}", 0xab00 + status));
        assert_eq!(ended.status.code(), Some(status));
        assert_eq!(ended.stats().unwrap().ended, "shutdown");
    }
}

fn stream_ends_with_its_file(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name).display().to_string();
    std::fs::write(path("in: 7 bytes"), "abcdefg").unwrap();
    // A colon in a value is doubled.
    let stream = format!("stream@0x300:in={}:out={}", path("in:: 7 bytes"), path("out"));
    let mut monitor = stopped(host, &[&stream, "stream@0x310"]);
    let text = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
    assert_eq!(monitor.read(0x304, 4), 7);
    assert_eq!(monitor.read(0x300, 4), text(b"abcd"));
    assert_eq!((monitor.read(0x304, 4), monitor.read(0x304, 1), monitor.read(0x305, 1)), (3, 3, 0));
    assert_eq!(monitor.read(0x300, 4), text(b"efg\xff"));
    assert_eq!((monitor.read(0x300, 1), monitor.read(0x300, 2)), (0xff, 0xffff));
    assert_eq!(monitor.read(0x304, 4), 0);
    // The number of remaining bytes is read-only. Input and output are separate files.
    monitor.write(0x304, 4, 9);
    monitor.write(0x300, 1, u32::from(b'x'));
    monitor.write(0x300, 4, text(b"yz\r\n"));

    // A stream without files reads as ended and drops what is written.
    monitor.write(0x310, 1, 1);
    assert_eq!((monitor.read(0x310, 1), monitor.read(0x314, 4)), (0xff, 0));
    assert!(monitor.quit().status.success());
    assert_eq!(std::fs::read(path("out")).unwrap(), b"xyz\r\n");
}

fn console_writes_bytes_unchanged(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("console");
    std::fs::write(&file, "of another run").unwrap();
    let mut monitor = stopped(host, &[&format!("console@0xe9:file={}", file.display())]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
    assert_eq!(monitor.read(0xe9, 1), 0xe9);
    for byte in b"hi\n\x00\xff" {
        monitor.write(0xe9, 1, u32::from(*byte));
    }
    assert!(monitor.quit().status.success());
    assert_eq!(std::fs::read(&file).unwrap(), b"hi\n\x00\xff");

    // Without a file, a console writes to stdout.
    let mut monitor = stopped(host, &["console@0xe9"]);
    monitor.write(0xe9, 1, 0x2a);
    assert_eq!(monitor.quit().stdout, "*");
}

fn uart_delivers_input_when_the_guest_is_ready(host: &Host) {
    const BASE: u16 = 0x2f8;
    const INTERRUPT_ENABLE: u16 = BASE + 1;
    const MODEM_CONTROL: u16 = BASE + 4;
    const LINE_STATUS: u16 = BASE + 5;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("in");
    let text: Vec<u8> = (b' '..=b'~').collect();
    std::fs::write(&file, &text).unwrap();
    let mut monitor = stopped(host, &[&format!("uart16550@0x2f8:in={}", file.display())]);
    let is_filled = |monitor: &mut Monitor| monitor.read(LINE_STATUS, 1) & 1 != 0;
    let receive = |monitor: &mut Monitor, count| -> Vec<u8> {
        (0..count).map(|_| monitor.read(BASE, 1) as u8).collect()
    };

    // Linux probes a UART like this.
    monitor.write(INTERRUPT_ENABLE, 1, 0x0f);
    monitor.write(INTERRUPT_ENABLE, 1, 0);
    assert!(!is_filled(&mut monitor));
    assert_eq!(monitor.read(BASE, 1), 0);

    assert!((0..16).any(|_| is_filled(&mut monitor)), "no input after 16 polls");
    // Data terminal ready, first with, then without request to send: input stops when the buffer is full.
    monitor.write(MODEM_CONTROL, 1, 3);
    monitor.write(MODEM_CONTROL, 1, 1);
    assert_eq!(receive(&mut monitor, 64), text[..64]);
    assert!(!is_filled(&mut monitor));
    monitor.write(MODEM_CONTROL, 1, 3);
    assert_eq!(receive(&mut monitor, text.len() - 64), text[64..]);
    assert!(!is_filled(&mut monitor));

    monitor.reset();
    assert_eq!(monitor.read(INTERRUPT_ENABLE, 1), 0);
    assert!(monitor.quit().status.success());
}

fn write_error_of_a_device_is_reported_once(host: &Host) {
    let mut monitor = stopped(
        host,
        &[
            "console@0xe9:file=/dev/full",
            "stream@0x300:out=/dev/full",
            "uart16550@0x2f8:file=/dev/full",
        ],
    );
    for port in [0xe9, 0x300, 0x2f8] {
        b"a\nb\n".iter().for_each(|&byte| monitor.write(port, 1, u32::from(byte)));
    }
    let ended = monitor.quit();
    assert!(ended.status.success(), "the machine stopped");
    assert_eq!(
        ended.stderr,
        ["console at 0x00e9", "stream at 0x0300-0x0307", "uart16550 at 0x02f8-0x02ff"]
            .map(|device| format!(
                "pvio: {device}: its output is incomplete: No space left on device \
                 (os error 28)\n"
            ))
            .concat()
    );
}

fn qemus_device_at_the_same_port_sees_no_access(host: &Host) {
    // Register 0x0f of the CMOS can be written and read back, through 0x70 and 0x71.
    let cmos = |monitor: &mut Monitor, value: Option<u32>| {
        monitor.write(0x70, 1, 0x0f);
        value.inspect(|&value| monitor.write(0x71, 1, value));
        monitor.read(0x71, 1)
    };
    let mut monitor = stopped(host, &["null@0x300"]);
    assert_eq!(cmos(&mut monitor, Some(0x5a)), 0x5a);
    assert_eq!(monitor.read(0x70, 1), 0xff, "QEMU's index register is write-only");
    assert!(monitor.quit().status.success());

    let mut monitor = stopped(host, &["latch@0x70-0x71"]);
    assert_eq!(cmos(&mut monitor, None), 0, "the CMOS answered");
    assert_eq!(cmos(&mut monitor, Some(0x5a)), 0x5a);
    assert_eq!(monitor.read(0x70, 2), 0x5a0f);
    assert!(monitor.quit().status.success());

    // pvio's device covers half of QEMU's: pc-testdev has a latch at 0xe0-0xe3.
    let machine = with(host, &["latch@0xe2-0xe3"]).args(["-device", "pc-testdev"]);
    let mut monitor = Monitor::start_stopped(machine);
    monitor.write(0xe0, 1, 0x11);
    monitor.write(0xe2, 2, 0x4433);
    assert_eq!((monitor.read(0xe0, 1), monitor.read(0xe1, 1)), (0x11, 0));
    assert_eq!(monitor.read(0xe2, 2), 0x4433);
    monitor.reset();
    assert_eq!(monitor.read(0xe0, 1), 0x11, "QEMU's latch lost its value");
    assert_eq!(monitor.read(0xe2, 2), 0);
    assert!(monitor.quit().status.success());
}

fn devices_work_at_adjacent_ports(host: &Host) {
    let machines: Vec<String> = (0..32).map(|n| format!("latch@{0}-{0}", 0x300 + n)).collect();
    let devices: Vec<&str> = machines.iter().map(String::as_str).collect();
    let mut monitor = stopped(host, &devices);
    (0..32).for_each(|n| monitor.write(0x300 + n, 1, u32::from(n) + 1));
    (0..32).for_each(|n| assert_eq!(monitor.read(0x300 + n, 1), u32::from(n) + 1));
    assert!(monitor.quit().status.success());
}
