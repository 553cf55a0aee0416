//! The general registers of the vCPU that executes an `in` or `out`, for the device that the access reaches.

use super::cpu_layout::CpuLayout;
use super::direct::Direct;

/// The number of general registers of the smallest target.
const LEAST: usize = 8;

/// Where general registers are. They may be read and written while a port handler runs on a vCPU's thread.
///
/// A helper of QEMU that accesses a port keeps no register of its own across the access: generated code stores all
/// registers before the call and loads them after it (`DEF_HELPER` without flags in `target/i386/helper.h`), as QEMU's own
/// `hw/i386/vmport.c` needs it. Of a string instruction RCX, RSI and RDI are not in place.
#[derive(Clone, Copy, Debug)]
pub struct AccessRegisters(CpuLayout);

impl AccessRegisters {
    /// Finds the registers; `None` if QEMU does not say where they are.
    pub fn find() -> Option<AccessRegisters> {
        let layout = CpuLayout::of_this_process()?;
        layout.general(0)?;
        super::symbols::CurrentCpu::find().ok()?;
        Some(AccessRegisters(layout))
    }

    /// Reads a register by the processor's number for it: 0 is RAX, 1 RCX, 2 RDX, 3 RBX, 4 RSP, 5 RBP, 6 RSI, 7 RDI.
    ///
    /// `None` if this thread runs no vCPU.
    ///
    /// # Panics
    ///
    /// If the number is above 7.
    pub fn read(&self, number: usize) -> Option<u64> {
        let (cpu, place) = self.place(number)?;
        Some(cpu.load(place))
    }

    /// Writes a register; returns false if this thread runs no vCPU. After an `in` RAX has what was read.
    ///
    /// # Panics
    ///
    /// If the number is above 7.
    pub fn write(&self, number: usize, value: u64) -> bool {
        let place = self.place(number);
        place.is_some_and(|(cpu, place)| {
            cpu.store(place, value);
            true
        })
    }

    fn place(&self, number: usize) -> Option<(Direct, super::vmstate::FieldLocation)> {
        assert!(number < LEAST, "there is no register {number} on every target");
        Some((Direct::of_this_thread(self.0)?, self.0.general(number)?))
    }
}
