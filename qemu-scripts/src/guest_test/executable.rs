//! Finds how executable files boot: ELF files, and those of UEFI.

use std::fs::File;

use object::elf::{EM_386, EM_X86_64, FileHeader32, FileHeader64, NoteType};
use object::pe::{
    IMAGE_FILE_MACHINE_AMD64, IMAGE_FILE_MACHINE_I386, IMAGE_SUBSYSTEM_EFI_APPLICATION,
    ImageNtHeaders32, ImageNtHeaders64, Subsystem,
};
use object::read::elf::{FileHeader, ProgramHeader};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader};
use object::{Endianness, FileKind, ReadCache, ReadRef};

use super::boot_kind::{BootKind, Found};
use super::multiboot;

/// Type of the note, by the owner `Xen`, that has the 32-bit entry point of a PVH kernel.
const XEN_ELFNOTE_PHYS32_ENTRY: NoteType = NoteType(18);

/// Finds how an ELF file boots. `start` is its beginning.
pub(super) fn of_elf(file: &File, start: &[u8]) -> Found {
    let data = ReadCache::new(file);
    let parsed = match start.get(4) {
        Some(2) => elf::<FileHeader64<Endianness>, _>(&data),
        _ => elf::<FileHeader32<Endianness>, _>(&data),
    };
    let Some(elf) = parsed else {
        return Found::Unbootable("this ELF file is damaged: its headers cannot be read".into());
    };
    let unbootable = |why: &str| Found::Unbootable(why.into());
    if !elf.is_x86 {
        return unbootable("this ELF file is not for x86: build it for i686 or x86_64");
    }
    match multiboot::find(start) {
        Some(header) if elf.is_64 && !header.has_addresses() => unbootable(
            "QEMU boots multiboot 1 only as ELF32: convert it with objcopy -I elf64-x86-64 -O elf32-i386, or give it \
             a PVH note in place of the multiboot header",
        ),
        Some(_) => Found::Bootable(BootKind::Kernel),
        None if elf.has_pvh => Found::Bootable(BootKind::Kernel),
        None if multiboot::has_multiboot_2(start) => unbootable(
            "QEMU's -kernel does not know multiboot 2: add a PVH note (XEN_ELFNOTE_PHYS32_ENTRY), or make an ISO with \
             grub-mkrescue",
        ),
        None if elf.is_64 => unbootable(
            "this ELF64 has no PVH note (XEN_ELFNOTE_PHYS32_ENTRY), which QEMU's -kernel needs: add one, or make a \
             disk image with a boot loader",
        ),
        None => unbootable(
            "this ELF32 has neither a multiboot 1 header in its first 8 KiB nor a PVH note: add one, or make a disk \
             image with a boot loader",
        ),
    }
}

/// What matters of an ELF file.
struct Elf {
    is_x86: bool,
    is_64: bool,
    has_pvh: bool,
}

fn elf<'data, Elf64or32, R>(data: R) -> Option<Elf>
where
    Elf64or32: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = Elf64or32::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let has_pvh = |segment: &Elf64or32::ProgramHeader| {
        let Ok(Some(mut notes)) = segment.notes(endian, data) else { return false };
        let mut found = false;
        while let Ok(Some(note)) = notes.next() {
            found |= note.name() == b"Xen" && note.n_type(endian) == XEN_ELFNOTE_PHYS32_ENTRY;
        }
        found
    };
    Some(Elf {
        is_x86: matches!(header.e_machine(endian), EM_386 | EM_X86_64),
        is_64: header.is_class_64(),
        has_pvh: header.program_headers(endian, data).ok()?.iter().any(has_pvh),
    })
}

/// Finds how a PE file boots.
pub(super) fn of_pe(file: &File) -> Found {
    let Some(pe) = pe(file) else {
        return Found::Unbootable(
            "this is a program for DOS or Windows, not an EFI application".into(),
        );
    };
    if pe.subsystem != IMAGE_SUBSYSTEM_EFI_APPLICATION {
        return Found::Unbootable(format!(
            "this PE file is not an EFI application: its subsystem is {}, and should be {}",
            pe.subsystem.0, IMAGE_SUBSYSTEM_EFI_APPLICATION.0
        ));
    }
    match pe.bits {
        Some(_) => Found::Bootable(BootKind::Efi),
        None => Found::Unbootable(
            "this EFI application is not for x86: build it for x86_64-unknown-uefi or i686-unknown-uefi".into(),
        ),
    }
}

/// Returns the width of an EFI application's code, 32 or 64; `None` if it is not for x86.
pub(super) fn efi_bits(file: &File) -> Option<u32> {
    pe(file)?.bits
}

/// What matters of a PE file.
struct Pe {
    subsystem: Subsystem,
    /// 32 or 64; `None` if it is not for x86.
    bits: Option<u32>,
}

fn pe(file: &File) -> Option<Pe> {
    let data = &ReadCache::new(file);
    match FileKind::parse(data).ok()? {
        FileKind::Pe32 => pe_of::<ImageNtHeaders32, _>(data),
        FileKind::Pe64 => pe_of::<ImageNtHeaders64, _>(data),
        _ => None,
    }
}

fn pe_of<'data, Headers: ImageNtHeaders, R: ReadRef<'data>>(data: R) -> Option<Pe> {
    let dos = object::pe::ImageDosHeader::parse(data).ok()?;
    let (headers, _) = Headers::parse(data, &mut dos.nt_headers_offset().into()).ok()?;
    Some(Pe {
        subsystem: headers.optional_header().subsystem(),
        bits: match headers.file_header().machine.get(object::LittleEndian) {
            IMAGE_FILE_MACHINE_AMD64 => Some(64),
            IMAGE_FILE_MACHINE_I386 => Some(32),
            _ => None,
        },
    })
}
