//! Sites: the port instructions of the guest by address at run time, mode and bytes.
//!
//! Each Linux kernel that a machine boots has sites of its own, since one may run where another did.
//!
//! A site is numbered when QEMU first translates it, or when it first runs at another address.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use arrayvec::ArrayVec;

use crate::symbols::Names;
use crate::x86::{MAX_INSN_LEN, Mode, PortForm};

/// The most sites that get a row of their own: 65,536.
///
/// They take about 10 MiB, and 2 MiB for each vCPU. A Linux boot has about 400.
pub const MAX_SITES: usize = 1 << 16;

/// The identity of a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SiteKey {
    /// The linear address.
    pub pc: u64,
    /// The mode of the code; `None` if QEMU does not say.
    pub mode: Option<Mode>,
    /// The bytes of the instruction, prefixes included.
    pub bytes: ArrayVec<u8, MAX_INSN_LEN>,
}

/// A site and its form.
#[derive(Clone, Debug)]
pub struct Site {
    /// The identity.
    pub key: SiteKey,
    /// The form of the instruction.
    pub form: PortForm,
    /// The number of kernels that ran before.
    pub boot: u32,
}

/// The number of a site's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u32);

/// All sites, in the order in which they were found.
///
/// Its one lock serializes [`Sites::enter`]. Reading a site takes no lock.
pub struct Sites {
    /// Read without a lock; written while `numbers` is locked.
    rows: boxcar::Vec<Site>,
    /// A copy of each row's address: vCPUs compare it each time that an instruction runs.
    addresses: Box<[AtomicU64]>,
    numbers: Mutex<HashMap<(u32, SiteKey), SiteId>>,
    dropped: AtomicU64,
    /// The number of kernels that ran before the present one.
    boot: AtomicU32,
    /// The names of sites of kernels that are gone.
    names: Mutex<HashMap<SiteId, String>>,
}

impl Default for Sites {
    fn default() -> Sites {
        Sites {
            rows: boxcar::Vec::new(),
            addresses: bytemuck::zeroed_slice_box(MAX_SITES),
            numbers: Mutex::default(),
            dropped: AtomicU64::new(0),
            boot: AtomicU32::new(0),
            names: Mutex::default(),
        }
    }
}

impl Sites {
    /// Returns the number of a site, adding the site if it is new.
    ///
    /// Returns `None` if the site is new and there are [`MAX_SITES`] already.
    pub fn enter(&self, key: SiteKey, form: PortForm) -> Option<SiteId> {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let boot = self.boot();
        let numbered = (boot, key);
        if let Some(&id) = numbers.get(&numbered) {
            return Some(id);
        }
        if numbers.len() == MAX_SITES {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let key = numbered.1.clone();
        let id = SiteId(self.rows.push(Site { key, form, boot }) as u32);
        // Relaxed is enough: the number reaches other threads by the lock or by QEMU's translation.
        self.addresses[id.0 as usize].store(numbered.1.pc, Ordering::Relaxed);
        numbers.insert(numbered, id);
        Some(id)
    }

    /// The site with this number.
    ///
    /// # Panics
    ///
    /// If [`Sites::enter`] did not return the number.
    pub fn get(&self, id: SiteId) -> &Site {
        &self.rows[id.0 as usize]
    }

    /// The linear address of the site with this number, which [`Sites::enter`] returned.
    #[inline]
    pub fn address(&self, id: SiteId) -> u64 {
        self.addresses[id.0 as usize].load(Ordering::Relaxed)
    }

    /// Enters the same instruction at another address, as [`Sites::enter`].
    pub fn enter_alias(&self, id: SiteId, pc: u64) -> Option<SiteId> {
        let Site { key, form, .. } = self.get(id);
        self.enter(SiteKey { pc, ..key.clone() }, *form)
    }

    /// All sites that have a row, by number.
    pub fn iter(&self) -> impl Iterator<Item = (SiteId, &Site)> {
        self.rows.iter().map(|(row, site)| (SiteId(row as u32), site))
    }

    /// Another kernel will run: sites from here on are its own. `name` names those of the one that ran, as long as
    /// it can.
    ///
    /// QEMU keeps translations of code that is not written anew, such as firmware; these keep their sites.
    pub fn kernel_ends(&self, name: impl Fn(&Site) -> Option<String>) {
        let boot = self.boot();
        let named = self.iter().filter(|(_, site)| site.boot == boot);
        let named = named.filter_map(|(id, site)| Some((id, name(site)?)));
        self.names.lock().unwrap_or_else(PoisonError::into_inner).extend(named);
        // Relaxed is enough: a reset stops the vCPUs.
        self.boot.store(boot + 1, Ordering::Relaxed);
    }

    /// The number of kernels that ran before the present one.
    pub fn boot(&self) -> u32 {
        self.boot.load(Ordering::Relaxed)
    }

    /// The name that a site of an earlier kernel had.
    pub fn name(&self, id: SiteId) -> Option<String> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The name of a site: that which it has in the kernel that ran it.
    pub fn name_in(&self, id: SiteId, names: &Names<'_>) -> Option<String> {
        let site = self.get(id);
        match site.boot == self.boot() {
            true => names.name(site.key.pc, &site.key.bytes),
            // The kernel that ran this is gone.
            false => self.name(id),
        }
    }

    /// How often a site was found that got no row.
    ///
    /// A site counts again when it is translated or looked up again: recognizing it would take the
    /// memory that the limit saves.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pc: u64, mode: Mode) -> SiteKey {
        SiteKey { pc, mode: Some(mode), bytes: [0xee].into_iter().collect() }
    }

