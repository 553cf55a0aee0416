//! Finds the module of UEFI firmware that code in guest memory belongs to.
//!
//! Modules are in firmware volumes (PI specification, volume 3), in flash or unpacked in RAM. Some run in place; most are
//! loaded elsewhere, with their PE header. Firmware keeps a list of loaded images for debuggers (UEFI specification,
//! 18.4). Released firmware has no debug information, so a module has the name of its file.
//!
//! Firmware, of 64 or 32 bits, maps all memory at its physical addresses.

mod image;
mod loaded;
mod volume;

use std::cell::RefCell;
use std::ops::Range;

use super::PhysicalMemory;
use crate::x86::PAGE;

use image::ImageHeader;
use loaded::LoadedImage;
use volume::Module;

/// The addresses that are searched for flash: the reset vector is at its end.
const FLASH: Range<u64> = 0xff00_0000..0x1_0000_0000;
/// Maximum amount of memory in which volumes are looked for.
const MOST_SEARCHED: u64 = 1 << 30;
/// Maximum number of pages from the header of an image to its code.
const REACH: u64 = 2048;
/// Maximum number of pages that are looked at for headers.
const MOST_PAGES: u64 = 1 << 16;

/// The firmware of a guest, and its modules.
pub struct Firmware {
    loaded: Vec<LoadedImage>,
    modules: Vec<Module>,
    /// Images that were found by their headers.
    found: RefCell<Vec<Found>>,
    pages_left: RefCell<u64>,
}

/// An image that was in memory when its code was translated.
///
/// Firmware unloads drivers that it does not need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenImage {
    start: u64,
    header: ImageHeader,
}

impl SeenImage {
    /// Finds the image around an address, by its header.
    pub fn around(memory: &impl PhysicalMemory, address: u64) -> Option<SeenImage> {
        let mut pages = REACH;
        search(memory, address, &mut pages)
    }
}

/// An image in memory, and its module's name.
struct Found {
    code: Range<u64>,
    name: Option<String>,
}

impl Firmware {
    /// Returns true if the firmware is UEFI: flash has a firmware volume.
    pub fn is_there(memory: &impl PhysicalMemory) -> bool {
        volume::is_any(memory, clipped(&memory.ranges(), FLASH))
    }

    /// Finds the firmware; `None` if it is not UEFI.
    pub fn find(memory: &impl PhysicalMemory) -> Option<Firmware> {
        let ranges = memory.ranges();
        let flash = clipped(&ranges, FLASH);
        let mut modules = volume::search(memory, flash);
        if modules.is_empty() {
            return None;
        }
        let mut left = MOST_SEARCHED;
        let ram = clipped(&ranges, 0..FLASH.start).map(|range| {
            let len = (range.end - range.start).min(left);
            left -= len;
            range.start..range.start + len
        });
        modules.extend(volume::search(memory, ram));
        let loaded = loaded::images(memory, &ranges).unwrap_or_default();
        Some(Firmware { loaded, modules, found: RefCell::default(), pages_left: MOST_PAGES.into() })
    }

    /// The module that has code at an address, and the offset in its image.
    ///
    /// `seen` is the image that was there when the code was translated.
    pub fn name(
        &self,
        memory: &impl PhysicalMemory,
        address: u64,
        seen: Option<&SeenImage>,
    ) -> Option<(String, u64)> {
        if let Some(SeenImage { start, header }) = seen
            && let Some(name) = self.name_of(header)
        {
            return Some((name, address.wrapping_sub(*start)));
        }
        if let Some(image) = self.loaded.iter().find(|image| image.code.contains(&address)) {
            return Some((self.loaded_name(memory, image)?, address - image.code.start));
        }
        if let Some(module) = self.modules.iter().find(|module| module.code.contains(&address)) {
            return Some((module.name.clone(), address.wrapping_sub(module.base)));
        }
        let mut found = self.found.borrow_mut();
        let known = found.iter().position(|found| found.code.contains(&address));
        let index = match known {
            Some(index) => index,
            None => {
                let mut pages = self.pages_left.borrow_mut();
                let SeenImage { start, header } = search(memory, address, &mut pages)?;
                let code = start..start + u64::from(header.size);
                found.push(Found { code, name: self.name_of(&header) });
                found.len() - 1
            }
        };
        Some((found[index].name.clone()?, address - found[index].code.start))
    }

    fn loaded_name(&self, memory: &impl PhysicalMemory, image: &LoadedImage) -> Option<String> {
        if let Some(name) = &image.name {
            return Some(name.clone());
        }
        let by_file = self.modules.iter().find(|module| Some(module.file) == image.file);
        by_file
            .map(|module| module.name.clone())
            .or_else(|| self.name_of(&ImageHeader::read(memory, image.code.start)?))
    }

    /// The name of the one module that has this header.
    fn name_of(&self, header: &ImageHeader) -> Option<String> {
        let mut same = self.modules.iter().filter(|module| module.header.as_ref() == Some(header));
        let name = &same.next()?.name;
        same.all(|other| other.name == *name).then(|| name.clone())
    }
}

/// Finds the image around an address, by its header. Counts `pages` down for each page that it reads.
fn search(memory: &impl PhysicalMemory, address: u64, pages: &mut u64) -> Option<SeenImage> {
    let page = address & !(PAGE - 1);
    for distance in 0..REACH {
        *pages = pages.checked_sub(1)?;
        let start = page.checked_sub(distance * PAGE)?;
        let Some(header) = ImageHeader::read(memory, start) else { continue };
        let is_around = address - start < header.size.into();
        return is_around.then_some(SeenImage { start, header });
    }
    None
}

/// The parts of `ranges` within another range.
fn clipped(ranges: &[Range<u64>], within: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let clip = move |range: &Range<u64>| range.start.max(within.start)..range.end.min(within.end);
    ranges.iter().map(clip).filter(|range| range.start < range.end)
}

/// Reads bytes at an address.
fn bytes<const N: usize>(memory: &impl PhysicalMemory, address: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    memory.read(address, &mut bytes).then_some(bytes)
}

/// Reads a 64-bit number.
fn u64_at(memory: &impl PhysicalMemory, address: u64) -> Option<u64> {
    bytes(memory, address).map(u64::from_le_bytes)
}

/// Reads a UTF-16 name of printable ASCII characters, up to its zero or `limit` characters.
fn name_at(memory: &impl PhysicalMemory, address: u64, limit: u64) -> Option<String> {
    let mut name = String::new();
    for index in 0..limit {
        let unit = u16::from_le_bytes(bytes(memory, address.checked_add(2 * index)?)?);
        match u8::try_from(unit) {
            Ok(0) => break,
            Ok(byte) if byte.is_ascii_graphic() || byte == b' ' => name.push(byte.into()),
            _ => return None,
        }
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests;
