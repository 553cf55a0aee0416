//! Finds QEMU's own regions under those of the plugin.

use super::global_lock::GlobalLock;
use super::port_bus::PortBus;
use super::port_presence::RegionFinder;

/// The ports of one of QEMU's regions that a region of the plugin hides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenRegion {
    /// QEMU's name of it.
    pub name: String,
    /// The first hidden port.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

impl PortBus {
    /// Returns what QEMU has in each range of ports, whatever the plugin has there.
    ///
    /// It takes the plugin's regions off the bus meanwhile, so no vCPU may run.
    pub fn hidden(
        &self,
        lock: &GlobalLock,
        finder: &RegionFinder,
        ranges: &[(u16, u16)],
    ) -> Vec<Vec<HiddenRegion>> {
        self.without_own_regions(lock, || {
            ranges.iter().map(|&(first, last)| regions(finder, first, last)).collect()
        })
    }
}

fn regions(finder: &RegionFinder, first: u16, last: u16) -> Vec<HiddenRegion> {
    let mut found: Vec<(usize, HiddenRegion)> = Vec::new();
    for port in first..=last {
        let at = finder.at(port, |region, name| {
            (!region.is_bus).then(|| (region.region.addr(), name.into_owned()))
        });
        let Some((id, name)) = at.flatten() else { continue };
        match found.last_mut() {
            Some((other, hidden)) if *other == id && hidden.last + 1 == port => hidden.last = port,
            _ => found.push((id, HiddenRegion { name, first: port, last: port })),
        }
    }
    found.into_iter().map(|(_, hidden)| hidden).collect()
}
