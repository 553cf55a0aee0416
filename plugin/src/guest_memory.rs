//! Reads and writes the guest's RAM, by physical and by linear address.

use std::cell::{Cell, RefCell};
use std::ops::Deref;

use vm_memory::VolatileSlice;

use crate::qemu::{GuestRam, MappedRam, ProvenRam, RamPages};
use crate::x86::{Access, Efer, Mode, PAGE, Paging, PhysicalMemory};

/// RAM by physical address. Memory-mapped devices are not read, because a read may have effects.
pub(crate) struct Physical<R>(pub R);

impl<R: Deref<Target = GuestRam>> PhysicalMemory for Physical<R> {
    fn read_u32(&self, physical: u64) -> Option<u32> {
        self.0.read_u32(physical)
    }

    fn read_u64(&self, physical: u64) -> Option<u64> {
        self.0.read_u64(physical)
    }
}

/// Reads entries of page tables through cached mappings of RAM.
pub(crate) struct CachedEntries<'a>(pub &'a RefCell<RamPages>);

impl CachedEntries<'_> {
    fn read<const N: usize>(&self, physical: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let is_in_page = physical % PAGE <= PAGE - N as u64;
        (is_in_page && self.0.borrow_mut().read(physical, &mut bytes)).then_some(bytes)
    }
}

impl PhysicalMemory for CachedEntries<'_> {
    fn read_u32(&self, physical: u64) -> Option<u32> {
        self.read(physical).map(u32::from_le_bytes)
    }

    fn read_u64(&self, physical: u64) -> Option<u64> {
        self.read(physical).map(u64::from_le_bytes)
    }
}

/// Translates the address of a page, for reads by the kernel.
///
/// The code is 64-bit or 32-bit, as EFER says.
///
/// Returns `None` if the address is not canonical, or if the read would fault.
pub(crate) fn translate_page(paging: &Paging, page: u64, pages: &RefCell<RamPages>) -> Option<u64> {
    let is_long = paging.efer.contains(Efer::LONG_MODE_ACTIVE);
    let mode = if is_long { Mode::Bits64 } else { Mode::Bits32 };
    if !paging.is_canonical(page, mode) {
        return None;
    }
    paging.translate(page, Access::Read, &CachedEntries(pages)).ok()
}

/// Fills `into` from a linear address, page by page.
///
/// `read` fills bytes from a page, given the page's linear address and the offset in it. Returns `None` at the first page
/// for which `read` does; the bytes before it have been read.
#[inline]
pub(crate) fn read_by_page(
    mut linear: u64,
    mut into: &mut [u8],
    mut read: impl FnMut(u64, u64, &mut [u8]) -> Option<()>,
) -> Option<()> {
    while !into.is_empty() {
        let (now, later) = into.split_at_mut(left_in_page(linear).min(into.len()));
        let offset = linear % PAGE;
        read(linear - offset, offset, now)?;
        linear = linear.wrapping_add(now.len() as u64);
        into = later;
    }
    Some(())
}

/// The reason why memory cannot be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// The processor would fault, or would set a bit in the page tables.
    Page,
    /// The address has no RAM or is not canonical.
    Address,
    /// It is not proven that the address, or that of a page table, is RAM.
    Unproven,
}

