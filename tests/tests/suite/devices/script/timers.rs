//! Timers of scripts run on QEMU's virtual clock.

use pvio_cli::machine::Machine;
use pvio_tests::{Host, Monitor, guest, on_both_qemus, wait_until};

use super::Scripts;

on_both_qemus! {
    timers_are_due_in_the_order_of_their_times
    timer_stands_still_with_the_machine
    timer_that_sets_itself_again_leaves_the_machine_alive
    reset_and_mistakes_cancel_timers
    guest_waits_for_the_interrupt_of_a_timer
    wrong_timers_are_mistakes
}

/// A machine without a BIOS: SeaBIOS resets a machine again that was reset while it ran, and timers end with a reset.
fn stopped(host: &Host, devices: &[String]) -> Monitor {
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    let machine = host.machine().plugin(&["summary=off"]).plugin(&devices);
    Monitor::start_stopped(machine.args(["-bios".as_ref(), guest("spin.bin").as_os_str()]))
}

/// Port 0 sets all timers but one; port 1 is the number of timers that were due; port 4 to 7 tells their order, a digit
/// each, and the last is 9 if one was due too early.
const ORDER: &str = "
fn reset() { this.order = 0; this.due = 0; this.times = []; this.times.pad(8, 0); }
fn set(number, delay) { this.times[number] = now_ns() + delay; after(delay, number); }
fn write(offset, size, value) {
    this.set(7, 3_000_000);
    this.set(2, 1_000_000);
    this.set(0, 60_000_000_000);
    this.set(4, 2_000_000);
    this.set(5, 500_000);
    cancel(5);
    this.times[0] = now_ns() + 4_000_000;
    after(4_000_000);
}
fn timer(number) {
    this.due += 1;
    this.order = this.order * 10 + if now_ns() < this.times[number] { 9 } else { number };
}
fn read(offset, size) { if offset == 1 { this.due } else { this.order } }
";

fn timers_are_due_in_the_order_of_their_times(host: &Host) {
    let scripts = Scripts::new();
    let mut monitor = stopped(host, &[scripts.device("0x300-0x307", ORDER, "")]);
    for _ in 0..2 {
        monitor.write(0x300, 1, 0);
        monitor.cont();
        wait_until(|| monitor.read(0x301, 1) == 4, || "a timer is not due".to_owned());
        assert_eq!(monitor.read(0x304, 4), 2470);
        monitor.stop();
        monitor.reset();
        assert_eq!(monitor.read(0x301, 1), 0);
    }
    assert_eq!(monitor.quit().stderr, "");
}

/// Counts in the shortest steps.
const COUNTER: &str = "
fn reset() { this.count = 0; after(0); }
fn timer(number) { this.count += 1; after(0); }
fn read(offset, size) { this.count }
fn write(offset, size, value) { if value == 0 { cancel(); } else { nothing(); } }
";

fn timer_stands_still_with_the_machine(host: &Host) {
    let scripts = Scripts::new();
    let mut monitor = stopped(host, &[scripts.device("0x300-0x303", COUNTER, "")]);
    assert_eq!(monitor.read(0x300, 4), 0);
    monitor.cont();
    wait_until(|| monitor.read(0x300, 4) > 10, || "no timer is due".to_owned());
    monitor.stop();
    let stopped_at = monitor.read(0x300, 4);
    // Each command is a turn of QEMU's main loop, which runs timers.
    for _ in 0..20 {
        assert_eq!(monitor.read(0x300, 4), stopped_at);
    }
    monitor.cont();
    wait_until(|| monitor.read(0x300, 4) > stopped_at, || "the timer is lost".to_owned());
    assert_eq!(monitor.quit().stderr, "");
}

/// QEMU's main thread, which runs timers, also serves the monitor, and the guest goes on to its end.
fn timer_that_sets_itself_again_leaves_the_machine_alive(host: &Host) {
    let scripts = Scripts::new();
    let device = scripts.device("0x300-0x303", COUNTER, "");
    let machine = host.machine().plugin(&["summary=off", &device]);
    let ended = machine.bare_guest(&guest("forms.bin")).run().unwrap();
    // isa-debug-exit turns 0 into 1.
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(1), ""));
}

