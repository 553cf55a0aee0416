//! Counts every instruction that retires.
//!
//! QEMU's code counts an instruction when it begins (see [`Scoreboard`]), or, without sections, when one before it in the
//! same segment of its block does. The count of one that does not retire is taken back here: after a fault, or an
//! interrupt within a `rep`, the instruction begins again and is counted then; and those after it in its segment have
//! not run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::address;
use super::token::CountToken;
use crate::qemu::{Discontinuity, InlineAdd, Insn, Scoreboard, Token, VcpuIndex};
use crate::sections::Sections;
use crate::stats::InstructionCounts;
use crate::x86::{Flow, PAGE, branch_displacement};

/// The counters of a machine, one for each section of its code.
pub struct Instructions {
    /// A counter for each section, on each vCPU.
    pub counters: Scoreboard,
    /// The sections.
    pub sections: Sections,
    /// The number of vCPUs that have begun.
    vcpus: AtomicU32,
}

impl InstructionCounts for Instructions {
    fn get(&self, vcpu: VcpuIndex, place: usize) -> u64 {
        // There is only one place if instructions may be ahead.
        self.counters.get(vcpu, place).saturating_sub(self.counters.ahead(vcpu))
    }

    fn sections(&self) -> &Sections {
        &self.sections
    }
}

impl Instructions {
    /// No instruction is counted yet.
    pub fn new(counters: Scoreboard, sections: Sections) -> Instructions {
        Instructions { counters, sections, vcpus: AtomicU32::new(0) }
    }

    /// The machine is reset, or a snapshot is loaded: no vCPU continues after the instruction that it began last.
    ///
    /// Call it while no vCPU runs.
    pub fn machine_is_reset(&self) {
        // Relaxed: the vCPUs that began are stopped.
        for vcpu in (0..self.vcpus.load(Ordering::Relaxed)).map(VcpuIndex) {
            self.take_back_ahead(vcpu);
            self.counters.forget_last(vcpu);
        }
    }

    /// The token of the instruction that a vCPU began last.
    fn last_token(&self, vcpu: VcpuIndex) -> CountToken {
        Token(self.counters.last(vcpu)).into()
    }

    /// Takes back the instructions that were counted together with a vCPU's last one and have not begun.
    fn take_back_ahead(&self, vcpu: VcpuIndex) {
        self.counters.take_back_ahead(vcpu, self.last_token(vcpu).place().into());
    }

    /// Returns how to count an instruction that is being translated.
    pub fn count(&self, insn: &Insn<'_>) -> InlineAdd {
        let flow = Flow::of(insn.bytes());
        let pc = address::at_translation(insn);
        let place = self.sections.place(pc);
        let needs_distance = !self.counts_segments() || needs_distance(flow, insn.bytes(), pc);
        let token = CountToken::new(pc, insn.code_base() != 0, flow, place as u8);
        InlineAdd {
            entry: place,
            token: token.with_has_distance(needs_distance).into(),
            needs_distance,
            repeats_only_by_restart: flow == Flow::On,
            // A nested guest may be left in the middle of a block without an event.
            joins: self.counts_segments() && insn.is_in_nested_guest() == Some(false),
        }
    }

    /// Returns true if instructions are counted by segments of blocks: they all have the same entry.
    fn counts_segments(&self) -> bool {
        self.sections.places() == 1
    }
}

/// The initial value of [`VcpuInstructions::raised`].
const NONE_RAISED: (CountToken, u32) = (CountToken::from_bits(0), 0);

/// Returns true if the address at which an instruction runs must be known, to tell its own fault from that of the
/// instruction that follows: both may be at the same offset in their pages.
///
/// Only a branch can lead to its own offset. If the branch names its target, that must be there.
fn needs_distance(flow: Flow, bytes: &[u8], pc: u64) -> bool {
    match flow {
        Flow::On => false,
        Flow::Handler => true,
        Flow::Elsewhere => match branch_displacement(bytes) {
            Some(displacement) => {
                let target = pc.wrapping_add(bytes.len() as u64).wrapping_add(displacement as u64);
                target % PAGE == pc % PAGE
            }
            None => true,
        },
    }
}

/// An instruction that a vCPU has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begun {
    /// The address at which it runs; without `has_distance`, only the offset in its page is known to be right.
    pc: u64,
    has_distance: bool,
    has_base: bool,
    flow: Flow,
    /// The place of the address at which it was translated.
    translated_place: usize,
}

impl Begun {
    /// Decodes a token of a block that runs `distance` from the address of its translation; `None` before the first.
    fn new(token: CountToken, distance: u64) -> Option<Begun> {
        let has_base = token.has_base();
        let pc = token.pc().wrapping_add(distance);
        Some(Begun {
            pc: if has_base { pc & 0xffff_ffff } else { pc },
            has_base,
            has_distance: token.has_distance(),
            flow: token.flow()?,
            translated_place: token.place().into(),
        })
    }

    /// Returns true if it did not retire, given the address from which a handler was entered and how many exceptions were
    /// raised before.
    fn did_not_retire(self, from: u64, exceptions: u32) -> bool {
        let is_from_it = match self.has_distance {
            true => address::is_same(self.pc, self.has_base.into(), from),
            // It is the only one at this offset that `from` can be: see `needs_distance`.
            false => self.pc % PAGE == from % PAGE,
        };
        is_from_it
            && match self.flow {
                // The next instruction would follow: it has faulted, or is a `rep` with elements left.
                Flow::On => true,
                // Without an exception it has jumped to itself.
                Flow::Elsewhere => exceptions > 0,
                // The first exception is its own interrupt. A second means that it could not be delivered.
                Flow::Handler => exceptions > 1,
            }
    }
}

