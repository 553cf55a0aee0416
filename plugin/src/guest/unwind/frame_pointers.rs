//! Unwinding by frame pointers, where each frame is proven.
//!
//! BP points to a frame of the running code only if that code has made one. In other code BP may have any value, even 0,
//! and trusting it would silently leave out a function without a frame, or one that an interrupt called. So a frame
//! counts as proven in two cases:
//!
//! - The kernel names the function, and the function begins by making its frame.
//! - Nothing between the stack pointer and the frame can be a return address or an interrupt's frame that belongs to the
//!   code, and the frame's return address is after a call that can lead to the code.
//!
//! BP is 0 in the first function of a stack. In code without names that counts only if the function has no return
//! address on the stack.

use super::calls::{Call, Code, Progress};
use super::stack::{Pointer, Stack};
use super::{End, Frame, Start};
use crate::guest::kernel::Kernel;
use crate::x86::Mode;

/// Maximum size of a frame in code without names, in bytes.
const BIGGEST_FRAME: u64 = 4096;
/// Maximum size of code in one function without names, in bytes.
const BIGGEST_FUNCTION: u64 = 0x1_0000;
/// The same in 16-bit code.
const BIGGEST_FUNCTION_16: u64 = 0x1000;
/// Maximum number of bytes between an interrupted instruction and the handler.
const CODE_REACH: u64 = 16 << 20;

/// Offsets of registers in `struct pt_regs` of 32-bit kernels.
mod pt_regs {
    pub(super) const BP: i32 = 20;
    pub(super) const IP: i32 = 48;
    pub(super) const CS: i32 = 52;
    pub(super) const FLAGS: i32 = 56;
    /// Bytes that an interrupt pushes in any case.
    pub(super) const SIZE: i32 = 60;
}

const EFLAGS_VM: u64 = 1 << 17;

/// Set in addresses of a 32-bit kernel, cleared in the mark of an interrupt's frame.
const HIGHEST_BIT: u64 = 1 << 31;

/// Appends the callers of the start.
pub(super) fn unwind<R: FnMut(u64, &mut [u8]) -> bool>(
    kernel: Option<&Kernel>,
    start: &Start,
    stack: &mut Stack<'_, R>,
    depth: usize,
    frames: &mut Vec<Frame>,
) -> End {
    let mut cursor = Cursor {
        kernel,
        code: Code { mode: start.mode, base: start.cs_base },
        ip: start.ip,
        is_interrupted: true,
        sp: Pointer::SP,
        bp: FramePointer::Frame(Pointer::BP),
    };
    loop {
        match cursor.step(stack) {
            Some(Next::Caller) => {}
            Some(Next::End(end)) => return end,
            None => return End::Unknown,
        }
        if frames.len() == depth {
            return End::TooDeep;
        }
        frames.push(cursor.frame());
    }
}

enum Next {
    Caller,
    End(End),
}

/// How a frame is proven.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// By the function's name and its first instructions.
    Name,
    /// By the words on the stack.
    Stack,
}

/// The meaning of a function's BP.
#[derive(Clone, Copy)]
enum FramePointer {
    Frame(Pointer),
    /// The registers that an interrupt saved. A 32-bit kernel marks their address by clearing its highest bit.
    Registers(Pointer),
    /// 0, the ABI's mark of the first function.
    Zero,
    Other,
}

/// A function, and its stack at its call or interrupt.
struct Cursor<'k> {
    kernel: Option<&'k Kernel>,
    code: Code,
    /// An offset in the code segment.
    ip: u64,
    is_interrupted: bool,
    /// The lowest place of the stack that belongs to the function.
    sp: Pointer,
    bp: FramePointer,
}

