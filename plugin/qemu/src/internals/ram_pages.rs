//! Pages of guest memory that stay mapped, to be read at the cost of a load.
//!
//! A mapped page remains the same memory even if QEMU's memory map changes later. So pages are kept only at addresses
//! whose mapping does not change while a machine runs: not between 640 KiB and 1 MiB, where chipsets switch between ROM,
//! RAM and the memory of system management mode.

use std::ops::Range;
use std::sync::Arc;

use vm_memory::Bytes;

use super::mapped_ram::MappedRam;
use super::mapping::Mapping;
use super::ram::GuestRam;

const PAGE: usize = 4096;
/// Number of pages that are kept. The cache is direct-mapped: a new page evicts the old one.
const PAGES: usize = 256;
/// Addresses at which a chipset changes the memory map.
const SWITCHED: Range<u64> = 0xa_0000..0x10_0000;

/// Guest memory by physical address, with the pages that were read last.
pub struct RamPages {
    ram: Arc<GuestRam>,
    /// Each with its number.
    pages: Vec<Option<(u64, Mapping)>>,
}

// SAFETY: any thread may call QEMU's functions for a mapping, and the memory is only read, by volatile loads.
unsafe impl Send for RamPages {}

impl RamPages {
    /// Creates an empty cache.
    pub fn new(ram: Arc<GuestRam>) -> RamPages {
        RamPages { ram, pages: (0..PAGES).map(|_| None).collect() }
    }

    /// Unmaps all pages.
    pub fn clear(&mut self) {
        self.pages.fill_with(|| None);
    }

    /// Fills `into` from within one page. Returns false if no memory is there.
    ///
    /// # Panics
    ///
    /// If the bytes are not within one page.
    #[inline]
    pub fn read(&mut self, physical: u64, into: &mut [u8]) -> bool {
        let (number, offset) = (physical / PAGE as u64, physical as usize % PAGE);
        assert!(offset + into.len() <= PAGE, "within one page");
        let slot = number as usize % PAGES;
        let host = match &self.pages[slot] {
            Some((held, mapping)) if *held == number => mapping.host,
            _ => match self.map(number, slot) {
                Some(host) => host,
                None => return self.read_unmapped(physical, into),
            },
        };
        let from = host.wrapping_byte_add(offset).cast::<u8>().cast_const();
        // Words are loaded at once. Other vCPUs may write meanwhile.
        // SAFETY: within the page, which is mapped as long as it is in `pages`; only words at multiples of their size
        // are loaded as such. Volatile, since the guest may write.
        unsafe {
            match into.len() {
                8 if offset.is_multiple_of(8) => {
                    into.copy_from_slice(&from.cast::<u64>().read_volatile().to_ne_bytes());
                }
                4 if offset.is_multiple_of(4) => {
                    into.copy_from_slice(&from.cast::<u32>().read_volatile().to_ne_bytes());
                }
                _ => {
                    for (index, byte) in into.iter_mut().enumerate() {
                        *byte = from.add(index).read_volatile();
                    }
                }
            }
        }
        true
    }

    /// Maps a page, if it may be kept. Returns where it is in this process.
    #[cold]
    fn map(&mut self, number: u64, slot: usize) -> Option<*mut std::ffi::c_void> {
        let physical = number * PAGE as u64;
        let mapping = match SWITCHED.contains(&physical) {
            true => None,
            false => self.ram.map_page(physical, PAGE),
        }?;
        let host = mapping.host;
        self.pages[slot] = Some((number, mapping));
        Some(host)
    }

    #[cold]
    fn read_unmapped(&self, physical: u64, into: &mut [u8]) -> bool {
        let len = into.len();
        self.ram.with(physical, len, |memory| memory.read_slice(into, 0).is_ok()).unwrap_or(false)
    }
}

/// The page of RAM that was used last, which stays mapped to be read and written.
pub struct HeldPage {
    ram: Arc<GuestRam>,
    /// With its number.
    page: Option<(u64, MappedRam)>,
}

impl HeldPage {
    /// Holds no page yet.
    pub fn new(ram: Arc<GuestRam>) -> HeldPage {
        HeldPage { ram, page: None }
    }

    /// Returns the page with this address. The one held before is released if it is another.
    ///
    /// `None` if the page may not stay mapped, or if there is no RAM.
    #[inline]
    pub fn get(&mut self, physical: u64) -> Option<&mut MappedRam> {
        let number = physical / PAGE as u64;
        if self.page.as_ref().is_none_or(|(held, _)| *held != number) {
            self.hold(number);
        }
        self.page.as_mut().map(|(_, page)| page)
    }

    #[cold]
    fn hold(&mut self, number: u64) {
        let physical = number * PAGE as u64;
        self.page = match SWITCHED.contains(&physical) {
            true => None,
            false => self.ram.hold(physical, PAGE).map(|page| (number, page)),
        };
    }

    /// Releases the page. Until then QEMU may keep code that it translated from bytes that were overwritten.
    pub fn release(&mut self) {
        self.page = None;
    }
}
