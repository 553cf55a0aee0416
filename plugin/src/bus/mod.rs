//! The port bus: which device serves which ports, and how accesses reach it.
//!
//! This module knows devices and QEMU's bus. It does not know CPUs.

mod bus_device;
mod hidden;
mod instruction_registers;
mod line_changes;
mod queued_irq;
mod target;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use pvio_stats::trace::OwnDevice;

use crate::devices::{
    Clock, DeviceError, DeviceRequest, GuestRegisters, Interrupt, PortsBelow, Services, Settings,
    SharedObject, StopRequest, Timer, Waker,
};
use crate::qemu::{
    self, GuestClock, GuestTimer, HostInfo, IsaIrq, Locking, Machine, MachineError, RunState,
};
use crate::x86::{Port, PortRange};

use bus_device::{BusDevice, Ways};
use instruction_registers::InstructionRegisters;
use queued_irq::QueuedIrq;

pub use target::{CachedPort, PortTarget};

/// A device that cannot be placed on the bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Another device has some of its ports.
    #[error("{kind} at {range} overlaps {other} at {other_range}; give each port to one device")]
    Overlap {
        /// The device's kind.
        kind: &'static str,
        /// The device's ports.
        range: PortRange,
        /// The other device's kind.
        other: &'static str,
        /// The other device's ports.
        other_range: PortRange,
    },
    /// The device cannot be built with its settings.
    #[error("{kind} at {range}: {source}")]
    Build {
        /// The device's kind.
        kind: &'static str,
        /// The device's ports.
        range: PortRange,
        /// The fault and the remedy.
        source: DeviceError,
    },
    /// This QEMU cannot place it.
    #[error("{0}")]
    Machine(#[from] MachineError),
}

/// The devices of pvio, and access to the ports of QEMU's devices.
#[derive(Default)]
pub struct PortBus {
    /// `None` if the plugin does not need the machine, or if QEMU does not export its functions.
    machine: Option<Arc<Machine>>,
    devices: Vec<Arc<BusDevice>>,
    /// For each port, the index of its device plus 1, or 0. Empty if there are no devices.
    device_numbers: Box<[u16]>,
}

impl PortBus {
    /// Builds the devices and places them on the machine's port bus.
    ///
    /// # Errors
    ///
    /// Two devices overlap, a device cannot be built, or QEMU refuses to place it.
    ///
    /// # Panics
    ///
    /// There are more than 65535 requests, which would overlap.
    pub fn build(
        machine: &Arc<Machine>,
        requests: Vec<DeviceRequest>,
        host: &HostInfo,
    ) -> Result<PortBus, BusError> {
        let mut port_bus = PortBus::try_out(machine, requests, host)?;
        if port_bus.devices.is_empty() {
            return Ok(port_bus);
        }
        port_bus.device_numbers = vec![0; 1 << 16].into();
        // Tell QEMU only after every device has been built.
        for (number, device) in (1..).zip(&port_bus.devices) {
            let (first, last) = (device.range.first().0.into(), device.range.last().0.into());
            port_bus.device_numbers[first..=last].fill(number);
            device.serve(machine)?;
        }
        hidden::warn_at_start(machine, &port_bus.devices);
        let devices = port_bus.devices.clone();
        machine.on_reset(move || {
            for device in &devices {
                device.call(|inner| inner.reset());
            }
        });
        Ok(port_bus)
    }

    /// Builds the devices, and does not place them on the machine's bus.
    ///
    /// # Errors
    ///
    /// Two devices overlap, or a device cannot be built.
    pub fn try_out(
        machine: &Arc<Machine>,
        requests: Vec<DeviceRequest>,
        host: &HostInfo,
    ) -> Result<PortBus, BusError> {
        let mut port_bus = PortBus { machine: Some(Arc::clone(machine)), ..PortBus::default() };
        let shared = RefCell::default();
        for request in requests {
            port_bus.register(machine, request, host, &shared)?;
        }
        Ok(port_bus)
    }

