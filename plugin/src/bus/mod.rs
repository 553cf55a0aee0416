//! The port bus: which device owns which ports, and how the machine's accesses reach it.
//!
//! It knows devices and QEMU's bus. It does not know CPUs.

mod bus_device;
mod target;

use std::cell::Cell;
use std::sync::Arc;

use crate::devices::{DeviceKind, Interrupt, Services, Settings};
use crate::qemu::{IsaIrq, Locking, Machine, MachineError};
use crate::x86::{Port, PortRange};

use bus_device::BusDevice;

pub use target::{CachedPort, PortTarget};

/// A `device=` option, read and not yet carried out.
#[derive(Clone, Debug)]
pub struct DeviceRequest {
    /// What is to be made.
    pub kind: DeviceKind,
    /// Where.
    pub range: PortRange,
    /// Both as the user wrote them.
    pub place: String,
    /// With these settings.
    pub settings: Vec<(String, String)>,
}

/// A device that cannot be put where it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Another is there.
    #[error("{kind} at {range} overlaps {other} at {other_range}; give each port to one device")]
    Overlap {
        /// What was to be put.
        kind: &'static str,
        /// Where.
        range: PortRange,
        /// What is there.
        other: &'static str,
        /// And where.
        other_range: PortRange,
    },
    /// It cannot be made with these settings.
    #[error("{kind} at {range}: {why}")]
    Settings {
        /// What was to be made.
        kind: &'static str,
        /// Where.
        range: PortRange,
        /// What is wrong.
        why: String,
    },
    /// QEMU does not let it.
    #[error("{0}")]
    Machine(#[from] MachineError),
}

/// The devices of a machine, and the way to the ports of all others.
#[derive(Default)]
pub struct PortBus {
    /// `None` where the plugin asks nothing of the machine.
    machine: Option<Arc<Machine>>,
    devices: Vec<Arc<BusDevice>>,
    /// For each port, which of the devices has it, counted from 1; empty where there are none.
    owners: Box<[u16]>,
}

impl PortBus {
    /// Makes the devices, and puts them on the machine's port bus. `recorded` says whether QEMU records the
    /// run or replays it.
    pub fn build(
        machine: &Arc<Machine>,
        requests: Vec<DeviceRequest>,
        recorded: bool,
    ) -> Result<PortBus, BusError> {
        let mut port_bus = PortBus { machine: Some(Arc::clone(machine)), ..PortBus::default() };
        for request in requests {
            port_bus.register(machine, request, recorded)?;
        }
        if port_bus.devices.is_empty() {
            return Ok(port_bus);
        }
        port_bus.owners = vec![0; 1 << 16].into();
        // Only now, when all is well, does QEMU get to know of them.
        for (number, device) in (1..).zip(&port_bus.devices) {
            let (first, last) = (device.range.first().0.into(), device.range.last().0.into());
            port_bus.owners[first..=last].fill(number);
            device.serve(machine)?;
        }
        let devices = port_bus.devices.clone();
        machine.on_reset(move || {
            for device in &devices {
                device.with(|device| device.reset());
            }
        });
        Ok(port_bus)
    }

    fn register(
        &mut self,
        machine: &Arc<Machine>,
        DeviceRequest { kind, range, settings, .. }: DeviceRequest,
        recorded: bool,
    ) -> Result<(), BusError> {
        if let Some(other) = self.devices.iter().find(|device| device.range.overlaps(range)) {
            let (other, other_range) = (other.kind, other.range);
            return Err(BusError::Overlap { kind: kind.name, range, other, other_range });
        }
        let services = MachineServices { machine, recorded, interrupts: Cell::new(false) };
        let mut settings = Settings::new(range, settings, &services);
        let device = (kind.build)(&mut settings)
            .and_then(|device| settings.finish().map(|()| device))
            .map_err(|why| BusError::Settings { kind: kind.name, range, why })?;
        // What drives interrupt lines needs QEMU's lock for that, and taking it inside the device's
        // own would be the wrong order: so it is taken first.
        let locking = if services.interrupts.get() { Locking::Qemu } else { Locking::Own };
        self.devices.push(Arc::new(BusDevice::new(kind.name, range, locking, device)));
        Ok(())
    }

    /// Whether a device of pvio's is at a port.
    pub fn serves(&self, port: Port) -> bool {
        self.device_at(port).is_some()
    }

    /// The kind of the device of pvio's that is at a port.
    pub fn kind_at(&self, port: Port) -> Option<&'static str> {
        self.device_at(port).map(|device| device.kind)
    }

    /// Whether there are devices of pvio's.
    pub fn has_devices(&self) -> bool {
        !self.devices.is_empty()
    }

    fn device_at(&self, port: Port) -> Option<&Arc<BusDevice>> {
        let number = *self.owners.get(usize::from(port.0))?;
        self.devices.get(usize::from(number).wrapping_sub(1))
    }

    /// A port to keep at hand; `None` where it cannot be reached but by an instruction.
    pub fn cached_port(&self, port: Port) -> Option<CachedPort> {
        Some(CachedPort::new(self.device_at(port), port, self.machine.as_ref()?))
    }

    /// Whether [`PortBus::target`] reaches ports that are not pvio's.
    pub fn reaches_qemu(&self) -> bool {
        self.machine.is_some()
    }

    /// Who has a port; `None` where it cannot be reached but by an instruction.
    pub fn target(&self, port: Port) -> Option<PortTarget<'_>> {
        let machine = self.machine.as_deref()?;
        Some(match self.device_at(port) {
            Some(device) => PortTarget::device(device, port, machine),
            None => PortTarget::qemu(port, machine),
        })
    }

    /// The machine has ended: devices write what they hold back. What went wrong in one comes as a
    /// line.
    pub fn finish(&self) -> Vec<String> {
        let failures = self.devices.iter().filter_map(|device| {
            let error = device.with(|device| device.finish())?.err()?;
            Some(format!("{device}: what it was to write is not all there: {error}"))
        });
        failures.collect()
    }
}

/// What devices may ask of the machine, while they are made and after.
struct MachineServices<'a> {
    machine: &'a Arc<Machine>,
    recorded: bool,
    /// Whether the device that is being made has asked for an interrupt line.
    interrupts: Cell<bool>,
}

impl Services for MachineServices<'_> {
    fn interrupt(&self, line: u8) -> Option<Box<dyn Interrupt>> {
        self.interrupts.set(true);
        let machine = Arc::clone(self.machine);
        IsaIrq::new(line).map(|line| Box::new(MachineInterrupt { machine, line }) as _)
    }

    fn exit(&self) -> Box<dyn Fn(u8) + Send> {
        let machine = Arc::clone(self.machine);
        Box::new(move |status| machine.exit(status))
    }

    fn is_recorded(&self) -> bool {
        self.recorded
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
