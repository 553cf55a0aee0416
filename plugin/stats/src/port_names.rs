//! The usual names of a PC's ports.
//!
//! The layout is that of the PC/AT and of QEMU's machines `pc` and `q35`, with the addresses that
//! SeaBIOS gives to the ACPI and SMBus blocks. A name is used only if QEMU has such a device at the
//! port: a guest may have moved a block, and a machine may lack it.

use std::borrow::Cow;

use pvio_x86::Port;

/// A range of ports, its usual name, and QEMU's names for the devices meant (`info mtree`).
type Named = (u16, u16, &'static str, &'static [&'static str]);

/// Sorted. Ranges include both ends and do not overlap.
#[rustfmt::skip]
const NAMES: &[Named] = &[
    (0x0000, 0x000f, "DMA 1", &["dma-chan", "dma-cont"]),
    (0x0020, 0x0021, "PIC 1", &["pic"]),
    (0x0040, 0x0043, "PIT", &["pit"]),
    (0x0060, 0x0060, "keyboard data", &["i8042-data"]),
    (0x0061, 0x0061, "system control B", &["pcspk"]),
    (0x0064, 0x0064, "keyboard control", &["i8042-cmd"]),
    (0x0070, 0x0071, "CMOS/RTC", &["rtc", "rtc-index"]),
    (0x007e, 0x007f, "KVM APIC", &["kvmvapic"]),
    (0x0080, 0x0080, "POST code", &["ioport80"]),
    (0x0081, 0x008f, "DMA page", &["dma-page"]),
    (0x0092, 0x0092, "system control A", &["port92"]),
    (0x00a0, 0x00a1, "PIC 2", &["pic"]),
    (0x00b2, 0x00b3, "APM/SMI", &["apm-io"]),
    (0x00c0, 0x00df, "DMA 2", &["dma-chan", "dma-cont"]),
    (0x00e9, 0x00e9, "debug console", &["isa-debugcon"]),
    (0x00f0, 0x00f1, "FPU", &["ioportF0"]),
    (0x00f4, 0x00f4, "debug exit", &["isa-debug-exit"]),
    (0x0170, 0x0177, "IDE 2", &["ide"]),
    (0x0190, 0x0190, "POST code (PS/2)", &[]),
    (0x01ce, 0x01d1, "VBE", &["vbe"]),
    (0x01f0, 0x01f7, "IDE 1", &["ide"]),
    (0x0200, 0x0207, "game port", &[]),
    (0x0278, 0x027f, "LPT2", &["parallel"]),
    (0x02e8, 0x02ef, "COM4", &["serial"]),
    (0x02f8, 0x02ff, "COM2", &["serial"]),
    (0x0300, 0x031f, "NE2000", &["ne2000"]),
    (0x0376, 0x0376, "IDE 2 control", &["ide"]),
    (0x0378, 0x037f, "LPT1", &["parallel"]),
    (0x0388, 0x038b, "AdLib", &["adlib"]),
    (0x03b0, 0x03bb, "MDA", &["vga", "mda"]),
    (0x03c0, 0x03cf, "VGA", &["vga"]),
    (0x03d0, 0x03df, "VGA (CGA)", &["vga"]),
    (0x03e8, 0x03ef, "COM3", &["serial"]),
    (0x03f0, 0x03f5, "floppy", &["fdc"]),
    (0x03f6, 0x03f6, "IDE 1 control", &["ide"]),
    (0x03f7, 0x03f7, "floppy", &["fdc"]),
    (0x03f8, 0x03ff, "COM1", &["serial"]),
    (0x0402, 0x0402, "SeaBIOS debug", &["isa-debugcon"]),
    (0x04d0, 0x04d1, "PIC ELCR", &["elcr"]),
    (0x0501, 0x0501, "debug exit", &["isa-debug-exit"]),
    (0x0505, 0x0505, "pvpanic", &["pvpanic"]),
    (0x0510, 0x051b, "fw_cfg", &["fwcfg", "fwcfg.dma"]),
    (0x0600, 0x063f, "ACPI PM", &["acpi-evt", "acpi-cnt", "acpi-tmr", "acpi-gpe0", "acpi-smi"]),
    (0x0660, 0x067f, "TCO", &["sm-tco"]),
    (0x0700, 0x073f, "SMBus", &["pm-smbus"]),
    (0x0a79, 0x0a79, "ISA PnP", &[]),
    (0x0cc0, 0x0cd7, "ACPI PCI hotplug", &["acpi-pci-hotplug"]),
    (0x0cd8, 0x0ce3, "ACPI CPU hotplug", &["acpi-cpu-hotplug"]),
    (0x0cf8, 0x0cf8, "PCI config address", &["pci-conf-idx"]),
    (0x0cf9, 0x0cf9, "PCI reset", &["piix-reset-control", "lpc-reset-control"]),
    (0x0cfa, 0x0cfb, "PCI config address", &["pci-conf-idx"]),
    (0x0cfc, 0x0cff, "PCI config data", &["pci-conf-data"]),
    (0x5658, 0x5658, "VMware backdoor", &["vmport"]),
    (0x8a00, 0x8a01, "Bochs debugger", &[]),
    (0xae00, 0xae17, "ACPI PCI hotplug", &["acpi-pci-hotplug"]),
    (0xaf00, 0xaf1f, "ACPI CPU hotplug", &["acpi-cpu-hotplug"]),
    (0xafe0, 0xafe3, "ACPI GPE0", &["acpi-gpe0"]),
    (0xb100, 0xb13f, "SMBus", &["pm-smbus"]),
];

/// The name of a device of QEMU's at a port, given the name of its memory region (`info mtree`).
///
/// This is the usual name if the device is the usual one, and the region's name otherwise.
pub fn region_name(port: Port, region: &str) -> Cow<'static, str> {
    match usual(port) {
        Some((name, regions)) if regions.contains(&region) => Cow::Borrowed(name),
        _ => Cow::Owned(region.to_owned()),
    }
}

/// The usual name in parentheses, for a port at which nothing is known to be: `(floppy)`.
pub fn usual_name(port: Port) -> Option<Cow<'static, str>> {
    usual(port).map(|(name, _)| Cow::Owned(format!("({name})")))
}

