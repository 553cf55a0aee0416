//! Finds out whether QEMU has a device at a port.

use std::ffi::CStr;

use super::c_types::MemoryRegion;
use super::symbols::{IoRoot, RegionQuery};
use crate::symbol::NotExported;

/// The kind of region that the machine has at a port now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtPort {
    /// Not known: QEMU does not export the functions.
    Unknown,
    /// Nothing.
    Nothing,
    /// A device, QEMU's or the plugin's: the name of its region of ports.
    Region(String),
}

/// Finds the device at a port.
pub struct PortPresence(Option<RegionFinder>);

impl PortPresence {
    /// Looks up the functions.
    pub fn load() -> PortPresence {
        PortPresence(RegionFinder::find().ok())
    }

    /// Returns the device at a port. May be called on any of QEMU's threads.
    pub fn at(&self, port: u16) -> AtPort {
        let Some(finder) = &self.0 else { return AtPort::Unknown };
        match finder.at(port, |region, name| (region.is_bus, name.into_owned())) {
            Some((false, name)) => AtPort::Region(name),
            // QEMU finds the bus itself where nothing else is.
            Some((true, _)) | None => AtPort::Nothing,
        }
    }
}

/// A region that was found, valid during the call that gets it.
pub(super) struct FoundRegion {
    pub region: *mut MemoryRegion,
    /// True if it is the bus itself.
    pub is_bus: bool,
}

/// Finds regions on the port bus.
pub(super) struct RegionFinder {
    root: IoRoot,
    query: RegionQuery,
}

impl RegionFinder {
    /// Looks up the functions.
    pub fn find() -> Result<RegionFinder, NotExported> {
        Ok(RegionFinder { root: IoRoot::find()?, query: RegionQuery::find()? })
    }

    /// Returns true if QEMU describes an empty port as pvio expects. Call it while the bus is empty at 0xfe10.
    pub fn try_out(&self) -> bool {
        const EMPTY: u64 = 0xfe10;
        // SAFETY: as in `at`. The bus lives for ever, so its references need not be given back.
        unsafe {
            let bus = (self.root.get_system_io)();
            let found = (self.query.memory_region_find)(bus, EMPTY, 1);
            let offsets = (found.offset_within_region, found.offset_within_address_space);
            (found.region, offsets) == (bus, (EMPTY, EMPTY))
        }
    }

    /// Finds the region at a port, with a reference that [`RegionFinder::release`] gives back, and the port's offset in it.
    ///
    /// Where nothing is, it is the bus itself.
    pub fn hold(&self, port: u16) -> (*mut MemoryRegion, u64) {
        // SAFETY: as in `at`.
        let (bus, found) = unsafe {
            let bus = (self.root.get_system_io)();
            (bus, (self.query.memory_region_find)(bus, u64::from(port), 1))
        };
        match found.region.is_null() {
            // The bus lives for ever: its references do nothing.
            true => (bus, port.into()),
            false => (found.region, found.offset_within_region),
        }
    }

    /// Gives back a reference.
    pub fn release(&self, region: *mut MemoryRegion) {
        // SAFETY: a reference of `hold`, once; or the bus, which has no owner to refer to.
        unsafe { (self.query.memory_region_unref)(region) };
    }

    /// Passes the region at a port and its name to `look`. `None` if there is none.
    pub fn at<R>(
        &self,
        port: u16,
        look: impl FnOnce(FoundRegion, std::borrow::Cow<'_, str>) -> R,
    ) -> Option<R> {
        // SAFETY: the root of the port bus lives for ever. QEMU protects the look at it by RCU.
        let (bus, region) = unsafe {
            let bus = (self.root.get_system_io)();
            (bus, (self.query.memory_region_find)(bus, u64::from(port), 1).region)
        };
        if region.is_null() {
            return None;
        }
        // SAFETY: the region is referenced until it is released below; its name, a C string or null, is its own.
        let name = unsafe {
            let name = (self.query.memory_region_name)(region);
            if name.is_null() { c"" } else { CStr::from_ptr(name) }
        };
        let found = look(FoundRegion { region, is_bus: region == bus }, name.to_string_lossy());
        // SAFETY: gives back the reference that `memory_region_find` took, once.
        unsafe { (self.query.memory_region_unref)(region) };
        Some(found)
    }
}
