//! Frame pointers: chains of code that is made here, in all three modes.

use super::calls::{Code, Progress};
use super::stack::Stack;
use super::{Chain, End, Frame, MOST_FRAMES, Start, unwind};
use crate::x86::Mode;

const CODE: usize = 0x1000;
const STACK: usize = 0x3000;
const SIZE: usize = 0x4000;

/// The base of segments in 16-bit code.
const SEGMENT: u64 = 0x2_0000;

/// Code and a stack, which grows downwards as functions are called.
struct Machine {
    mode: Mode,
    memory: Vec<u8>,
    sp: usize,
    bp: usize,
    ip: usize,
    /// The address of the next function.
    code: usize,
}

impl Machine {
    fn new(mode: Mode) -> Machine {
        let code = CODE + 0x10;
        Machine { mode, memory: vec![0; SIZE], sp: STACK, bp: 0, ip: CODE, code }
    }

    fn word(&self) -> usize {
        self.mode.bits() as usize / 8
    }

    fn push(&mut self, value: usize) {
        let word = self.word();
        self.sp -= word;
        self.memory[self.sp..self.sp + word].copy_from_slice(&value.to_le_bytes()[..word]);
    }

    fn emit(&mut self, bytes: &[u8]) {
        self.memory[self.ip..self.ip + bytes.len()].copy_from_slice(bytes);
        self.ip += bytes.len();
    }

    /// Calls a new function, and returns the return address.
    fn call(&mut self) -> u64 {
        let (target, size) = (self.code, if self.mode == Mode::Bits16 { 3 } else { 5 });
        self.code += 0x40;
        let distance = target as i32 - (self.ip + size) as i32;
        self.emit(&[0xe8]);
        self.emit(&distance.to_le_bytes()[..size - 1]);
        let after = self.ip;
        self.push(after);
        self.ip = target;
        self.linear(after)
    }

    /// The same by a register.
    fn call_indirectly(&mut self) -> u64 {
        self.emit(&[0xff, 0xd0]);
        let after = self.ip;
        self.push(after);
        self.ip = self.code;
        self.code += 0x40;
        self.linear(after)
    }

    /// The function makes its frame, with room for words that nothing writes.
    fn enter(&mut self, locals: usize) {
        self.push(self.bp);
        self.bp = self.sp;
        let prefix: &[u8] = if self.mode == Mode::Bits64 { &[0x48] } else { &[] };
        self.emit(&[&[0x55], prefix, &[0x89, 0xe5]].concat());
        self.sp -= locals * self.word();
    }

    fn linear(&self, offset: usize) -> u64 {
        self.segment() + offset as u64
    }

    fn segment(&self) -> u64 {
        if self.mode == Mode::Bits16 { SEGMENT } else { 0 }
    }

    fn start(&self) -> Start {
        let (mode, segment) = (self.mode, self.segment());
        let [ip, sp, bp] = [self.ip, self.sp, self.bp].map(|register| register as u64);
        Start { mode, ip, sp, bp, cs_base: segment, ss_base: segment }
    }

    fn read(&self, linear: u64, into: &mut [u8]) -> bool {
        let Some(start) = linear.checked_sub(self.segment()) else { return false };
        let bytes = self.memory.get(start as usize..).and_then(|rest| rest.get(..into.len()));
        bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
    }

    fn unwind(&self, depth: usize) -> Chain {
        let mut read = |linear: u64, into: &mut [u8]| self.read(linear, into);
        let unwound = unwind(None, &self.start(), depth, &mut read);
        assert!(unwound.recipe.matches(&self.start(), &mut read));
        unwound.chain
    }

    fn assert_chain(&self, returns: &[u64], end: End) {
        let frames = returns.iter().rev().map(|&address| Frame::Return(address)).collect();
        assert_eq!(self.unwind(MOST_FRAMES), Chain { frames, end }, "{:?}", self.mode);
    }
}

/// Three functions with frames, called from code where BP is 0.
fn nested(mode: Mode) -> (Machine, Vec<u64>) {
    let mut machine = Machine::new(mode);
    let mut returns = Vec::new();
    for locals in [0, 5, 2] {
        returns.push(if locals == 5 { machine.call_indirectly() } else { machine.call() });
        machine.enter(locals);
    }
    (machine, returns)
}

#[test]
fn a_chain_of_frames_ends_where_bp_is_zero() {
    for mode in Mode::ALL {
        let (machine, returns) = nested(mode);
        machine.assert_chain(&returns, End::Bottom);
    }
}

/// BP may be 0 or anything in code that makes no frames.
#[test]
fn bp_of_code_without_frames_proves_no_end() {
    for mode in Mode::ALL {
        for bp in [0, STACK - 0x40] {
            // The words at BP are zeros, as of a first function; or the stack wraps around at 0.
            for sp in [STACK - 0x80, 0] {
                let mut machine = Machine::new(mode);
                (machine.sp, machine.bp) = (sp, bp);
                machine.assert_chain(&[], End::Unknown);
            }
        }
    }
}

/// BP may be 0 in a function that was called, if it has no frame.
#[test]
fn a_called_function_without_a_frame_is_not_the_first() {
    for mode in Mode::ALL {
        for is_direct in [true, false] {
            let mut machine = Machine::new(mode);
            if is_direct {
                machine.call()
            } else {
                machine.call_indirectly()
            };
            machine.sp -= 5 * machine.word();
            let last = machine.call();
            machine.enter(2);
            machine.assert_chain(&[last], End::Unknown);
        }
    }
}

