//! Sites: the port instructions of the guest by address at run time, mode and bytes.
//!
//! A site is numbered when QEMU first translates it, or when it first runs at another address.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use arrayvec::ArrayVec;

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
    numbers: Mutex<HashMap<SiteKey, SiteId>>,
    dropped: AtomicU64,
}

impl Default for Sites {
    fn default() -> Sites {
        Sites {
            rows: boxcar::Vec::new(),
            addresses: bytemuck::zeroed_slice_box(MAX_SITES),
            numbers: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }
}

impl Sites {
    /// Returns the number of a site, adding the site if it is new.
    ///
    /// Returns `None` if the site is new and there are [`MAX_SITES`] already.
    pub fn enter(&self, key: SiteKey, form: PortForm) -> Option<SiteId> {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = numbers.get(&key) {
            return Some(id);
        }
        if numbers.len() == MAX_SITES {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let id = SiteId(self.rows.push(Site { key: key.clone(), form }) as u32);
        // Relaxed is enough: the number reaches other threads by the lock or by QEMU's translation.
        self.addresses[id.0 as usize].store(key.pc, Ordering::Relaxed);
        numbers.insert(key, id);
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
        let Site { key, form } = self.get(id);
        self.enter(SiteKey { pc, ..key.clone() }, *form)
    }

    /// All sites that have a row, by number.
    pub fn iter(&self) -> impl Iterator<Item = (SiteId, &Site)> {
        self.rows.iter().map(|(row, site)| (SiteId(row as u32), site))
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