/// The guest's RAM, through one of the interfaces by which QEMU gives access to it.
#[derive(Clone, Copy)]
pub(crate) enum RamAccess<'a> {
    /// Through QEMU's exported functions.
    InPlace(&'a GuestRam),
    /// Through the plugin API, which copies.
    Proven(&'a ProvenRam),
}

impl RamAccess<'_> {
    #[inline]
    fn read<const N: usize>(self, physical: u64) -> Option<[u8; N]> {
        let RamAccess::Proven(ram) = self else { return None };
        let mut bytes = [0; N];
        ram.read(physical, &mut bytes).then_some(bytes)
    }

    /// Lends `len` bytes of one page to `work`, to read.
    fn with<R>(
        self,
        physical: u64,
        len: usize,
        work: impl FnOnce(VolatileSlice<'_>) -> R,
    ) -> Result<R, Unusable> {
        match self {
            RamAccess::InPlace(ram) => ram.with(physical, len, work).ok_or(Unusable::Address),
            RamAccess::Proven(ram) => with_copy(ram, physical, len, work),
        }
    }

    /// Lends `len` bytes of one page to `work`, to read and write.
    pub fn with_mut<R>(
        self,
        physical: u64,
        len: usize,
        work: impl FnOnce(VolatileSlice<'_>) -> R,
    ) -> Result<R, Unusable> {
        match self {
            RamAccess::InPlace(ram) => ram.with_mut(physical, len, work).ok_or(Unusable::Address),
            RamAccess::Proven(ram) => with_copy_back(ram, physical, len, work),
        }
    }
}

/// Lends a copy of `len` bytes of one page to `work`.
///
/// It is not inlined, so that accesses that need no copy do not reserve a page on the stack.
#[inline(never)]
fn with_copy<R>(
    ram: &ProvenRam,
    physical: u64,
    len: usize,
    work: impl FnOnce(VolatileSlice<'_>) -> R,
) -> Result<R, Unusable> {
    let mut copy = [0; PAGE as usize];
    let bytes = copy.get_mut(..len).ok_or(Unusable::Address)?;
    match ram.read(physical, bytes) {
        true => Ok(work(VolatileSlice::from(bytes))),
        false => Err(Unusable::Unproven),
    }
}

/// Lends a copy of `len` bytes of one page to `work`, and writes it back.
#[inline(never)]
fn with_copy_back<R>(
    ram: &ProvenRam,
    physical: u64,
    len: usize,
    work: impl FnOnce(VolatileSlice<'_>) -> R,
) -> Result<R, Unusable> {
    let mut copy = [0; PAGE as usize];
    let bytes = copy.get_mut(..len).ok_or(Unusable::Address)?;
    // Written first as it is: ROM must refuse before a device is read.
    if !ram.read(physical, bytes) || !ram.write(physical, bytes) {
        return Err(Unusable::Unproven);
    }
    let result = work(VolatileSlice::from(&mut *bytes));
    match ram.write(physical, bytes) {
        true => Ok(result),
        false => Err(Unusable::Address),
    }
}

/// Entries of page tables. It notes whether one is missing for want of a proof.
struct Entries<'a> {
    ram: RamAccess<'a>,
    pages: Option<&'a RefCell<RamPages>>,
    is_unproven: Cell<bool>,
}

impl Entries<'_> {
    fn proven<T>(&self, value: Option<T>) -> Option<T> {
        self.is_unproven.set(self.is_unproven.get() || value.is_none());
        value
    }
}

impl PhysicalMemory for Entries<'_> {
    fn read_u32(&self, physical: u64) -> Option<u32> {
        match (self.ram, self.pages) {
            (_, Some(pages)) => CachedEntries(pages).read_u32(physical),
            (RamAccess::InPlace(ram), None) => ram.read_u32(physical),
            (copied, None) => self.proven(copied.read(physical).map(u32::from_le_bytes)),
        }
    }

    fn read_u64(&self, physical: u64) -> Option<u64> {
        match (self.ram, self.pages) {
            (_, Some(pages)) => CachedEntries(pages).read_u64(physical),
            (RamAccess::InPlace(ram), None) => ram.read_u64(physical),
            (copied, None) => self.proven(copied.read(physical).map(u64::from_le_bytes)),
        }
    }
}

/// Memory by linear address, through page tables and with a privilege level.
pub(crate) struct LinearMemory<'a> {
    pub ram: RamAccess<'a>,
    /// Mapped pages, from which entries of page tables are read; `None` if they are read through `ram`.
    pub pages: Option<&'a RefCell<RamPages>>,
    pub paging: Paging,
    pub mode: Mode,
}

