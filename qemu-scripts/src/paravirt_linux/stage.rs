//! The stages of a boot, by the addresses of their code.

use std::ops::Range;

use pvio_x86::Mode;
use serde::Serialize;

/// The part of a boot that code belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The BIOS.
    Firmware,
    /// Option ROMs, such as the VGA BIOS.
    Roms,
    /// The kernel's 16-bit setup code.
    Setup,
    /// The kernel's decompressor.
    Decompressor,
    /// The kernel.
    Kernel,
    /// A program.
    User,
}

/// The addresses at which QEMU and the boot protocol put a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The physical memory that the decompressor uses. It moves itself there first.
    decompressor: Range<u64>,
}

/// The memory in which QEMU puts the setup code, from its load address to the EBDA.
const SETUP: Range<u64> = 0x1_0000..0xa_0000;

/// The memory in which the BIOS puts option ROMs.
const ROMS: Range<u64> = 0xc_0000..0xe_0000;

/// The lowest address of a 32-bit kernel, and an address after it. Firmware is at the end of the address space.
const KERNEL_32: Range<u64> = 0xc000_0000..0xff00_0000;

/// The addresses at which programs are linked. SeaBIOS moves to the end of memory, which is elsewhere.
const PROGRAM_32: Range<u64> = 0x0804_8000..0x0900_0000;
const PROGRAM_64: Range<u64> = 0x40_0000..0x100_0000;

/// The lowest address of a 64-bit kernel.
const KERNEL_64: u64 = 0xffff_8000_0000_0000;

impl Stage {
    /// All stages, in the order of a boot.
    pub const ALL: [Stage; 6] = [
        Stage::Firmware,
        Stage::Roms,
        Stage::Setup,
        Stage::Decompressor,
        Stage::Kernel,
        Stage::User,
    ];

    /// Returns true for code that is there before the kernel.
    pub fn is_firmware(self) -> bool {
        matches!(self, Stage::Firmware | Stage::Roms)
    }

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Firmware => "BIOS",
            Stage::Roms => "option ROMs",
            Stage::Setup => "16-bit setup code",
            Stage::Decompressor => "decompressor",
            Stage::Kernel => "kernel",
            Stage::User => "program",
        }
    }
}

impl Layout {
    /// Reads the header of a bzImage (Documentation/arch/x86/boot.rst, protocol 2.10 or newer).
    ///
    /// Returns `None` if there is none.
    pub fn of(image: &[u8]) -> Option<Layout> {
        let bytes = |offset: usize, len: usize| image.get(offset..offset + len);
        (bytes(0x202, 4)? == b"HdrS").then_some(())?;
        let version = u16::from_le_bytes(bytes(0x206, 2)?.try_into().ok()?);
        (version >= 0x020a).then_some(())?;
        let preferred = u64::from_le_bytes(bytes(0x258, 8)?.try_into().ok()?);
        let needed = u32::from_le_bytes(bytes(0x260, 4)?.try_into().ok()?);
        Some(Layout { decompressor: preferred..preferred.checked_add(needed.into())? })
    }

    /// The stage that code belongs to.
    pub fn stage(&self, mode: Option<Mode>, pc: u64) -> Stage {
        match mode {
            Some(Mode::Bits16 | Mode::Bits32) if ROMS.contains(&pc) => Stage::Roms,
            Some(Mode::Bits16) if SETUP.contains(&pc) => Stage::Setup,
            Some(Mode::Bits32) if KERNEL_32.contains(&pc) => Stage::Kernel,
            Some(Mode::Bits64) if pc >= KERNEL_64 => Stage::Kernel,
            Some(Mode::Bits32) if PROGRAM_32.contains(&pc) => Stage::User,
            Some(Mode::Bits64) if PROGRAM_64.contains(&pc) => Stage::User,
            Some(Mode::Bits32 | Mode::Bits64) if self.decompressor.contains(&pc) => {
                Stage::Decompressor
            }
            _ => Stage::Firmware,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_belongs_to_a_stage_by_mode_and_address() {
        let mut image = vec![0; 0x300];
        assert_eq!(Layout::of(&image), None);
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&[0x0f, 2]);
        image[0x258..0x260].copy_from_slice(&0x100_0000_u64.to_le_bytes());
        image[0x260..0x264].copy_from_slice(&0x80_0000_u32.to_le_bytes());
        let layout = Layout::of(&image).unwrap();
        for (mode, pc, stage) in [
            (Mode::Bits16, 0xf_c000, Stage::Firmware),
            (Mode::Bits16, 0xc_0000, Stage::Roms),
            (Mode::Bits32, 0xd_ffff, Stage::Roms),
            (Mode::Bits64, 0xd_ffff, Stage::Firmware),
            (Mode::Bits16, 0x1_0200, Stage::Setup),
            (Mode::Bits32, 0xe_0000, Stage::Firmware),
            (Mode::Bits32, 0x17f_ffff, Stage::Decompressor),
            (Mode::Bits64, 0x100_0000, Stage::Decompressor),
            (Mode::Bits64, 0x40_1000, Stage::User),
            (Mode::Bits32, 0x804_9000, Stage::User),
            (Mode::Bits32, 0x180_0000, Stage::Firmware),
            (Mode::Bits32, 0xc100_0000, Stage::Kernel),
            (Mode::Bits64, 0xffff_ffff_8100_0000, Stage::Kernel),
        ] {
            assert_eq!(layout.stage(Some(mode), pc), stage, "{mode:?} {pc:#x}");
        }
        assert_eq!(Layout::of(&image[..0x260]), None);
    }
}
