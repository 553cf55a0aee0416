//! What a string instruction goes by, in place: its index registers and count, and what QEMU will do
//! when it runs. It knows where this is and what it is called, not what it is for.

use std::ffi::{c_int, c_void};

use super::cpu_layout::StringLayout;
use super::direct::Direct;
use super::lookup::lookup_export;

/// `HF_CPL_MASK` and others in QEMU's `target/i386/cpu.h`; what it saves as `hflags`.
mod hflags {
    pub const CPL: u64 = 3;
    /// The instruction before was `sti` or the like: interrupts wait for one instruction, or element.
    pub const INHIBIT_IRQ: u64 = 1 << 3;
    /// System management mode, with memory of its own.
    pub const SMM: u64 = 1 << 19;
    /// Between VMRUN and #VMEXIT.
    pub const GUEST: u64 = 1 << 21;
}

/// DR7.L0 to G3: which of the four breakpoints are on.
const DR7_ENABLED: u64 = 0xff;

/// A vCPU that is about to run a string instruction, while the callback lasts.
pub struct StringCpu<'a> {
    direct: &'a Direct,
    layout: StringLayout,
}

impl<'a> StringCpu<'a> {
    /// `None` where it is not known where things are.
    pub(crate) fn of(direct: &'a Direct) -> Option<StringCpu<'a>> {
        Some(StringCpu { direct, layout: direct.layout().strings()? })
    }

    /// Whether nothing makes one element of a string different from another, or memory from what the page
    /// tables say: no breakpoints, no interrupt that waits for the first element, no hypervisor above,
    /// no system management mode, no masked A20.
    pub fn is_plain(&self) -> bool {
        let state = self.direct.load(self.layout.hflags);
        state & (hflags::INHIBIT_IRQ | hflags::SMM | hflags::GUEST) == 0
            && self.direct.load(self.layout.dr7) & DR7_ENABLED == 0
            && self.direct.load(self.layout.a20_mask) as u32 == u32::MAX
    }

    /// The privilege level.
    pub fn cpl(&self) -> u8 {
        (self.direct.load(self.layout.hflags) & hflags::CPL) as u8
    }

    /// Whether it goes down in memory, EFLAGS.DF; `None` if what QEMU keeps for that is something else.
    pub fn goes_down(&self) -> Option<bool> {
        match self.direct.load(self.layout.step) as u32 as i32 {
            1 => Some(false),
            -1 => Some(true),
            _ => None,
        }
    }

    /// The base of a segment, by the processor's number for it.
    pub fn segment_base(&self, number: u8) -> u64 {
        self.direct.load(self.layout.bases[usize::from(number)])
    }

    /// PKRU; `None` where QEMU does not tell.
    pub fn pkru(&self) -> Option<u32> {
        self.direct.pkru()
    }

    /// IA32_PKRS; `None` where QEMU does not tell.
    pub fn pkrs(&self) -> Option<u32> {
        self.direct.pkrs()
    }

    /// RSI.
    pub fn rsi(&self) -> u64 {
        self.direct.load(self.layout.rsi)
    }

    /// RDI.
    pub fn rdi(&self) -> u64 {
        self.direct.load(self.layout.rdi)
    }

    /// RCX.
    pub fn rcx(&self) -> u64 {
        self.direct.load(self.layout.rcx)
    }

    /// Writes RSI.
    pub fn set_rsi(&mut self, value: u64) {
        self.direct.store(self.layout.rsi, value);
    }

    /// Writes RDI.
    pub fn set_rdi(&mut self, value: u64) {
        self.direct.store(self.layout.rdi, value);
    }

    /// Writes RCX.
    pub fn set_rcx(&mut self, value: u64) {
        self.direct.store(self.layout.rcx, value);
    }

    /// Whether a debugger of the host's watches some of `len` bytes at a linear address.
    pub fn is_watched(&self, watchpoints: &Watchpoints, linear: u64, len: usize) -> bool {
        watchpoints.any(self.direct.cpu_state(), linear, len)
    }
}

type Matches = unsafe extern "C" fn(*mut c_void, u64, u64) -> c_int;

/// QEMU's way to ask for watchpoints.
pub struct Watchpoints {
    matches: Matches,
}

impl Watchpoints {
    /// `None` where QEMU does not export it.
    pub fn find() -> Option<Watchpoints> {
        let matches = lookup_export(c"cpu_watchpoint_address_matches")?;
        // SAFETY: QEMU's function of this name, which has this type in all versions that have it: a
        // `CPUState`, an address and a length, both 64 bits on 64-bit hosts.
        let matches = unsafe { std::mem::transmute::<*mut c_void, Matches>(matches) };
        Some(Watchpoints { matches })
    }

    fn any(&self, cpu: *mut c_void, linear: u64, len: usize) -> bool {
        // SAFETY: a vCPU that is in a callback on its own thread, where QEMU itself asks this for each
        // access to a page that has a watchpoint.
        unsafe { (self.matches)(cpu, linear, len as u64) != 0 }
    }
}
