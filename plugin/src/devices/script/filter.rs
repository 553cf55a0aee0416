//! `filter`: a script between the guest and QEMU's own device.
//!
//! `device=filter@0x1f0-0x1f7:file=faults.rhai` passes all accesses on to QEMU's device. The script may change what the
//! guest reads and what the device gets, or keep an access from the device: it injects faults into a driver.
//!
//! It runs in the sandbox of the kind `script`. A call that fails is reported once; then all accesses pass
//! unchanged, until the machine is reset.

use std::sync::Arc;

use rhai::{Dynamic, FuncArgs};
use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use super::error::CallError;
use super::host::Host;
use super::mistakes::Mistakes;
use super::program::{Function, Program};
use super::{Loaded, load, new_state};
use crate::devices::{Device, DeviceError, DeviceKind, PortsBelow, Settings};

/// The kind `filter`.
pub const FILTER: DeviceKind = DeviceKind { name: "filter", ports: 1, build };

const FUNCTIONS: &[Function] = &[
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
    let mut filter = Filter {
        program,
        host,
        below,
        has_answer,
        has_read,
        has_write,
        state: new_state(),
        is_dead: false,
        mistakes: Mistakes::default(),
    };
    filter
        .try_reset()
        .map_err(|error| DeviceError::other(filter.program.script_error("reset", &error)))?;
    filter.host.connect(true);
    Ok(Box::new(filter))
}

struct Filter {
    program: Program,
    host: Arc<Host>,
    below: Box<dyn PortsBelow>,
    has_answer: bool,
    has_read: bool,
    has_write: bool,
    /// The script's `this`.
    state: Dynamic,
    /// True if a call has failed since the last reset.
    is_dead: bool,
    mistakes: Mistakes,
}

impl Filter {
    fn try_reset(&mut self) -> Result<(), CallError> {
        self.state = new_state();
        match self.program.has("reset") {
            true => self.program.call("reset", &mut self.state, ()).map(drop),
            false => Ok(()),
        }
    }

    /// Calls a function that returns an integer, or nothing. Returns `None` if it fails.
    fn ask(
        &mut self,
        function: &'static str,
        arguments: impl FuncArgs,
        numbers: &[u64],
    ) -> Option<Option<i64>> {
        let result = self.program.call(function, &mut self.state, arguments).and_then(|value| {
            let kind = value.type_name();
            match value.is_unit() {
                true => Ok(None),
                false => value.as_int().map(Some).map_err(|_| CallError::NotAnInteger(kind)),
            }
        });
        result.map_err(|error| self.fail(function, numbers, &error)).ok()
    }

    /// Reports a call that has failed, and stops the script.
    #[cold]
    fn fail(&mut self, function: &'static str, arguments: &[u64], error: &CallError) {
        self.is_dead = true;
        // Free what the script has allocated.
        self.state = new_state();
        self.host.quiet();
        let mistake = self.program.script_error(function, error).to_string();
        let then = "all accesses pass unchanged";
        self.mistakes.report(self.host.name(), mistake, (function, arguments), then);
    }

    /// Reads `size` bytes: what the script answers, or what it makes of the device's answer.
    fn read(&mut self, offset: u16, size: u8) -> u32 {
        let (at, bytes) = (i64::from(offset), i64::from(size));
        let numbers = [offset.into(), size.into()];
        if self.has_answer
            && !self.is_dead
            && let Some(Some(value)) = self.ask("answer", (at, bytes), &numbers)
        {
            return value as u32;
        }
        let value = self.below.read(offset, size);
        if !self.has_read || self.is_dead {
            return value;
        }
        let numbers = [offset.into(), size.into(), value.into()];
        let changed = self.ask("read", (at, bytes, i64::from(value)), &numbers);
        changed.flatten().map_or(value, |value| value as u32)
    }

    /// Writes `size` bytes, as the script changes them, unless it keeps them.
    fn write(&mut self, offset: u16, size: u8, value: u32) {
        if !self.has_write || self.is_dead {
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
        self.is_dead = false;
        self.host.quiet();
        if let Err(error) = self.try_reset() {
            self.fail("reset", &[], &error);
        }
    }
}
