//! A device with its ports and its lock.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use spin::mutex::SpinMutex;
use spin::relax::Yield;
use vm_device::bus::PioAddress;

use super::instruction_registers::Instruction;
use super::queued_irq::QueuedIrq;
use crate::devices::Device;
use crate::qemu::report::say;
use crate::qemu::{Locking, Machine, MachineError, PortHandler};
use crate::x86::PortRange;

/// How accesses reach a device, which follows from what it has asked for.
pub(super) struct Ways {
    pub locking: Locking,
    /// Interrupt lines whose changes are made after an access, when the device's lock is free.
    pub queued: Vec<Arc<QueuedIrq>>,
    /// True if the device may pass accesses on to QEMU's own devices.
    pub passes_on: bool,
    /// True if the device sees the registers of the vCPU that accesses it.
    pub sees_registers: bool,
}

/// One device on the bus.
///
/// Lock order: QEMU's global lock, if [`BusDevice::locking`] asks for it, then the device's own.
pub(super) struct BusDevice {
    pub kind: &'static str,
    pub range: PortRange,
    ways: Ways,
    /// Serializes accesses. vCPUs rarely share a device; then this lock costs one locked
    /// instruction, half of what a lock that can sleep costs.
    device: SpinMutex<Box<dyn Device>, Yield>,
    /// True if the device has panicked.
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
        ways: Ways,
        device: Box<dyn Device>,
    ) -> BusDevice {
        BusDevice {
            kind,
            range,
            ways,
            device: SpinMutex::new(device),
            broken: AtomicBool::new(false),
        }
    }

    /// Calls the device under its lock. Returns `None` if it panics or has panicked before, because
    /// its state cannot be trusted then. The guest goes on without it.
    #[inline]
    pub fn call<R>(&self, work: impl FnOnce(&mut dyn Device) -> R) -> Option<R> {
        // Relaxed: a vCPU that sees it late calls the device once more, and another panic is caught as well.
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
        // Relaxed: one thread gets `false`, and no other data depends on it.
        if !self.broken.swap(true, Ordering::Relaxed) {
            say(format_args!(
                "the device {self} panicked (see the message above): from now on it reads as all ones, and \
                 writes to it are lost"
            ));
        }
    }

    /// Places the device on the machine's bus.
    ///
    /// # Errors
    ///
    /// The device has state, and `-only-migratable` forbids such devices.
    pub fn serve(self: &Arc<BusDevice>, machine: &Machine) -> Result<(), MachineError> {
        let name = self.to_string();
        if self.call(|device| device.has_state()).unwrap_or(true) {
            machine.block_migration(&format!(
                "pvio's device {name} has state that QEMU cannot save or migrate"
            ))?;
        }
        let device = Arc::clone(self);
        let handler: Box<dyn PortHandler> =
            match (self.ways.sees_registers, self.ways.queued.is_empty()) {
                (true, _) => Box::new(RegisterHandler(QueuedIrqHandler(Handler(device)))),
                (false, false) => Box::new(QueuedIrqHandler(Handler(device))),
                (false, true) => Box::new(Handler(device)),
            };
        let (first, count) = (self.range.first().0, self.range.len());
        machine.serve(first, count, &name, self.ways.locking, handler);
        Ok(())
    }

    /// Returns true if the device may pass accesses on to QEMU's own devices.
    pub fn passes_on(&self) -> bool {
        self.ways.passes_on
    }

    /// Returns true if accesses need QEMU's global lock.
    pub fn locking(&self) -> Locking {
        self.ways.locking
    }

    fn base(&self) -> PioAddress {
        PioAddress(self.range.first().0)
    }

    /// The number of bytes of an access within the range.
    ///
    /// QEMU passes an access whole to the device at its first port, even if it extends past the
    /// device's last port. The device gets the bytes within its range. The others read as all ones,
    /// and writes to them are lost. A device that passes accesses on gets them whole.
    fn own_bytes(&self, offset: u16, size: u8) -> usize {
        if self.ways.passes_on {
            return size.into();
        }
        let left = self.range.len() - u32::from(offset);
        usize::from(size).min(left as usize)
    }

    /// Reads `size` bytes. The byte at the first port is the lowest of the value.
    #[inline]
    pub fn read(&self, offset: u16, size: u8) -> u32 {
        // Most accesses are bytes. Keep them out of the array below, where a wide load after a byte
        // store would defeat store forwarding.
        if size == 1 {
            let read = |device: &mut dyn Device| {
                let mut byte = [0xff];
                device.pio_read(self.base(), offset, &mut byte);
                byte[0]
            };
            return self.call(read).unwrap_or(0xff).into();
        }
        // Zeros above `size`, because a hypercall returns the value as it is.
        let all_ones = u32::MAX >> (32 - 8 * u32::from(size));
        let read = |device: &mut dyn Device| {
            let mut bytes = all_ones.to_le_bytes();
            device.pio_read(self.base(), offset, &mut bytes[..self.own_bytes(offset, size)]);
            u32::from_le_bytes(bytes)
        };
        self.call(read).unwrap_or(all_ones)
    }

    /// Writes the low `size` bytes of `value`.
    #[inline]
    pub fn write(&self, offset: u16, size: u8, value: u32) {
        // Most accesses are bytes, and the first byte is always within the range.
        if size == 1 {
            let byte = [value as u8];
            self.call(|device| device.pio_write(self.base(), offset, &byte));
            return;
        }
        let bytes = value.to_le_bytes();
        let own = &bytes[..self.own_bytes(offset, size)];
        self.call(|device| device.pio_write(self.base(), offset, own));
    }

    /// Reads elements of `size` bytes at one port until `data` is full.
    pub fn read_string(&self, offset: u16, size: u8, data: &mut [u8]) {
        data.fill(0xff);
        let (own, size) = (self.own_bytes(offset, size), usize::from(size));
        self.call(|device| match own == size {
            true => device.read_string(self.base(), offset, size, data),
            false => data
                .chunks_exact_mut(size)
                .for_each(|element| device.pio_read(self.base(), offset, &mut element[..own])),
        });
    }

    /// Writes elements of `size` bytes at one port.
    pub fn write_string(&self, offset: u16, size: u8, data: &[u8]) {
        let (own, size) = (self.own_bytes(offset, size), usize::from(size));
        self.call(|device| match own == size {
            true => device.write_string(self.base(), offset, size, data),
            false => data
                .chunks_exact(size)
                .for_each(|element| device.pio_write(self.base(), offset, &element[..own])),
        });
    }
}

