//! Finds by its contents how a guest boots.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::Deserialize;

use super::executable;
use super::multiboot;

/// How QEMU boots a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootKind {
    /// A BIOS image, by -bios
    Bios,
    /// An ELF file with a multiboot 1 header or a PVH note, or a Linux kernel, by -kernel
    Kernel,
    /// A disk with a boot sector, raw or qcow2
    Disk,
    /// A CD-ROM
    Cdrom,
    /// An EFI application, or a directory with EFI/BOOT/BOOTX64.EFI, by UEFI firmware
    Efi,
    /// A disk whose EFI system partition has EFI/BOOT/BOOTX64.EFI, by UEFI firmware
    EfiDisk,
}

impl BootKind {
    /// Returns the name that `--boot` takes.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Number of bytes from the beginning of a file that are looked at: up to the second sector of ISO 9660.
const START: u64 = 0x8840;

/// A sector of an ISO 9660 image.
const SECTOR: usize = 2048;

/// What a file contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// QEMU boots it like this.
    Bootable(BootKind),
    /// QEMU cannot boot it; one line says what would be right.
    Unbootable(String),
}

use Found::{Bootable, Unbootable};

impl Found {
    /// Finds how a file or a directory boots.
    ///
    /// # Errors
    ///
    /// Fails if it is empty or cannot be read.
    pub(super) fn of(path: &Path) -> Result<Found> {
        let named = || path.display().to_string();
        if path.metadata().with_context(named)?.is_dir() {
            return Ok(of_directory(path));
        }
        let mut file = File::open(path).with_context(named)?;
        let mut start = Vec::new();
        (&mut file).take(START).read_to_end(&mut start).with_context(named)?;
        ensure!(!start.is_empty(), "{}: this file is empty; name a guest's file", path.display());
        if start.starts_with(b"\x7fELF") {
            return Ok(executable::of_elf(&file, &start));
        }
        let length = file.metadata().with_context(named)?.len();
        if let Some(found) = of_start(&start) {
            return Ok(found);
        }
        if start.starts_with(b"MZ") {
            return Ok(executable::of_pe(&file));
        }
        if is_bios(&mut file, length).with_context(named)? {
            return Ok(Bootable(BootKind::Bios));
        }
        Ok(Unbootable(
            "it is not an ELF file, a Linux kernel, an EFI application, an ISO, a qcow2 image, a disk with 55 AA at \
             byte 510, or a BIOS (a multiple of 64 KiB with a jump 16 bytes before its end); --boot KIND boots it \
             nevertheless"
                .into(),
        ))
    }
}

/// Finds how a file boots that has a mark near its beginning.
fn of_start(start: &[u8]) -> Option<Found> {
    let has = |at: usize, mark: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(mark));
    // A Linux kernel has marks of a boot sector and of an EFI application, too; a bootable ISO may be a disk as well.
    if has(0x202, b"HdrS") {
        return Some(Bootable(BootKind::Kernel));
    }
    if has(0, b"QFI\xfb") {
        return Some(Bootable(BootKind::Disk));
    }
    if has(16 * SECTOR + 1, b"CD001") {
        let is_bootable = has(17 * SECTOR, b"\0CD001\x01EL TORITO SPECIFICATION");
        return Some(match is_bootable || has(510, &[0x55, 0xaa]) {
            true => Bootable(BootKind::Cdrom),
            false => Unbootable(
                "this ISO has no boot record (El Torito): make it with grub-mkrescue, or with xorriso -as mkisofs -b"
                    .into(),
            ),
        });
    }
    if has(510, &[0x55, 0xaa]) {
        // A disk for UEFI alone has a protective boot record without code.
        let has_code = start[..440].iter().any(|&byte| byte != 0);
        let is_gpt = has(512, b"EFI PART");
        return Some(Bootable(match is_gpt && !has_code {
            true => BootKind::EfiDisk,
            false => BootKind::Disk,
        }));
    }
    match multiboot::find(start) {
        Some(header) if header.has_addresses() => Some(Bootable(BootKind::Kernel)),
        _ => None,
    }
}

