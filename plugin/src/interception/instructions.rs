//! Every instruction, counted when it retires.
//!
//! QEMU's code counts an instruction when it begins (see [`Scoreboard`]). One that did not retire is
//! taken back here: what a fault, or an interrupt within a `rep`, has left will begin again, if it
//! ever does, and be counted then.

use std::sync::Arc;

use super::address;
use crate::qemu::{Discontinuity, InlineAdd, Insn, Scoreboard, Token, VcpuIndex};
use crate::sections::Sections;
use crate::stats::InstructionCounts;
use crate::x86::Flow;

/// The counters of a machine, and the sections by which they tell instructions apart.
pub struct Instructions {
    /// A counter for each place.
    pub counters: Scoreboard,
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

/// A counter's token, in which bits 16 to 63 are the low 48 bits of the address at translation, bits 8 and 9 what
/// follows the instruction, plus 1, bit 15 whether its code segment has a base, and bits 0 to 7 the place.
const ADDRESS_SHIFT: u32 = 16;
const HAS_BASE: u64 = 1 << 15;
const FLOW_SHIFT: u32 = 8;
const FLOWS: [Flow; 3] = [Flow::On, Flow::Elsewhere, Flow::Handler];

impl Instructions {
    /// How to count an instruction that is being translated.
    pub fn count(&self, insn: &Insn<'_>) -> InlineAdd {
        let flow = Flow::of(insn.bytes());
        let pc = address::at_translation(insn);
        let place = self.sections.place(pc);
        let has_base = if insn.code_base() == 0 { 0 } else { HAS_BASE };
        InlineAdd {
            entry: place,
            token: pc << ADDRESS_SHIFT | has_base | (1 + flow as u64) << FLOW_SHIFT | place as u64,
            repeats_only_by_restart: flow == Flow::On,
        }
    }
}

/// An instruction that a vCPU has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begun {
    /// The address at which it runs.
    pc: u64,
    has_base: bool,
    flow: Flow,
    /// The place of the address at which it was translated.
    translated_place: usize,
}

impl Begun {
    /// From a token, and how far the block runs from the address of its translation; `None` before the first.
    fn from_token(Token(token): Token, distance: u64) -> Option<Begun> {
        let flow = (token >> FLOW_SHIFT & 3).checked_sub(1)?;
        let has_base = token & HAS_BASE != 0;
        // Canonical: the upper bits are copies of bit 47.
        let pc = ((token as i64 >> ADDRESS_SHIFT) as u64).wrapping_add(distance);
        Some(Begun {
            pc: if has_base { pc & 0xffff_ffff } else { pc },
            has_base,
            flow: FLOWS[flow as usize],
            translated_place: (token & 0xff) as usize,
        })
    }

