//! Ports are named after the devices of the machine, not after the devices that a PC usually has.

use pvio_cli::expected_forms;
use pvio_tests::{Host, on_both_qemus, port_reader, run_seabios};

on_both_qemus! {
    ports_are_named_after_the_devices_that_are_there
    every_port_of_a_device_that_seabios_uses_has_a_name
}

fn ports_are_named_after_the_devices_that_are_there(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let expected = [
        (0x64, Some("keyboard control"), true),
        // Ports without a device: where a PC usually has one, and where it has none.
        (0x190, Some("(POST code (PS/2))"), false),
        (0x278, Some("latch"), true),
        (0x280, None, false),
        // QEMU's device at the usual port of another.
        (0x300, Some("parallel"), true),
        (0x378, Some("(LPT1)"), false),
        (0x3f0, Some("(floppy)"), false),
        (0x8a00, Some("(Bochs debugger)"), false),
        (0xae00, Some("ACPI PCI hotplug"), true),
    ];
    let ended = host
        .machine()
        .plugin(&["summary=off", "device=latch@0x278"])
        .bare_guest(&port_reader(&directory, &expected.map(|(port, ..)| port)))
        .args(["-device", "isa-parallel,iobase=0x300,chardev=null"])
        .args(["-chardev", "null,id=null"])
        .run()
        .unwrap();
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED), "{}", ended.stderr);
    let ports = &ended.stats().unwrap().ports;
    for (port, name, served) in expected {
        let row = ports.iter().find(|row| row.port.0 == port).unwrap();
        assert_eq!((row.name.as_deref(), row.served), (name, Some(served)), "{port:#x}");
    }
    let exit = ports.iter().find(|row| row.port.0 == 0xf4).unwrap();
    assert_eq!(exit.name.as_deref(), Some("debug exit"));
}

fn every_port_of_a_device_that_seabios_uses_has_a_name(host: &Host) {
    for machine in ["pc", "q35"] {
        let seabios =
            host.machine().plugin(&["summary=off"]).args(["-machine", machine, "-vga", "std"]);
        let ended = run_seabios(seabios);
        let stats = ended.stats().unwrap();
        for row in &stats.ports {
            assert!(row.name.is_some() || row.served == Some(false), "{machine}: {row:?}");
            let name = row.name.as_deref().unwrap_or_default();
            assert!(row.served == Some(!name.starts_with('(')) || name.is_empty(), "{row:?}");
        }
        for name in ["KVM APIC", "VBE", "PCI config data", "VGA", "CMOS/RTC", "fw_cfg"] {
            assert!(stats.ports.iter().any(|row| row.name.as_deref() == Some(name)), "{name}");
        }
    }
}
