//! `script`: a device written in Rhai, a small scripting language.
//!
//! `device=script@0x378-0x37a:file=dongle.rhai` calls the script's `read(offset, size)` and
//! `write(offset, size, value)` at each access, and its `reset()`, if there is one, at each reset of the
//! machine, its `timer(number)` when a timer is due. `this` is an object map that keeps the device's state from
//! call to call. The script is read again when the user asks for it.
//!
//! The script has no files, no other scripts, no clock but the guest's, and limited time and memory. A
//! call that fails is reported once. From then on the device reads as all ones and loses writes, until
//! the machine is reset.

mod engine;
mod error;
mod filter;
mod host;
mod mistakes;
mod observe;
mod program;
mod registers;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod timers;

use std::sync::{Arc, Mutex};

use rhai::{Dynamic, Engine, Map};
use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use self::error::{CallError, ScriptError};
pub use self::filter::FILTER;
use self::host::Host;
use self::mistakes::Mistakes;
pub use self::observe::OBSERVE;
use self::program::{Function, Program};
use self::registers::Registers;
use self::source::Source;
use self::timers::Timers;
use super::{Device, DeviceError, DeviceKind, Settings};
use crate::untrusted_text::escape;

/// The kind `script`.
pub const SCRIPT: DeviceKind = DeviceKind { name: "script", ports: 1, build };

/// The number of operations that a call may execute, unless `ops=` says otherwise.
const DEFAULT_OPERATIONS: u64 = 20_000;

/// The largest value of `ops=`. A call that copies arrays needs about 5 KiB for each operation.
const MAX_OPERATIONS: u64 = 1_000_000;

fn build(settings: &mut Settings<'_>) -> Result<Box<dyn Device>, DeviceError> {
    let (source, text) = read(settings, SCRIPT.name)?;
    let name = format!("{} at {}", SCRIPT.name, settings.range);
    let interrupt = settings.take_interrupt("irq")?;
    let timers = Timers::new(settings);
    let registers = take_registers(settings)?;
    let host = Host::new(name, settings.clock(), timers, interrupt.map(Mutex::new));
    let host = host.with_registers(registers);
    let script = Script::new(source, &text, Arc::new(host)).map_err(DeviceError::other)?;
    Ok(Box::new(script))
}

/// The registers, if `registers=on` asks for them.
fn take_registers(settings: &mut Settings<'_>) -> Result<Option<Registers>, DeviceError> {
    match settings.take("registers").as_deref() {
        None | Some("off") => Ok(None),
        Some("on") => match settings.registers() {
            Some(registers) => Ok(Some(Registers::new(registers))),
            None => Err(DeviceError::other(
                "registers=on: this QEMU does not say where a vCPU's registers are; use QEMU 9.2 to 11.1, built with \
                 loadable modules",
            )),
        },
        Some(other) => Err(DeviceError::other(format!(
            "registers={other}: write registers=on or registers=off"
        ))),
    }
}

/// A script without timers that is ready to run, and what it reaches.
struct Loaded {
    program: Program,
    host: Arc<Host>,
}

/// Loads the script that the settings name. It must have `functions`, and may have an interrupt line if `has_interrupt`.
///
/// `more` adds functions that it may call.
fn load(
    settings: &mut Settings<'_>,
    kind: &str,
    functions: &'static [Function],
    has_interrupt: bool,
    more: impl FnOnce(&mut Engine),
) -> Result<Loaded, DeviceError> {
    let (source, text) = read(settings, kind)?;
    let name = format!("{kind} at {}", settings.range);
    let interrupt = if has_interrupt { settings.take_interrupt("irq")? } else { None };
    let host = Arc::new(Host::new(name, settings.clock(), None, interrupt.map(Mutex::new)));
    let (path, operations) = (source.path(), source.operations());
    let program = Program::load(path, &text, operations, &host, functions, more);
    Ok(Loaded { program: program.map_err(DeviceError::other)?, host })
}

