//! Where in the guest port instructions are: (address at run time, mode, bytes), each numbered when it is first
//! translated there, or first runs there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use arrayvec::ArrayVec;

use crate::x86::{MAX_INSN_LEN, Mode, PortForm};

/// The most sites that get a row of their own: 65,536, about 10 MiB, and 2 MiB for each vCPU. A
/// Linux boot has some 400.
pub const MAX_SITES: usize = 1 << 16;

/// What makes a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SiteKey {
    /// The linear address.
    pub pc: u64,
    /// The mode of the code; `None` where QEMU does not tell.
    pub mode: Option<Mode>,
    /// The instruction, prefixes included.
    pub bytes: ArrayVec<u8, MAX_INSN_LEN>,
}

/// A site, with what follows from it.
#[derive(Clone, Debug)]
pub struct Site {
    /// What makes it.
    pub key: SiteKey,
    /// The operation at it.
    pub form: PortForm,
}

/// The number of a site's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u32);

/// All sites, in the order in which they were found.
pub struct Sites {
    /// Read by vCPUs without a lock; written under `numbers`.
    rows: boxcar::Vec<Site>,
    /// The address of each row once more, which vCPUs look at each time that an instruction runs.
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
    /// The number of a site, new or known; `None` when there are [`MAX_SITES`] others already.
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
        // Whoever gets the number gets it from under the lock, or by way of QEMU's translation.
        self.addresses[id.0 as usize].store(key.pc, Ordering::Relaxed);
        numbers.insert(key, id);
        Some(id)
    }

    /// A site that [`Sites::enter`] gave the number of.
    pub fn get(&self, id: SiteId) -> &Site {
        &self.rows[id.0 as usize]
    }

    /// The linear address of a site that [`Sites::enter`] gave the number of.
    #[inline]
    pub fn address(&self, id: SiteId) -> u64 {
        self.addresses[id.0 as usize].load(Ordering::Relaxed)
    }

    /// The site of the same instruction at another address, as [`Sites::enter`].
    pub fn enter_alias(&self, id: SiteId, pc: u64) -> Option<SiteId> {
        let Site { key, form } = self.get(id);
        self.enter(SiteKey { pc, ..key.clone() }, *form)
    }

    /// All sites with a row.
    pub fn iter(&self) -> impl Iterator<Item = (SiteId, &Site)> {
        self.rows.iter().map(|(row, site)| (SiteId(row as u32), site))
    }

    /// How often a site was found that got no row. One that is translated or looked up again may count
    /// again: to know it would take the memory that the bound saves.
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
    fn a_full_table_says_what_it_drops() {
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
