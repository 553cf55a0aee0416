//! What becomes of an attempt when something else happens on its vCPU.

use super::{Current, Finished, InterruptedString, VcpuCounter, ZeroCountRestart};
use crate::qemu::Discontinuity;

impl VcpuCounter {
    /// The vCPU has left its path.
    pub fn discontinuity(&mut self, event: Discontinuity) {
        if self.nested.any() {
            self.switch_vcpu();
        }
        let Discontinuity::Delivered { from } = event else {
            self.exception_raised();
            return;
        };
        let by_exception = std::mem::take(&mut self.exception);
        let operation = match self.current {
            Current::Nothing => return,
            Current::Presumed(operation, _)
            | Current::Suspected(operation, _)
            | Current::Unverified(operation, _) => operation,
            Current::InString(left, _) => left.operation,
        };
        if operation.is_at(from) {
            self.left_for_handler(by_exception);
        } else {
            self.exception_was_elsewhere();
            self.abandon_current();
        }
    }

    /// Something else runs.
    #[inline]
    pub(super) fn abandon_previous(&mut self) {
        // Nearly always there is nothing to leave.
        if self.finished.is_some() {
            self.abandon_finished();
        }
        if !matches!(self.current, Current::Nothing) {
            self.abandon_current();
        }
    }

    /// Something else runs: what the vCPU was in is over, or interrupted.
    pub(super) fn abandon_current(&mut self) {
        match std::mem::replace(&mut self.current, Current::Nothing) {
            Current::InString(left, _) => self.interrupted.put(left),
            Current::Presumed(..) => {
                if let Some(log) = self.log.as_ref().filter(|_| self.nested.any()) {
                    log.settled();
                }
            }
            // It was never delivered, as when the machine is reset by a triple fault.
            Current::Suspected(..) => {
                if let Some(log) = &self.log {
                    log.faulted();
                }
            }
            Current::Unverified(..) | Current::Nothing => {}
        }
    }

    /// An exception has been raised, by the instruction that `current` is or by one after it: nobody
    /// knows before it is delivered.
    pub(super) fn exception_raised(&mut self) {
        self.exception = true;
        if let Current::Presumed(operation, port) = self.current
            && !operation.is_privileged()
        {
            self.counters.not_executed(operation.form(), operation.site(), port);
            self.counters.unverified(operation.form(), operation.site(), port);
            self.current = Current::Suspected(operation, port);
        }
    }

    /// It was one after it.
    fn exception_was_elsewhere(&mut self) {
        if let Current::Suspected(operation, port) = self.current {
            let (form, site) = (operation.form(), operation.site());
            self.counters.not_unverified(form, site, port);
            self.counters.executed(form, site);
            if let Some(port) = port {
                self.counters.accessed(form, site, port);
            }
            self.current = Current::Presumed(operation, port);
        }
    }

    /// Something else runs before QEMU has taken its second look at a `rep`.
    pub(super) fn abandon_finished(&mut self) {
        if let Some(Finished { operation, port, look: ZeroCountRestart::Always }) =
            self.finished.take()
        {
            let begun = true;
            self.interrupted.put(InterruptedString {
                operation,
                port,
                remaining: 0,
                begun,
                faulted: false,
            });
        }
    }

    /// A handler has been entered from the instruction that `current` is.
    pub(super) fn left_for_handler(&mut self, by_exception: bool) {
        match std::mem::replace(&mut self.current, Current::Nothing) {
            Current::Suspected(operation, port) => {
                self.counters.not_unverified(operation.form(), operation.site(), port);
                self.counters.fault(operation.form());
                self.refused = Some((operation, port));
                if let Some(log) = &self.log {
                    log.faulted();
                }
            }
            Current::Presumed(..) | Current::Unverified(..) | Current::Nothing => {}
            Current::InString(left, report) => {
                let by_trap = report.traps && report.moved;
                let faulted = by_exception && !by_trap;
                if faulted {
                    self.counters.fault(left.operation.form());
                }
                self.interrupted.put(InterruptedString { faulted, ..left });
            }
        }
    }
}