/// Reads the script that the settings name.
fn read(settings: &mut Settings<'_>, kind: &str) -> Result<(Source, String), DeviceError> {
    let article = if kind.starts_with('o') { "an" } else { "a" };
    let path = settings.take("file").ok_or_else(|| {
        DeviceError::other(format!(
            "{article} {kind} device needs file=SCRIPT; name a script in the language Rhai"
        ))
    })?;
    let operations = match settings.take("ops") {
        None => DEFAULT_OPERATIONS,
        Some(value) => parse_operations(&value).ok_or_else(|| {
            DeviceError::other(format!(
                "ops={value} is not a number of operations; write 1 to {MAX_OPERATIONS}"
            ))
        })?,
    };
    let source = Source::new(path.clone(), operations);
    let text = source.read().map_err(|error| {
        let key = "file".to_owned();
        DeviceError::Input { key, path, source: error }
    })?;
    Ok((source, text))
}

fn parse_operations(value: &str) -> Option<u64> {
    value.parse().ok().filter(|operations| (1..=MAX_OPERATIONS).contains(operations))
}

fn new_state() -> Dynamic {
    Map::new().into()
}

/// Compiles a script, and runs its `reset` to find mistakes before the guest does.
///
/// Meanwhile nothing is logged, and neither the interrupt line nor a timer changes.
fn tried_out(source: &Source, text: &str, host: &Arc<Host>) -> Result<Program, ScriptError> {
    host.connect(false);
    let program =
        Program::load(source.path(), text, source.operations(), host, program::DEVICE, |_| {})?;
    host.allow_timers(program.has("timer"));
    if program.has("reset")
        && let Err(error) = program.call("reset", &mut new_state(), ())
    {
        return Err(program.script_error("reset", &error));
    }
    host.connect(true);
    Ok(program)
}

struct Script {
    source: Source,
    program: Program,
    host: Arc<Host>,
    /// The script's `this`.
    state: Dynamic,
    /// True if a call has failed since the last reset.
    is_dead: bool,
    mistakes: Mistakes,
}

impl Script {
    fn new(source: Source, text: &str, host: Arc<Host>) -> Result<Script, ScriptError> {
        let program = tried_out(&source, text, &host)?;
        Ok(Script {
            source,
            program,
            host,
            state: new_state(),
            is_dead: false,
            mistakes: Mistakes::default(),
        })
    }

    /// Reports a call that has failed, and stops the device.
    #[cold]
    fn fail(&mut self, function: &'static str, arguments: &[u64], error: &CallError) {
        self.is_dead = true;
        // Free what the script has allocated.
        self.state = new_state();
        self.host.quiet();
        let mistake = self.program.script_error(function, error).to_string();
        let then = "the device reads as all ones, and writes to it are lost";
        self.mistakes.report(self.host.name(), mistake, (function, arguments), then);
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
        self.host.quiet();
        if self.program.has("reset")
            && let Err(error) = self.program.call("reset", &mut self.state, ())
        {
            self.fail("reset", &[], &error);
        }
    }

    fn timer(&mut self, number: usize) {
        if !self.is_dead
            && self.host.take_due_timer(number)
            && let Err(error) = self.program.call("timer", &mut self.state, (number as i64,))
        {
            self.fail("timer", &[number as u64], &error);
        }
    }

    fn reload(&mut self) -> Result<(), String> {
        let text = self.source.read().map_err(|error| {
            format!("file={}: cannot read it: {error}", escape(self.source.path().as_bytes()))
        })?;
        let result = tried_out(&self.source, &text, &self.host);
        // The script that runs is the new one or, after a mistake in that, still the old one.
        match result {
            Ok(program) => self.program = program,
            Err(error) => {
                self.host.connect(true);
                self.host.allow_timers(self.program.has("timer"));
                return Err(error.to_string());
            }
        }
        self.mistakes.clear();
        self.reset();
        Ok(())
    }
}
