//! SeaBIOS and its VGA BIOS, built on `pvio.h`, boot Debian's kernel from a disk.

use pvio_cli::machine::ANSWERING_API;
use pvio_cli::paravirt_linux::{Stage, Way};
use pvio_cli::paravirt_seabios::{Counts, Firmware, Kernel, boot};
use pvio_cli::paths;
use pvio_tests::{Host, assert_consistent, on_both_qemus};

on_both_qemus! {
    firmware_makes_no_access_by_instruction
    firmware_without_an_answer_uses_instructions
}

/// SeaBIOS enters the system management mode by two instructions; see guest-shim/seabios.
const BY_SMM: u64 = 2;

/// QEMU's ROM for the APIC of Windows guests, which is not SeaBIOS's, writes one port.
const BY_OTHER_ROMS: u64 = 1;

fn parts() -> (Firmware, Kernel) {
    let firmware = Firmware::new(&paths::paravirt_seabios().unwrap()).unwrap();
    (firmware, Kernel::of_the_distribution().unwrap())
}

fn firmware_makes_no_access_by_instruction(host: &Host) {
    let (firmware, kernel) = parts();
    let qemu = host.program("qemu-system-x86_64");
    let count = |way| {
        let ended = boot(&qemu, &firmware, &kernel, way, Some(&[])).unwrap();
        assert_consistent(ended.stats().unwrap());
        Counts::of(&kernel, &ended).unwrap()
    };
    let packaged = count(Way::Instructions);
    assert!(packaged.instructions[&Stage::Firmware] > 1_000_000, "{packaged:?}");
    assert!(packaged.instructions[&Stage::Roms] > 1_000, "{packaged:?}");
    assert_eq!(packaged.hypercalls, 0);
    let built = count(Way::Hypercalls);
    match host.api >= ANSWERING_API {
        true => {
            assert_eq!(built.instructions[&Stage::Firmware], BY_SMM, "{built:?}");
            assert_eq!(built.instructions[&Stage::Roms], BY_OTHER_ROMS, "{built:?}");
            // The disk's sectors go through the IDE port, two bytes at a time.
            assert!(built.by_hypercall > 1_000_000, "{built:?}");
        }
        // Calls by registers need a host that writes registers.
        false => {
            assert!(built.instructions[&Stage::Firmware] > 1_000_000, "{built:?}");
            assert_eq!(built.hypercalls, 0, "{built:?}");
        }
    }
    assert_eq!(built.refused, 0, "{built:?}");
}

fn firmware_without_an_answer_uses_instructions(host: &Host) {
    let (firmware, kernel) = parts();
    let qemu = host.program("qemu-system-x86_64");
    boot(&qemu, &firmware, &kernel, Way::Hypercalls, None).unwrap();
    let ended = boot(&qemu, &firmware, &kernel, Way::Hypercalls, Some(&["hypercall=off"])).unwrap();
    let counts = Counts::of(&kernel, &ended).unwrap();
    assert!(counts.instructions[&Stage::Firmware] > 1_000_000, "{counts:?}");
    assert_eq!(counts.by_hypercall, 0, "{counts:?}");
}