    /// Whether it did not retire, when a handler is entered from `from` after so many exceptions.
    fn is_left(self, from: u64, exceptions: u32) -> bool {
        let is_from_it = address::is_same(self.pc, self.has_base.into(), from);
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

/// Takes back what did not retire on one vCPU, and counts in its place what runs at another address than that of
/// its translation.
pub(super) struct VcpuInstructions {
    instructions: Arc<Instructions>,
    vcpu: VcpuIndex,
    /// How far the block runs from the address of its translation: a number of pages.
    distance: u64,
    /// How many exceptions the last instruction has raised that are not delivered yet, and its token.
    raised: (Token, u32),
}

impl VcpuInstructions {
    pub fn new(instructions: Arc<Instructions>, vcpu: VcpuIndex) -> VcpuInstructions {
        VcpuInstructions { instructions, vcpu, distance: 0, raised: (Token(0), 0) }
    }

    /// A block begins.
    #[inline]
    pub fn block_begins(&mut self, distance: u64) {
        if distance != self.distance {
            self.distance = distance;
            self.instructions.counters.set_elsewhere(self.vcpu, distance != 0);
        }
    }

    /// An instruction was counted at the place of its translation, in a block that runs elsewhere.
    pub fn counted_elsewhere(&mut self, token: Token) {
        if let Some(begun) = Begun::from_token(token, self.distance) {
            let place = self.place(begun);
            if place != begun.translated_place {
                self.instructions.counters.move_one(self.vcpu, begun.translated_place, place);
            }
        }
    }

    /// The last instruction begins again.
    pub fn counted_again(&mut self) {
        if let Some(last) = self.last() {
            self.take_back(last);
        }
    }

    pub fn discontinuity(&mut self, event: Discontinuity) {
        let token = self.last_token();
        // Of an exception that nothing was delivered of (a triple fault) nothing is left when another
        // instruction has begun.
        let raised = if self.raised.0 == token { self.raised.1 } else { 0 };
        match event {
            Discontinuity::Exception => self.raised = (token, raised + 1),
            Discontinuity::Delivered { from } => {
                self.raised = (Token(0), 0);
                if let Some(last) = self.last()
                    && last.is_left(from, raised)
                {
                    self.take_back(last);
                }
            }
        }
    }

    fn last_token(&self) -> Token {
        Token(self.instructions.counters.last(self.vcpu))
    }

    fn last(&self) -> Option<Begun> {
        Begun::from_token(self.last_token(), self.distance)
    }

    fn place(&self, begun: Begun) -> usize {
        match self.distance {
            0 => begun.translated_place,
            _ => self.instructions.sections.place(begun.pc),
        }
    }

    fn take_back(&self, begun: Begun) {
        self.instructions.counters.take_back(self.vcpu, self.place(begun));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_the_instruction_and_the_exceptions() {
        let begun =
            |flow| Begun { pc: 0xffff_8000_1234, has_base: false, flow, translated_place: 3 };
        let left = |flow, from, exceptions| begun(flow).is_left(from, exceptions);
        // A fault; the debug trap after it; an interrupt after it; an interrupt within a `rep`.
        assert!(left(Flow::On, 0xffff_8000_1234, 1));
        assert!(!left(Flow::On, 0xffff_8000_1235, 1));
        assert!(!left(Flow::On, 0xffff_8000_1235, 0));
        assert!(left(Flow::On, 0xffff_8000_1234, 0));
        // A jump that faults; one to itself that is interrupted; one to the same offset of a page that is absent.
        assert!(left(Flow::Elsewhere, 0xffff_8000_1234, 2));
        assert!(!left(Flow::Elsewhere, 0xffff_8000_1234, 0));
        assert!(!left(Flow::Elsewhere, 0xffff_8000_5234, 1));
        // `int n`, and one that may not, or whose handler's stack is not there.
        assert!(!left(Flow::Handler, 0xffff_8000_1234, 1));
        assert!(left(Flow::Handler, 0xffff_8000_1234, 2));
    }

    #[test]
    fn a_token_says_what_began_and_where_it_runs() {
        assert_eq!(Begun::from_token(Token(0), 0x1000), None);
        for (flow, has_base) in FLOWS.into_iter().flat_map(|flow| [(flow, false), (flow, true)]) {
            let base = if has_base { HAS_BASE } else { 0 };
            let flags = base | (1 + flow as u64) << FLOW_SHIFT | 64;
            let at = |pc: u64, distance: u64| {
                Begun::from_token(Token(pc << ADDRESS_SHIFT | flags), distance)
            };
            let begun = |pc| Some(Begun { pc, has_base, flow, translated_place: 64 });
            assert_eq!(at(0x8010_0085, 0), begun(0x8010_0085));
            assert_eq!(at(0x10_0085, 0x8000_0000), begun(0x8010_0085));
            assert_eq!(at(0x8010_0085, 0x8000_0000u64.wrapping_neg()), begun(0x10_0085));
            if !has_base {
                let kernel = 0xffff_ffff_8123_4567;
                assert_eq!(at(kernel, 0), begun(kernel));
                assert_eq!(at(0x123_4567, kernel - 0x123_4567), begun(kernel));
            }
        }
    }
}
