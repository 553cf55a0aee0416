//! Finds out whether QEMU has a device at a port.

use std::ffi::CStr;

use super::symbols::{IoRoot, RegionQuery};

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
pub struct PortPresence(Option<(IoRoot, RegionQuery)>);

impl PortPresence {
    /// Looks up the functions.
    pub fn load() -> PortPresence {
        PortPresence(IoRoot::find().ok().zip(RegionQuery::find().ok()))
    }

    /// Returns the device at a port. May be called on any of QEMU's threads.
    pub fn at(&self, port: u16) -> AtPort {
        let Some((root, query)) = self.0 else { return AtPort::Unknown };
        // SAFETY: the root of the port bus lives for ever. QEMU protects the look at it by RCU.
        let (bus, region) = unsafe {
            let bus = (root.get_system_io)();
            (bus, (query.memory_region_find)(bus, u64::from(port), 1).region)
        };
        if region.is_null() {
            return AtPort::Nothing;
        }
        // QEMU finds the bus itself where nothing else is.
        let at_port = match region == bus {
            true => AtPort::Nothing,
            false => {
                // SAFETY: the region is referenced until it is released below; its name, a C string or
                // null, is its own.
                let name = unsafe {
                    let name = (query.memory_region_name)(region);
                    (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
                };
                AtPort::Region(name.unwrap_or_default())
            }
        };
        // SAFETY: gives back the reference that `memory_region_find` took, once.
        unsafe { (query.memory_region_unref)(region) };
        at_port
    }
}
