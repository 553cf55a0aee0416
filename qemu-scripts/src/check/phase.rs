//! The phase of a boot that code belongs to. It is the code's owner, not the time at which it runs.

use std::fmt;

use pvio_x86::Mode;

use crate::stats::{CallSiteRow, Privilege, SiteRow};

/// The phase of a boot that code belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The BIOS, option ROMs, and the modules of UEFI firmware.
    Firmware,
    /// Boot sectors, boot loaders, and the parts of a kernel that run before it.
    Loader,
    /// The kernel and its modules.
    Kernel,
    /// Programs.
    User,
    /// Nothing proves one of the others.
    Unknown,
}

/// The value of `named_by` for the tables of the guest's kernel.
const GUEST_KERNEL: &str = "guest kernel";
/// The value of `named_by` for the modules of UEFI firmware.
const FIRMWARE: &str = "firmware";

/// The area of the BIOS and of option ROMs.
const ROM: std::ops::RangeInclusive<u64> = 0xc_0000..=0xf_ffff;
/// The end of flash memory, which has the reset vector.
const FLASH: std::ops::RangeInclusive<u64> = 0xffc0_0000..=0xffff_ffff;
/// Conventional memory after the BIOS's own data.
const CONVENTIONAL: std::ops::RangeInclusive<u64> = 0x500..=0x9_ffff;
/// The first address of the upper half, in which 64-bit kernels run.
const UPPER_HALF: u64 = 0xffff_8000_0000_0000;
/// The addresses at which Linux maps the firmware's run-time services (`Documentation/arch/x86/x86_64/mm.rst`).
const RUN_TIME_SERVICES: std::ops::RangeInclusive<u64> =
    0xffff_ffef_0000_0000..=0xffff_fffe_ffff_ffff;

impl Phase {
    /// All phases, in the order of a boot.
    pub const ALL: [Phase; 5] =
        [Phase::Firmware, Phase::Loader, Phase::Kernel, Phase::User, Phase::Unknown];

    /// The word in policies and results.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Firmware => "firmware",
            Phase::Loader => "loader",
            Phase::Kernel => "kernel",
            Phase::User => "user",
            Phase::Unknown => "unknown",
        }
    }

    /// The phase of a site.
    pub fn of_site(site: &SiteRow) -> Phase {
        match site.privilege {
            Some(Privilege::Both) => return Phase::Unknown,
            Some(Privilege::User) => return Phase::User,
            Some(Privilege::Supervisor) | None => {}
        }
        // Only user code is identified by a file in the guest.
        if site.file.is_some() {
            return Phase::User;
        }
        of_code(site.named_by.as_deref(), site.symbol.as_deref(), site.mode, site.address())
    }

    /// The phase of a call site, whose privilege is not known.
    pub fn of_call_site(site: &CallSiteRow) -> Phase {
        of_code(site.named_by.as_deref(), site.symbol.as_deref(), site.mode, site.address())
    }
}

/// The phase of supervisor code.
fn of_code(
    named_by: Option<&str>,
    symbol: Option<&str>,
    mode: Option<Mode>,
    address: Option<u64>,
) -> Phase {
    match named_by {
        Some(GUEST_KERNEL) => return Phase::Kernel,
        // A module of firmware has a name without an extension. An image from a disk has the name of its file.
        Some(FIRMWARE) => {
            return match symbol.is_some_and(|symbol| symbol.contains('.')) {
                true => Phase::Loader,
                false => Phase::Firmware,
            };
        }
        _ => {}
    }
    let Some(address) = address else { return Phase::Unknown };
    let is_64_bit = mode == Some(Mode::Bits64);
    if FLASH.contains(&address) || ROM.contains(&address) && !is_64_bit {
        Phase::Firmware
    } else if CONVENTIONAL.contains(&address) && mode == Some(Mode::Bits16) {
        Phase::Loader
    } else if is_64_bit && address >= UPPER_HALF && !RUN_TIME_SERVICES.contains(&address) {
        Phase::Kernel
    } else {
        Phase::Unknown
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::test_data::snapshot;

    /// A site with these properties, and without a name.
    fn site(pc: &str, mode: Mode, privilege: Option<Privilege>) -> SiteRow {
        let mut site = snapshot(1).tables.sites[0].clone();
        (site.symbol, site.named_by) = (None, None);
        SiteRow { pc: pc.to_owned(), mode: Some(mode), privilege, ..site }
    }

    fn phase(pc: &str, mode: Mode) -> Phase {
        Phase::of_site(&site(pc, mode, Some(Privilege::Supervisor)))
    }

    #[test]
    fn privilege_and_name_decide_before_the_address() {
        let mut site = site("0xf0100", Mode::Bits32, Some(Privilege::User));
        assert_eq!(Phase::of_site(&site), Phase::User);
        site.privilege = Some(Privilege::Both);
        assert_eq!(Phase::of_site(&site), Phase::Unknown);
        site.privilege = None;
        assert_eq!(Phase::of_site(&site), Phase::Firmware);
        site.named_by = Some("guest kernel".into());
        assert_eq!(Phase::of_site(&site), Phase::Kernel);
        site.pc = "0x7e11000".into();
        site.named_by = Some("firmware".into());
        site.symbol = Some("PciHostBridgeDxe+0x12".into());
        assert_eq!(Phase::of_site(&site), Phase::Firmware);
        site.symbol = Some("BOOTX64.EFI+0x12".into());
        assert_eq!(Phase::of_site(&site), Phase::Loader);
        site.named_by = Some("/boot/vmlinux".into());
        assert_eq!(Phase::of_site(&site), Phase::Unknown, "a file may be anybody's");
        site.file = Some("/bin/true".into());
        assert_eq!(Phase::of_site(&site), Phase::User);
    }

    #[test]
    fn addresses_decide_where_only_one_owner_is_possible() {
        use Mode::{Bits16, Bits32, Bits64};
        for (pc, mode, expected) in [
            ("0xfffffff0", Bits16, Phase::Firmware),
            ("0xffd00000", Bits64, Phase::Firmware),
            ("0xc0000", Bits16, Phase::Firmware),
            ("0xfffff", Bits32, Phase::Firmware),
            ("0xf0000", Bits64, Phase::Unknown),
            ("0x7c00", Bits16, Phase::Loader),
            ("0x9ffff", Bits16, Phase::Loader),
            ("0x7c00", Bits32, Phase::Unknown),
            ("0x4ff", Bits16, Phase::Unknown),
            ("0xa0000", Bits16, Phase::Unknown),
            ("0x100000", Bits32, Phase::Unknown),
            ("0xc1000000", Bits32, Phase::Unknown),
            ("0xffffffff81000000", Bits64, Phase::Kernel),
            ("0xffff800000000000", Bits64, Phase::Kernel),
            ("0xffff7fffffffffff", Bits64, Phase::Unknown),
            ("0xfffffffeee000000", Bits64, Phase::Unknown),
            ("nonsense", Bits64, Phase::Unknown),
        ] {
            assert_eq!(phase(pc, mode), expected, "{pc} {mode:?}");
        }
    }
}
