//! A device and the ports that it has.

use std::sync::Arc;

use spin::mutex::SpinMutex;
use spin::relax::Yield;
use vm_device::bus::PioAddress;

use crate::devices::Device;
use crate::qemu::{Locking, Machine, MachineError, PortHandler};
use crate::x86::PortRange;

/// One device at its place.
pub(super) struct Claim {
    pub kind: &'static str,
    pub range: PortRange,
    locking: Locking,
    /// One access at a time. Where vCPUs do not share a device, which is nearly always, taking this
    /// lock is one locked instruction and releasing it none, half of what a lock costs that can put a
    /// thread to sleep. Of a device that panicked in the middle of an access, QEMU's face keeps
    /// further ones away; to reset or finish it is still worth trying.
    device: SpinMutex<Box<dyn Device>, Yield>,
}

impl Claim {
    pub fn new(
        kind: &'static str,
        range: PortRange,
        locking: Locking,
        device: Box<dyn Device>,
    ) -> Claim {
        Claim { kind, range, locking, device: SpinMutex::new(device) }
    }

    pub fn with<R>(&self, work: impl FnOnce(&mut dyn Device) -> R) -> R {
        work(&mut **self.device.lock())
    }

    /// Puts the device on the machine's bus.
    pub fn serve(self: &Arc<Claim>, machine: &Machine) -> Result<(), MachineError> {
        let name = format!("{} at {}", self.kind, self.range);
        if self.with(|device| device.has_state()) {
            machine.block_migration(&format!(
                "pvio's device {name} has state that QEMU cannot save or migrate"
            ))?;
        }
        let handler = Box::new(Handler(Arc::clone(self)));
        let (first, count) = (self.range.first().0, self.range.len());
        machine.serve(first, count, &name, self.locking, handler);
        Ok(())
    }

    fn base(&self) -> PioAddress {
        PioAddress(self.range.first().0)
    }
}

/// The accesses that QEMU's bus passes on: a port's byte first is the lowest of the value.
///
/// QEMU gives an access whole to whoever has its first port, also where it goes beyond the last port
/// of the range. The device gets the bytes that are its own; of the others, those that are read are
/// all ones, and those that are written are lost.
struct Handler(Arc<Claim>);

impl Handler {
    /// How many bytes of an access are in the range.
    fn own_bytes(&self, offset: u16, size: u8) -> usize {
        let left = self.0.range.len() - u32::from(offset);
        usize::from(size).min(left as usize)
    }
}

impl PortHandler for Handler {
    fn read(&self, offset: u16, size: u8) -> u32 {
        let read = |bytes: &mut [u8]| {
            let claim = &self.0;
            claim.with(|device| device.pio_read(claim.base(), offset, bytes));
        };
        // A processor is slow to load as one what was stored in pieces: so a byte, which most accesses
        // are, stays a byte.
        if size == 1 {
            let mut byte = [0xff];
            read(&mut byte);
            return byte[0].into();
        }
        let mut bytes = [0xff; 4];
        read(&mut bytes[..self.own_bytes(offset, size)]);
        u32::from_le_bytes(bytes)
    }

    fn write(&self, offset: u16, size: u8, value: u32) {
        let bytes = value.to_le_bytes();
        let own = &bytes[..self.own_bytes(offset, size)];
        let claim = &self.0;
        claim.with(|device| device.pio_write(claim.base(), offset, own));
    }
}
