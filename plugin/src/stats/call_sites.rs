//! Call sites: the code of the guest that makes hypercalls.
//!
//! A site is the address of the hypercall's instruction, or the return address that a call states. As those of port
//! instructions, each kernel has its own: see [`Sites`].
//!
//! [`Sites`]: super::sites::Sites

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};

use pvio_stats::CallAt;

use super::call_counters::MAX_CALL_ACCESSES;
use super::keyed_counters::take_room;
use super::sites::agreed;
use crate::symbols::{Names, SiteName};
use crate::x86::Mode;

/// Maximum number of call sites that get rows of their own: 4,095.
///
/// Their counters take at most 3 MiB for each vCPU. A Linux boot has about 300.
pub const MAX_CALL_SITES: usize = (1 << 12) - 1;

/// The identity of a call site in one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallSiteKey {
    /// The linear address.
    pub pc: u64,
    /// The meaning of the address.
    pub at: CallAt,
    /// The mode of the code that makes the call.
    pub mode: Mode,
}

/// A call site.
#[derive(Clone, Copy, Debug)]
pub struct CallSite {
    /// The identity.
    pub key: CallSiteKey,
    /// The bytes of the instruction at the address; empty for a return address.
    pub code: &'static [u8],
    /// The boot of the kernel that runs it.
    pub boot: u32,
}

/// The number of a call site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallSiteId(pub u32);

impl CallSiteId {
    /// The number that all call sites without a row share.
    pub const DROPPED: CallSiteId = CallSiteId(MAX_CALL_SITES as u32);

    /// Returns the number if it has a row.
    #[inline]
    pub fn row(self) -> Option<CallSiteId> {
        (self != CallSiteId::DROPPED).then_some(self)
    }
}

/// All call sites, in the order in which they were found.
///
/// Its locks serialize [`CallSites::enter`], and names. Reading a site takes no lock.
#[derive(Default)]
pub struct CallSites {
    /// Read without a lock; written while `numbers` is locked.
    rows: boxcar::Vec<CallSite>,
    numbers: Mutex<HashMap<(u32, CallSiteKey), CallSiteId>>,
    /// The names that sites had when their kernel last ended; `None` if they had two.
    names: Mutex<HashMap<CallSiteId, Option<SiteName>>>,
    /// The number of rows that vCPUs have for accesses by site, call and port.
    accesses: AtomicUsize,
}

impl CallSites {
    /// Returns the number of a call site in a boot, adding the site if it is new.
    ///
    /// It is [`CallSiteId::DROPPED`] if the site is new and there are [`MAX_CALL_SITES`] already. The second value is true if
    /// it was added now.
    pub fn enter(&self, boot: u32, key: CallSiteKey, code: &'static [u8]) -> (CallSiteId, bool) {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = numbers.get(&(boot, key)) {
            return (id, false);
        }
        if numbers.len() == MAX_CALL_SITES {
            return (CallSiteId::DROPPED, false);
        }
        let id = CallSiteId(self.rows.push(CallSite { key, code, boot }) as u32);
        numbers.insert((boot, key), id);
        (id, true)
    }

    /// The call site with this number.
    ///
    /// # Panics
    ///
    /// If [`CallSites::enter`] did not return the number, or if it is [`CallSiteId::DROPPED`].
    pub fn get(&self, CallSiteId(row): CallSiteId) -> &CallSite {
        &self.rows[row as usize]
    }

    /// All call sites that have a row, by number.
    pub fn iter(&self) -> impl Iterator<Item = (CallSiteId, &CallSite)> {
        self.rows.iter().map(|(row, site)| (CallSiteId(row as u32), site))
    }

    /// Reserves a row for accesses by site, call and port. Returns whether there is room.
    pub(super) fn take_room_for_port(&self) -> bool {
        take_room(&self.accesses, MAX_CALL_ACCESSES)
    }

    /// Keeps the current names of the sites of a boot, which ends.
    pub(super) fn keep_names(&self, boot: u32, names: &Names<'_>) {
        let own = self.iter().filter(|(_, site)| site.boot == boot);
        let named: Vec<_> = own.filter_map(|(id, site)| Some((id, name(site, names)?))).collect();
        let mut kept_names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, name) in named {
            let kept = kept_names.entry(id).or_insert_with(|| Some(name.clone()));
            kept.take_if(|kept| *kept != name);
        }
    }

    /// The name that a site has in the kernel that ran it. `boot` is that of the kernel that runs now.
    pub fn name_in(&self, id: CallSiteId, boot: u32, names: &Names<'_>) -> Option<SiteName> {
        let site = self.get(id);
        let now = if site.boot == boot { name(site, names) } else { None };
        let kept = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.get(&id) {
            None => now,
            Some(kept) => agreed(kept, now),
        }
    }
}

fn name(site: &CallSite, names: &Names<'_>) -> Option<SiteName> {
    match site.key.at {
        CallAt::Instruction => names.name(site.key.pc, site.code),
        CallAt::Return => names.return_site(site.key.pc),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_meaning_mode_and_boot_is_a_site() {
        let sites = CallSites::default();
        let key = CallSiteKey { pc: 7, at: CallAt::Instruction, mode: Mode::Bits32 };
        let keys = [
            (0, key),
            (0, CallSiteKey { pc: 8, ..key }),
            (0, CallSiteKey { at: CallAt::Return, ..key }),
            (0, CallSiteKey { mode: Mode::Bits64, ..key }),
            (1, key),
        ];
        for is_new in [true, false] {
            for (number, (boot, key)) in (0..).zip(keys) {
                assert_eq!(sites.enter(boot, key, &[]), (CallSiteId(number), is_new));
            }
        }
        assert_eq!((sites.get(CallSiteId(4)).boot, sites.get(CallSiteId(1)).key.pc), (1, 8));
    }

    #[test]
    fn call_sites_beyond_the_limit_have_no_row() {
        let sites = CallSites::default();
        let enter = |pc| {
            let key = CallSiteKey { pc, at: CallAt::Return, mode: Mode::Bits64 };
            sites.enter(0, key, &[]).0.row()
        };
        let last = MAX_CALL_SITES as u64 - 1;
        assert!((0..=last).all(|pc| enter(pc) == Some(CallSiteId(pc as u32))));
        assert_eq!((enter(last + 1), enter(last)), (None, Some(CallSiteId(last as u32))));
    }
}
