//! The plugin's counts against QEMU's own: in one run, what the plugin counts at each port, and the trace
//! events that QEMU raises for each access which reaches a region of its port space.

use std::collections::{BTreeMap, BTreeSet};

use pvio::stats::{PortRow, Snapshot};
use pvio::x86::{Direction, Port, Width};
use pvio_cli::expected_forms;
use pvio_cli::machine::{Ended, Machine};
use pvio_cli::paths;
use pvio_tests::{Event, Host, Trace, assert_consistent, guest, on_both_qemus, run_seabios};

on_both_qemus! {
    a_boot_of_linux
    a_boot_of_linux_on_four_vcpus
    seabios_on_a_pc
    seabios_on_a_q35
    all_forms_at_qemus_ports_and_at_a_device_of_pvios
}

/// How QEMU fits an access to what a device implements, before the event. Of a wider one than that it makes
/// several, at ports that follow one another; a narrower one becomes one as wide as that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// To no less and no more than this, in bytes.
    Between(u8, u8),
    /// Not always in the same way: only bytes can be compared.
    Varies,
}

/// The regions, in these machines, that do not take the three widths as they are.
const FITTED: [(&str, Fit); 2] = [
    // Registers of two bytes each, by QEMU's model of them; one has one byte in hardware.
    ("uhci", Fit::Between(2, 2)),
    // Before QEMU 11 two regions of this name, one after the other: one of bytes, and one that takes its
    // place with the guest's first write.
    ("acpi-cpu-hotplug", Fit::Varies),
];

/// Accesses that raise no event, or may raise none: region, offset in it, and why.
const SILENT: [(&str, u16, &str); 1] = [(
    "virtio-pci",
    0x10,
    "a write of the queue's number wakes a thread by an event descriptor, and never reaches the device",
)];

/// A port, which way, how much.
type Access = (Port, Direction, Width);

/// What both say of a run.
struct Compared<'a> {
    stats: &'a Snapshot,
    events: BTreeMap<Event, u64>,
}

impl Compared<'_> {
    /// The regions that had a port at some time of the run.
    fn regions(&self, port: Port) -> BTreeSet<&str> {
        let events = self.events.keys().filter(|event| event.port == port);
        events.map(|event| &*event.region).collect()
    }

    /// What becomes of accesses to a port.
    fn fit(&self, port: Port) -> Fit {
        let regions = self.regions(port);
        let fit = FITTED.iter().find(|(region, _)| regions.contains(region));
        fit.map_or(Fit::Between(1, 4), |&(_, fit)| fit)
    }

    /// What an access that the plugin counted is to the device.
    fn fitted(&self, row: &PortRow) -> Vec<Access> {
        let Fit::Between(least, most) = self.fit(row.port) else {
            return Vec::new();
        };
        let size = row.size.bytes();
        let fitted = size.min(most).max(least);
        let access = |offset| {
            let port = Port(row.port.0 + u16::from(offset));
            (port, row.dir, fitted.try_into().expect("1, 2 or 4"))
        };
        (0..size).step_by(fitted.into()).map(access).collect()
    }

    /// Whether an access is in the list of those without an event.
    fn is_silent(&self, port: Port) -> bool {
        SILENT.iter().any(|&(region, offset, _)| {
            // The first register is one that a driver reads.
            let base = self.events.keys().find(|event| event.region == region);
            base.is_some_and(|base| base.port.0 + offset == port.0)
        })
    }

    /// Every access, by port, direction and size, is what the plugin counted: `column` of the rows.
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

    /// Every region moved as many bytes, either way, as the plugin counted at its ports.
    fn assert_bytes(&self, column: fn(&PortRow) -> u64) {
        // A byte moves at a port of its own; that tells the regions apart which follow one another.
        let mut counted: BTreeMap<(u16, Direction), u64> = BTreeMap::new();
        for row in self.stats.ports.iter().filter(|row| !self.is_silent(row.port)) {
            for offset in 0..row.size.bytes() {
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
        // Of what QEMU widens the bytes are more.
        let widened = |&(port, _): &(u16, Direction)| {
            let ports = port - port % 4..=port;
            ports.map(Port).any(|port| matches!(self.fit(port), Fit::Between(2.., _)))
        };
        counted.retain(|at, bytes| *bytes > 0 && !widened(at));
        moved.retain(|at, _| !widened(at));
        assert_eq!(counted, moved);
    }

    /// Every vCPU made as many accesses as the plugin counted for it.
    fn assert_vcpus(&self) {
        for row in &self.stats.vcpus {
            let events = self.events.iter().filter(|(event, _)| event.vcpu == Some(row.vcpu));
            let raised: u64 = events.map(|(_, count)| count).sum();
            assert_eq!(row.accesses, raised, "vCPU {}", row.vcpu);
        }
    }

    /// These regions took part: the comparison is not one of nothing.
    fn assert_regions(&self, expected: &[&str]) {
        let seen: BTreeSet<&str> = self.events.keys().map(|event| &*event.region).collect();
        for region in expected {
            assert!(seen.contains(region), "{region} is not among {seen:?}");
        }
    }
}

/// Runs a machine with the plugin and with events, and compares the two.
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
    // What no vCPU did is the plugin's trial of the port bus, before there was one.
    events.retain(|event, _| {
        assert!(event.vcpu.is_some() || event.region == "pvio: self-test", "{event:?}");
        event.vcpu.is_some()
    });
    check(&Compared { stats, events });
}

