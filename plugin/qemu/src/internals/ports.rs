//! Accesses to the port bus without a guest instruction. They reach the device at the port, QEMU's or the
//! plugin's, like those of an instruction.

use super::symbols::PortFunctions;

impl PortFunctions {
    /// Reads `size` (1, 2 or 4) bytes.
    pub fn read(&self, port: u16, size: u8) -> u32 {
        // SAFETY: an access that the guest could make by an instruction, at a time when it could: on
        // its thread, or on the main thread while there is no guest yet.
        unsafe {
            match size {
                1 => (self.cpu_inb)(port.into()).into(),
                2 => (self.cpu_inw)(port.into()).into(),
                _ => (self.cpu_inl)(port.into()),
            }
        }
    }

    /// Writes the low `size` (1, 2 or 4) bytes of a value.
    pub fn write(&self, port: u16, size: u8, value: u32) {
        // SAFETY: as in `read`.
        unsafe {
            match size {
                1 => (self.cpu_outb)(port.into(), value as u8),
                2 => (self.cpu_outw)(port.into(), value as u16),
                _ => (self.cpu_outl)(port.into(), value),
            }
        }
    }
}
