//! Warns of devices that hide more of QEMU's devices than their user may expect.
//!
//! A device at a port replaces QEMU's device at that port: its option says so. It may also hide others that
//! the guest needs, by ports that the user did not think of. A latch at 0x80 has four ports, and three of
//! them are page registers of the DMA controller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::BusDevice;
use crate::qemu::report::say;
use crate::qemu::{HiddenRegion, Machine};
use crate::x86::{Port, PortRange};

/// The number of QEMU's regions that a warning names.
const MAX_NAMED: usize = 4;

/// Prints a line for each device that needs one, when the machine has all of QEMU's devices: at its first reset.
pub(super) fn warn_at_start(machine: &Arc<Machine>, devices: &[Arc<BusDevice>]) {
    let hides = |device: &&Arc<BusDevice>| !device.passes_on();
    let devices: Vec<_> = devices.iter().filter(hides).cloned().collect();
    let is_done = AtomicBool::new(false);
    let of = Arc::clone(machine);
    machine.on_reset(move || {
        // Relaxed: resets come one at a time, under QEMU's global lock.
        if is_done.swap(true, Ordering::Relaxed) {
            return;
        }
        let ranges: Vec<_> =
            devices.iter().map(|device| (device.range.first().0, device.range.last().0)).collect();
        for (device, hidden) in devices.iter().zip(of.hidden(&ranges)) {
            if let Some(warning) = warning(device.kind, device.range, &hidden) {
                say(warning);
            }
        }
    });
}

/// The warning for a device that hides regions of QEMU's; `None` if it needs none.
fn warning(kind: &str, range: PortRange, hidden: &[HiddenRegion]) -> Option<String> {
    let first = range.first().0;
    // The user has named the first port, so that device is replaced on purpose.
    let named = hidden.iter().find(|region| region.first == first).map(|region| &region.name);
    let others: Vec<_> = hidden.iter().filter(|region| Some(&region.name) != named).collect();
    let next = others.first()?.first;
    let names: Vec<String> = others.iter().take(MAX_NAMED).map(|region| text(region)).collect();
    let more = match others.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let remedy = match next.checked_sub(1).filter(|last| *last >= first) {
        Some(last) => format!("device={kind}@{}-{} leaves them alone", Port(first), Port(last)),
        None => "name other ports to leave them alone".to_owned(),
    };
    Some(format!(
        "warning: {kind} at {range} hides other devices of QEMU, which the guest may need: {}{more}; {remedy}",
        names.join(", ")
    ))
}

fn text(HiddenRegion { name, first, last }: &HiddenRegion) -> String {
    match first == last {
        true => format!("{name} at {}", Port(*first)),
        false => format!("{name} at {}-{}", Port(*first), Port(*last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning_of(range: &str, hidden: &[(&str, u16, u16)]) -> Option<String> {
        let hidden = hidden.iter().map(|&(name, first, last)| {
            let name = name.to_owned();
            HiddenRegion { name, first, last }
        });
        let hidden: Vec<_> = hidden.collect();
        warning("latch", PortRange::parse(range, 4).unwrap(), &hidden)
    }

    #[test]
    fn device_that_hides_others_than_the_one_at_its_first_port_is_warned_of() {
        insta::assert_snapshot!(
            [
                warning_of("0x80", &[("ioport80", 0x80, 0x80), ("dma-page", 0x81, 0x83)]),
                warning_of("0x6e", &[("rtc", 0x70, 0x71)]),
                warning_of("0x7f-0x80", &[("ioport80", 0x80, 0x80)]),
                warning_of("0-0xf", &[0, 2, 4, 6, 8, 10].map(|port| (["a", "b"][usize::from(port > 0)], port, port))),
            ]
            .map(Option::unwrap)
            .join("\n"),
            @r"
        warning: latch at 0x0080-0x0083 hides other devices of QEMU, which the guest may need: dma-page at 0x0081-0x0083; device=latch@0x0080-0x0080 leaves them alone
        warning: latch at 0x006e-0x0071 hides other devices of QEMU, which the guest may need: rtc at 0x0070-0x0071; device=latch@0x006e-0x006f leaves them alone
        warning: latch at 0x007f-0x0080 hides other devices of QEMU, which the guest may need: ioport80 at 0x0080; device=latch@0x007f-0x007f leaves them alone
        warning: latch at 0x0000-0x000f hides other devices of QEMU, which the guest may need: b at 0x0002, b at 0x0004, b at 0x0006, b at 0x0008 and 1 more; device=latch@0x0000-0x0001 leaves them alone
        "
        );
    }

    #[test]
    fn device_in_place_of_qemus_device_at_its_first_port_is_on_purpose() {
        assert_eq!(warning_of("0x300", &[]), None);
        assert_eq!(warning_of("0x3f8-0x3ff", &[("serial", 0x3f8, 0x3ff)]), None);
        assert_eq!(warning_of("0x378-0x37a", &[("parallel", 0x378, 0x37a)]), None);
        assert_eq!(warning_of("0x80-0x80", &[("ioport80", 0x80, 0x80)]), None);
        assert_eq!(warning_of("0xe9-0xec", &[("isa-debugcon", 0xe9, 0xe9)]), None);
    }
}
