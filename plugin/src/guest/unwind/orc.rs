//! ORC: a 64-bit Linux kernel's own tables for unwinding its code (`arch/x86/kernel/unwind_orc.c`).
//!
//! For each place in the code an entry says where the caller's stack begins, relative to a register, and
//! where RBP is saved.

use super::super::PhysicalMemory;
use super::super::address_space::AddressSpace;
use super::stack::{Pointer, Stack};
use super::{End, Frame};
use crate::guest::kernel::Kernel;

/// The most entries of one table. Debian's kernels have up to 500,000.
const MOST_ENTRIES: u64 = 1 << 21;
/// Bytes of `struct orc_entry`.
const ENTRY: u64 = 6;

/// Which bits of an entry say what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Two bits of type; a bit that ends the stack.
    Before6_4,
    /// Three bits of type, of which one value ends the stack; a signal bit.
    Since6_4,
    /// The same, but registers have other numbers (7.3 has it).
    Renumbered,
}

impl Layout {
    const ALL: [Layout; 3] = [Layout::Before6_4, Layout::Since6_4, Layout::Renumbered];
}

/// Where one table is.
#[derive(Clone, Copy, Debug)]
pub(in crate::guest) struct Table {
    /// The places in the code, each as an offset of 32 bits from itself, in ascending order.
    ips: u64,
    entries: u64,
    count: u64,
}

/// The kernel's table, and those of its modules.
#[derive(Clone, Debug)]
pub(in crate::guest) struct Tables {
    layout: Layout,
    kernel: Table,
    modules: Vec<Table>,
    /// What is in the middle of the kernel's table. Another kernel would have something else there.
    sample: [u8; SAMPLE],
}

/// Bytes of the kernel's table by which it is recognized.
const SAMPLE: usize = 32;

/// The tables have no entry for a place, or are gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoEntry;

impl Table {
    /// A table with this many entries.
    pub(in crate::guest) fn new(ips: u64, entries: u64, count: u64) -> Option<Table> {
        (ips != 0 && entries != 0 && (2..=MOST_ENTRIES).contains(&count)).then_some(Table {
            ips,
            entries,
            count,
        })
    }

    /// The address of bytes in the middle of the table, within one page.
    fn middle(&self) -> u64 {
        self.ips.wrapping_add(2 * self.count) & !(SAMPLE as u64 - 1)
    }

    /// The place in the code that an entry begins at.
    fn ip<R: FnMut(u64, &mut [u8]) -> bool>(
        &self,
        index: u64,
        stack: &mut Stack<'_, R>,
    ) -> Option<u64> {
        let at = self.ips.wrapping_add(4 * index);
        let mut bytes = [0; 4];
        stack.read(at, &mut bytes)?;
        Some(at.wrapping_add_signed(i64::from(i32::from_le_bytes(bytes))))
    }

    /// The entry for a place in the code, if the table has that.
    fn find<R: FnMut(u64, &mut [u8]) -> bool>(
        &self,
        ip: u64,
        layout: Layout,
        stack: &mut Stack<'_, R>,
    ) -> Option<Entry> {
        // The last entry marks the end of the code.
        let (mut low, mut high) = (0, self.count - 1);
        if ip < self.ip(low, stack)? || ip >= self.ip(high, stack)? {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.ip(middle, stack)? <= ip {
                true => low = middle,
                false => high = middle,
            }
        }
        let mut bytes = [0; ENTRY as usize];
        stack.read(self.entries.wrapping_add(ENTRY * low), &mut bytes)?;
        Some(Entry::decode(bytes, layout))
    }
}

impl Tables {
    /// The kernel's table. The layout is the one in which most entries are of calls.
    pub(in crate::guest) fn read<M: PhysicalMemory>(
        space: &AddressSpace<'_, M>,
        kernel: Table,
    ) -> Option<Tables> {
        const SAMPLES: u64 = 256;
        let mut calls = [0; Layout::ALL.len()];
        for sample in 0..SAMPLES {
            let index = kernel.count * sample / SAMPLES;
            let bytes = space.bytes(kernel.entries.wrapping_add(ENTRY * index))?;
            for (layout, calls) in Layout::ALL.into_iter().zip(&mut calls) {
                let entry = Entry::decode(bytes, layout);
                let by_pointer = matches!(entry.sp_base, Base::Sp | Base::Bp);
                *calls += u64::from(by_pointer && entry.kind == Kind::Call);
            }
        }
        let all = Layout::ALL.into_iter().zip(calls);
        let (layout, calls) = all.max_by_key(|&(_, calls)| calls)?;
        let sample = space.bytes(kernel.middle())?;
        (calls > SAMPLES / 2).then(|| Tables { layout, kernel, modules: Vec::new(), sample })
    }

    /// Whether the kernel's table is still there.
    fn are_there<R: FnMut(u64, &mut [u8]) -> bool>(&self, stack: &mut Stack<'_, R>) -> bool {
        let mut bytes = [0; SAMPLE];
        stack.read(self.kernel.middle(), &mut bytes).is_some() && bytes == self.sample
    }