impl Cursor<'_> {
    fn frame(&self) -> Frame {
        let address = self.code.base.wrapping_add(self.ip);
        if self.is_interrupted { Frame::Interrupted(address) } else { Frame::Return(address) }
    }

    /// Moves to the caller.
    fn step<R: FnMut(u64, &mut [u8]) -> bool>(&mut self, stack: &mut Stack<'_, R>) -> Option<Next> {
        let address = self.frame().address();
        let mut read = |at: u64, into: &mut [u8]| stack.read(at, into).is_some();
        let name = self.kernel.and_then(|kernel| kernel.name_if_loaded(address, &mut read));
        let progress = name.and_then(|name| {
            let function = (address - name.offset).wrapping_sub(self.code.base);
            self.code.frame_at(function, self.ip.wrapping_sub(function), stack)
        });
        let has_no_frame = progress.is_none() && !self.is_interrupted;
        if let Some(name) = name.filter(|_| has_no_frame) {
            // Code of the kernel that nothing calls. User mode's BP is still in place, or none.
            match name.symbol {
                "entry_SYSENTER_32" | "entry_INT80_32" => return Some(Next::End(End::UserMode)),
                "ret_from_fork" | "ret_from_fork_asm" => return Some(Next::End(End::Bottom)),
                _ => {}
            }
        }
        match self.bp {
            FramePointer::Frame(bp) => match (name, progress) {
                (_, Some(Progress::HasFrame)) => self.return_from(bp, Proof::Name, stack),
                (_, Some(progress)) => self.return_early(progress, stack),
                (None, _) if self.has_frame(bp, stack)? => {
                    self.return_from(bp, Proof::Stack, stack)
                }
                _ => None,
            },
            FramePointer::Registers(registers) => self.interrupted(registers, stack),
            FramePointer::Zero if name.is_none() && self.is_called(stack) => None,
            FramePointer::Zero => Some(Next::End(End::Bottom)),
            FramePointer::Other => None,
        }
    }

    /// Moves to the caller of the function that has this frame.
    fn return_from<R: FnMut(u64, &mut [u8]) -> bool>(
        &mut self,
        bp: Pointer,
        proof: Proof,
        stack: &mut Stack<'_, R>,
    ) -> Option<Next> {
        let word = stack.word_size() as i32;
        let address = stack.take(bp.plus(word))?;
        if address == 0 {
            // The kernel puts it there, for a function that nothing calls. Elsewhere it may be no frame.
            return (proof == Proof::Name).then_some(Next::End(End::Bottom));
        }
        let call = self.code.call_before(address, stack)?;
        (proof == Proof::Name || self.may_lead_here(call)).then_some(())?;
        self.bp = self.saved_bp(bp, bp, stack)?;
        self.ip = address;
        self.is_interrupted = false;
        self.sp = bp.plus(2 * word);
        Some(Next::Caller)
    }

    /// Moves to the caller of a function that has not made its frame yet.
    ///
    /// BP is still the caller's. The function must be the first of the chain, because only its SP is known.
    fn return_early<R: FnMut(u64, &mut [u8]) -> bool>(
        &mut self,
        progress: Progress,
        stack: &mut Stack<'_, R>,
    ) -> Option<Next> {
        let word = stack.word_size() as i32;
        let pushed = if progress == Progress::HasPushed { word } else { 0 };
        (self.sp == Pointer::SP).then_some(())?;
        let address = stack.take(self.sp.plus(pushed))?;
        self.code.call_before(address, stack)?;
        self.ip = address;
        self.is_interrupted = false;
        self.sp = self.sp.plus(pushed + word);
        Some(Next::Caller)
    }

    /// Moves to the code that an interrupt or an exception interrupted.
    fn interrupted<R: FnMut(u64, &mut [u8]) -> bool>(
        &mut self,
        registers: Pointer,
        stack: &mut Stack<'_, R>,
    ) -> Option<Next> {
        let flags = stack.take(registers.plus(pt_regs::FLAGS))?;
        // The upper half of the word may hold anything.
        let cs = stack.take(registers.plus(pt_regs::CS))? & 0xffff;
        if cs & 3 == 3 || flags & EFLAGS_VM != 0 {
            return Some(Next::End(End::UserMode));
        }
        let ip = stack.take(registers.plus(pt_regs::IP))?;
        self.bp = self.saved_bp(registers.plus(pt_regs::BP), registers, stack)?;
        self.ip = ip;
        self.is_interrupted = true;
        self.sp = registers.plus(pt_regs::SIZE);
        Some(Next::Caller)
    }

    /// The meaning of the BP that was saved at a place. A caller's frame is above that of its callee.
    fn saved_bp<R: FnMut(u64, &mut [u8]) -> bool>(
        &self,
        at: Pointer,
        above: Pointer,
        stack: &mut Stack<'_, R>,
    ) -> Option<FramePointer> {
        const STACK: u64 = 0x1_0000;
        let value = stack.peek(at)?;
        let is_kernel_32 = self.kernel.is_some() && self.code.mode == Mode::Bits32;
        let is_above = (1..STACK).contains(&value.wrapping_sub(stack.value(above)));
        if value == 0 {
            stack.take(at)?;
            Some(FramePointer::Zero)
        } else if value % stack.word_size() as u64 != 0 {
            stack.take(at)?;
            Some(FramePointer::Other)
        } else if is_above || is_kernel_32 && value >= HIGHEST_BIT {
            // The kernel handles interrupts on stacks of their own.
            stack.follow(at).map(FramePointer::Frame)
        } else if is_kernel_32 {
            let registers = stack.follow(at)?;
            Some(FramePointer::Registers(registers.plus(i32::MIN)))
        } else {
            stack.take(at)?;
            Some(FramePointer::Other)
        }
    }

    /// Returns true if the frame can belong to the code, which has no name.
    ///
    /// If the code has made no frame, then BP is a caller's. So the return address of the code is below the frame.
    fn has_frame<R: FnMut(u64, &mut [u8]) -> bool>(
        &self,
        bp: Pointer,
        stack: &mut Stack<'_, R>,
    ) -> Option<bool> {
        let word = stack.word_size() as u64;
        let (low, high) = (stack.value(self.sp), stack.value(bp));
        let size =
            high.checked_sub(low).filter(|size| size % word == 0 && *size <= BIGGEST_FRAME)?;
        let words: Option<Vec<u64>> =
            (0..size / word).map(|index| stack.peek(self.sp.plus((index * word) as i32))).collect();
        let words = words?;
        let calls_this = words.iter().any(|&word| self.is_return_address(word, stack));
        let is_interrupt = words.windows(3).any(|frame| self.is_interrupt_frame(frame));
        Some(!calls_this && !is_interrupt)
    }

    /// Returns true if the stack above has a return address of the code, which has no frame.
    fn is_called<R: FnMut(u64, &mut [u8]) -> bool>(&self, stack: &mut Stack<'_, R>) -> bool {
        let word = stack.word_size() as i32;
        let places = (0..BIGGEST_FRAME as i32 / word).map(|index| self.sp.plus(index * word));
        let mut words = places.map_while(|at| stack.peek(at)).collect::<Vec<_>>().into_iter();
        words.any(|word| self.is_return_address(word, stack))
    }

    /// Returns true if a word on the stack can be the return address of the code.
    fn is_return_address<R: FnMut(u64, &mut [u8]) -> bool>(
        &self,
        word: u64,
        stack: &mut Stack<'_, R>,
    ) -> bool {
        let call = if word == 0 { None } else { self.code.call_before(word, stack) };
        call.is_some_and(|call| self.may_lead_here(call))
    }

    /// Returns true if a call can be one of the function that the code is in.
    fn may_lead_here(&self, call: Call) -> bool {
        let reach = match self.code.mode {
            Mode::Bits16 => BIGGEST_FUNCTION_16,
            Mode::Bits32 | Mode::Bits64 => BIGGEST_FUNCTION,
        };
        match call {
            Call::Direct(target) => self.ip.wrapping_sub(target) < reach,
            Call::Indirect => true,
        }
    }

    /// Returns true if three words can be the IP, CS and flags that an interrupt pushed.
    fn is_interrupt_frame(&self, words: &[u64]) -> bool {
        const ALWAYS_SET: u64 = 1 << 1;
        const NEVER_SET: u64 = !0x3f_7fd7;
        let &[ip, cs, flags] = words else { return false };
        let is_near = ip != 0 && ip.abs_diff(self.ip) < CODE_REACH;
        is_near && (1..0x1_0000).contains(&cs) && flags & ALWAYS_SET != 0 && flags & NEVER_SET == 0
    }
}
