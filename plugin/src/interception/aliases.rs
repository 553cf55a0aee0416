//! The site of an instruction at the address at which it runs.
//!
//! A page that is mapped at several addresses runs at each of them in turn, so the site of an instruction is looked up
//! each time it runs. The table of all sites is behind a lock; this per-vCPU cache is not.

use super::address::{linear, same_page, with_page};
use super::operation::Operation;
use super::token::PortIoToken;
use crate::stats::{FilePlace, SiteId, VcpuCounters};

/// Number of entries. The cache is direct-mapped: a new alias evicts the old one.
const ENTRIES: usize = 256;

/// An instruction, by the site of its translation, at another address.
#[derive(Clone, Copy, Debug)]
struct Entry {
    translated: SiteId,
    pc: u64,
    /// `None` if the table of sites was full.
    site: Option<SiteId>,
}

/// The cache of sites whose page runs at another address than that of its translation.
///
/// It takes no memory before the first alias runs.
#[derive(Debug, Default)]
pub(super) struct Aliases(Vec<Option<Entry>>);

/// Returns true if an instruction runs at the address of its translation, which is that of `site`.
#[inline]
pub(super) fn runs_at_translation(
    insn: PortIoToken,
    site: SiteId,
    counters: &VcpuCounters,
    rip: u64,
) -> bool {
    same_page(counters.address_of(site), linear(insn.base(), rip))
}

impl Aliases {
    /// Returns a translated instruction at the address at which it is about to run.
    ///
    /// `place` finds where code is in a file, if that is to be known.
    pub fn operation(
        &mut self,
        insn: PortIoToken,
        counters: &VcpuCounters,
        rip: u64,
        place: impl FnOnce(u64) -> Option<FilePlace>,
    ) -> Operation {
        let Some(site) = insn.site() else {
            return Operation::new(insn, None, insn.address_without_row(rip));
        };
        let at_translation = counters.address_of(site);
        if runs_at_translation(insn, site, counters, rip) {
            return Operation::new(insn, Some(site), at_translation);
        }
        let pc = with_page(at_translation, linear(insn.base(), rip));
        let alias = self.site(site, pc, || counters.alias_of(site, pc, place(pc)));
        Operation::new(insn, alias, pc)
    }

    /// Returns the site at `pc` of an instruction that was translated elsewhere. `enter` looks it up or makes it.
    fn site(
        &mut self,
        translated: SiteId,
        pc: u64,
        enter: impl FnOnce() -> Option<SiteId>,
    ) -> Option<SiteId> {
        if self.0.is_empty() {
            self.0.resize(ENTRIES, None);
        }
        let entry = &mut self.0[index(translated, pc)];
        match *entry {
            Some(entry) if entry.translated == translated && entry.pc == pc => entry.site,
            _ => {
                let site = enter();
                *entry = Some(Entry { translated, pc, site });
                site
            }
        }
    }
}

fn index(translated: SiteId, pc: u64) -> usize {
    // The page tells aliases of one instruction apart, the row tells instructions of one page apart.
    let page = (pc >> 12) as u32 ^ (pc >> 32) as u32;
    (page.wrapping_mul(0x9e37_79b1) >> 24) as usize ^ (translated.0 as usize % ENTRIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_entered_once_unless_it_was_evicted() {
        let mut aliases = Aliases::default();
        let mut entered = 0;
        for round in 0..3 {
            for page in 0..4 {
                let pc = 0x5555_0000_0123 + (page << 12);
                let site = aliases.site(SiteId(7), pc, || {
                    entered += 1;
                    Some(SiteId(100 + page as u32))
                });
                assert_eq!(site, Some(SiteId(100 + page as u32)), "round {round}");
            }
        }
        assert_eq!(entered, 4);
    }

    #[test]
    fn a_full_table_is_remembered_as_well() {
        let mut aliases = Aliases::default();
        assert_eq!(aliases.site(SiteId(1), 0x1000, || None), None);
        assert_eq!(aliases.site(SiteId(1), 0x1000, || unreachable!("it is cached")), None);
        assert_eq!(aliases.site(SiteId(2), 0x1000, || Some(SiteId(3))), Some(SiteId(3)));
    }
}
