//! The processor registers that pvio reads and writes, and QEMU's names for them.

use std::ffi::CStr;

/// A processor register. On an i386 target those with an `R` are the 32-bit registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// RAX or EAX.
    Rax,
    /// RCX or ECX.
    Rcx,
    /// RDX or EDX.
    Rdx,
    /// RSP or ESP.
    Rsp,
    /// RBP or EBP.
    Rbp,
    /// RFLAGS or EFLAGS, without the arithmetic flags and DF, which QEMU does not keep there.
    Rflags,
    /// RIP or EIP of a point in the block that runs: at or before the instruction of the callback.
    Rip,
    /// The CS selector.
    Cs,
    /// CR0.
    Cr0,
    /// CR3.
    Cr3,
    /// CR4.
    Cr4,
    /// IA32_EFER.
    Efer,
}

impl Register {
    pub(crate) const ALL: [Register; 12] = [
        Register::Rax,
        Register::Rcx,
        Register::Rdx,
        Register::Rsp,
        Register::Rbp,
        Register::Rflags,
        Register::Rip,
        Register::Cs,
        Register::Cr0,
        Register::Cr3,
        Register::Cr4,
        Register::Efer,
    ];

    /// QEMU's names for it, on x86-64 and on i386.
    pub(crate) fn names(self) -> [&'static CStr; 2] {
        match self {
            Register::Rax => [c"rax", c"eax"],
            Register::Rcx => [c"rcx", c"ecx"],
            Register::Rdx => [c"rdx", c"edx"],
            Register::Rsp => [c"rsp", c"esp"],
            Register::Rbp => [c"rbp", c"ebp"],
            Register::Rflags => [c"rflags", c"eflags"],
            Register::Rip => [c"rip", c"eip"],
            Register::Cs => [c"cs", c"cs"],
            Register::Cr0 => [c"cr0", c"cr0"],
            Register::Cr3 => [c"cr3", c"cr3"],
            Register::Cr4 => [c"cr4", c"cr4"],
            Register::Efer => [c"efer", c"efer"],
        }
    }
}