/// Returns true if a file can be a BIOS: the processor's first instruction is 16 bytes before its end.
fn is_bios(file: &mut File, length: u64) -> std::io::Result<bool> {
    if !length.is_multiple_of(64 << 10) {
        return Ok(false);
    }
    let mut instruction = [0];
    file.seek(SeekFrom::Start(length - 16))?;
    file.read_exact(&mut instruction)?;
    Ok(!matches!(instruction[0], 0 | 0xff))
}

fn of_directory(path: &Path) -> Found {
    match efi_programs(path).is_empty() {
        false => Bootable(BootKind::Efi),
        true => Unbootable(
            "this directory has no EFI/BOOT/BOOTX64.EFI: name a guest's file, or a directory with that file".into(),
        ),
    }
}

/// Returns the programs in a directory that UEFI firmware starts by itself: `EFI/BOOT/BOOT*.EFI`, in either case.
pub(super) fn efi_programs(directory: &Path) -> Vec<PathBuf> {
    let named = |directory: &Path, name: &str| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let is_named =
            |path: &PathBuf| path.file_name().is_some_and(|file| file.eq_ignore_ascii_case(name));
        entries.map(|entry| entry.path()).find(is_named)
    };
    let Some(boot) = named(directory, "EFI").and_then(|efi| named(&efi, "BOOT")) else {
        return Vec::new();
    };
    ["BOOTX64.EFI", "BOOTIA32.EFI"].iter().filter_map(|name| named(&boot, name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(contents: &[u8]) -> Found {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), contents).unwrap();
        Found::of(file.path()).unwrap()
    }

    fn with(length: usize, marks: &[(usize, &[u8])]) -> Vec<u8> {
        let mut contents = vec![0; length];
        for &(at, mark) in marks {
            contents[at..][..mark.len()].copy_from_slice(mark);
        }
        contents
    }

    const SIGNATURE: (usize, &[u8]) = (510, &[0x55, 0xaa]);

    #[test]
    fn contents_decide() {
        let iso = (16 * SECTOR + 1, &b"CD001"[..]);
        let torito = (17 * SECTOR, &b"\0CD001\x01EL TORITO SPECIFICATION"[..]);
        let jump = |length: usize| (length - 16, &[0xea][..]);
        for (contents, kind) in [
            (with(512, &[SIGNATURE]), BootKind::Disk),
            // A disk as large as a BIOS, with something at its end.
            (with(0x10000, &[SIGNATURE, jump(0x10000)]), BootKind::Disk),
            (with(0x10000, &[jump(0x10000)]), BootKind::Bios),
            (with(0x1000, &[SIGNATURE, (0x202, b"HdrS"), (0, b"MZ")]), BootKind::Kernel),
            (with(0x400, &[(0, b"QFI\xfb")]), BootKind::Disk),
            (with(0x9000, &[iso, torito]), BootKind::Cdrom),
            (with(0x9000, &[iso, SIGNATURE]), BootKind::Cdrom),
            (with(0x1000, &[SIGNATURE, (512, b"EFI PART")]), BootKind::EfiDisk),
            (with(0x1000, &[SIGNATURE, (512, b"EFI PART"), (0, b"\xeb")]), BootKind::Disk),
        ] {
            assert_eq!(found(&contents), Bootable(kind));
        }
    }

    #[test]
    fn unbootable_file_is_explained() {
        let explained = |contents: &[u8], part: &str| match found(contents) {
            Unbootable(why) => assert!(why.contains(part) && !why.contains('\n'), "{why}"),
            found => panic!("{found:?} instead of {part}"),
        };
        explained(&with(0x9000, &[(16 * SECTOR + 1, b"CD001")]), "El Torito");
        // A BIOS of a wrong length, and one without a first instruction.
        explained(&with(0x10010, &[(0x10000, &[0xea])]), "a multiple of 64 KiB");
        explained(&with(0x10000, &[]), "a multiple of 64 KiB");
        explained(b"#!/bin/sh\n", "--boot KIND");
        explained(b"MZ, or so", "EFI application");
        explained(b"\x7fELF, or so", "ELF file");
    }
}