/// BP may point to the frame of a call to other code.
#[test]
fn the_frame_of_another_function_is_not_believed() {
    for mode in Mode::ALL {
        let mut machine = Machine::new(mode);
        machine.call();
        machine.enter(0);
        let bp = machine.bp;
        // Interrupted, or left by a jump: other code runs, at a lower address.
        machine.ip = CODE - 0x100;
        machine.sp = bp;
        machine.assert_chain(&[], End::Unknown);
    }
}

#[test]
fn a_chain_has_no_more_frames_than_are_asked_for() {
    for mode in Mode::ALL {
        let (machine, returns) = nested(mode);
        let chain = machine.unwind(2);
        assert_eq!(chain.frames, [Frame::Return(returns[2]), Frame::Return(returns[1])]);
        assert_eq!(chain.end, End::TooDeep);
        assert_eq!(machine.unwind(3).end, End::Bottom);
    }
}

#[test]
fn a_function_without_a_frame_is_unknown_and_hides_no_caller() {
    for mode in Mode::ALL {
        let (mut machine, _) = nested(mode);
        machine.call();
        machine.assert_chain(&[], End::Unknown);
        let (mut machine, _) = nested(mode);
        machine.call_indirectly();
        machine.assert_chain(&[], End::Unknown);
    }
}

#[test]
fn a_caller_without_a_frame_ends_the_chain() {
    for mode in Mode::ALL {
        let (mut machine, _) = nested(mode);
        machine.call();
        let last = machine.call();
        machine.enter(1);
        machine.assert_chain(&[last], End::Unknown);
    }
}

#[test]
fn code_that_was_interrupted_ends_the_chain() {
    for mode in Mode::ALL {
        let (mut machine, _) = nested(mode);
        // A handler that calls a function with a frame.
        for word in [0x246, 0x10, machine.ip] {
            machine.push(word);
        }
        machine.ip = machine.code;
        machine.code += 0x40;
        machine.assert_chain(&[], End::Unknown);
        let last = machine.call();
        machine.enter(1);
        machine.assert_chain(&[last], End::Unknown);
    }
}

#[test]
fn a_return_address_that_no_call_left_is_not_believed() {
    for mode in Mode::ALL {
        let (mut machine, _) = nested(mode);
        machine.push(machine.ip);
        machine.ip = machine.code;
        machine.enter(1);
        machine.assert_chain(&[], End::Unknown);
    }
}

#[test]
fn frames_in_a_loop_end() {
    for mode in Mode::ALL {
        let (mut machine, _) = nested(mode);
        let (bp, word) = (machine.bp, machine.word());
        let own = bp.to_le_bytes();
        machine.memory[bp..bp + word].copy_from_slice(&own[..word]);
        let chain = machine.unwind(MOST_FRAMES);
        assert_eq!((chain.frames.len(), chain.end), (1, End::Unknown));
    }
}

#[test]
fn a_recipe_matches_the_same_callers_at_another_stack_and_no_others() {
    for mode in Mode::ALL {
        let (machine, _) = nested(mode);
        let mut read = |linear: u64, into: &mut [u8]| machine.read(linear, into);
        let recipe = unwind(None, &machine.start(), MOST_FRAMES, &mut read).recipe;
        // Everything on the stack, and what points there, 0x100 bytes further down.
        let mut moved = Machine::new(mode);
        moved.sp -= 0x100;
        for locals in [0, 5, 2] {
            if locals == 5 {
                moved.call_indirectly()
            } else {
                moved.call()
            };
            moved.enter(locals);
            moved.memory[moved.sp..moved.bp].fill(0x11);
        }
        assert!(recipe.matches(&moved.start(), &mut |at, into| moved.read(at, into)));
        let mut other = Machine::new(mode);
        other.code += 0x40;
        for locals in [0, 5, 2] {
            if locals == 5 {
                other.call_indirectly()
            } else {
                other.call()
            };
            other.enter(locals);
        }
        assert!(!recipe.matches(&other.start(), &mut |at, into| other.read(at, into)));
    }
}

#[test]
fn any_stack_is_unwound_in_bounded_time() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..20_000 {
        let (mut machine, _) = nested(Mode::ALL[round % 3]);
        for _ in 0..random.usize(1..20) {
            let at = random.usize(CODE..STACK);
            machine.memory[at] = random.u8(..);
            let on_stack = random.usize(machine.sp..STACK);
            machine.memory[on_stack] = random.u8(..);
        }
        if random.bool() {
            machine.bp = random.usize(..SIZE);
        }
        assert!(machine.unwind(MOST_FRAMES).frames.len() <= MOST_FRAMES);
    }
}

#[test]
fn code_offsets_wrap_around() {
    // call, push ebp, mov ebp, esp
    const FUNCTION: [u8; 8] = [0xe8, 0, 0, 0, 0, 0x55, 0x89, 0xe5];
    let mut read = |_: u64, into: &mut [u8]| {
        into.fill(0x90);
        into[..FUNCTION.len()].copy_from_slice(&FUNCTION);
        true
    };
    let start = Start { mode: Mode::Bits32, ..Start::flat(0, 0, 0) };
    let mut stack = Stack::new(&start, &mut read);
    let code = Code { mode: Mode::Bits32, base: 0x1000 };
    let function = u64::MAX - 1;
    let progress = code.frame_at(function, FUNCTION.len() as u64, &mut stack);
    assert_eq!(progress, Some(Progress::HasFrame));
}