    fn register(
        &mut self,
        machine: &Arc<Machine>,
        DeviceRequest { kind, range, settings, .. }: DeviceRequest,
        host: &HostInfo,
        shared: &RefCell<HashMap<String, SharedObject>>,
    ) -> Result<(), BusError> {
        if let Some(other) = self.devices.iter().find(|device| device.range.overlaps(range)) {
            let (other, other_range) = (other.kind, other.range);
            return Err(BusError::Overlap { kind: kind.name, range, other, other_range });
        }
        let services = MachineServices {
            machine,
            host,
            shared,
            range,
            interrupts: Cell::new(false),
            passes_on: Cell::new(false),
            sees_registers: Cell::new(false),
            queued: RefCell::default(),
            device: Arc::default(),
        };
        let mut settings = Settings::new(range, settings, &services);
        let device = (kind.build)(&mut settings)
            .and_then(|device| settings.finish().map(|()| device))
            .map_err(|source| BusError::Build { kind: kind.name, range, source })?;
        let passes_on = services.passes_on.get();
        let locking = match device.may_wait() {
            true => Locking::Unlocked,
            // Driving an interrupt line takes QEMU's lock, and so do QEMU's devices. Lock order: QEMU's before the
            // device's.
            false if services.interrupts.get() || passes_on => Locking::Qemu,
            false => Locking::Own,
        };
        let queued = services.queued.take();
        let sees_registers = services.sees_registers.get();
        let ways = Ways { locking, queued, passes_on, sees_registers };
        let device = BusDevice::new(kind.name, range, ways, device);
        let device = Arc::new(device);
        services.device.get_or_init(|| Arc::downgrade(&device));
        self.devices.push(device);
        Ok(())
    }

    /// Returns true if one of pvio's devices serves a port.
    pub fn serves(&self, port: Port) -> bool {
        self.device_at(port).is_some()
    }

    /// The kind of pvio's device at a port.
    pub fn kind_at(&self, port: Port) -> Option<&'static str> {
        self.device_at(port).map(|device| device.kind)
    }

    /// Describes pvio's devices for the head of a trace.
    pub fn own_devices(&self) -> Vec<OwnDevice> {
        let own = |device: &Arc<BusDevice>| OwnDevice {
            kind: device.kind.to_owned(),
            first: device.range.first(),
            last: device.range.last(),
        };
        self.devices.iter().map(own).collect()
    }

    /// Returns true if pvio has any devices.
    pub fn has_devices(&self) -> bool {
        !self.devices.is_empty()
    }

    #[inline]
    fn device_at(&self, port: Port) -> Option<&Arc<BusDevice>> {
        let number = *self.device_numbers.get(usize::from(port.0))?;
        self.devices.get(usize::from(number).wrapping_sub(1))
    }

    /// A port for repeated accesses; `None` if only an instruction can reach it.
    pub fn cached_port(&self, port: Port) -> Option<CachedPort> {
        Some(CachedPort::new(self.device_at(port), port, self.machine.as_ref()?))
    }

    /// The device that serves a port; `None` if only an instruction can reach it.
    #[inline]
    pub fn target(&self, port: Port) -> Option<PortTarget<'_>> {
        let machine = self.machine.as_deref()?;
        Some(match self.device_at(port) {
            Some(device) => PortTarget::device(device, port, machine),
            None => PortTarget::qemu(port, machine),
        })
    }

    /// Has the device at a port read its file again.
    ///
    /// # Errors
    ///
    /// pvio has no device there, or that cannot do it. The text says why.
    pub fn reload(&self, port: Port) -> Result<(), String> {
        let none = || format!("pvio has no device at port {port}; name a port of one");
        let device = self.device_at(port).ok_or_else(none)?;
        let reload = || device.call(|inner| inner.reload());
        let result = match (&self.machine, device.locking()) {
            (Some(machine), Locking::Qemu) => machine.with_global_lock(reload),
            _ => reload(),
        };
        let result = result.unwrap_or_else(|| Err("it has panicked before".to_owned()));
        result.map_err(|error| format!("{device}: {error}"))
    }

    /// Lets all devices write what they buffer, when the machine ends. Returns a line per failure.
    pub fn finish(&self) -> Vec<String> {
        let failures = self.devices.iter().filter_map(|device| {
            let error = device.call(|inner| inner.finish())?.err()?;
            Some(format!("{device}: its output is incomplete: {error}"))
        });
        failures.collect()
    }
}

