//! A Linux kernel whose port I/O is by hypercalls: `qemu-scripts/test --long kernels` builds it and runs these.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use pvio_cli::machine::{Ended, Machine};
use pvio_cli::paravirt_linux::{Disk, Guest, Stage, Way};
use pvio_stats::CallAt;
use pvio_tests::linux::{Kallsyms, KernelSymbol};
use pvio_tests::{Host, Monitor, assert_consistent, split_symbol, wait_until};

/// Makes tests of functions `fn name(host: &Host, guest: &Guest)` for one kernel.
macro_rules! with_a_kernel {
    ($module:ident, $version:literal, $arch:literal: $($name:ident)*) => {
        mod $module {
            use pvio_cli::paravirt_linux::Guest;

            fn guest() -> Guest {
                Guest::new(&pvio_cli::paths::paravirt_linux($version, $arch).unwrap()).unwrap()
            }

            mod on_api_4 {
                $(
                    #[test]
                    #[ignore = "runs in qemu-scripts/test --long kernels"]
                    fn $name() { super::super::$name(&pvio_tests::Host::STABLE, &super::guest()) }
                )*
            }
            mod on_api_7 {
                $(
                    #[test]
                    #[ignore = "runs in qemu-scripts/test --long kernels"]
                    fn $name() { super::super::$name(&pvio_tests::Host::NEWEST, &super::guest()) }
                )*
            }
        }
    };
}

with_a_kernel! { on_linux_6_12_i386, "6.12", "i386":
    kernel_makes_no_access_by_instruction
    kernel_without_an_answer_uses_instructions
    kernel_under_kvm_uses_instructions
    disk_by_ports_has_the_right_contents
    latches_are_right_while_cpus_come_and_go
    migrated_in_the_middle_of_strings_to_a_host_without_pvio
    kernel_makes_no_access_by_instruction_after_sleep
    call_sites_are_functions_of_the_kernel
}

with_a_kernel! { on_linux_6_12_x86_64, "6.12", "x86_64":
    kernel_makes_no_access_by_instruction
    kernel_without_an_answer_uses_instructions
    kernel_under_kvm_uses_instructions
    disk_by_ports_has_the_right_contents
    latches_are_right_while_cpus_come_and_go
    migrated_in_the_middle_of_strings_to_a_host_without_pvio
    kernel_makes_no_access_by_instruction_after_sleep
    call_sites_are_functions_of_the_kernel
}

with_a_kernel! { on_linux_6_1_i386, "6.1", "i386":
    kernel_makes_no_access_by_instruction
    disk_by_ports_has_the_right_contents
}

with_a_kernel! { on_linux_6_1_x86_64, "6.1", "x86_64":
    kernel_makes_no_access_by_instruction
    disk_by_ports_has_the_right_contents
}

with_a_kernel! { on_linux_7_3_i386, "7.3", "i386":
    kernel_makes_no_access_by_instruction
    disk_by_ports_has_the_right_contents
}

with_a_kernel! { on_linux_7_3_x86_64, "7.3", "x86_64":
    kernel_makes_no_access_by_instruction
    disk_by_ports_has_the_right_contents
}

/// Parameter that makes the disk's driver move all data by port accesses.
const NO_DMA: &str = "libata.dma=0";

/// The longest that a run may take on a busy host.
const TIME_LIMIT: Duration = Duration::from_secs(400);

fn qemu(host: &Host) -> std::path::PathBuf {
    host.program("qemu-system-x86_64")
}

/// The accesses of the kernel by instruction.
fn by_kernel(guest: &Guest, ended: &Ended) -> u64 {
    guest.instructions(ended).unwrap()[&Stage::Kernel]
}

