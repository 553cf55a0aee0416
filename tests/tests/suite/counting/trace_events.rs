//! The plugin's counts by port equal QEMU's own trace events of the same run, access by access.

use std::collections::{BTreeMap, BTreeSet};

use pvio::stats::{PortRow, Snapshot};
use pvio::x86::{Direction, Port, Width};
use pvio_cli::machine::{Ended, Machine};
use pvio_tests::{
    Event, Host, Trace, assert_consistent, boot_linux, on_both_qemus, run_guest, run_seabios,
    without_modules,
};

on_both_qemus! {
    counts_of_a_linux_boot_are_qemus_trace_events
    counts_of_a_linux_boot_on_four_vcpus_are_qemus_trace_events
    counts_of_seabios_on_pc_are_qemus_trace_events
    counts_of_seabios_on_q35_are_qemus_trace_events
    counts_of_all_forms_are_trace_events_of_qemus_and_pvios_regions
}

without_modules! {
    ; needs "pvio's devices":
    counts_of_all_forms_are_trace_events_of_qemus_and_pvios_regions
    ; needs "the mode of all code":
    counts_of_a_linux_boot_are_qemus_trace_events
    counts_of_a_linux_boot_on_four_vcpus_are_qemus_trace_events
    counts_of_seabios_on_pc_are_qemus_trace_events
    counts_of_seabios_on_q35_are_qemus_trace_events
}

/// How QEMU adapts an access to a device's sizes, before the event.
///
/// It splits a wider access into several at consecutive ports, and widens a narrower one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// The smallest and the largest size, in bytes.
    Between(u8, u8),
    /// It changes during the run: only bytes can be compared.
    Varies,
}

/// The regions in these machines that do not implement all three sizes.
const FITTED: [(&str, Fit); 2] = [
    // QEMU models all registers with two bytes; in hardware one has a single byte.
    ("uhci", Fit::Between(2, 2)),
    // Before QEMU 11 there are two regions with this name. The second replaces the first at the guest's
    // first write.
    ("acpi-cpu-hotplug", Fit::Varies),
];

/// Accesses that raise no event, or may raise none: region, offset in it, and why.
const SILENT: [(&str, u16, &str); 1] = [(
    "virtio-pci",
    0x10,
    "a write of the queue's number wakes a thread by an event descriptor, and never reaches the device",
)];

/// Port, direction and size.
type Access = (Port, Direction, Width);

/// The plugin's counts and QEMU's events of one run.
struct Compared<'a> {
    stats: &'a Snapshot,
    events: BTreeMap<Event, u64>,
}

