//! A vCPU's registers in place: read and written where QEMU keeps them, at the cost of a load or a store.

use super::c_types::CpuState;
use super::cpu_layout::CpuLayout;
use super::current_cpu::current_cpu;
use super::vmstate::FieldLocation;
use crate::register::Register;

/// Bits of `env.hflags`, in QEMU's `target/i386/cpu.h`.
pub(super) mod hflags {
    /// `HF_CPL_MASK`.
    pub const CPL: u64 = 3;
    /// `HF_SS32_MASK`: the stack pointer has 32 bits.
    pub const SS32: u64 = 1 << 5;
    /// `HF_INHIBIT_IRQ_MASK`: after `sti` and its like, interrupts wait for one instruction or element.
    pub const INHIBIT_IRQ: u64 = 1 << 3;
    /// `HF_CS32_MASK`: the code is 32-bit code, or 64-bit code.
    pub const CS32: u64 = 1 << 4;
    /// `HF_CS64_MASK`: the code is 64-bit code.
    pub const CS64: u64 = 1 << 15;
    /// `HF_SMM_MASK`: system management mode, which has separate memory.
    pub const SMM: u64 = 1 << 19;
    /// `HF_GUEST_MASK`: between VMRUN and #VMEXIT.
    pub const GUEST: u64 = 1 << 21;
}

/// A vCPU's `X86CPU`, which lives until the vCPU is unplugged, and where its registers are in it.
pub(crate) struct Direct {
    cpu: *mut u8,
    layout: CpuLayout,
}

impl Direct {
    /// The vCPU of a `CPUState`, with which an `X86CPU` begins.
    ///
    /// # Safety
    ///
    /// `cpu` must be QEMU's and outlive the result, and only the thread that runs the vCPU may use that.
    pub unsafe fn new(cpu: *mut CpuState, layout: CpuLayout) -> Direct {
        Direct { cpu: cpu.cast(), layout }
    }

    /// The offsets in the vCPU.
    #[inline]
    pub fn layout(&self) -> &CpuLayout {
        &self.layout
    }

    /// Returns the vCPU that this thread runs, if it is known.
    pub fn of_this_thread(layout: CpuLayout) -> Option<Direct> {
        let cpu = current_cpu();
        (!cpu.is_null()).then(|| Direct { cpu: cpu.cast(), layout })
    }

    /// Loads a register, if it is known where that is.
    #[inline]
    pub fn read(&self, register: Register) -> Option<u64> {
        self.layout.location(register).map(|place| self.load(place))
    }

    /// Loads a number, zero-extended.
    ///
    /// Volatile, so that the compiler loads it in each callback: generated code changes it in between. No
    /// barrier is needed, since all loads and stores of it are made on the vCPU's own thread.
    #[inline]
    pub(super) fn load(&self, FieldLocation { offset, size }: FieldLocation) -> u64 {
        // SAFETY: within the `X86CPU`, by QEMU's own description of it, aligned as C aligns them. QEMU
        // writes a vCPU's registers on the vCPU's thread alone, which this is.
        unsafe {
            let place = self.cpu.add(offset);
            match size {
                8 => place.cast::<u64>().read_volatile(),
                _ => place.cast::<u32>().read_volatile().into(),
            }
        }
    }

    /// Returns where the low bits of a register are; null if that is not known.
    pub fn low_bits(&self, register: Register) -> *const u16 {
        let at =
            |place: FieldLocation| self.cpu.wrapping_add(place.offset).cast::<u16>().cast_const();
        self.layout.location(register).map_or(std::ptr::null(), at)
    }

    /// Returns true if the vCPU runs a nested guest: after VMRUN and before #VMEXIT.
    #[inline]
    pub fn is_in_nested_guest(&self) -> Option<bool> {
        self.layout.hflags().map(|place| self.load(place) & hflags::GUEST != 0)
    }

    /// Loads PKRU, if it is known where that is.
    #[inline]
    pub fn pkru(&self) -> Option<u32> {
        Some(self.load(self.layout.keys().pkru?) as u32)
    }

    /// Loads IA32_PKRS, if it is known where that is.
    #[inline]
    pub fn pkrs(&self) -> Option<u32> {
        Some(self.load(self.layout.keys().pkrs?) as u32)
    }

    /// Stores a register, if it is known where that is; returns true if it did.
    #[inline]
    pub fn write(&self, register: Register, value: u64) -> bool {
        let Some(place) = self.layout.location(register) else { return false };
        self.store(place, value);
        true
    }

    /// Stores a general register, in a callback that writes registers. Volatile as in [`Direct::load`].
    #[inline]
    pub(super) fn store(&self, FieldLocation { offset, size }: FieldLocation, value: u64) {
        // SAFETY: as in `load`; a general register may have any value, and in a callback that writes
        // registers QEMU takes them from here afterwards.
        unsafe {
            let place = self.cpu.add(offset);
            match size {
                8 => place.cast::<u64>().write_volatile(value),
                _ => place.cast::<u32>().write_volatile(value as u32),
            }
        }
    }

    #[inline]
    pub(super) fn cpu_state(&self) -> *mut CpuState {
        self.cpu.cast()
    }
}