/// Receives accesses from QEMU's bus to a device whose interrupt lines are queued.
///
/// The vCPU sees an interrupt before its next instruction if it comes before the end of the access.
struct QueuedIrqHandler(Handler);

impl QueuedIrqHandler {
    fn settle_interrupts(&self) {
        let QueuedIrqHandler(Handler(device)) = self;
        device.ways.queued.iter().for_each(|irq| irq.settle());
    }
}

impl PortHandler for QueuedIrqHandler {
    fn read(&self, offset: u16, size: u8) -> u32 {
        let value = self.0.read(offset, size);
        self.settle_interrupts();
        value
    }

    fn write(&self, offset: u16, size: u8, value: u32) {
        self.0.write(offset, size, value);
        self.settle_interrupts();
    }
}

/// Receives accesses from QEMU's bus to a device that sees the vCPU's registers.
struct RegisterHandler(QueuedIrqHandler);

impl PortHandler for RegisterHandler {
    fn read(&self, offset: u16, size: u8) -> u32 {
        let _instruction = Instruction::begin();
        self.0.read(offset, size)
    }

    fn write(&self, offset: u16, size: u8, value: u32) {
        let _instruction = Instruction::begin();
        self.0.write(offset, size, value);
    }
}

/// Receives accesses from QEMU's bus.
struct Handler(Arc<BusDevice>);

impl PortHandler for Handler {
    fn read(&self, offset: u16, size: u8) -> u32 {
        self.0.read(offset, size)
    }

    fn write(&self, offset: u16, size: u8, value: u32) {
        self.0.write(offset, size, value);
    }
}