/// The machine's services to devices.
struct MachineServices<'a> {
    machine: &'a Arc<Machine>,
    host: &'a HostInfo,
    /// The device's ports.
    range: PortRange,
    /// The objects that devices share, by name.
    shared: &'a RefCell<HashMap<String, SharedObject>>,
    /// True if the device has asked for an interrupt line, or for the global lock.
    interrupts: Cell<bool>,
    /// The lines whose changes are queued.
    queued: RefCell<Vec<Arc<QueuedIrq>>>,
    /// The device, as soon as it is built.
    device: Arc<OnceLock<Weak<BusDevice>>>,
    /// True if the device has asked for QEMU's devices at its ports.
    passes_on: Cell<bool>,
    /// True if the device has asked for registers.
    sees_registers: Cell<bool>,
}

impl Services for MachineServices<'_> {
    fn interrupt(&self, line: u8) -> Option<Box<dyn Interrupt>> {
        self.use_global_lock();
        let machine = Arc::clone(self.machine);
        IsaIrq::new(line).map(|line| Box::new(MachineInterrupt { machine, line }) as _)
    }

    fn queued_interrupt(&self, line: u8) -> Option<Box<dyn Interrupt>> {
        let irq = QueuedIrq::new(Arc::clone(self.machine), IsaIrq::new(line)?);
        // Every QEMU with a port bus to use exports the main loop's functions.
        let input = irq.input().ok()?;
        self.queued.borrow_mut().push(irq);
        Some(input)
    }

    fn registers(&self) -> Option<Box<dyn GuestRegisters>> {
        let registers = InstructionRegisters::find()?;
        self.sees_registers.set(true);
        Some(Box::new(registers))
    }

    fn waker(&self) -> Option<Waker> {
        let device = Arc::clone(&self.device);
        let work = move || {
            // A device that is being built has nothing to be woken for yet.
            if let Some(device) = device.get().and_then(Weak::upgrade) {
                device.call(|inner| inner.woken());
            }
        };
        let bottom_half = self.machine.bottom_half(work).ok()?;
        Some(Box::new(move || bottom_half.schedule()))
    }

    fn stop_request(&self) -> Option<StopRequest> {
        let state = RunState::find()?;
        Some(Arc::new(move || state.wants_thread_back()))
    }

    fn exit(&self) -> Box<dyn Fn(u8) + Send> {
        let machine = Arc::clone(self.machine);
        Box::new(move |status| machine.exit(status))
    }

    fn ports_below(&self) -> Option<Box<dyn PortsBelow>> {
        let (first, last) = (self.range.first().0, self.range.last().0);
        let below = self.machine.below(first, last).ok()?;
        self.passes_on.set(true);
        Some(Box::new(MachinePortsBelow { first, below }))
    }

    fn clock(&self) -> Option<Clock> {
        let clock = GuestClock::find(self.host.icount)?;
        Some(Box::new(move || clock.now()))
    }

    fn timer(&self, number: usize) -> Option<Box<dyn Timer>> {
        let device = Arc::clone(&self.device);
        let timer = GuestTimer::new(self.host.icount, move || {
            // A timer is not due before the machine runs.
            if let Some(device) = device.get().and_then(Weak::upgrade) {
                device.call(|inner| inner.timer(number));
            }
        })?;
        Some(Box::new(MachineTimer(timer)))
    }

    fn is_recorded(&self) -> bool {
        self.host.recorded
    }

    fn use_global_lock(&self) {
        self.interrupts.set(true);
    }

    fn shared(&self, name: &str, make: &dyn Fn() -> SharedObject) -> SharedObject {
        Arc::clone(self.shared.borrow_mut().entry(name.to_owned()).or_insert_with(make))
    }
}

struct MachineTimer(GuestTimer);

impl Timer for MachineTimer {
    fn set(&self, time: u64) {
        self.0.set(time);
    }

    fn cancel(&self) {
        self.0.cancel();
    }
}

struct MachineInterrupt {
    machine: Arc<Machine>,
    line: IsaIrq,
}

impl Interrupt for MachineInterrupt {
    fn set(&self, level: bool) {
        self.machine.set_isa_irq(self.line, level);
    }
}

struct MachinePortsBelow {
    first: u16,
    below: Arc<qemu::PortsBelow>,
}

impl PortsBelow for MachinePortsBelow {
    fn read(&self, offset: u16, size: u8) -> u32 {
        self.below.read(self.first + offset, size)
    }

    fn write(&self, offset: u16, size: u8, value: u32) {
        self.below.write(self.first + offset, size, value);
    }
}
