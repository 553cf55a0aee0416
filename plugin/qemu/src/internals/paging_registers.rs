//! The registers that control address translation, of all vCPUs.

use super::cpu_layout::CpuLayout;
use super::direct::Direct;
use super::symbols::VcpuLookup;
use crate::register::Register;

/// The control registers of one vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PagingRegisters {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// IA32_EFER; 0 on a 32-bit target, which has none.
    pub efer: u64,
}

/// Reads the control registers of vCPUs in place.
pub struct PagingRegisterReader {
    lookup: VcpuLookup,
    layout: CpuLayout,
    max_vcpus: usize,
}

impl PagingRegisterReader {
    /// A reader for a machine of at most `max_vcpus`; `None` if QEMU does not export what is needed.
    pub fn open(max_vcpus: usize) -> Option<PagingRegisterReader> {
        let layout = CpuLayout::of_this_process()?;
        Some(PagingRegisterReader { lookup: VcpuLookup::find().ok()?, layout, max_vcpus })
    }

    /// Reads the registers of each vCPU, as they are or were a moment ago.
    ///
    /// Call it on the main thread or in a callback: there QEMU keeps the vCPUs that it lists.
    pub fn read(&self) -> Vec<PagingRegisters> {
        let read = |index: usize| {
            // SAFETY: looks through QEMU's list of vCPUs, on one of QEMU's threads.
            let cpu = unsafe { (self.lookup.qemu_get_cpu)(index.try_into().ok()?) };
            if cpu.is_null() {
                return None;
            }
            // SAFETY: a vCPU that QEMU lists. If another thread runs it, each load gives the old or the new value
            // of a register, which the caller takes for a hint: it verifies what it finds by these tables.
            let direct = unsafe { Direct::new(cpu, self.layout) };
            Some(PagingRegisters {
                cr0: direct.read(Register::Cr0)?,
                cr3: direct.read(Register::Cr3)?,
                cr4: direct.read(Register::Cr4)?,
                efer: direct.read(Register::Efer).unwrap_or(0),
            })
        };
        (0..self.max_vcpus).filter_map(read).collect()
    }
}
