//! Accesses to QEMU's port bus that no instruction of the guest makes: as one would make them, they
//! reach whoever is at the port, QEMU's devices and the plugin's.

/// `cpu_inb` and its like in QEMU's `system/ioport.h`. They take QEMU's global lock where the device
/// at the port wants it.
#[derive(Clone, Copy)]
pub(super) struct PortFunctions {
    pub inb: unsafe extern "C" fn(u32) -> u8,
    pub inw: unsafe extern "C" fn(u32) -> u16,
    pub inl: unsafe extern "C" fn(u32) -> u32,
    pub outb: unsafe extern "C" fn(u32, u8),
    pub outw: unsafe extern "C" fn(u32, u16),
    pub outl: unsafe extern "C" fn(u32, u32),
}

impl PortFunctions {
    /// Reads `size` (1, 2 or 4) bytes.
    pub fn read(&self, port: u16, size: u8) -> u32 {
        // SAFETY: an access that the guest could make by an instruction, at a time when it could: on
        // its thread, or on the main thread while there is no guest yet.
        unsafe {
            match size {
                1 => (self.inb)(port.into()).into(),
                2 => (self.inw)(port.into()).into(),
                _ => (self.inl)(port.into()),
            }
        }
    }

    /// Writes the low `size` (1, 2 or 4) bytes of a value.
    pub fn write(&self, port: u16, size: u8, value: u32) {
        // SAFETY: as in `read`.
        unsafe {
            match size {
                1 => (self.outb)(port.into(), value as u8),
                2 => (self.outw)(port.into(), value as u16),
                _ => (self.outl)(port.into(), value),
            }
        }
    }
}
