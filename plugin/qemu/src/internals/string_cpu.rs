//! The state that a string instruction uses, in place: its index registers and count, and the state that
//! decides how QEMU runs it.

use super::cpu_layout::StringLayout;
use super::direct::{Direct, hflags};
use super::watchpoints::Watchpoints;

/// DR7.L0 to G3: which of the four breakpoints are on.
const DR7_ENABLED: u64 = 0xff;

/// A vCPU that is about to run a string instruction, while the callback lasts.
pub struct StringCpu<'a> {
    direct: &'a Direct,
    layout: StringLayout,
}

impl<'a> StringCpu<'a> {
    /// `None` if it is not known where the state is. Only in a callback that writes registers.
    #[inline]
    pub(crate) fn of(direct: &'a Direct) -> Option<StringCpu<'a>> {
        Some(StringCpu { direct, layout: direct.layout().strings()? })
    }

    /// Returns true if all elements of a string run alike, and memory is as the page tables say.
    ///
    /// Plain means: no breakpoints, no interrupt that waits for the first element, no nested guest, no system
    /// management mode, and A20 is not masked.
    #[inline]
    pub fn is_plain(&self) -> bool {
        let state = self.direct.load(self.layout.hflags);
        state & (hflags::INHIBIT_IRQ | hflags::SMM | hflags::GUEST) == 0
            && self.direct.load(self.layout.dr7) & DR7_ENABLED == 0
            && self.direct.load(self.layout.a20_mask) as u32 == u32::MAX
    }

    /// The privilege level, 0 to 3.
    #[inline]
    pub fn cpl(&self) -> u8 {
        (self.direct.load(self.layout.hflags) & hflags::CPL) as u8
    }

    /// Returns true if the string goes down in memory (EFLAGS.DF); `None` if QEMU's value for it is neither.
    #[inline]
    pub fn goes_down(&self) -> Option<bool> {
        match self.direct.load(self.layout.step) as u32 as i32 {
            1 => Some(false),
            -1 => Some(true),
            _ => None,
        }
    }

    /// The base of a segment, by the processor's number for it (0 for ES to 5 for GS).
    ///
    /// # Panics
    ///
    /// If the number is above 5.
    #[inline]
    pub fn segment_base(&self, number: u8) -> u64 {
        self.direct.load(self.layout.bases[usize::from(number)])
    }

    /// PKRU; `None` if it is not known.
    pub fn pkru(&self) -> Option<u32> {
        self.direct.pkru()
    }

    /// IA32_PKRS; `None` if it is not known.
    pub fn pkrs(&self) -> Option<u32> {
        self.direct.pkrs()
    }

    /// RSI.
    #[inline]
    pub fn rsi(&self) -> u64 {
        self.direct.load(self.layout.rsi)
    }

    /// RDI.
    #[inline]
    pub fn rdi(&self) -> u64 {
        self.direct.load(self.layout.rdi)
    }

    /// RCX.
    #[inline]
    pub fn rcx(&self) -> u64 {
        self.direct.load(self.layout.rcx)
    }

    /// Writes RSI.
    #[inline]
    pub fn set_rsi(&mut self, value: u64) {
        self.direct.store(self.layout.rsi, value);
    }

    /// Writes RDI.
    #[inline]
    pub fn set_rdi(&mut self, value: u64) {
        self.direct.store(self.layout.rdi, value);
    }

    /// Writes RCX.
    #[inline]
    pub fn set_rcx(&mut self, value: u64) {
        self.direct.store(self.layout.rcx, value);
    }

    /// Returns true if a debugger on the host watches some of `len` bytes at a linear address.
    pub fn is_watched(&self, watchpoints: &Watchpoints, linear: u64, len: usize) -> bool {
        watchpoints.any(self.direct.cpu_state(), linear, len)
    }
}