impl Compared<'_> {
    /// The regions that had a port at some time during the run.
    fn regions(&self, port: Port) -> BTreeSet<&str> {
        let events = self.events.keys().filter(|event| event.port == port);
        events.map(|event| &*event.region).collect()
    }

    /// Returns how QEMU adapts accesses to a port.
    fn fit(&self, port: Port) -> Fit {
        let regions = self.regions(port);
        let fit = FITTED.iter().find(|(region, _)| regions.contains(region));
        fit.map_or(Fit::Between(1, 4), |&(_, fit)| fit)
    }

    /// The accesses that the device sees for an access that the plugin counted.
    fn fitted(&self, row: &PortRow) -> Vec<Access> {
        let Fit::Between(least, most) = self.fit(row.port) else {
            return Vec::new();
        };
        let size = row.size.bytes().unwrap();
        let fitted = size.min(most).max(least);
        let access = |offset| {
            let port = Port(row.port.0 + u16::from(offset));
            (port, row.dir, fitted.try_into().expect("1, 2 or 4"))
        };
        (0..size).step_by(fitted.into()).map(access).collect()
    }

    /// Returns true if an access is in the list of those without an event.
    fn is_silent(&self, port: Port) -> bool {
        SILENT.iter().any(|&(region, offset, _)| {
            // Drivers read the first register, so it is the lowest port with an event.
            let base = self.events.keys().find(|event| event.region == region);
            base.is_some_and(|base| base.port.0 + offset == port.0)
        })
    }

    /// Fails unless `column` of the rows is QEMU's events, by port, direction and size.
    fn assert_accesses(&self, column: fn(&PortRow) -> u64) {
        let mut expected: BTreeMap<Access, u64> = BTreeMap::new();
        for row in self.stats.ports.iter().filter(|row| !self.is_silent(row.port)) {
            for access in self.fitted(row) {
                *expected.entry(access).or_default() += column(row);
            }
        }
        let mut raised: BTreeMap<Access, u64> = BTreeMap::new();
        let compared = |event: &Event| self.fit(event.port) != Fit::Varies;
        for (event, count) in self.events.iter().filter(|(event, _)| compared(event)) {
            *raised.entry((event.port, event.dir, event.size)).or_default() += count;
        }
        let accesses: BTreeSet<_> = expected.keys().chain(raised.keys()).copied().collect();
        let differences: Vec<String> = accesses
            .into_iter()
            .filter(|access| expected.get(access) != raised.get(access))
            .map(|access @ (port, dir, size)| {
                format!(
                    "{port} {dir} {}: {:?} counted, {:?} events of {:?}",
                    size.bytes(),
                    expected.get(&access),
                    raised.get(&access),
                    self.regions(port),
                )
            })
            .collect();
        assert!(differences.is_empty(), "{differences:#?}");
    }

    /// Fails unless the plugin's counts and QEMU's events moved the same bytes, by port and direction.
    fn assert_bytes(&self, column: fn(&PortRow) -> u64) {
        // Each byte of an access counts at its own port, so adjacent regions are distinguished.
        let mut counted: BTreeMap<(u16, Direction), u64> = BTreeMap::new();
        for row in self.stats.ports.iter().filter(|row| !self.is_silent(row.port)) {
            for offset in 0..row.size.bytes().unwrap() {
                *counted.entry((row.port.0 + u16::from(offset), row.dir)).or_default() +=
                    column(row);
            }
        }
        let mut moved: BTreeMap<(u16, Direction), u64> = BTreeMap::new();
        for (event, count) in &self.events {
            for offset in 0..event.size.bytes() {
                *moved.entry((event.port.0 + u16::from(offset), event.dir)).or_default() += count;
            }
        }
        // Accesses that QEMU widens have more bytes.
        let widened = |&(port, _): &(u16, Direction)| {
            let ports = port - port % 4..=port;
            ports.map(Port).any(|port| matches!(self.fit(port), Fit::Between(2.., _)))
        };
        counted.retain(|at, bytes| *bytes > 0 && !widened(at));
        moved.retain(|at, _| !widened(at));
        assert_eq!(counted, moved);
    }

    /// Fails unless each vCPU has as many events as the plugin counted accesses.
    fn assert_vcpus(&self) {
        for row in &self.stats.vcpus {
            let events = self.events.iter().filter(|(event, _)| event.vcpu == Some(row.vcpu));
            let raised: u64 = events.map(|(_, count)| count).sum();
            assert_eq!(row.accesses, raised, "vCPU {}", row.vcpu);
        }
    }

    /// Fails unless these regions have events, so that there is something to compare.
    fn assert_regions(&self, expected: &[&str]) {
        let seen: BTreeSet<&str> = self.events.keys().map(|event| &*event.region).collect();
        for region in expected {
            assert!(seen.contains(region), "{region} is not among {seen:?}");
        }
    }
}

