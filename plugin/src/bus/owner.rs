//! Whoever has a port, reached without an instruction of the guest: a device of pvio's directly, one of
//! QEMU's through QEMU's bus.

use std::sync::Arc;

use super::claim::Claim;
use crate::qemu::{Locking, Machine};
use crate::x86::{Port, Width};

/// A port and who has it, kept at hand by whoever uses it often.
pub struct KnownPort(Known);

enum Known {
    /// A device of pvio's that needs nothing of QEMU's, and the offset of the port in it.
    Own(Arc<Claim>, u16),
    /// Whoever it is, reached through QEMU's bus.
    Qemu(Arc<Machine>, Port),
}

impl KnownPort {
    pub(super) fn new(claim: Option<&Arc<Claim>>, port: Port, machine: &Arc<Machine>) -> KnownPort {
        KnownPort(match claim.filter(|claim| claim.locking() == Locking::Own) {
            Some(claim) => Known::Own(Arc::clone(claim), port.0 - claim.range.first().0),
            None => Known::Qemu(Arc::clone(machine), port),
        })
    }

    /// Reads one element.
    #[inline]
    pub fn read(&self, width: Width) -> u32 {
        match &self.0 {
            Known::Own(claim, offset) => claim.read(*offset, width.bytes()),
            Known::Qemu(machine, port) => machine.read_port(port.0, width.bytes()),
        }
    }

    /// Writes one element.
    #[inline]
    pub fn write(&self, width: Width, value: u32) {
        match &self.0 {
            Known::Own(claim, offset) => claim.write(*offset, width.bytes(), value),
            Known::Qemu(machine, port) => machine.write_port(port.0, width.bytes(), value),
        }
    }
}

/// Who has a port. An access that goes beyond the last port of a device is its all the same, as it is
/// when an instruction makes it.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    port: Port,
    machine: &'a Machine,
    /// A device of pvio's.
    claim: Option<&'a Claim>,
}

impl<'a> Owner<'a> {
    pub(super) fn claim(claim: &'a Claim, port: Port, machine: &'a Machine) -> Owner<'a> {
        Owner { port, machine, claim: Some(claim) }
    }

    pub(super) fn qemu(port: Port, machine: &'a Machine) -> Owner<'a> {
        Owner { port, machine, claim: None }
    }

    /// Whether it needs nothing of QEMU's, not even the lock: neither clocks nor interrupt lines.
    pub fn is_independent(&self) -> bool {
        self.claim.is_some_and(|claim| claim.locking() == Locking::Own)
    }

    /// Reads one element.
    #[inline]
    pub fn read(&self, width: Width) -> u32 {
        let size = width.bytes();
        match self.claim {
            Some(claim) => self.locked(claim, |offset| claim.read(offset, size)),
            None => self.machine.read_port(self.port.0, size),
        }
    }

    /// Writes one element.
    #[inline]
    pub fn write(&self, width: Width, value: u32) {
        let size = width.bytes();
        match self.claim {
            Some(claim) => self.locked(claim, |offset| claim.write(offset, size, value)),
            None => self.machine.write_port(self.port.0, size, value),
        }
    }

    /// Reads elements until `data` is full.
    pub fn read_string(&self, width: Width, data: &mut [u8]) {
        let size = width.bytes();
        let Some(claim) = self.claim else {
            // The lock is taken once, not for each element.
            return self.machine.with_global_lock(|| {
                for element in data.chunks_exact_mut(size.into()) {
                    let value = self.machine.read_port(self.port.0, size);
                    element.copy_from_slice(&value.to_le_bytes()[..size.into()]);
                }
            });
        };
        self.locked(claim, |offset| claim.read_string(offset, size, data));
    }

    /// Writes all elements of `data`.
    pub fn write_string(&self, width: Width, data: &[u8]) {
        let size = width.bytes();
        let Some(claim) = self.claim else {
            return self.machine.with_global_lock(|| {
                for element in data.chunks_exact(size.into()) {
                    let mut value = [0; 4];
                    value[..size.into()].copy_from_slice(element);
                    self.machine.write_port(self.port.0, size, u32::from_le_bytes(value));
                }
            });
        };
        self.locked(claim, |offset| claim.write_string(offset, size, data));
    }

    /// Gives `work` the offset of the port, under the lock that the device wants.
    #[inline]
    fn locked<R>(&self, claim: &Claim, work: impl FnOnce(u16) -> R) -> R {
        let offset = self.port.0 - claim.range.first().0;
        match claim.locking() {
            Locking::Own => work(offset),
            Locking::Qemu => self.machine.with_global_lock(|| work(offset)),
        }
    }
}
