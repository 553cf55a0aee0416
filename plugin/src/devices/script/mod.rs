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
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod host;
mod mistakes;
mod observe;
mod program;
mod registers;
mod running;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod timers;

use std::sync::{Arc, Mutex};

use rhai::Engine;
use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use self::error::ScriptError;
pub use self::filter::FILTER;
use self::host::Host;
pub use self::observe::OBSERVE;
use self::program::{Function, Program};
use self::registers::Registers;
use self::running::{Running, integer, try_reset};
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

/// Compiles a script, and runs its `reset` to find mistakes before the guest does.
///
/// Meanwhile nothing is logged, and neither the interrupt line nor a timer changes.
fn tried_out(source: &Source, text: &str, host: &Arc<Host>) -> Result<Program, ScriptError> {
    host.connect(false);
    let program =
        Program::load(source.path(), text, source.operations(), host, program::DEVICE, |_| {})?;
    host.allow_timers(program.has("timer"));
    try_reset(&program)?;
    host.connect(true);
    Ok(program)
}

struct Script {
    source: Source,
    running: Running,
}

impl Script {
    fn new(source: Source, text: &str, host: Arc<Host>) -> Result<Script, ScriptError> {
        let program = tried_out(&source, text, &host)?;
        let then = "the device reads as all ones, and writes to it are lost";
        Ok(Script { source, running: Running::new(program, host, then) })
    }
}

impl MutDevicePio for Script {
    fn pio_read(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        let numbers = [u64::from(offset), data.len() as u64];
        let arguments = numbers.map(|number| number as i64);
        if let Some(value) = self.running.call("read", arguments, &numbers, integer) {
            data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
        }
    }

    fn pio_write(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        let mut value = [0; 8];
        value[..data.len()].copy_from_slice(data);
        let numbers = [u64::from(offset), data.len() as u64, u64::from_le_bytes(value)];
        let arguments = numbers.map(|number| number as i64);
        self.running.call("write", arguments, &numbers, |_| Ok(()));
    }
}

impl Device for Script {
    fn reset(&mut self) {
        self.running.reset();
    }

    fn timer(&mut self, number: usize) {
        if self.running.host().take_due_timer(number) {
            self.running.call("timer", (number as i64,), &[number as u64], |_| Ok(()));
        }
    }

    fn reload(&mut self) -> Result<(), String> {
        let text = self.source.read().map_err(|error| {
            format!("file={}: cannot read it: {error}", escape(self.source.path().as_bytes()))
        })?;
        let host = Arc::clone(self.running.host());
        match tried_out(&self.source, &text, &host) {
            Ok(program) => self.running.replace(program),
            Err(error) => {
                // The old script goes on.
                host.connect(true);
                host.allow_timers(self.running.has("timer"));
                return Err(error.to_string());
            }
        }
        Ok(())
    }
}
