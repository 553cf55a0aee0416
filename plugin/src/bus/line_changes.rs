//! The changes of an interrupt line that QEMU has not seen, in bounded memory.

use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// The last level, and whether the line has had the other one before.
#[derive(Default)]
pub(super) struct LineChanges {
    changes: AtomicU8,
    /// True if the line has changed since the end of the last access. The main loop may be about to tell QEMU.
    has_changed: AtomicBool,
}

const CHANGED: u8 = 1;
const LEVEL: u8 = 2;
const WAS_LOW: u8 = 4;
const WAS_HIGH: u8 = 8;

impl LineChanges {
    /// Adds a change to a level.
    pub fn add(&self, level: bool) {
        let added = CHANGED | if level { WAS_HIGH } else { WAS_LOW };
        let update = |old: u8| Some(old & !LEVEL | added | if level { LEVEL } else { 0 });
        // Release, with the load in `take`: what the device did before is visible to the thread that
        // changes the line.
        let updated = self.changes.fetch_update(Ordering::AcqRel, Ordering::Relaxed, update);
        updated.expect("every value is updated");
        // Relaxed: see `has_changed`.
        self.has_changed.store(true, Ordering::Relaxed);
    }

    /// Returns true if the line has changed since the last call.
    pub fn take_changed(&self) -> bool {
        // Relaxed: the changes of an access are made on its thread; others are those of the main loop.
        self.has_changed.swap(false, Ordering::Relaxed)
    }

    /// The levels to set, in this order. An edge of either direction is kept; several of one are one.
    pub fn take(&self) -> impl Iterator<Item = bool> + use<> {
        let changes = self.changes.swap(0, Ordering::AcqRel);
        let level = changes & LEVEL != 0;
        let was_other = changes & if level { WAS_LOW } else { WAS_HIGH } != 0;
        let is_changed = changes & CHANGED != 0;
        [(is_changed && was_other).then_some(!level), is_changed.then_some(level)]
            .into_iter()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(levels: &[bool]) -> Vec<bool> {
        let changes = LineChanges::default();
        levels.iter().for_each(|&level| changes.add(level));
        assert_eq!(changes.take_changed(), !levels.is_empty());
        let applied = changes.take().collect();
        assert!(!changes.take_changed() && changes.take().next().is_none());
        applied
    }

    #[test]
    fn last_level_and_an_edge_before_it_are_kept() {
        let (low, high) = (false, true);
        assert!(applied(&[]).is_empty());
        assert_eq!(applied(&[high]), [high]);
        assert_eq!(applied(&[low]), [low]);
        assert_eq!(applied(&[high, low]), [high, low]);
        assert_eq!(applied(&[low, high]), [low, high]);
        assert_eq!(applied(&[high, high, low, low, high]), [low, high]);
    }
}
