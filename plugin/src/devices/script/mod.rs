//! `script`: a device written in Rhai, a small scripting language.
//!
//! `device=script@0x378-0x37a:file=dongle.rhai` calls the script's `read(offset, size)` and
//! `write(offset, size, value)` at each access, and its `reset()`, if there is one, at each reset of the
//! machine. `this` is an object map that keeps the device's state from call to call.
//!
//! The script has no files, no other scripts, no clock but the guest's, and limited time and memory. A
//! call that fails is reported once. From then on the device reads as all ones and loses writes, until
//! the machine is reset.

mod engine;
mod error;
mod host;
mod program;
mod state;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use rhai::{Dynamic, Map};
use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use self::error::{CallError, ScriptError};
use self::host::Host;
use self::program::Program;
use super::{Device, DeviceError, DeviceKind, Settings};
use crate::qemu::report::say;

/// The kind `script`.
pub const SCRIPT: DeviceKind = DeviceKind { name: "script", ports: 1, build };

/// The largest script, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The number of operations that a call may execute, unless `ops=` says otherwise.
const DEFAULT_OPERATIONS: u64 = 20_000;

/// The largest value of `ops=`. A call that copies arrays needs about 5 KiB for each operation.
const MAX_OPERATIONS: u64 = 1_000_000;

/// The number of different mistakes that are reported.
const MAX_REPORTS: usize = 8;

fn build(settings: &mut Settings<'_>) -> Result<Box<dyn Device>, DeviceError> {
    let path = settings.take("file").ok_or_else(|| {
        DeviceError::other("a script device needs file=SCRIPT; name a script in the language Rhai")
    })?;
    let operations = match settings.take("ops") {
        None => DEFAULT_OPERATIONS,
        Some(value) => parse_operations(&value).ok_or_else(|| {
            DeviceError::other(format!(
                "ops={value} is not a number of operations; write 1 to {MAX_OPERATIONS}"
            ))
        })?,
    };
    let text = read_script(&path).map_err(|source| {
        let key = "file".to_owned();
        DeviceError::Input { key, path: path.clone(), source }
    })?;
    let name = format!("{} at {}", SCRIPT.name, settings.range);
    let interrupt = settings.take_interrupt("irq")?;
    let host = Arc::new(Host::new(name, settings.clock(), interrupt.map(Mutex::new)));
    let program = Program::load(path, &text, operations, &host).map_err(DeviceError::other)?;
    let mut script =
        Script { program, host, state: new_state(), is_dead: false, reported: Vec::new() };
    script.try_out().map_err(DeviceError::other)?;
    Ok(Box::new(script))
}

fn parse_operations(value: &str) -> Option<u64> {
    value.parse().ok().filter(|operations| (1..=MAX_OPERATIONS).contains(operations))
}

/// Reads a script, which is at most [`MAX_BYTES`] long.
fn read_script(path: &str) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MAX_BYTES {
        true => Err(io::Error::other("it is longer than 1 MiB, the limit of a script")),
        false => Ok(text),
    }
}

fn new_state() -> Dynamic {
    Map::new().into()
}

struct Script {
    program: Program,
    host: Arc<Host>,
    /// The script's `this`.
    state: Dynamic,
    /// True if a call has failed since the last reset.
    is_dead: bool,
    /// The mistakes that were reported: a guest may repeat one at each reset.
    reported: Vec<String>,
}

impl Script {
    /// Runs the script's `reset` before the machine exists, so that its mistakes keep QEMU from starting.
    ///
    /// Nothing is logged, and the interrupt line does not change.
    fn try_out(&mut self) -> Result<(), ScriptError> {
        if self.program.has_reset()
            && let Err(error) = self.program.call("reset", &mut self.state, ())
        {
            return Err(self.program.script_error("reset", &error));
        }
        self.host.connect();
        Ok(())
    }

    /// Reports a call that has failed, and stops the device.
    #[cold]
    fn fail(&mut self, function: &'static str, arguments: &[u64], error: &CallError) {
        self.is_dead = true;
        // Free what the script has allocated.
        self.state = new_state();
        self.host.lower_irq();
        let mistake = self.program.script_error(function, error).to_string();
        if self.reported.len() >= MAX_REPORTS || self.reported.contains(&mistake) {
            return;
        }
        let arguments: Vec<String> = arguments.iter().map(|value| format!("{value:#x}")).collect();
        say(format_args!(
            "{}: {mistake}, in the call {function}({}): until the next reset the device reads as all ones, and \
             writes to it are lost",
            self.host.name(),
            arguments.join(", ")
        ));
        self.reported.push(mistake);
    }

    fn read(&mut self, offset: u16, data: &mut [u8]) {
        let arguments = [u64::from(offset), data.len() as u64];
        let result =
            self.program.call("read", &mut self.state, arguments.map(|value| value as i64));
        let value = result.and_then(|value| {
            let kind = value.type_name();
            value.as_int().map_err(|_| CallError::NotAnInteger(kind))
        });
        match value {
            Ok(value) => data.copy_from_slice(&value.to_le_bytes()[..data.len()]),
            Err(error) => self.fail("read", &arguments, &error),
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) {
        let mut value = [0; 8];
        value[..data.len()].copy_from_slice(data);
        let arguments = [u64::from(offset), data.len() as u64, u64::from_le_bytes(value)];
        let result =
            self.program.call("write", &mut self.state, arguments.map(|value| value as i64));
        if let Err(error) = result {
            self.fail("write", &arguments, &error);
        }
    }
}

impl MutDevicePio for Script {
    fn pio_read(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        if !self.is_dead {
            self.read(offset, data);
        }
    }

    fn pio_write(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        if !self.is_dead {
            self.write(offset, data);
        }
    }
}

impl Device for Script {
    fn reset(&mut self) {
        self.is_dead = false;
        self.state = new_state();
        self.host.lower_irq();
        if self.program.has_reset()
            && let Err(error) = self.program.call("reset", &mut self.state, ())
        {
            self.fail("reset", &[], &error);
        }
    }
}