fn kernel_makes_no_access_by_instruction(host: &Host, guest: &Guest) {
    let native = guest.counts(&guest.boot(&qemu(host), Way::Instructions).unwrap()).unwrap();
    let calls = guest.counts(&guest.boot(&qemu(host), Way::Hypercalls).unwrap()).unwrap();
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

fn kernel_without_an_answer_uses_instructions(host: &Host, guest: &Guest) {
    for plugin in [None, Some(&["hypercall=off"][..])] {
        let ended = guest.boot_with(&qemu(host), plugin).unwrap();
        assert!(ended.stdout.contains("pvio: port I/O by instructions: no host answers"));
    }
}

/// Hardware treats the call's instruction as a NOP.
fn kernel_under_kvm_uses_instructions(host: &Host, guest: &Guest) {
    if !Path::new("/dev/kvm").exists() {
        eprintln!("skipped: this needs KVM");
        return;
    }
    let ended = guest.machine(&qemu(host), &["port"], "").args(["-accel", "kvm"]).run().unwrap();
    assert!(ended.stdout.contains("pvio: port I/O by instructions: no host answers"));
    assert!(ended.stdout.contains("pvio: month by file: "), "{}", ended.stdout);
}

fn disk_by_ports_has_the_right_contents(host: &Host, guest: &Guest) {
    // It compares what the guest has read, and what it has written.
    let run = guest.use_disk(&qemu(host), Way::Hypercalls).unwrap();
    let counts = guest.counts(&run).unwrap();
    for stage in [Stage::Setup, Stage::Decompressor, Stage::Kernel] {
        assert_eq!(counts.instructions[&stage], 0, "{counts:?}");
    }
    assert_eq!(counts.refused, 0, "{counts:?}");
}

/// Four processes and four CPUs, a million pairs of a write and a read. A CPU that comes back uses its old mailbox.
fn latches_are_right_while_cpus_come_and_go(host: &Host, guest: &Guest) {
    let machine = guest.machine(&qemu(host), &["latch"], "").args(["-smp", "4"]);
    let machine =
        machine.time_limit(TIME_LIMIT).plugin(&["summary=off", "device=latch@0x5000-0x5003"]);
    let ended = machine.run().unwrap();
    let (_, changes) = ended
        .stdout
        .split_once("pvio: latches are right; changes of CPUs: ")
        .unwrap_or_else(|| panic!("{}{}", ended.stdout, ended.stderr));
    let changes = u32::from_str_radix(&changes[..8], 16).unwrap();
    assert!(changes >= 12, "{changes}");
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    assert_eq!(by_kernel(guest, &ended), 0);
    for port in 0x5000..0x5004 {
        let rows = stats.ports.iter().filter(|row| row.port.0 == port);
        let by_call: Vec<u64> = rows.map(|row| row.hypercall).collect();
        assert_eq!(by_call, [250_000, 250_000], "{port:#x}");
    }
}

/// The second QEMU has no plugin, so the kernel's next call finds nobody.
fn migrated_in_the_middle_of_strings_to_a_host_without_pvio(host: &Host, guest: &Guest) {
    let directory = tempfile::tempdir().unwrap();
    let [disk, saved] = ["disk", "saved"].map(|name| directory.path().join(name));
    let contents = Disk::initial();
    fs::write(&disk, &contents).unwrap();
    let drive = format!("file={},format=raw,if=ide,cache=unsafe", disk.display());
    let machine = || -> Machine {
        guest
            .machine(&qemu(host), &["read"], NO_DMA)
            .args(["-drive", &drive])
            .time_limit(TIME_LIMIT)
    };
    let mut monitor = Monitor::start(machine().plugin(&["summary=off"]));
    let said = |monitor: &Monitor| monitor.running().stdout().unwrap();
    wait_until(|| said(&monitor).contains("pvio: read begins"), || said(&monitor));
    // The program sleeps for 0.1 s after its mark.
    std::thread::sleep(Duration::from_millis(300));
    monitor.migrate(&saved).unwrap();
    assert!(!said(&monitor).contains("pvio: read ends"), "the disk was read too fast");
    let ended = monitor.quit();
    let strings =
        ended.stats().unwrap().hypercalls.iter().filter(|row| row.call.name().starts_with("ins"));
    assert!(strings.map(|row| row.count).sum::<u64>() > 100, "the disk was not yet read");
    assert_eq!(by_kernel(guest, &ended), 0);

    let ended = machine().args(["-incoming", &format!("file:{}", saved.display())]).run().unwrap();
    let checksum = format!("pvio: checksum: {:08x}", Disk::checksum(&contents));
    assert!(ended.stdout.contains(&checksum), "{}{}", ended.stdout, ended.stderr);
}

/// QEMU resets the machine when it wakes up, so the host has forgotten the mailboxes.
fn kernel_makes_no_access_by_instruction_after_sleep(host: &Host, guest: &Guest) {
    let machine = guest.machine(&qemu(host), &["sleep"], "").args(["-smp", "2"]);
    let machine = machine.args(["-global", "PIIX4_PM.disable_s3=0"]);
    let ended = machine.plugin(&["summary=off"]).run().unwrap();
    assert!(ended.stdout.contains("pvio: awake"), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("pvio: month by file: "), "{}", ended.stdout);
    assert_eq!(by_kernel(guest, &ended), 0);
}

/// The kernel states the callers of its port functions. It has not moved, so System.map has their names.
fn call_sites_are_functions_of_the_kernel(host: &Host, guest: &Guest) {
    let map = Kallsyms::read(guest.system_map());
    let run = guest.boot(&qemu(host), Way::Hypercalls).unwrap();
    let stats = run.ended.stats().unwrap();
    assert_consistent(stats);
    let mut functions = BTreeSet::new();
    let stated = stats.call_sites.iter().filter(|row| row.at == CallAt::Return);
    for row in stated.filter(|row| map.is_kernel(row.address().unwrap())) {
        let pc = row.address().unwrap();
        let symbol = row.symbol.as_deref().unwrap_or_else(|| panic!("no name: {row:?}"));
        let (name, offset) = split_symbol(symbol);
        // A call may be the last instruction of its function. Several functions may have one name.
        let (_, offset_before) = split_symbol(&map.name(pc - 1).unwrap());
        assert_eq!(offset, offset_before + 1, "{row:?}");
        let is_named = |symbol: &KernelSymbol| symbol.name == name && symbol.address + offset == pc;
        assert!(map.symbols().iter().any(is_named), "{row:?}");
        functions.insert(name);
    }
    assert!(functions.len() > 20, "{functions:?}");
    for expected in ["io_serial_out", "io_serial_in", "pci_conf1_read"] {
        assert!(functions.contains(expected), "no {expected}: {functions:?}");
    }
    assert!(!functions.iter().any(|name| name.starts_with("pvio_")), "{functions:?}");
}
