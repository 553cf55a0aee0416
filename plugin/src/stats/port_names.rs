//! What a PC has at its ports, by the names that people use.
//!
//! The layout of the PC/AT and of QEMU's `pc` and `q35` machines, with the bases that SeaBIOS gives
//! to the ACPI and SMBus blocks. A guest that moves a block gets the name of the place, not of the
//! device.

use crate::x86::Port;

/// Sorted; ranges include both ends and do not overlap.
const NAMES: &[(u16, u16, &str)] = &[
    (0x0000, 0x000f, "DMA 1"),
    (0x0020, 0x0021, "PIC 1"),
    (0x0040, 0x0043, "PIT"),
    (0x0060, 0x0060, "keyboard data"),
    (0x0061, 0x0061, "system control B"),
    (0x0064, 0x0064, "keyboard control"),
    (0x0070, 0x0071, "CMOS/RTC"),
    (0x0080, 0x0080, "POST code"),
    (0x0081, 0x008f, "DMA page"),
    (0x0092, 0x0092, "system control A"),
    (0x00a0, 0x00a1, "PIC 2"),
    (0x00b2, 0x00b3, "APM/SMI"),
    (0x00c0, 0x00df, "DMA 2"),
    (0x00e9, 0x00e9, "debug console"),
    (0x00f0, 0x00f1, "FPU"),
    (0x00f4, 0x00f4, "debug exit"),
    (0x0170, 0x0177, "IDE 2"),
    (0x01f0, 0x01f7, "IDE 1"),
    (0x0200, 0x0207, "game port"),
    (0x0278, 0x027f, "LPT2"),
    (0x02e8, 0x02ef, "COM4"),
    (0x02f8, 0x02ff, "COM2"),
    (0x0300, 0x031f, "NE2000"),
    (0x0376, 0x0376, "IDE 2 control"),
    (0x0378, 0x037f, "LPT1"),
    (0x0388, 0x038b, "AdLib"),
    (0x03b0, 0x03bb, "MDA"),
    (0x03c0, 0x03cf, "VGA"),
    (0x03d0, 0x03df, "VGA (CGA)"),
    (0x03e8, 0x03ef, "COM3"),
    (0x03f0, 0x03f5, "floppy"),
    (0x03f6, 0x03f6, "IDE 1 control"),
    (0x03f7, 0x03f7, "floppy"),
    (0x03f8, 0x03ff, "COM1"),
    (0x0402, 0x0402, "SeaBIOS debug"),
    (0x04d0, 0x04d1, "PIC ELCR"),
    (0x0501, 0x0501, "debug exit"),
    (0x0505, 0x0505, "pvpanic"),
    (0x0510, 0x051b, "fw_cfg"),
    (0x0600, 0x063f, "ACPI PM"),
    (0x0660, 0x067f, "TCO"),
    (0x0700, 0x073f, "SMBus"),
    (0x0a79, 0x0a79, "ISA PnP"),
    (0x0ae0, 0x0aff, "ACPI PCI hotplug"),
    (0x0cd8, 0x0ce3, "ACPI CPU hotplug"),
    (0x0cf8, 0x0cfb, "PCI config address"),
    (0x0cfc, 0x0cff, "PCI config data"),
    (0x5658, 0x5658, "VMware backdoor"),
    (0xaf00, 0xaf1f, "ACPI CPU hotplug"),
    (0xafe0, 0xafe3, "ACPI GPE0"),
    (0xb100, 0xb13f, "SMBus"),
];

/// The name of what is at a port, if a PC has something there.
pub fn port_name(port: Port) -> Option<&'static str> {
    let after = NAMES.partition_point(|&(first, _, _)| first <= port.0);
    let &(_, last, name) = NAMES.get(after.checked_sub(1)?)?;
    (port.0 <= last).then_some(name)
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
    fn a_pc_person_recognises_them() {
        assert_eq!(port_name(Port(0x3f8)), Some("COM1"));
        assert_eq!(port_name(Port(0x3ff)), Some("COM1"));
        assert_eq!(port_name(Port(0x0cfc)), Some("PCI config data"));
        assert_eq!(port_name(Port(0x0604)), Some("ACPI PM"));
        assert_eq!(port_name(Port(0x5000)), None);
        assert_eq!(port_name(Port(0xffff)), None);
        assert_eq!(port_name(Port(0)), Some("DMA 1"));
    }
}