/// Runs a machine with the plugin and with QEMU's trace, and checks the two.
fn compare(
    host: &Host,
    machine: Machine,
    run: impl FnOnce(Machine) -> Ended,
    check: impl FnOnce(&Compared<'_>),
) {
    let trace = Trace::new();
    let ended = run(trace.on(machine));
    let stats = ended.stats().unwrap();
    assert_eq!(stats.qemu.plugin_api, host.api);
    assert_consistent(stats);
    let mut events = trace.port_events();
    // The plugin tests the port bus before the vCPUs exist.
    events.retain(|event, _| {
        assert!(event.vcpu.is_some() || event.region == "pvio: self-test", "{event:?}");
        event.vcpu.is_some()
    });
    check(&Compared { stats, events });
}

/// QEMU's accesses of a row that has no others.
fn qemu(row: &PortRow) -> u64 {
    assert_eq!(row.device + row.unverified + row.hypercall, 0, "{row:?}");
    row.qemu
}

/// The regions that every PC has.
const USUAL: [&str; 10] = [
    "pci-conf-idx",
    "pci-conf-data",
    "rtc-index",
    "rtc",
    "pic",
    "pit",
    "i8042-cmd",
    "i8042-data",
    "vga",
    "fwcfg.dma",
];

fn counts_of_a_linux_boot_are_qemus_trace_events(host: &Host) {
    let machine = host.machine().plugin(&[]);
    compare(host, machine, boot_linux, |compared| {
        compared.assert_accesses(qemu);
        compared.assert_bytes(qemu);
        compared.assert_regions(&USUAL);
        // "io" covers ports without a device.
        compared.assert_regions(&["serial", "pcspk", "ide", "io", "acpi-cnt", "acpi-evt"]);
    });
}

fn counts_of_a_linux_boot_on_four_vcpus_are_qemus_trace_events(host: &Host) {
    let machine = host.machine().plugin(&[]);
    compare(host, machine.args(["-smp", "4"]), boot_linux, |compared| {
        compared.assert_accesses(qemu);
        compared.assert_bytes(qemu);
        // QEMU 10 splits accesses, so its numbers of events differ.
        if host.api >= 7 {
            compared.assert_vcpus();
        }
        assert_eq!(compared.stats.vcpus.len(), 4);
    });
}

/// The machine has the kinds of devices that SeaBIOS drives by ports.
fn counts_of_seabios_on_pc_are_qemus_trace_events(host: &Host) {
    let machine = host
        .machine()
        .plugin(&[])
        .args(["-machine", "pc", "-m", "64", "-vga", "std", "-usb", "-device", "usb-kbd"])
        .args(["-serial", "null", "-parallel", "null"])
        .args(["-drive", "driver=null-co,read-zeroes=on,size=1M,if=ide"])
        .args(["-drive", "driver=null-co,read-zeroes=on,size=1M,if=none,id=virtio"])
        // SeaBIOS's driver for ports finds this disk, and on QEMU 11 boots from it.
        .args([
            "-device",
            "virtio-blk-pci,drive=virtio,disable-legacy=off,disable-modern=on,bootindex=1",
        ]);
    compare(host, machine, run_seabios, |compared| {
        compared.assert_accesses(qemu);
        compared.assert_bytes(qemu);
        compared.assert_regions(&USUAL);
        compared.assert_regions(&["uhci", "ide", "virtio-pci", "isa-debugcon", "acpi-tmr"]);
    });
}

fn counts_of_seabios_on_q35_are_qemus_trace_events(host: &Host) {
    let machine = host.machine().plugin(&[]).args(["-machine", "q35", "-m", "64", "-vga", "std"]);
    let machine = machine.args(["-smp", "2"]);
    compare(host, machine, run_seabios, |compared| {
        compared.assert_accesses(qemu);
        compared.assert_bytes(qemu);
        compared.assert_vcpus();
        compared.assert_regions(&USUAL);
        compared.assert_regions(&["acpi-smi", "acpi-tmr", "isa-debugcon"]);
    });
}

/// The ports of the guest `forms` have no device on a PC. Here one of pvio's devices has half of them, and
/// raises the same events as QEMU's devices.
fn counts_of_all_forms_are_trace_events_of_qemus_and_pvios_regions(host: &Host) {
    let machine = host.machine().plugin(&["device=ones@0x5000-0x50ff"]);
    let run = |machine: Machine| run_guest(machine, "forms").ended;
    compare(host, machine, run, |compared| {
        compared.assert_accesses(|row| row.qemu + row.device);
        compared.assert_bytes(|row| row.qemu + row.device);
        compared.assert_vcpus();
        let rows = || compared.stats.ports.iter();
        for row in rows() {
            let regions = compared.regions(row.port);
            assert_eq!(row.device > 0, regions.iter().any(|name| name.starts_with("pvio")));
            assert_eq!(row.served == Some(false), regions.contains("io"), "{row:?}");
        }
        assert!(rows().any(|row| row.device > 0) && rows().any(|row| row.served == Some(false)));
    });
}