    #[test]
    fn a_site_keeps_its_number() {
        let sites = Sites::default();
        let first = sites.enter(key(0x1000, Mode::Bits32), PortForm::OutDxAl);
        let other_mode = sites.enter(key(0x1000, Mode::Bits64), PortForm::OutDxAl);
        assert_ne!(first, other_mode);
        assert_eq!(sites.enter(key(0x1000, Mode::Bits32), PortForm::OutDxAl), first);
        assert_eq!(sites.get(first.unwrap()).key.pc, 0x1000);
        assert_eq!(sites.address(first.unwrap()), 0x1000);
    }

    #[test]
    fn each_kernel_has_sites_of_its_own() {
        let sites = Sites::default();
        let first = sites.enter(key(0x1000, Mode::Bits64), PortForm::OutDxAl).unwrap();
        sites.kernel_ends(|site| Some(format!("at {:#x}", site.key.pc)));
        let second = sites.enter(key(0x1000, Mode::Bits64), PortForm::OutDxAl).unwrap();
        assert_ne!(first, second);
        assert_eq!(sites.name(first).as_deref(), Some("at 0x1000"));
        assert_eq!(sites.name(second), None);
        assert_eq!((sites.get(first).boot, sites.get(second).boot), (0, 1));
    }

    #[test]
    fn an_alias_is_a_site_of_its_own() {
        let sites = Sites::default();
        let first = sites.enter(key(0x1000, Mode::Bits32), PortForm::OutDxAl).unwrap();
        let alias = sites.enter_alias(first, 0x8000_1000).unwrap();
        assert_ne!(first, alias);
        assert_eq!(sites.address(alias), 0x8000_1000);
        assert_eq!(sites.get(alias).key, key(0x8000_1000, Mode::Bits32));
        assert_eq!(sites.enter(key(0x8000_1000, Mode::Bits32), PortForm::OutDxAl), Some(alias));
        assert_eq!(sites.enter_alias(alias, 0x1000), Some(first));
    }

    #[test]
    fn sites_beyond_the_limit_are_counted_as_dropped() {
        let sites = Sites::default();
        for pc in 0..MAX_SITES as u64 {
            assert!(sites.enter(key(pc, Mode::Bits16), PortForm::OutDxAl).is_some());
        }
        assert_eq!(sites.dropped(), 0);
        assert_eq!(sites.enter(key(u64::MAX, Mode::Bits16), PortForm::OutDxAl), None);
        assert_eq!(sites.dropped(), 1);
        assert!(sites.enter(key(7, Mode::Bits16), PortForm::OutDxAl).is_some());
    }
}
