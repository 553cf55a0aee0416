//! A vCPU's registers in place: read and written where QEMU keeps them, at the price of a load or a store.

use std::ffi::c_void;

use super::cpu_layout::{CpuLayout, FieldLocation};
use super::exports::current_cpu;
use crate::register::Register;

/// A vCPU's `X86CPU`, which lives as long as it runs, and where its registers are in it. (One that is
/// plugged in again gets a new file: see `Vcpus::begin`.)
pub(crate) struct Direct {
    cpu: *mut u8,
    layout: CpuLayout,
}

impl Direct {
    /// The vCPU of a `CPUState`, which an `X86CPU` begins with.
    ///
    /// # Safety
    ///
    /// `cpu` must be QEMU's, and stay for as long as this is used; and only the thread that runs the vCPU may use it.
    pub unsafe fn new(cpu: *mut c_void, layout: CpuLayout) -> Direct {
        Direct { cpu: cpu.cast(), layout }
    }

    /// Where things are in it.
    pub fn layout(&self) -> &CpuLayout {
        &self.layout
    }

    /// The vCPU that this thread runs, if QEMU tells.
    pub fn of_this_thread(layout: CpuLayout) -> Option<Direct> {
        let cpu = current_cpu();
        (!cpu.is_null()).then(|| Direct { cpu: cpu.cast(), layout })
    }

    /// A register, if it is known where it is.
    pub fn read(&self, register: Register) -> Option<u64> {
        self.layout.location(register).map(|place| self.load(place))
    }

    /// A number within.
    pub fn load(&self, FieldLocation { offset, size }: FieldLocation) -> u64 {
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

    /// Where the low bits of a register are; null where that is not known.
    pub fn low_bits(&self, register: Register) -> *const u16 {
        let at =
            |place: FieldLocation| self.cpu.wrapping_add(place.offset).cast::<u16>().cast_const();
        self.layout.location(register).map_or(std::ptr::null(), at)
    }

    /// Whether the vCPU runs a guest of the guest's, after VMRUN and before #VMEXIT.
    pub fn is_in_nested_guest(&self) -> Option<bool> {
        /// `HF_GUEST_MASK` in QEMU's `target/i386/cpu.h`; in what it saves, as all of `hflags`.
        const GUEST: u64 = 1 << 21;
        self.layout.hflags().map(|place| self.load(place) & GUEST != 0)
    }

    /// PKRU, if it is known where that is.
    pub fn pkru(&self) -> Option<u32> {
        Some(self.load(self.layout.keys().pkru?) as u32)
    }

    /// IA32_PKRS, if it is known where that is.
    pub fn pkrs(&self) -> Option<u32> {
        Some(self.load(self.layout.keys().pkrs?) as u32)
    }

    /// Whether it was written, as far as that is known.
    pub fn write(&self, register: Register, value: u64) -> bool {
        let Some(place) = self.layout.location(register) else { return false };
        self.store(place, value);
        true
    }

    /// Writes a general register, in a callback that writes registers.
    pub fn store(&self, FieldLocation { offset, size }: FieldLocation, value: u64) {
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

    /// QEMU's `CPUState`, with which an `X86CPU` begins.
    pub fn cpu_state(&self) -> *mut c_void {
        self.cpu.cast()
    }
}
