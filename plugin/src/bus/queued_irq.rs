//! An interrupt line whose changes are queued, for devices that may not take QEMU's global lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::devices::Interrupt;
use crate::qemu::{BottomHalf, IsaIrq, Machine, MachineError};

/// The line, with the changes that QEMU has not seen.
pub(super) struct QueuedIrq {
    machine: Arc<Machine>,
    line: IsaIrq,
    changes: Changes,
    /// True if the line has changed since the end of the last access. The main loop may be about to tell QEMU.
    has_changed: AtomicBool,
}

impl QueuedIrq {
    pub fn new(machine: Arc<Machine>, line: IsaIrq) -> Arc<QueuedIrq> {
        let has_changed = AtomicBool::new(false);
        Arc::new(QueuedIrq { machine, line, changes: Changes::default(), has_changed })
    }

    /// The line as a device sees it. QEMU's main loop makes the changes.
    pub fn input(self: &Arc<QueuedIrq>) -> Result<Box<dyn Interrupt>, MachineError> {
        let irq = Arc::clone(self);
        let bottom_half = self.machine.bottom_half(move || irq.apply())?;
        Ok(Box::new(Input { irq: Arc::clone(self), bottom_half }))
    }

    /// Makes the changes before the end of an access. The caller holds no device's lock.
    ///
    /// Also waits for the main loop, if that has taken the changes: it holds the global lock until QEMU has seen them.
    pub fn settle(&self) {
        // Relaxed: the changes of an access are made on its thread; others are those of the main loop.
        if self.has_changed.swap(false, Ordering::Relaxed) {
            self.apply();
        }
    }

    /// Makes the changes now, under QEMU's global lock.
    fn apply(&self) {
        self.machine.with_global_lock(|| {
            for level in self.changes.take() {
                self.machine.set_isa_irq(self.line, level);
            }
        });
    }
}

struct Input {
    irq: Arc<QueuedIrq>,
    bottom_half: BottomHalf,
}

impl Interrupt for Input {
    fn set(&self, level: bool) {
        self.irq.changes.add(level);
        // Relaxed: see `settle`.
        self.irq.has_changed.store(true, Ordering::Relaxed);
        self.bottom_half.schedule();
    }
}

/// Changes of a line, in bounded memory: the last level, and whether the line has had the other one before.
#[derive(Default)]
struct Changes(AtomicU8);

const CHANGED: u8 = 1;
const LEVEL: u8 = 2;
const WAS_LOW: u8 = 4;
const WAS_HIGH: u8 = 8;

impl Changes {
    fn add(&self, level: bool) {
        let added = CHANGED | if level { WAS_HIGH } else { WAS_LOW };
        let update = |old: u8| Some(old & !LEVEL | added | if level { LEVEL } else { 0 });
        // Release, with the load in `take`: what the device did before is visible to the thread that
        // changes the line.
        let updated = self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, update);
        updated.expect("every value is updated");
    }

    /// The levels to set, in this order. An edge of either direction is kept; several of one are one.
    fn take(&self) -> impl Iterator<Item = bool> {
        let changes = self.0.swap(0, Ordering::AcqRel);
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
        let changes = Changes::default();
        levels.iter().for_each(|&level| changes.add(level));
        let is_empty = || changes.0.load(Ordering::Relaxed) == 0;
        assert_eq!(is_empty(), levels.is_empty());
        let applied = changes.take().collect();
        assert!(is_empty() && changes.take().next().is_none());
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
