//! A device and the ports that it has.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use spin::mutex::SpinMutex;
use spin::relax::Yield;
use vm_device::bus::PioAddress;

use crate::devices::Device;
use crate::qemu::report::say;
use crate::qemu::{Locking, Machine, MachineError, PortHandler};
use crate::x86::PortRange;

/// One device at its place.
pub(super) struct BusDevice {
    pub kind: &'static str,
    pub range: PortRange,
    locking: Locking,
    /// One access at a time. Where vCPUs do not share a device, which is nearly always, taking this
    /// lock is one locked instruction and releasing it none, half of what a lock costs that can put a
    /// thread to sleep.
    device: SpinMutex<Box<dyn Device>, Yield>,
    /// It has panicked.
    broken: AtomicBool,
}

impl fmt::Display for BusDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.kind, self.range)
    }
}

impl BusDevice {
    pub fn new(
        kind: &'static str,
        range: PortRange,
        locking: Locking,
        device: Box<dyn Device>,
    ) -> BusDevice {
        BusDevice {
            kind,
            range,
            locking,
            device: SpinMutex::new(device),
            broken: AtomicBool::new(false),
        }
    }

    /// Does something with the device; `None` if it panics, or has done so before: what is left of it
    /// cannot be trusted. The guest goes on without it.
    #[inline]
    pub fn with<R>(&self, work: impl FnOnce(&mut dyn Device) -> R) -> Option<R> {
        if self.broken.load(Ordering::Relaxed) {
            return None;
        }
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut **self.device.lock())));
        if result.is_err() {
            self.has_panicked();
        }
        result.ok()
    }

    #[cold]
    fn has_panicked(&self) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            say(format_args!(
                "the device {self} panicked (above): from now on it reads as all ones, and writes \
                 are lost"
            ));
        }
    }

    /// Puts the device on the machine's bus.
    pub fn serve(self: &Arc<BusDevice>, machine: &Machine) -> Result<(), MachineError> {
        let name = self.to_string();
        if self.with(|device| device.has_state()).unwrap_or(true) {
            machine.block_migration(&format!(
                "pvio's device {name} has state that QEMU cannot save or migrate"
            ))?;
        }
        let handler = Box::new(Handler(Arc::clone(self)));
        let (first, count) = (self.range.first().0, self.range.len());
        machine.serve(first, count, &name, self.locking, handler);
        Ok(())
    }

    /// Whether accesses to it want QEMU's global lock.
    pub fn locking(&self) -> Locking {
        self.locking
    }

    fn base(&self) -> PioAddress {
        PioAddress(self.range.first().0)
    }

    /// How many bytes of an access are in the range.
    ///
    /// QEMU gives an access whole to whoever has its first port, also where it goes beyond the last port
    /// of the range. The device gets the bytes that are its own; of the others, those that are read are
    /// all ones, and those that are written are lost.
    fn own_bytes(&self, offset: u16, size: u8) -> usize {
        let left = self.range.len() - u32::from(offset);
        usize::from(size).min(left as usize)
    }

    /// An access that reads `size` bytes: the byte of the first port is the lowest of the value.
    #[inline]
    pub fn read(&self, offset: u16, size: u8) -> u32 {
        // A processor is slow to load as one what was stored in pieces: so a byte, which most accesses
        // are, stays a byte.
        if size == 1 {
            let read = |device: &mut dyn Device| {
                let mut byte = [0xff];
                device.pio_read(self.base(), offset, &mut byte);
                byte[0]
            };
            return self.with(read).unwrap_or(0xff).into();
        }
        // Zeros above: a call of the guest's takes the value as it is.
        let nothing = u32::MAX >> (32 - 8 * u32::from(size));
        let read = |device: &mut dyn Device| {
            let mut bytes = nothing.to_le_bytes();
            device.pio_read(self.base(), offset, &mut bytes[..self.own_bytes(offset, size)]);
            u32::from_le_bytes(bytes)
        };
        self.with(read).unwrap_or(nothing)
    }

    /// An access that writes.
    #[inline]
    pub fn write(&self, offset: u16, size: u8, value: u32) {
        let bytes = value.to_le_bytes();
        let own = &bytes[..self.own_bytes(offset, size)];
        self.with(|device| device.pio_write(self.base(), offset, own));
    }

    /// Accesses that read `size` bytes each, one after another, at the same port.
    pub fn read_string(&self, offset: u16, size: u8, data: &mut [u8]) {
        data.fill(0xff);
        let (own, size) = (self.own_bytes(offset, size), usize::from(size));
        self.with(|device| match own == size {
            true => device.read_string(self.base(), offset, size, data),
            false => data
                .chunks_exact_mut(size)
                .for_each(|element| device.pio_read(self.base(), offset, &mut element[..own])),
        });
    }

    /// Accesses that write.
    pub fn write_string(&self, offset: u16, size: u8, data: &[u8]) {
        let (own, size) = (self.own_bytes(offset, size), usize::from(size));
        self.with(|device| match own == size {
            true => device.write_string(self.base(), offset, size, data),
            false => data
                .chunks_exact(size)
                .for_each(|element| device.pio_write(self.base(), offset, &element[..own])),
        });
    }
}

/// The accesses that QEMU's bus passes on.
struct Handler(Arc<BusDevice>);

impl PortHandler for Handler {
    fn read(&self, offset: u16, size: u8) -> u32 {
        self.0.read(offset, size)
    }

    fn write(&self, offset: u16, size: u8, value: u32) {
        self.0.write(offset, size, value);
    }
}
