//! Every instruction, counted when it retires.
//!
//! QEMU's code counts an instruction when it begins (see [`InsnCounters`]). One that did not retire is
//! taken back here: what a fault, or an interrupt within a `rep`, has left will begin again, if it
//! ever does, and be counted then.

use std::sync::Arc;

use crate::qemu::{Discontinuity, Insn, InsnCount, InsnCounters, VcpuIndex};
use crate::sections::Sections;
use crate::stats::InstructionCounts;
use crate::x86::Flow;

/// The counters of a machine, and the sections by which they tell instructions apart.
pub struct Instructions {
    /// A counter for each place.
    pub counters: InsnCounters,
    /// The places.
    pub sections: Sections,
}

impl InstructionCounts for Instructions {
    fn get(&self, vcpu: VcpuIndex, place: usize) -> u64 {
        self.counters.get(vcpu, place)
    }

    fn sections(&self) -> &Sections {
        &self.sections
    }
}

/// What stands in a counter's token, beside the low 48 bits of the address.
const ADDRESS_SHIFT: u32 = 16;
const FLOW_SHIFT: u32 = 8;
const FLOWS: [Flow; 3] = [Flow::On, Flow::Elsewhere, Flow::Handler];

impl Instructions {
    /// How to count an instruction that is being translated.
    pub fn count(&self, insn: &Insn<'_>) -> InsnCount {
        let flow = Flow::of(insn.bytes());
        let pc = insn.pc();
        let place = self.sections.place(pc);
        InsnCount {
            counter: place,
            token: pc << ADDRESS_SHIFT | (1 + flow as u64) << FLOW_SHIFT | place as u64,
            repeats_only_by_restart: flow == Flow::On,
        }
    }
}

/// The instruction that a vCPU began last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    pc: u64,
    flow: Flow,
    place: usize,
}

impl Last {
    /// `None` before the first.
    fn from_token(token: u64) -> Option<Last> {
        let flow = (token >> FLOW_SHIFT & 0xff).checked_sub(1)?;
        Some(Last {
            pc: token >> ADDRESS_SHIFT,
            flow: FLOWS[flow as usize],
            place: (token & 0xff) as usize,
        })
    }

    /// Whether it did not retire, when a handler is entered from `from` after so many exceptions.
    fn is_left(self, from: u64, exceptions: u32) -> bool {
        // Outside 64-bit code an address has 32 bits, and QEMU does not always cut off the rest.
        let is_from_it = self.pc as u32 == from as u32;
        is_from_it
            && match self.flow {
                // It retires by going on, which it did not: it has faulted, or is a `rep` with
                // elements left.
                Flow::On => true,
                // Without an exception it has led to itself.
                Flow::Elsewhere => exceptions > 0,
                // Its own interrupt is the first exception. A second one says that it could not be
                // delivered.
                Flow::Handler => exceptions > 1,
            }
    }
}

/// Takes back what did not retire on one vCPU.
pub(super) struct VcpuInstructions {
    instructions: Arc<Instructions>,
    vcpu: VcpuIndex,
    /// How many exceptions the last instruction has raised that are not delivered yet, and its token.
    raised: (u64, u32),
}

impl VcpuInstructions {
    pub fn new(instructions: Arc<Instructions>, vcpu: VcpuIndex) -> VcpuInstructions {
        VcpuInstructions { instructions, vcpu, raised: (0, 0) }
    }

    pub fn discontinuity(&mut self, event: Discontinuity) {
        let counters = &self.instructions.counters;
        let token = counters.last(self.vcpu);
        // Of an exception that nothing was delivered of (a triple fault) nothing is left when another
        // instruction has begun.
        let raised = if self.raised.0 == token { self.raised.1 } else { 0 };
        match event {
            Discontinuity::Exception => self.raised = (token, raised + 1),
            Discontinuity::Delivered { from } => {
                self.raised = (0, 0);
                if let Some(last) = Last::from_token(token)
                    && last.is_left(from, raised)
                {
                    counters.take_back(self.vcpu, last.place);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_the_instruction_and_the_exceptions() {
        let last = |flow| Last { pc: 0xffff_8000_1234, flow, place: 3 };
        let left = |flow, from, exceptions| last(flow).is_left(from, exceptions);
        // A fault; the debug trap after it; an interrupt after it; an interrupt within a `rep`.
        assert!(left(Flow::On, 0xffff_8000_1234, 1));
        assert!(!left(Flow::On, 0xffff_8000_1235, 1));
        assert!(!left(Flow::On, 0xffff_8000_1235, 0));
        assert!(left(Flow::On, 0xffff_8000_1234, 0));
        // A jump that faults; one to itself that is interrupted.
        assert!(left(Flow::Elsewhere, 0x1_8000_1234, 2));
        assert!(!left(Flow::Elsewhere, 0x8000_1234, 0));
        // `int n`, and one that may not, or whose handler's stack is not there.
        assert!(!left(Flow::Handler, 0x8000_1234, 1));
        assert!(left(Flow::Handler, 0x8000_1234, 2));
    }

    #[test]
    fn a_token_says_what_began() {
        assert_eq!(Last::from_token(0), None);
        for flow in FLOWS {
            let token =
                0xffff_ffff_8123_4567u64 << ADDRESS_SHIFT | (1 + flow as u64) << FLOW_SHIFT | 64;
            assert_eq!(
                Last::from_token(token),
                Some(Last { pc: 0xffff_8123_4567, flow, place: 64 })
            );
        }
    }
}
