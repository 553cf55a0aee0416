//! Unwinds stacks of guest code into call chains.
//!
//! A 64-bit Linux kernel is unwound by its own ORC tables, other code by proven frame pointers. A chain that cannot be
//! continued ends as [`End::Unknown`]. No caller is guessed.

mod calls;
mod frame_pointers;
pub(super) mod orc;
mod stack;

use super::kernel::Kernel;
use crate::x86::Mode;

pub use stack::Recipe;
use stack::Stack;

/// Maximum number of frames of a chain.
pub const MOST_FRAMES: usize = 64;

/// The registers at which unwinding starts.
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
    /// The registers of 64-bit code, whose segments have no base.
    pub fn flat(ip: u64, sp: u64, bp: u64) -> Start {
        Start { mode: Mode::Bits64, ip, sp, bp, cs_base: 0, ss_base: 0 }
    }

    /// The linear address of the code.
    pub fn linear(&self) -> u64 {
        self.cs_base.wrapping_add(self.ip)
    }

    /// Returns true if the address is that of a 64-bit kernel's code.
    pub fn is_64_bit_kernel(&self) -> bool {
        self.mode == Mode::Bits64 && self.ip >> 63 != 0
    }
}

/// A caller in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frame {
    /// The return address of a call.
    Return(u64),
    /// The address of the instruction that was interrupted.
    Interrupted(u64),
}

impl Frame {
    /// An address in the frame's function.
    ///
    /// A call may be the last instruction of its function, so this is one byte before a return address.
    pub fn address(self) -> u64 {
        match self {
            Frame::Return(address) => address.wrapping_sub(1),
            Frame::Interrupted(address) => address,
        }
    }

    /// The distance in bytes from [`Frame::address`] to the frame's own address, which the kernel prints.
    pub fn after(self) -> u64 {
        match self {
            Frame::Return(_) => 1,
            Frame::Interrupted(_) => 0,
        }
    }
}

/// The reason why a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The last frame is the kernel's entry from user mode.
    UserMode,
    /// The last frame is where the stack begins: a thread's or a processor's first function.
    Bottom,
    /// The caller of the last frame cannot be known.
    Unknown,
    /// The chain has more frames than requested.
    TooDeep,
}

/// The callers of an instruction, innermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    /// The callers.
    pub frames: Vec<Frame>,
    /// The reason why there are no more.
    pub end: End,
}

/// A chain, and how to recognize it.
#[derive(Clone, Debug)]
pub struct Unwound {
    /// The callers.
    pub chain: Chain,
    /// The words of the stack that decided the chain.
    pub recipe: Recipe,
    /// True if the chain ends because the kernel's tables lack an address.
    ///
    /// The kernel may have loaded a module since its tables were read, or another kernel may run.
    pub lacks_tables: bool,
}

/// Unwinds a stack, to at most `depth` frames. `read` fills bytes from a linear address.
///
/// A kernel without ORC tables is unwound by frame pointers, as other code is.
pub fn unwind(
    kernel: Option<&Kernel>,
    start: &Start,
    depth: usize,
    read: &mut impl FnMut(u64, &mut [u8]) -> bool,
) -> Unwound {
    let depth = depth.min(MOST_FRAMES);
    // Firmware and boot code may run in another mode than the kernel.
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
