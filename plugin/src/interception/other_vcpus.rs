//! The state of vCPUs that share a thread, while nested guests run.
//!
//! QEMU may switch from one such vCPU to another at any time, also between an intercepted instruction and the #VMEXIT.
//! Its callbacks may name the wrong vCPU, so each is identified by QEMU's own number.

use super::attempt::{Attempt, Attempts};
use super::nested::NestedGuests;
use crate::qemu;

/// The vCPU that runs, and those that wait.
#[derive(Default)]
pub(super) struct OtherVcpus {
    running: usize,
    waiting: Vec<Waiting>,
}

struct Waiting {
    vcpu: usize,
    attempt: Attempt,
    /// The address at which its guest resumes.
    resume_pc: Option<u64>,
}

impl OtherVcpus {
    /// The first nested guest is about to be entered.
    pub fn first_guest_enters(&mut self) {
        self.running = qemu::running_vcpu();
    }

    /// Restores the state of the vCPU that runs now, if QEMU has switched.
    #[cold]
    pub fn switch(&mut self, attempts: &mut Attempts, guests: &mut NestedGuests) {
        let vcpu = qemu::running_vcpu();
        if vcpu == self.running {
            return;
        }
        let (attempt, resume_pc) = match self.waiting.iter().position(|other| other.vcpu == vcpu) {
            Some(index) => {
                let Waiting { attempt, resume_pc, .. } = self.waiting.swap_remove(index);
                (attempt, resume_pc)
            }
            None => (Attempt::Ended, None),
        };
        let attempt = attempts.switch(attempt);
        let resume_pc = guests.switch(resume_pc);
        let previous = std::mem::replace(&mut self.running, vcpu);
        self.waiting.push(Waiting { vcpu: previous, attempt, resume_pc });
    }

    /// The last nested guest has exited: the other vCPUs are not followed any more.
    pub fn last_guest_exited(&mut self, attempts: &Attempts) {
        for Waiting { attempt, .. } in self.waiting.drain(..) {
            attempts.abandon_other(attempt);
        }
    }
}