/// The usual name of a port, and QEMU's names for the devices meant.
fn usual(port: Port) -> Option<(&'static str, &'static [&'static str])> {
    let after = NAMES.partition_point(|&(first, ..)| first <= port.0);
    let &(_, last, name, regions) = NAMES.get(after.checked_sub(1)?)?;
    (port.0 <= last).then_some((name, regions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_sorted_and_apart() {
        for pair in NAMES.windows(2) {
            assert!(pair[0].0 <= pair[0].1 && pair[0].1 < pair[1].0, "{pair:x?}");
        }
    }

    #[test]
    fn ports_have_their_usual_names() {
        let usual = |port| usual(Port(port)).map(|(name, _)| name);
        assert_eq!(usual(0x3f8), Some("COM1"));
        assert_eq!(usual(0x3ff), Some("COM1"));
        assert_eq!(usual(0x0cfc), Some("PCI config data"));
        assert_eq!(usual(0x0604), Some("ACPI PM"));
        assert_eq!(usual(0x5000), None);
        assert_eq!(usual(0xffff), None);
        assert_eq!(usual(0), Some("DMA 1"));
    }

    #[test]
    fn a_name_is_that_of_the_device_at_the_port() {
        let name = |port, region| region_name(Port(port), region);
        assert_eq!(name(0x3f8, "serial"), "COM1");
        assert_eq!(name(0x300, "serial"), "serial");
        assert_eq!(name(0xc000, "virtio-pci"), "virtio-pci");
        assert_eq!(usual_name(Port(0x3f0)).as_deref(), Some("(floppy)"));
        assert_eq!(usual_name(Port(0x5000)), None);
    }
}
