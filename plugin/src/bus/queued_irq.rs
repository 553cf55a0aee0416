//! An interrupt line whose changes are queued, for devices that may not take QEMU's global lock.

use std::sync::Arc;

use super::line_changes::LineChanges;
use crate::devices::Interrupt;
use crate::qemu::{BottomHalf, IsaIrq, Machine, MachineError};

/// The line, with the changes that QEMU has not seen.
pub(super) struct QueuedIrq {
    machine: Arc<Machine>,
    line: IsaIrq,
    changes: LineChanges,
}

impl QueuedIrq {
    pub fn new(machine: Arc<Machine>, line: IsaIrq) -> Arc<QueuedIrq> {
        Arc::new(QueuedIrq { machine, line, changes: LineChanges::default() })
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
        if self.changes.take_changed() {
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
        self.bottom_half.schedule();
    }
}
