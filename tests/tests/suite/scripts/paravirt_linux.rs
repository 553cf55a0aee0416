//! A Linux kernel whose port I/O is by hypercalls: `qemu-scripts/test --long kernels` builds it and runs these.

use pvio_cli::paravirt_linux::{Guest, Stage, Way};
use pvio_cli::paths;
use pvio_tests::Host;

fn guest() -> Guest {
    Guest::new(&paths::paravirt_linux("6.12", "i386").unwrap()).unwrap()
}

/// Makes tests of functions `fn name(host: &Host)` for the long part.
macro_rules! in_the_long_part {
    ($($name:ident)*) => {
        mod on_api_4 {
            $(
                #[test]
                #[ignore = "runs in qemu-scripts/test --long kernels"]
                fn $name() { super::$name(&pvio_tests::Host::STABLE) }
            )*
        }
        mod on_api_7 {
            $(
                #[test]
                #[ignore = "runs in qemu-scripts/test --long kernels"]
                fn $name() { super::$name(&pvio_tests::Host::NEWEST) }
            )*
        }
    };
}

in_the_long_part! {
    kernel_makes_no_access_by_instruction
    kernel_without_an_answer_uses_instructions
    disk_by_ports_has_the_right_contents
}

fn kernel_makes_no_access_by_instruction(host: &Host) {
    let guest = guest();
    let qemu = host.program("qemu-system-x86_64");
    let native = guest.counts(&guest.boot(&qemu, Way::Instructions).unwrap()).unwrap();
    let calls = guest.counts(&guest.boot(&qemu, Way::Hypercalls).unwrap()).unwrap();
    for stage in [Stage::Setup, Stage::Decompressor] {
        assert!(native.instructions[&stage] > 0, "{native:?}");
        assert_eq!(calls.instructions[&stage], 0, "{calls:?}");
    }
    assert!(native.instructions[&Stage::Kernel] > 10_000, "{native:?}");
    assert_eq!(calls.instructions[&Stage::Kernel], 0, "{calls:?}");
    // The program of the guest makes two accesses by itself, after ioperm(). Before QEMU 11 they are unverified.
    if host.api >= 6 {
        assert_eq!(calls.instructions[&Stage::User], 2, "{calls:?}");
    }
    assert_eq!((native.hypercalls, native.refused, calls.refused), (0, 0, 0));
    assert!(calls.hypercalls > 10_000, "{calls:?}");
}

fn kernel_without_an_answer_uses_instructions(host: &Host) {
    let guest = guest();
    let qemu = host.program("qemu-system-x86_64");
    for plugin in [None, Some(&["hypercall=off"][..])] {
        let ended = guest.boot_with(&qemu, plugin).unwrap();
        assert!(ended.stdout.contains("pvio: port I/O by instructions: no host answers"));
    }
}

fn disk_by_ports_has_the_right_contents(host: &Host) {
    let guest = guest();
    let qemu = host.program("qemu-system-x86_64");
    // It compares what the guest has read, and what it has written.
    let run = guest.use_disk(&qemu, Way::Hypercalls).unwrap();
    let counts = guest.counts(&run).unwrap();
    let strings: u64 = [Stage::Setup, Stage::Decompressor, Stage::Kernel]
        .map(|stage| counts.instructions[&stage])
        .iter()
        .sum();
    assert_eq!(strings, 0, "{counts:?}");
    assert_eq!(counts.refused, 0, "{counts:?}");
}
