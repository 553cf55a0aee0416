//! QEMU's arguments that boot a guest.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::boot_kind::efi_programs;
use super::{BootKind, executable};
use crate::paths;

/// Returns the arguments, and makes the files that they name in a directory of this run.
///
/// With a command line, UEFI firmware gets an application from QEMU's `-kernel`, and gives it the command line of `-append`
/// as its load options.
///
/// # Errors
///
/// Fails if UEFI firmware is missing, or if a file cannot be read or copied.
pub(super) fn arguments(
    kind: BootKind,
    guest: &Path,
    directory: &Path,
    has_command_line: bool,
) -> Result<Vec<OsString>> {
    let machine = |machine: &str| vec!["-machine".into(), machine.into()];
    let boot = match kind {
        BootKind::Bios => vec!["-bios".into(), guest.into()],
        BootKind::Kernel => vec!["-kernel".into(), guest.into()],
        BootKind::Disk => disk(guest)?,
        BootKind::Cdrom => drive("format=raw,media=cdrom", guest),
        BootKind::EfiDisk => [firmware(64, directory)?, disk(guest)?].concat(),
        BootKind::Efi => {
            let (bits, disk) = efi_disk(guest, directory)?;
            let mut fat = OsString::from("fat:");
            fat.push(&disk);
            let mut all =
                [firmware(bits, directory)?, drive("format=raw", Path::new(&fat))].concat();
            if has_command_line {
                all.extend(["-kernel".into(), efi_program(guest).into()]);
            }
            all
        }
    };
    let machine = match kind {
        // The 32-bit firmware needs the system management mode of this machine.
        BootKind::Efi | BootKind::EfiDisk => {
            [machine("q35"), vec!["-m".into(), "256".into()]].concat()
        }
        _ => machine("pc"),
    };
    Ok([machine, boot].concat())
}

/// Makes a drive. Writes to it are discarded, so the next run finds the same disk.
fn drive(format: &str, file: &Path) -> Vec<OsString> {
    let file = file.to_string_lossy().replace(',', ",,");
    vec!["-drive".into(), format!("{format},snapshot=on,file={file}").into()]
}

fn disk(guest: &Path) -> Result<Vec<OsString>> {
    use std::io::Read;
    let mut magic = Vec::new();
    let named = || guest.display().to_string();
    let file = File::open(guest).with_context(named)?;
    file.take(4).read_to_end(&mut magic).with_context(named)?;
    Ok(drive(if magic == b"QFI\xfb" { "format=qcow2" } else { "format=raw" }, guest))
}

/// Returns the width of an EFI guest's code, and the directory that is its disk.
fn efi_disk(guest: &Path, directory: &Path) -> Result<(u32, PathBuf)> {
    if guest.is_dir() {
        let has_64 = efi_programs(guest).iter().any(|path| {
            path.file_name().is_some_and(|name| name.eq_ignore_ascii_case("BOOTX64.EFI"))
        });
        return Ok((if has_64 { 64 } else { 32 }, guest.to_owned()));
    }
    let file = File::open(guest).with_context(|| guest.display().to_string())?;
    let bits = executable::efi_bits(&file).unwrap_or(64);
    let disk = directory.join("disk");
    let boot = disk.join("EFI/BOOT");
    std::fs::create_dir_all(&boot)?;
    let name = if bits == 64 { "BOOTX64.EFI" } else { "BOOTIA32.EFI" };
    std::fs::copy(guest, boot.join(name)).with_context(|| guest.display().to_string())?;
    Ok((bits, disk))
}

/// Returns the application that UEFI firmware starts: the guest, or one in the guest's directory.
fn efi_program(guest: &Path) -> PathBuf {
    let first = || efi_programs(guest).into_iter().next();
    if guest.is_dir() { first().unwrap_or_default() } else { guest.to_owned() }
}

/// Makes the flash of UEFI firmware, with a copy of its variables.
fn firmware(bits: u32, directory: &Path) -> Result<Vec<OsString>> {
    let [code, variables] = paths::uefi_firmware(bits)?;
    let copy = directory.join("variables.fd");
    std::fs::copy(&variables, &copy).with_context(|| variables.display().to_string())?;
    let flash = |unit: u8, file: &Path, more: &str| -> Vec<OsString> {
        let file = file.to_string_lossy().replace(',', ",,");
        vec!["-drive".into(), format!("if=pflash,unit={unit},format=raw,file={file}{more}").into()]
    };
    Ok([flash(0, &code, ",readonly=on"), flash(1, &copy, "")].concat())
}
