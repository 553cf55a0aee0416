//! A Linux kernel whose port I/O is by hypercalls: `qemu-scripts/test --long kernels` builds it and runs these.

use std::collections::BTreeSet;

use pvio_cli::machine::ANSWERING_API;
use pvio_cli::paravirt_linux::{Guest, Stage, Way};
use pvio_cli::paths;
use pvio_stats::CallAt;
use pvio_tests::linux::Kallsyms;
use pvio_tests::{Host, assert_consistent, split_symbol};

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
    call_sites_are_functions_of_the_kernel
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
    match host.api >= ANSWERING_API {
        true => assert_eq!(calls.instructions[&Stage::Kernel], 0, "{calls:?}"),
        // Strings need registers.
        false => assert_eq!(calls.instructions[&Stage::Kernel], calls.strings, "{calls:?}"),
    }
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
    match host.api >= ANSWERING_API {
        true => assert_eq!(strings, 0, "{counts:?}"),
        // Strings need registers.
        false => assert!(strings > 1_000_000, "{counts:?}"),
    }
    assert_eq!(counts.refused, 0, "{counts:?}");
}

/// The kernel states the callers of its port functions. It has not moved, so System.map has their names.
fn call_sites_are_functions_of_the_kernel(host: &Host) {
    let map = paths::paravirt_linux("6.12", "i386").unwrap().join("System.map");
    let map = Kallsyms::read(&map);
    let run = guest().boot(&host.program("qemu-system-x86_64"), Way::Hypercalls).unwrap();
    let stats = run.ended.stats().unwrap();
    assert_consistent(stats);
    let mut functions = BTreeSet::new();
    let stated = stats.call_sites.iter().filter(|row| row.at == CallAt::Return);
    for row in stated.filter(|row| map.is_kernel(row.address().unwrap())) {
        let pc = row.address().unwrap();
        let symbol = row.symbol.as_deref().unwrap_or_else(|| panic!("no name: {row:?}"));
        let (name, offset) = split_symbol(symbol);
        assert_eq!(map.address(name) + offset, pc, "{row:?}");
        // A call may be the last instruction of its function.
        let before = map.name(pc - 1).unwrap();
        assert_eq!(map.address(split_symbol(&before).0), map.address(name), "{row:?}: {before}");
        functions.insert(name);
    }
    assert!(functions.len() > 20, "{functions:?}");
    for expected in ["io_serial_out", "io_serial_in", "pci_conf1_read"] {
        assert!(functions.contains(expected), "no {expected}: {functions:?}");
    }
    assert!(!functions.iter().any(|name| name.starts_with("pvio_")), "{functions:?}");
}
