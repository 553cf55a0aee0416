//! The state that identifies a vCPU's program: address space, privilege, segment bases of thread data.

use super::cpu_layout::CpuLayout;
use super::direct::{Direct, hflags};
use super::paging_registers::PagingRegisters;
use crate::register::Register;

/// The state of a vCPU in a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskState {
    /// The control registers.
    pub paging: PagingRegisters,
    /// The base of FS.
    pub fs_base: u64,
    /// The base of GS.
    pub gs_base: u64,
    /// IA32_KERNEL_GS_BASE; 0 on a 32-bit target.
    pub kernel_gs_base: u64,
    /// The privilege level, 0 to 3.
    pub cpl: u8,
    /// True if the page tables describe memory: no nested guest, no system management mode, A20 not masked.
    pub is_plain: bool,
}

/// Reads the state of the vCPU that the calling thread runs, in place.
#[derive(Clone, Copy)]
pub struct TaskStateReader(CpuLayout);

impl TaskStateReader {
    /// `None` if QEMU does not export what is needed.
    pub fn open() -> Option<TaskStateReader> {
        let layout = CpuLayout::of_this_process()?;
        let is_known = layout.strings().is_some() && layout.location(Register::Cr3).is_some();
        is_known.then_some(TaskStateReader(layout))
    }

    /// Reads the state; `None` outside a vCPU's thread. Costs some loads.
    #[inline]
    pub fn read(&self) -> Option<TaskState> {
        /// The processor's numbers for FS and GS.
        const FS: usize = 4;
        const GS: usize = 5;
        let direct = Direct::of_this_thread(self.0)?;
        let layout = self.0.strings()?;
        let state = direct.load(layout.hflags);
        Some(TaskState {
            paging: PagingRegisters {
                cr0: direct.read(Register::Cr0)?,
                cr3: direct.read(Register::Cr3)?,
                cr4: direct.read(Register::Cr4)?,
                efer: direct.read(Register::Efer).unwrap_or(0),
            },
            fs_base: direct.load(layout.bases[FS]),
            gs_base: direct.load(layout.bases[GS]),
            kernel_gs_base: self.0.kernel_gs_base().map_or(0, |place| direct.load(place)),
            cpl: (state & hflags::CPL) as u8,
            is_plain: state & (hflags::SMM | hflags::GUEST) == 0
                && direct.load(layout.a20_mask) as u32 == u32::MAX,
        })
    }
}