    /// Adds the tables of modules.
    pub(in crate::guest) fn add_modules(&mut self, tables: impl IntoIterator<Item = Table>) {
        self.modules.extend(tables);
    }

    /// Whether an address is in one of the tables.
    pub(in crate::guest) fn contains(&self, linear: u64) -> bool {
        let has = |start: u64, size: u64| linear.wrapping_sub(start) < size;
        let mut tables = [&self.kernel].into_iter().chain(&self.modules);
        tables
            .any(|table| has(table.ips, 4 * table.count) || has(table.entries, ENTRY * table.count))
    }

    fn find<R: FnMut(u64, &mut [u8]) -> bool>(
        &self,
        ip: u64,
        stack: &mut Stack<'_, R>,
    ) -> Option<Entry> {
        let mut tables = [&self.kernel].into_iter().chain(&self.modules);
        tables.find_map(|table| table.find(ip, self.layout, stack))
    }
}

/// What the caller's stack pointer, or RBP, is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Undefined,
    PreviousSp,
    Ax,
    Di,
    Dx,
    Bp,
    Sp,
    R10,
    R13,
    BpIndirect,
    SpIndirect,
    Invalid,
}

impl Base {
    fn decode(bits: u16, layout: Layout) -> Base {
        match (bits & 15, layout) {
            (0, _) => Base::Undefined,
            (2, _) => Base::Dx,
            (4, _) => Base::Bp,
            (6, _) => Base::R10,
            (7, _) => Base::R13,
            (9, _) => Base::SpIndirect,
            (1, Layout::Renumbered) => Base::Ax,
            (3, Layout::Renumbered) => Base::Sp,
            (5, Layout::Renumbered) => Base::Di,
            (8, Layout::Renumbered) => Base::PreviousSp,
            (10, Layout::Renumbered) => Base::BpIndirect,
            (1, _) => Base::PreviousSp,
            (3, _) => Base::Di,
            (5, _) => Base::Sp,
            (8, _) => Base::BpIndirect,
            _ => Base::Invalid,
        }
    }
}

/// What is on the stack below the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Undefined,
    EndOfStack,
    /// A return address.
    Call,
    /// A `pt_regs`.
    Regs,
    /// The part of a `pt_regs` that the processor pushed.
    RegsPartial,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    sp_offset: i32,
    bp_offset: i32,
    sp_base: Base,
    bp_base: Base,
    kind: Kind,
    /// Whether the next frame was interrupted, and did not call.
    is_signal: bool,
}

impl Entry {
    fn decode(bytes: [u8; ENTRY as usize], layout: Layout) -> Entry {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let offset = |at| i32::from(word(at) as i16);
        let flags = word(4);
        let sp_base = Base::decode(flags, layout);
        let (kind, is_signal) = match layout {
            Layout::Before6_4 => {
                let kind = match (sp_base, flags >> 8 & 3) {
                    // 6.3 has the bit that ends the stack after a signal bit, others in its place.
                    (Base::Undefined, _) if flags & 0xc00 != 0 => Kind::EndOfStack,
                    (Base::Undefined, _) => Kind::Undefined,
                    (_, 0) => Kind::Call,
                    (_, 1) => Kind::Regs,
                    (_, 2) => Kind::RegsPartial,
                    _ => Kind::Undefined,
                };
                (kind, kind != Kind::Call)
            }
            Layout::Since6_4 | Layout::Renumbered => {
                let kind = match flags >> 8 & 7 {
                    1 => Kind::EndOfStack,
                    2 => Kind::Call,
                    3 => Kind::Regs,
                    4 => Kind::RegsPartial,
                    _ => Kind::Undefined,
                };
                (kind, flags & 0x800 != 0)
            }
        };
        let bp_base = Base::decode(flags >> 4, layout);
        Entry { sp_offset: offset(0), bp_offset: offset(2), sp_base, bp_base, kind, is_signal }
    }
}

/// Places of registers in `struct pt_regs`.
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

/// Functions that are put in the place of a return address.
const TRAMPOLINES: [&str; 4] = [
    "return_to_handler",
    "__kretprobe_trampoline",
    "kretprobe_trampoline",
    "arch_rethook_trampoline",
];

/// A register's value, as far as it is known.
#[derive(Clone, Copy, Debug)]
enum Register {
    Is(Pointer),
    SavedAt(Pointer),
}

/// Appends the callers of `ip`.
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
        let entry = tables.find(cursor.frame.address(), stack).ok_or(NoEntry)?;
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

/// A frame, and the registers that it had when it called or was interrupted.
struct Cursor {
    frame: Frame,
    sp: Pointer,
    bp: Register,
    /// Where a whole `pt_regs` of the frame is.
    full_regs: Option<Pointer>,
}

impl Cursor {
    /// Goes to the caller.
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
            // RBP is the caller's, unless a `pt_regs` has it.
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

    /// Where the caller's stack, or the `pt_regs`, is.
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
            // Since 5.12 the offset is added to what is read, and no `pt_regs` is found so.
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

    /// RBP, to go on from.
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
