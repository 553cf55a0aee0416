//! How attempts end in a guest of the guest's, where a hypervisor may have them intercepted.

use super::{Current, VcpuCounter};
use crate::interception::address;
use crate::interception::nested::{VmExitReason, VmrunSite, VmrunSiteKind};
use crate::qemu::{self, ReadRegisters, Register, Token};
use crate::x86::GuestExit;

/// Of vCPUs on one thread QEMU lets another go on at any time, also between an instruction that is
/// intercepted and its hypervisor. So each is told from the others here, by what QEMU has for it.
#[derive(Default)]
pub(super) struct OtherVcpus {
    running: usize,
    waiting: Vec<Waiting>,
}

/// A vCPU that is to go on.
struct Waiting {
    vcpu: usize,
    current: Current,
    /// Where its guest goes on.
    resume_pc: Option<u64>,
}

impl VcpuCounter {
    /// A door of a guest's is about to be passed.
    pub fn passes(&mut self, token: Token, registers: &mut impl ReadRegisters) {
        let door = VmrunSite::from_token(token);
        match door.kind {
            VmrunSiteKind::Entry(size, len) => {
                if !self.nested.any() {
                    self.others.running = qemu::running_vcpu();
                }
                self.switch_vcpu();
                self.abandon_previous();
                let exit = door.address.at(registers.rip()).wrapping_add(len.into());
                let exit = address::cut(exit, door.address.base);
                self.nested.enter(registers.read(Register::Rax), size, exit);
            }
            VmrunSiteKind::Exit if self.nested.any() => {
                self.switch_vcpu();
                let pc = door.address.at(registers.rip());
                if let Some(why) = self.nested.leave(registers.read(Register::Rax), pc) {
                    self.guest_left(why);
                }
            }
            VmrunSiteKind::Exit => {}
        }
        self.exception = false;
    }

    /// Goes on with what the vCPU that runs now was in. To be called while there are nested guests.
    #[cold]
    pub(super) fn switch_vcpu(&mut self) {
        let vcpu = qemu::running_vcpu();
        if vcpu == self.others.running {
            return;
        }
        let waiting = &mut self.others.waiting;
        let (current, resume_pc) = match waiting.iter().position(|waiting| waiting.vcpu == vcpu) {
            Some(place) => {
                let Waiting { current, resume_pc, .. } = waiting.swap_remove(place);
                (current, resume_pc)
            }
            None => (Current::Nothing, None),
        };
        let current = std::mem::replace(&mut self.current, current);
        let resume_pc = self.nested.switch(resume_pc);
        let before = std::mem::replace(&mut self.others.running, vcpu);
        waiting.push(Waiting { vcpu: before, current, resume_pc });
    }

    /// A hypervisor goes on.
    fn guest_left(&mut self, VmExitReason(why): VmExitReason) {
        let from = match self.current {
            Current::Nothing => None,
            Current::Presumed(operation, _)
            | Current::Suspected(operation, _)
            | Current::Unverified(operation, _) => Some(operation),
            Current::InString(left, _) => Some(left.operation),
        };
        match why {
            Some(GuestExit::PortIo) => self.intercepted(),
            Some(GuestExit::Exception(at)) if from.is_some_and(|from| from.is_at(at)) => {
                self.exception_raised();
                self.left_for_handler(true);
            }
            Some(_) => self.abandon_current(),
            None => self.abandon_unverified(),
        }
        if !self.nested.any() {
            for Waiting { current, .. } in self.others.waiting.drain(..) {
                if let Current::InString(left, _) = current {
                    self.interrupted.put(left);
                }
            }
        }
    }

    /// The I/O permission map has what the vCPU was in intercepted.
    fn intercepted(&mut self) {
        match std::mem::replace(&mut self.current, Current::Nothing) {
            Current::Nothing | Current::Suspected(..) => {}
            Current::Presumed(operation, port) => {
                self.counters.not_executed(operation.form(), operation.site(), port);
                self.counters.exit(operation.form());
            }
            Current::Unverified(operation, port) => {
                // It had the privilege, which is asked for first.
                self.refused = None;
                self.counters.not_unverified(operation.form(), operation.site(), port);
                self.counters.exit(operation.form());
            }
            Current::InString(left, _) => self.counters.exit(left.operation.form()),
        }
        if let Some(log) = &self.log {
            log.faulted();
        }
    }

    /// The guest was left by what was reported last, or after it: nobody tells.
    fn abandon_unverified(&mut self) {
        match self.current {
            Current::Presumed(operation, port) => {
                self.counters.not_executed(operation.form(), operation.site(), port);
                self.counters.unverified(operation.form(), operation.site(), port);
                self.current = Current::Nothing;
            }
            _ => self.abandon_current(),
        }
    }
}
