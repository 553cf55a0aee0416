//! Unwinds a 64-bit Linux kernel by its own ORC tables (`arch/x86/kernel/unwind_orc.c`).
//!
//! For each range of code, an entry says where the caller's stack begins, relative to a register, and where RBP is
//! saved.

mod entry;
mod tables;

pub(in crate::guest) use tables::{Table, Tables};

use entry::{Base, Entry, Kind};

use super::stack::{Pointer, Stack};
use super::{End, Frame};
use crate::guest::kernel::Kernel;

/// The tables have no entry for an address, or are gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoEntry;

/// Offsets of registers in `struct pt_regs`.
mod pt_regs {
    pub(super) const R13: i32 = 16;
    pub(super) const BP: i32 = 32;
    pub(super) const R10: i32 = 56;
    pub(super) const AX: i32 = 80;
    pub(super) const DX: i32 = 96;
    pub(super) const DI: i32 = 112;
    pub(super) const IP: i32 = 128;
    pub(super) const CS: i32 = 136;
    pub(super) const SP: i32 = 152;
}

/// Functions of tracers that replace a return address.
const TRAMPOLINES: [&str; 4] = [
    "return_to_handler",
    "__kretprobe_trampoline",
    "kretprobe_trampoline",
    "arch_rethook_trampoline",
];

/// The value of RBP.
#[derive(Clone, Copy, Debug)]
enum Register {
    Is(Pointer),
    SavedAt(Pointer),
}

/// Appends the callers of `ip` to `frames`.
///
/// # Errors
///
/// The tables have no entry for a frame.
pub(super) fn unwind<R: FnMut(u64, &mut [u8]) -> bool>(
    kernel: &Kernel,
    tables: &Tables,
    ip: u64,
    stack: &mut Stack<'_, R>,
    depth: usize,
    frames: &mut Vec<Frame>,
) -> Result<End, NoEntry> {
    if !tables.are_there(stack) {
        return Err(NoEntry);
    }
    let mut cursor = Cursor {
        frame: Frame::Interrupted(ip),
        sp: Pointer::SP,
        bp: Register::Is(Pointer::BP),
        full_regs: None,
    };
    loop {
        let entry = tables.find(kernel, cursor.frame.address(), stack).ok_or(NoEntry)?;
        match cursor.step(entry, stack) {
            Some(Next::Caller) => {}
            Some(Next::End(end)) => return Ok(end),
            None => return Ok(End::Unknown),
        }
        if frames.len() == depth {
            return Ok(End::TooDeep);
        }
        if let Frame::Return(address) = cursor.frame
            && let Some(name) = kernel.name(address)
            && name.offset == 0
            && TRAMPOLINES.contains(&name.symbol)
        {
            return Ok(End::Unknown);
        }
        frames.push(cursor.frame);
    }
}

enum Next {
    Caller,
    End(End),
}

/// A frame, and its registers at its call or interrupt.
struct Cursor {
    frame: Frame,
    sp: Pointer,
    bp: Register,
    /// The whole `pt_regs` of the frame, if there is one.
    full_regs: Option<Pointer>,
}

impl Cursor {
    /// Moves to the caller.
    fn step<R: FnMut(u64, &mut [u8]) -> bool>(
        &mut self,
        entry: Entry,
        stack: &mut Stack<'_, R>,
    ) -> Option<Next> {
        match entry.kind {
            Kind::EndOfStack => return Some(Next::End(End::Bottom)),
            Kind::Undefined => return None,
            Kind::Call | Kind::Regs | Kind::RegsPartial => {}
        }
        let caller = self.caller_stack(&entry, stack)?;
        let full_regs = self.full_regs;
        let (ip, next_sp);
        match entry.kind {
            Kind::Call => {
                ip = stack.take(caller.plus(-8))?;
                next_sp = caller;
                self.full_regs = None;
            }
            _ => {
                let is_full = entry.kind == Kind::Regs;
                let regs = if is_full { caller } else { caller.plus(-pt_regs::IP) };
                if stack.take(regs.plus(pt_regs::CS))? & 3 != 0 {
                    return Some(Next::End(End::UserMode));
                }
                ip = stack.take(regs.plus(pt_regs::IP))?;
                next_sp = stack.follow(regs.plus(pt_regs::SP))?;
                self.full_regs = is_full.then_some(regs);
            }
        }
        match entry.bp_base {
            // RBP is still the caller's, unless a `pt_regs` has it.
            Base::Undefined => {
                if let Some(regs) =
                    self.full_regs.or(full_regs.filter(|_| entry.kind != Kind::Call))
                {
                    self.bp = Register::SavedAt(regs.plus(pt_regs::BP));
                }
            }
            Base::PreviousSp => self.bp = Register::SavedAt(caller.plus(entry.bp_offset)),
            Base::Bp => {
                let bp = self.bp(stack)?;
                self.bp = Register::SavedAt(bp.plus(entry.bp_offset));
            }
            _ => return None,
        }
        self.sp = next_sp;
        self.frame = match entry.is_signal {
            true => Frame::Interrupted(ip),
            false => Frame::Return(ip),
        };
        Some(Next::Caller)
    }

    /// The beginning of the caller's stack, or the `pt_regs`.
    fn caller_stack<R: FnMut(u64, &mut [u8]) -> bool>(
        &mut self,
        entry: &Entry,
        stack: &mut Stack<'_, R>,
    ) -> Option<Pointer> {
        let register = |cursor: &Cursor, stack: &mut Stack<'_, R>, place: i32| {
            stack.follow(cursor.full_regs?.plus(place))
        };
        Some(match entry.sp_base {
            Base::Sp => self.sp.plus(entry.sp_offset),
            Base::Bp => self.bp(stack)?.plus(entry.sp_offset),
            Base::BpIndirect => {
                let bp = self.bp(stack)?;
                stack.follow(bp.plus(entry.sp_offset))?
            }
            // Since 5.12 the offset is added to the loaded pointer, and no `pt_regs` is found so.
            Base::SpIndirect if entry.kind == Kind::Call => {
                stack.follow(self.sp)?.plus(entry.sp_offset)
            }
            Base::SpIndirect => stack.follow(self.sp.plus(entry.sp_offset))?,
            Base::R10 => register(self, stack, pt_regs::R10)?,
            Base::R13 => register(self, stack, pt_regs::R13)?,
            Base::Ax => register(self, stack, pt_regs::AX)?,
            Base::Di => register(self, stack, pt_regs::DI)?,
            Base::Dx => register(self, stack, pt_regs::DX)?,
            Base::Undefined | Base::PreviousSp | Base::Invalid => return None,
        })
    }

    /// RBP as a base pointer.
    fn bp<R: FnMut(u64, &mut [u8]) -> bool>(
        &mut self,
        stack: &mut Stack<'_, R>,
    ) -> Option<Pointer> {
        if let Register::SavedAt(at) = self.bp {
            self.bp = Register::Is(stack.follow(at)?);
        }
        match self.bp {
            Register::Is(pointer) => Some(pointer),
            Register::SavedAt(_) => None,
        }
    }
}