impl LinearMemory<'_> {
    /// Translates an address.
    ///
    /// # Errors
    ///
    /// The address is not canonical, or the access would fault, or a page table is not proven to be RAM.
    #[inline]
    pub fn physical(&self, linear: u64, access: Access) -> Result<u64, Unusable> {
        if !self.paging.is_canonical(linear, self.mode) {
            return Err(Unusable::Address);
        }
        let entries = Entries { ram: self.ram, pages: self.pages, is_unproven: Cell::new(false) };
        let translated = self.paging.translate(linear, access, &entries);
        translated.map_err(|_| match entries.is_unproven.get() {
            true => Unusable::Unproven,
            false => Unusable::Page,
        })
    }

    /// Returns true if `len` bytes from `linear` are canonical and do not wrap.
    pub fn is_canonical(&self, linear: u64, len: u64) -> bool {
        let Some(last) = len.checked_sub(1).and_then(|more| linear.checked_add(more)) else {
            return false;
        };
        // A range must not span the two canonical halves.
        [linear, last].iter().all(|&end| self.paging.is_canonical(end, self.mode))
            && linear >> 63 == last >> 63
    }

    /// Lends `len` bytes of one page to `work`, to read.
    ///
    /// # Errors
    ///
    /// The memory cannot be accessed.
    pub fn with<R>(
        &self,
        linear: u64,
        len: usize,
        work: impl FnOnce(VolatileSlice<'_>) -> R,
    ) -> Result<R, Unusable> {
        let physical = self.physical(linear, Access::Read)?;
        self.ram.with(physical, len, work)
    }

    /// Lends `len` bytes of one page to `work`, to read and write.
    ///
    /// # Errors
    ///
    /// The memory cannot be accessed.
    pub fn with_mut<R>(
        &self,
        linear: u64,
        len: usize,
        work: impl FnOnce(VolatileSlice<'_>) -> R,
    ) -> Result<R, Unusable> {
        let physical = self.physical(linear, Access::Write)?;
        self.ram.with_mut(physical, len, work)
    }

    /// Maps `len` bytes of one page, to read and write.
    ///
    /// # Errors
    ///
    /// The memory cannot be accessed.
    pub fn hold(&self, linear: u64, len: usize) -> Result<MappedRam, Unusable> {
        let physical = self.physical(linear, Access::Write)?;
        match self.ram {
            RamAccess::InPlace(ram) => ram.hold(physical, len).ok_or(Unusable::Address),
            RamAccess::Proven(_) => Err(Unusable::Unproven),
        }
    }

    /// Reads from any number of pages.
    ///
    /// # Errors
    ///
    /// A page cannot be accessed. The bytes before it have been read.
    pub fn read(&self, linear: u64, bytes: &mut [u8]) -> Result<(), Unusable> {
        let (mut linear, mut rest) = (linear, bytes);
        while !rest.is_empty() {
            let here = left_in_page(linear).min(rest.len());
            let (part, after) = rest.split_at_mut(here);
            self.with(linear, here, |memory| memory.copy_to(part))?;
            (linear, rest) = (linear.wrapping_add(here as u64), after);
        }
        Ok(())
    }

    /// Lends `work` both pieces of a range that crosses a page boundary, to write.
    ///
    /// # Errors
    ///
    /// A page cannot be accessed.
    pub fn with_both_mut<R>(
        &self,
        linear: u64,
        len: usize,
        work: impl FnOnce(VolatileSlice<'_>, VolatileSlice<'_>) -> R,
    ) -> Result<R, Unusable> {
        let here = left_in_page(linear);
        let next = linear.wrapping_add(here as u64);
        self.with_mut(linear, here, |first| {
            self.with_mut(next, len - here, |second| work(first, second))
        })?
    }
}

/// The number of bytes from an address to the end of its page.
pub(crate) fn left_in_page(linear: u64) -> usize {
    (PAGE - linear % PAGE) as usize
}
