//! Finds modules with code in firmware volumes.
//!
//! PI specification 1.7, volume 3, chapter 3.

use std::ops::Range;

use super::image::{ImageHeader, stripped, u16_in, u32_in};
use super::{bytes, name_at, u64_at};
use crate::guest::PhysicalMemory;
use crate::x86::PAGE;

/// The signature of a volume, 40 bytes after its beginning.
const SIGNATURE: &[u8] = b"_FVH";
const SIGNATURE_AT: u64 = 40;

/// Limits: volumes, files of a volume, sections of a file, modules of all volumes.
const MOST_VOLUMES: usize = 64;
const MOST_FILES: usize = 1024;
const MOST_SECTIONS: usize = 32;
const MOST_MODULES: usize = 4096;
/// The biggest volume, and the biggest header of one.
const BIGGEST: u64 = 64 << 20;
const MOST_HEADER: usize = 1024;
/// The longest name of a module.
const LONGEST_NAME: u64 = 64;

/// Kinds of sections: `EFI_SECTION_PE32`, `EFI_SECTION_TE`, `EFI_SECTION_USER_INTERFACE`.
const PE32: u8 = 0x10;
const TE: u8 = 0x12;
const USER_INTERFACE: u8 = 0x15;
/// `EFI_FV_FILETYPE_RAW`, whose contents are not sections, and `EFI_FV_FILETYPE_FFS_PAD`.
const RAW: u8 = 1;
const PAD: u8 = 0xf0;
/// `FFS_ATTRIB_LARGE_FILE`.
const LARGE: u8 = 1;

/// A module in a volume.
#[derive(Debug)]
pub(super) struct Module {
    /// The image in the volume.
    pub code: Range<u64>,
    /// The address of offset 0 of the image.
    pub base: u64,
    pub name: String,
    /// The GUID of its file.
    pub file: [u8; 16],
    /// `None` for a TE image.
    pub header: Option<ImageHeader>,
}

/// Finds the modules of all volumes in these ranges.
pub(super) fn search(
    memory: &impl PhysicalMemory,
    ranges: impl Iterator<Item = Range<u64>>,
) -> Vec<Module> {
    let mut modules = Vec::new();
    for volume in find_volumes(memory, ranges) {
        read_volume(memory, volume, &mut modules);
    }
    modules
}

/// Returns true if a volume in these ranges has a module.
pub(super) fn is_any(
    memory: &impl PhysicalMemory,
    ranges: impl Iterator<Item = Range<u64>>,
) -> bool {
    !search(memory, ranges).is_empty()
}

fn find_volumes(
    memory: &impl PhysicalMemory,
    ranges: impl Iterator<Item = Range<u64>>,
) -> Vec<u64> {
    const KEPT: usize = SIGNATURE.len() - 1;
    let finder = memchr::memmem::Finder::new(SIGNATURE);
    let mut volumes = Vec::new();
    for range in ranges {
        // The end of the page before, and a page.
        let mut page = [0; KEPT + PAGE as usize];
        for start in range.step_by(PAGE as usize) {
            page.copy_within(PAGE as usize.., 0);
            if !memory.read(start, &mut page[KEPT..]) {
                page.fill(0);
            }
            let found = finder.find_iter(&page).map(|at| start + at as u64);
            volumes.extend(found.filter_map(|at| (at - KEPT as u64).checked_sub(SIGNATURE_AT)));
            if volumes.len() >= MOST_VOLUMES {
                return volumes;
            }
        }
    }
    volumes
}

/// Adds the modules of a volume.
fn read_volume(memory: &impl PhysicalMemory, volume: u64, modules: &mut Vec<Module>) -> Option<()> {
    let fixed: [u8; 56] = bytes(memory, volume)?;
    let size = u64_at(memory, volume.checked_add(32)?)?;
    let header_size = usize::from(u16_in(&fixed, 48));
    let is_possible = (56..=MOST_HEADER).contains(&header_size) && header_size % 2 == 0;
    (is_possible && size <= BIGGEST && size > header_size as u64).then_some(())?;
    let mut header = vec![0; header_size];
    memory.read(volume, &mut header).then_some(())?;
    let words = header.chunks(2).map(|word| u16_in(word, 0));
    (words.fold(0, u16::wrapping_add) == 0).then_some(())?;
    let end = volume.checked_add(size)?;
    let first = match u64::from(u16_in(&fixed, 52)) {
        0 => header_size as u64,
        extended => {
            let size: [u8; 4] = bytes(memory, volume + extended + 16)?;
            extended + u64::from(u32_in(&size, 0))
        }
    };
    let mut file = volume + first.next_multiple_of(8);
    for _ in 0..MOST_FILES {
        let header: [u8; 24] = bytes(memory, file)?;
        let (size, contents) = match header[19] & LARGE {
            0 => (u64::from(u32_in(&header, 20) & 0xff_ffff), file + 24),
            _ => (u64_at(memory, file + 24)?, file + 32),
        };
        let next = file.checked_add(size).filter(|&next| next <= end && next > contents)?;
        if !matches!(header[18], RAW | PAD) {
            modules.extend(read_file(memory, &header, contents..next));
            (modules.len() < MOST_MODULES).then_some(())?;
        }
        file = volume + (next - volume).next_multiple_of(8);
    }
    Some(())
}

/// Reads the module in a file. Returns `None` if it has no code.
fn read_file(
    memory: &impl PhysicalMemory,
    header: &[u8; 24],
    contents: Range<u64>,
) -> Option<Module> {
    let (mut name, mut image) = (None, None);
    let mut section = contents.start;
    for _ in 0..MOST_SECTIONS {
        let Some(header) = bytes::<8>(memory, section).filter(|_| section < contents.end) else {
            break;
        };
        let (size, data) = match u32_in(&header, 0) & 0xff_ffff {
            0xff_ffff => (u64::from(u32_in(&header, 4)), section + 8),
            size => (u64::from(size), section + 4),
        };
        let Some(next) = section.checked_add(size) else { break };
        if next > contents.end || next <= data {
            break;
        }
        match header[3] {
            USER_INTERFACE => name = name_at(memory, data, LONGEST_NAME),
            kind @ (PE32 | TE) => image = Some((kind, data..next)),
            _ => {}
        }
        section = contents.start + (next - contents.start).next_multiple_of(4);
    }
    let (kind, code) = image?;
    let file = *header.first_chunk()?;
    let base = match kind {
        TE => code.start.wrapping_sub(stripped(memory, code.start)?),
        _ => code.start,
    };
    let header = ImageHeader::read(memory, code.start);
    Some(Module { code, base, name: name.unwrap_or_else(|| guid(&file)), file, header })
}

/// A GUID as text.
fn guid(bytes: &[u8; 16]) -> String {
    let [a, b, c] = [u32_in(bytes, 0), u16_in(bytes, 4).into(), u16_in(bytes, 6).into()];
    let rest = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{a:08x}-{b:04x}-{c:04x}-{}-{}", rest(&bytes[8..10]), rest(&bytes[10..]))
}
