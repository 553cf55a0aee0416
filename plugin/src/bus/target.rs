//! Access to a port without a guest instruction: to pvio's devices directly, to QEMU's through
//! QEMU's bus.

use std::sync::Arc;

use super::bus_device::BusDevice;
use crate::qemu::{Locking, Machine};
use crate::x86::{Port, Width};

/// A port and who serves it, for repeated accesses.
pub struct CachedPort(Route);

enum Route {
    /// To pvio's device that needs no QEMU lock, at this offset.
    Direct(Arc<BusDevice>, u16),
    /// Through QEMU's bus, to any device.
    QemuBus(Arc<Machine>, Port),
}

impl CachedPort {
    pub(super) fn new(
        device: Option<&Arc<BusDevice>>,
        port: Port,
        machine: &Arc<Machine>,
    ) -> CachedPort {
        CachedPort(match device.filter(|device| device.locking() != Locking::Qemu) {
            Some(device) => Route::Direct(Arc::clone(device), port.0 - device.range.first().0),
            None => Route::QemuBus(Arc::clone(machine), port),
        })
    }

    /// Reads one element.
    #[inline]
    pub fn read(&self, width: Width) -> u32 {
        match &self.0 {
            Route::Direct(device, offset) => device.read(*offset, width.bytes()),
            Route::QemuBus(machine, port) => machine.read_port(port.0, width.bytes()),
        }
    }

    /// Writes one element.
    #[inline]
    pub fn write(&self, width: Width, value: u32) {
        match &self.0 {
            Route::Direct(device, offset) => device.write(*offset, width.bytes(), value),
            Route::QemuBus(machine, port) => machine.write_port(port.0, width.bytes(), value),
        }
    }
}

/// The device that serves a port: one of pvio or one of QEMU.
///
/// The device at the first port gets the whole access, as with an instruction.
#[derive(Clone, Copy)]
pub struct PortTarget<'a> {
    port: Port,
    machine: &'a Machine,
    /// pvio's device; `None` if QEMU serves the port.
    device: Option<&'a BusDevice>,
}

impl<'a> PortTarget<'a> {
    pub(super) fn device(
        device: &'a BusDevice,
        port: Port,
        machine: &'a Machine,
    ) -> PortTarget<'a> {
        PortTarget { port, machine, device: Some(device) }
    }

    pub(super) fn qemu(port: Port, machine: &'a Machine) -> PortTarget<'a> {
        PortTarget { port, machine, device: None }
    }

    /// Returns true if accesses do not use QEMU: no lock, clock or interrupt line.
    pub fn is_independent(&self) -> bool {
        self.device.is_some_and(|device| device.locking() != Locking::Qemu)
    }

    /// Reads one element.
    #[inline]
    pub fn read(&self, width: Width) -> u32 {
        let size = width.bytes();
        match self.device {
            Some(device) => self.locked(device, |offset| device.read(offset, size)),
            None => self.machine.read_port(self.port.0, size),
        }
    }

    /// Writes one element.
    #[inline]
    pub fn write(&self, width: Width, value: u32) {
        let size = width.bytes();
        match self.device {
            Some(device) => self.locked(device, |offset| device.write(offset, size, value)),
            None => self.machine.write_port(self.port.0, size, value),
        }
    }

    /// Reads elements until `data` is full.
    pub fn read_string(&self, width: Width, data: &mut [u8]) {
        let size = width.bytes();
        let Some(device) = self.device else {
            // Take the lock once, not for each element.
            return self.machine.with_global_lock(|| {
                for element in data.chunks_exact_mut(size.into()) {
                    let value = self.machine.read_port(self.port.0, size);
                    element.copy_from_slice(&value.to_le_bytes()[..size.into()]);
                }
            });
        };
        self.locked(device, |offset| device.read_string(offset, size, data));
    }

    /// Writes all elements of `data`.
    pub fn write_string(&self, width: Width, data: &[u8]) {
        let size = width.bytes();
        let Some(device) = self.device else {
            return self.machine.with_global_lock(|| {
                for element in data.chunks_exact(size.into()) {
                    let mut value = [0; 4];
                    value[..size.into()].copy_from_slice(element);
                    self.machine.write_port(self.port.0, size, u32::from_le_bytes(value));
                }
            });
        };
        self.locked(device, |offset| device.write_string(offset, size, data));
    }

    /// Calls `work` with the port's offset, under QEMU's lock if the device needs it.
    #[inline]
    fn locked<R>(&self, device: &BusDevice, work: impl FnOnce(u16) -> R) -> R {
        let offset = self.port.0 - device.range.first().0;
        match device.locking() {
            Locking::Own | Locking::Unlocked => work(offset),
            Locking::Qemu => self.machine.with_global_lock(|| work(offset)),
        }
    }
}
