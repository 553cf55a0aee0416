//! Devices when the machine is reset, saved or migrated.

use std::path::Path;

use pvio_cli::machine::Machine;
use pvio_tests::{Host, Monitor, on_both_qemus, snapshot_drive};

on_both_qemus! {
    machine_reset_resets_devices
    device_with_state_blocks_saving_and_migration
    devices_without_state_allow_saving_and_migration
    only_migratable_refuses_a_device_with_state
}

fn stopped(host: &Host, devices: &[&str]) -> Machine {
    let devices: Vec<String> = devices.iter().map(|device| format!("device={device}")).collect();
    host.machine().plugin(&["summary=off"]).plugin(&refs(&devices))
}

fn refs(strings: &[String]) -> Vec<&str> {
    strings.iter().map(String::as_str).collect()
}

fn machine_reset_resets_devices(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("in");
    std::fs::write(&input, "abc").unwrap();
    let stream = format!("stream@0x310:in={}", input.display());
    let machine = stopped(host, &["latch@0x300", &stream, "uart16550@0x2f8"]);
    let mut monitor = Monitor::start_stopped(machine);

    const SCRATCH: u16 = 0x2f8 + 7;
    // A reset by the user, and a guest's: the keyboard controller's command 0xfe.
    for by_guest in [false, true] {
        monitor.write(0x300, 4, 0x4433_2211);
        monitor.write(SCRATCH, 1, 0x5a);
        assert_eq!((monitor.read(0x300, 4), monitor.read(SCRATCH, 1)), (0x4433_2211, 0x5a));
        assert_eq!(monitor.read(0x310, 2), u32::from(u16::from_le_bytes(*b"ab")));
        assert_eq!(monitor.read(0x314, 4), 1);

        if by_guest {
            monitor.write(0x64, 1, 0xfe);
            monitor.wait_for_reset();
        } else {
            monitor.reset();
        }
        assert_eq!((monitor.read(0x300, 4), monitor.read(SCRATCH, 1)), (0, 0), "{by_guest}");
        assert_eq!(monitor.read(0x314, 4), 3);
    }
    assert!(monitor.quit().status.success());
}

/// Starts a stopped machine with a disk that can hold snapshots.
fn with_disk(machine: Machine, directory: &Path) -> Monitor {
    let drive = snapshot_drive(directory);
    let mut monitor = Monitor::start_stopped(machine.args(["-drive", &drive]));
    monitor.add_overlay(directory);
    monitor
}

fn device_with_state_blocks_saving_and_migration(host: &Host) {
    for (device, name) in [
        ("latch@0x300", "latch at 0x0300-0x0303"),
        ("stream@0x300", "stream at 0x0300-0x0307"),
        ("uart16550@0x2f8:irq=3", "uart16550 at 0x02f8-0x02ff"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let saved = directory.path().join("saved");
        let mut monitor = with_disk(stopped(host, &["null@0x320", device]), directory.path());
        let reason = format!("pvio's device {name} has state that QEMU cannot save or migrate");
        assert_eq!(monitor.ask("savevm state"), format!("Error: {reason}"));
        assert_eq!(monitor.migrate(&saved), Err(reason));
        assert!(!saved.exists());
        assert!(monitor.quit().status.success());
    }
}

fn devices_without_state_allow_saving_and_migration(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let console = format!("console@0xe9:file={}", directory.path().join("console").display());
    let devices = ["null@0x300", "ones@0x301", &console, "debug-exit@0xf4"];
    let mut monitor = with_disk(stopped(host, &devices), directory.path());
    for command in ["savevm state", "loadvm state"] {
        assert_eq!(monitor.ask(command), "");
    }
    assert!(monitor.ask("info snapshots").contains("state"));
    assert_eq!((monitor.read(0x300, 1), monitor.read(0x301, 1)), (0, 0xff));

    let saved = directory.path().join("saved");
    monitor.migrate(&saved).unwrap();
    assert!(saved.metadata().unwrap().len() > 10_000);
    assert!(monitor.quit().status.success());
}

fn only_migratable_refuses_a_device_with_state(host: &Host) {
    let machine = stopped(host, &["latch@0x300"]).args(["-only-migratable"]);
    let ended = machine.args(["-machine", "pc", "-display", "none"]).run().unwrap();
    assert!(!ended.status.success());
    let expected = "pvio: option \"device\": a device that has state cannot be migrated, and QEMU runs with \
                    -only-migratable; remove one of the two";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    let stateless = stopped(host, &["null@0x300"]).args(["-only-migratable"]);
    assert!(Monitor::start_stopped(stateless).quit().status.success());
}