fn boots(machine: Machine) -> Ended {
    let ended = machine.run().unwrap();
    assert!(ended.stdout.contains("user space reached"), "{}", ended.stdout);
    ended
}

fn qemu(row: &PortRow) -> u64 {
    assert_eq!(row.device + row.unverified + row.hypercall, 0, "{row:?}");
    row.qemu
}

/// What any PC has.
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

fn a_boot_of_linux(host: &Host) {
    let machine = host.machine().plugin(&[]).args(paths::linux_arguments(&[]).unwrap());
    compare(host, machine, boots, |compared| {
        compared.assert_accesses(qemu);
        compared.assert_bytes(qemu);
        compared.assert_regions(&USUAL);
        // "io" is where nothing is.
        compared.assert_regions(&["serial", "pcspk", "ide", "io", "acpi-cnt", "acpi-evt"]);
    });
}

fn a_boot_of_linux_on_four_vcpus(host: &Host) {
    let machine = host.machine().plugin(&[]).args(paths::linux_arguments(&[]).unwrap());
    compare(host, machine.args(["-smp", "4"]), boots, |compared| {
        compared.assert_accesses(qemu);
        compared.assert_bytes(qemu);
        // Where QEMU splits accesses, the sums differ.
        if host.api >= 7 {
            compared.assert_vcpus();
        }
        assert_eq!(compared.stats.vcpus.len(), 4);
    });
}

/// With the kinds of devices that SeaBIOS drives by ports.
fn seabios_on_a_pc(host: &Host) {
    let machine = host
        .machine()
        .plugin(&[])
        .args(["-machine", "pc", "-m", "64", "-vga", "std", "-usb", "-device", "usb-kbd"])
        .args(["-serial", "null", "-parallel", "null"])
        .args(["-drive", "driver=null-co,read-zeroes=on,size=1M,if=ide"])
        .args(["-drive", "driver=null-co,read-zeroes=on,size=1M,if=none,id=virtio"])
        // A driver for ports finds it, and on QEMU 11 boots from it.
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

fn seabios_on_a_q35(host: &Host) {
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

/// The guest of `forms`, whose ports lead to nothing on a PC: a device of pvio's has half of them, and
/// raises events as QEMU's devices do.
fn all_forms_at_qemus_ports_and_at_a_device_of_pvios(host: &Host) {
    let machine = host.machine().plugin(&["device=ones@0x5000-0x50ff"]);
    let run = |machine: Machine| {
        let ended = machine.bare_guest(&guest("forms.bin")).run().unwrap();
        assert_eq!(ended.status.code(), Some(expected_forms::PASSED), "{}", ended.stderr);
        ended
    };
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
