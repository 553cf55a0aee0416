//! `filter`: a script between the guest and QEMU's own device.
//!
//! `device=filter@0x1f0-0x1f7:file=faults.rhai` passes all accesses on to QEMU's device. The script may change what the
//! guest reads and what the device gets, or keep an access from the device: it injects faults into a driver.
//!
//! It runs in the sandbox of the kind `script`. A call that fails is reported once; then all accesses pass
//! unchanged, until the machine is reset.

use rhai::FuncArgs;
use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use super::program::Function;
use super::running::{Running, integer, try_reset};
use super::{Loaded, load};
use crate::devices::{Device, DeviceError, DeviceKind, PortsBelow, Settings};

/// The kind `filter`.
pub const FILTER: DeviceKind = DeviceKind { name: "filter", ports: 1, build };

pub(super) const FUNCTIONS: &[Function] = &[
    ("answer", &["offset", "size"], false),
    ("read", &["offset", "size", "value"], false),
    ("write", &["offset", "size", "value"], false),
    ("reset", &[], false),
];

fn build(settings: &mut Settings<'_>) -> Result<Box<dyn Device>, DeviceError> {
    let below = settings.ports_below()?;
    let Loaded { program, host } = load(settings, FILTER.name, FUNCTIONS, true, |_| {})?;
    let called = ["answer", "read", "write"].map(|function| program.has(function));
    let [has_answer, has_read, has_write] = called;
    if !called.contains(&true) {
        return Err(DeviceError::other(format!(
            "{} has neither fn read(offset, size, value), fn write(offset, size, value) nor \
             fn answer(offset, size); write one of them",
            program.path()
        )));
    }
    try_reset(&program).map_err(DeviceError::other)?;
    host.connect(true);
    let running = Running::new(program, host, "all accesses pass unchanged");
    Ok(Box::new(Filter { running, below, has_answer, has_read, has_write }))
}

struct Filter {
    running: Running,
    below: Box<dyn PortsBelow>,
    has_answer: bool,
    has_read: bool,
    has_write: bool,
}

impl Filter {
    /// Calls a function that returns an integer, or nothing. Returns `None` if it fails.
    fn ask(
        &mut self,
        function: &'static str,
        arguments: impl FuncArgs,
        numbers: &[u64],
    ) -> Option<Option<i64>> {
        self.running.call(function, arguments, numbers, |value| match value.is_unit() {
            true => Ok(None),
            false => integer(value).map(Some),
        })
    }

    /// Reads `size` bytes: what the script answers, or what it makes of the device's answer.
    fn read(&mut self, offset: u16, size: u8) -> u32 {
        let (at, bytes) = (i64::from(offset), i64::from(size));
        let numbers = [offset.into(), size.into()];
        if self.has_answer
            && let Some(Some(value)) = self.ask("answer", (at, bytes), &numbers)
        {
            return value as u32;
        }
        let value = self.below.read(offset, size);
        if !self.has_read {
            return value;
        }
        let numbers = [offset.into(), size.into(), value.into()];
        let changed = self.ask("read", (at, bytes, i64::from(value)), &numbers);
        changed.flatten().map_or(value, |value| value as u32)
    }

    /// Writes `size` bytes, as the script changes them, unless it keeps them.
    fn write(&mut self, offset: u16, size: u8, value: u32) {
        if !self.has_write {
            return self.below.write(offset, size, value);
        }
        let arguments = (i64::from(offset), i64::from(size), i64::from(value));
        let numbers = [offset.into(), size.into(), value.into()];
        match self.ask("write", arguments, &numbers) {
            Some(Some(changed)) => self.below.write(offset, size, changed as u32),
            Some(None) => {}
            None => self.below.write(offset, size, value),
        }
    }
}

impl MutDevicePio for Filter {
    fn pio_read(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        let value = self.read(offset, data.len() as u8);
        data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
    }

    fn pio_write(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        let mut value = [0; 4];
        value[..data.len()].copy_from_slice(data);
        self.write(offset, data.len() as u8, u32::from_le_bytes(value));
    }
}

impl Device for Filter {
    fn reset(&mut self) {
        self.running.reset();
    }
}