fn reset_and_mistakes_cancel_timers(host: &Host) {
    let text = "
        const DELAY = 50_000_000;
        fn write(offset, size, value) { after(DELAY, value); if offset == 1 { nothing(); } }
        fn timer(number) { log(`timer ${number}`); if number == 6 { nothing(); } }
        fn read(offset, size) { now_ns() / 1_000_000 }
    ";
    let scripts = Scripts::new();
    let mut monitor = stopped(host, &[scripts.device("0x300-0x307", text, "")]);
    monitor.write(0x300, 1, 1);
    monitor.reset();
    monitor.write(0x300, 1, 2);
    monitor.write(0x301, 1, 3);
    assert_eq!(monitor.read(0x304, 4), u32::MAX, "the device is dead");
    monitor.reset();
    monitor.write(0x300, 1, 4);
    monitor.write(0x300, 1, 6);
    let begin = monitor.read(0x304, 4);
    monitor.cont();
    wait_until(|| monitor.read(0x304, 4) == u32::MAX, || "timer 6 is not due".to_owned());
    monitor.stop();
    monitor.reset();
    assert!(monitor.read(0x304, 4) - begin >= 50);
    let ended = monitor.quit();
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 4, "{}", ended.stderr);
    assert!(lines[0].contains(", in the call write(0x1, 0x1, 0x3): "), "{}", lines[0]);
    assert_eq!(lines[1], "pvio: script at 0x0300-0x0307: timer 4");
    assert_eq!(lines[2], "pvio: script at 0x0300-0x0307: timer 6");
    let mistake = lines[3];
    assert!(
        mistake.contains(":4:69: ") && mistake.contains(", in the call timer(0x6): "),
        "{mistake}"
    );
}

/// The guest halts after each write, until the device's interrupt wakes it.
fn guest_waits_for_the_interrupt_of_a_timer(host: &Host) {
    let text = "
        fn reset() { this.left = 0; }
        fn write(offset, size, value) { this.left = value; lower_irq(); after(200_000); }
        fn timer(number) { this.left -= 1; raise_irq(); }
        fn read(offset, size) { this.left }
    ";
    let scripts = Scripts::new();
    let device = scripts.device("0x300", text, ":irq=5");
    let machine = host.machine().plugin(&["summary=off", &device, "device=debug-exit@0xf4"]);
    let ended = machine.bare_guest(&guest("wait-irq5.bin")).run().unwrap();
    // Each of ten interrupts has found the device one lower than it was written.
    assert_eq!(ended.status.code(), Some(10), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
}

fn wrong_timers_are_mistakes(host: &Host) {
    const NONE: &str = "fn read(offset, size) { after(1); 1 }";
    let cases = [
        (NONE, "", "2:25: the script has no function timer; write fn timer(number)"),
        (
            "fn read(offset, size) { after(1, 8); 1 }",
            TIMER,
            "there is no timer 8; the timers are 0 to 7",
        ),
        (
            "fn read(offset, size) { cancel(-1); 1 }",
            TIMER,
            "there is no timer -1; the timers are 0 to 7",
        ),
        (
            "fn read(offset, size) { after(-5); 1 }",
            TIMER,
            "after(-5) is in the past; give nanoseconds from now, 0 or more",
        ),
    ];
    let report = |machine: Machine, read: &str, timer: &str| {
        let scripts = Scripts::new();
        let text = format!("fn write(offset, size, value) {{}}\n{read}\n{timer}");
        let device = scripts.device("0x300", &text, "");
        let mut monitor = Monitor::start_stopped(machine.plugin(&["summary=off", &device]));
        assert_eq!(monitor.read(0x300, 1), 0xff);
        monitor.quit().stderr
    };
    for (read, timer, expected) in cases {
        let stderr = report(host.machine(), read, timer);
        assert!(stderr.contains(expected), "{read}: {stderr}");
    }
    let machine = host.machine().args(["-icount", "shift=4"]);
    let stderr = report(machine, NONE, TIMER);
    assert!(stderr.contains("there are no timers in this QEMU, or with -icount"), "{stderr}");
}

const TIMER: &str = "fn timer(number) {}";
