//! Call chains of guest code.
//!
//! A 64-bit Linux kernel is unwound by its own ORC tables, all other code by frame pointers, where a frame
//! is proven. A chain that cannot be continued ends as [`End::Unknown`]; no caller is ever guessed.

mod calls;
mod frame_pointers;
pub(super) mod orc;
mod stack;

use super::kernel::Kernel;
use crate::x86::Mode;

pub use stack::Recipe;
use stack::Stack;

/// The most frames that a chain has.
pub const MOST_FRAMES: usize = 64;

/// The registers that unwinding starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Start {
    /// The kind of code.
    pub mode: Mode,
    /// RIP, EIP or IP: the offset in the code segment.
    pub ip: u64,
    /// RSP, ESP or SP: the offset in the stack segment.
    pub sp: u64,
    /// RBP, EBP or BP.
    pub bp: u64,
    /// The base of CS.
    pub cs_base: u64,
    /// The base of SS.
    pub ss_base: u64,
}

impl Start {
    /// The registers of 64-bit code, where segments have no base.
    pub fn flat(ip: u64, sp: u64, bp: u64) -> Start {
        Start { mode: Mode::Bits64, ip, sp, bp, cs_base: 0, ss_base: 0 }
    }

    /// The linear address of the code.
    pub fn linear(&self) -> u64 {
        self.cs_base.wrapping_add(self.ip)
    }

    /// Whether this is code of a 64-bit kernel, by its address.
    pub fn is_64_bit_kernel(&self) -> bool {
        self.mode == Mode::Bits64 && self.ip >> 63 != 0
    }
}

/// A caller in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frame {
    /// The return address of a call: its name is that of the byte before.
    Return(u64),
    /// The instruction that an interrupt or an exception interrupted.
    Interrupted(u64),
}

impl Frame {
    /// The address that names the frame's function.
    pub fn address(self) -> u64 {
        match self {
            Frame::Return(address) => address.wrapping_sub(1),
            Frame::Interrupted(address) => address,
        }
    }

    /// How far [`Frame::address`] is before the address itself, whose offset the kernel prints.
    pub fn after(self) -> u64 {
        match self {
            Frame::Return(_) => 1,
            Frame::Interrupted(_) => 0,
        }
    }
}

/// Why a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The last frame is the kernel's entry from user mode.
    UserMode,
    /// The last frame is where the stack begins: a thread's or a processor's first function.
    Bottom,
    /// What comes after the last frame cannot be known.
    Unknown,
    /// The chain has more frames than were asked for.
    TooDeep,
}

/// The callers of a place, innermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    /// The callers.
    pub frames: Vec<Frame>,
    /// Why there are no more.
    pub end: End,
}

/// A chain, and the recipe that recognizes it.
#[derive(Clone, Debug)]
pub struct Unwound {
    /// The callers.
    pub chain: Chain,
    /// What was read from the stack to find them.
    pub recipe: Recipe,
    /// The chain ends because the kernel's tables lack a place: they may be of an older reading, or of another kernel.
    pub lacks_tables: bool,
}

/// Unwinds from a place, to at most `depth` frames. `read` fills bytes from a linear address.
///
/// A kernel without ORC tables, and any other code, is unwound by frame pointers.
pub fn unwind(
    kernel: Option<&Kernel>,
    start: &Start,
    depth: usize,
    read: &mut impl FnMut(u64, &mut [u8]) -> bool,
) -> Unwound {
    let depth = depth.min(MOST_FRAMES);
    // Firmware, and code that starts a kernel, is of another mode than the kernel.
    let kernel = kernel.filter(|kernel| kernel.word_size() * 8 == start.mode.bits() as usize);
    let mut stack = Stack::new(start, read);
    let orc = kernel.and_then(|kernel| Some((kernel, kernel.orc()?)));
    let mut frames = Vec::new();
    let end = match orc.filter(|_| start.is_64_bit_kernel()) {
        Some((kernel, tables)) => {
            orc::unwind(kernel, tables, start.ip, &mut stack, depth, &mut frames)
        }
        None => Ok(frame_pointers::unwind(kernel, start, &mut stack, depth, &mut frames)),
    };
    let (end, lacks_tables) = match end {
        Ok(end) => (end, false),
        Err(orc::NoEntry) => (End::Unknown, true),
    };
    Unwound { chain: Chain { frames, end }, recipe: stack.finish(), lacks_tables }
}

#[cfg(test)]
mod tests;