/// Corrects the counts of one vCPU.
///
/// It takes back instructions that did not retire, and moves those that run in another section than that of their
/// translation.
pub(super) struct VcpuInstructions {
    instructions: Arc<Instructions>,
    vcpu: VcpuIndex,
    /// The distance of the block from the address of its translation: whole pages.
    distance: u64,
    /// The token of an instruction, and how many exceptions it has raised that are not delivered yet.
    raised: (CountToken, u32),
}

impl VcpuInstructions {
    pub fn new(instructions: Arc<Instructions>, vcpu: VcpuIndex) -> VcpuInstructions {
        instructions.vcpus.fetch_max(vcpu.0 + 1, Ordering::Relaxed);
        VcpuInstructions { instructions, vcpu, distance: 0, raised: NONE_RAISED }
    }

    /// A block begins at `distance` from the address of its translation.
    #[inline]
    pub fn block_begins(&mut self, distance: u64) {
        if distance != self.distance {
            self.distance = distance;
            self.instructions.counters.set_elsewhere(self.vcpu, distance != 0);
        }
    }

    /// An instruction was counted in the section of its translation, in a block that runs elsewhere.
    pub fn counted_elsewhere(&mut self, token: Token) {
        if let Some(begun) = Begun::new(token.into(), self.distance) {
            let place = self.place(begun);
            if place != begun.translated_place {
                self.instructions.counters.move_one(self.vcpu, begun.translated_place, place);
            }
        }
    }

    /// The block was left after its last instruction that began.
    pub fn block_was_left(&self) {
        self.instructions.take_back_ahead(self.vcpu);
    }

    /// The last instruction begins again.
    pub fn counted_again(&mut self) {
        if let Some(last) = self.last() {
            self.take_back(last);
        }
    }

    pub fn discontinuity(&mut self, event: Discontinuity) {
        let token = self.last_token();
        // An exception that was not delivered (a triple fault) does not count once another instruction has begun.
        let raised = if self.raised.0 == token { self.raised.1 } else { 0 };
        match event {
            Discontinuity::Exception => self.raised = (token, raised + 1),
            Discontinuity::Delivered { from } => {
                self.raised = NONE_RAISED;
                if let Some(last) = self.last()
                    && last.did_not_retire(from, raised)
                {
                    self.take_back(last);
                }
            }
        }
    }

    fn last_token(&self) -> CountToken {
        self.instructions.last_token(self.vcpu)
    }

    fn last(&self) -> Option<Begun> {
        Begun::new(self.last_token(), self.distance)
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
    fn whether_it_retired_follows_from_flow_and_exceptions() {
        let begun = |flow| Begun {
            pc: 0xffff_8000_1234,
            has_distance: true,
            has_base: false,
            flow,
            translated_place: 3,
        };
        let did_not_retire = |flow, from, exceptions| begun(flow).did_not_retire(from, exceptions);
        // A fault; a debug trap after it; an interrupt after it; an interrupt within a `rep`.
        assert!(did_not_retire(Flow::On, 0xffff_8000_1234, 1));
        assert!(!did_not_retire(Flow::On, 0xffff_8000_1235, 1));
        assert!(!did_not_retire(Flow::On, 0xffff_8000_1235, 0));
        assert!(did_not_retire(Flow::On, 0xffff_8000_1234, 0));
        // A jump that faults; a jump to itself that is interrupted; a jump to an absent page.
        assert!(did_not_retire(Flow::Elsewhere, 0xffff_8000_1234, 2));
        assert!(!did_not_retire(Flow::Elsewhere, 0xffff_8000_1234, 0));
        assert!(!did_not_retire(Flow::Elsewhere, 0xffff_8000_5234, 1));
        // `int n`; one that is not permitted, or whose handler has no stack.
        assert!(!did_not_retire(Flow::Handler, 0xffff_8000_1234, 1));
        assert!(did_not_retire(Flow::Handler, 0xffff_8000_1234, 2));
    }

    #[test]
    fn a_fault_is_known_by_its_offset_in_the_page_if_nothing_else_has_it() {
        let begun = Begun {
            pc: 0x1234,
            has_distance: false,
            has_base: false,
            flow: Flow::On,
            translated_place: 0,
        };
        assert!(begun.did_not_retire(0xffff_8000_7234, 1));
        assert!(!begun.did_not_retire(0xffff_8000_7235, 1));
        let needs = |bytes: &[u8]| needs_distance(Flow::of(bytes), bytes, 0x1234);
        // Instructions that do not branch, and branches to other offsets.
        assert!(!needs(&[0xee]));
        assert!(!needs(&[0xeb, 0xfd]));
        assert!(!needs(&[0xe8, 0xff, 0x0f, 0, 0]));
        // `jmp` to itself, `call` of the same offset in the next page, `ret`, `int`.
        assert!(needs(&[0xeb, 0xfe]));
        assert!(needs(&[0xe8, 0xfb, 0x0f, 0, 0]));
        assert!(needs(&[0xc3]));
        assert!(needs(&[0xcd, 0x80]));
    }

    #[test]
    fn an_instruction_runs_at_the_distance_of_its_block() {
        assert_eq!(Begun::new(CountToken::from(Token(0)), 0x1000), None);
        for has_base in [false, true] {
            let at = |pc: u64, distance: u64| {
                Begun::new(
                    CountToken::new(pc, has_base, Flow::On, 64).with_has_distance(true),
                    distance,
                )
            };
            let begun = |pc| {
                Some(Begun {
                    pc,
                    has_distance: true,
                    has_base,
                    flow: Flow::On,
                    translated_place: 64,
                })
            };
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
