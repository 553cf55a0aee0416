//! `observe`: an observer written in Rhai, or with `path=SOCKET` another process.
//!
//! `device=observe@0x1f0-0x1f7:file=watch.rhai` calls the script's `read(offset, size, value)` and
//! `write(offset, size, value)` after each access, whoever serves it. The script changes nothing.
//!
//! It runs in the sandbox of the kind `script`. A call that fails is reported once, and the observer sees
//! nothing until the machine is reset.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use rhai::{Dynamic, Engine};

use super::error::CallError;
use super::host::Host;
use super::mistakes::Mistakes;
use super::program::{Function, Program};
use super::{Loaded, load, new_state};
use crate::devices::socket::build_observer;
use crate::devices::{DeviceError, ObservedAccess, Observer, ObserverKind, Settings};
use crate::x86::Direction;

/// The kind `observe`.
pub const OBSERVE: ObserverKind = ObserverKind { name: "observe", ports: 1, build };

const FUNCTIONS: &[Function] = &[
    ("read", &["offset", "size", "value"], false),
    ("write", &["offset", "size", "value"], false),
    ("reset", &[], false),
];

fn build(settings: &mut Settings<'_>) -> Result<Box<dyn Observer>, DeviceError> {
    if let Some(path) = settings.take("path") {
        if settings.take("file").is_some() {
            return Err(DeviceError::other(
                "an observer is a script or a program; remove file= or path=",
            ));
        }
        return build_observer(settings, &path);
    }
    let current = Current::default();
    let Loaded { program, host } = load(settings, OBSERVE.name, FUNCTIONS, false, |engine| {
        current.register(engine);
    })?;
    if !program.has("read") && !program.has("write") {
        return Err(DeviceError::other(format!(
            "{} has neither fn read(offset, size, value) nor fn write(offset, size, value); write one of them",
            program.path()
        )));
    }
    let (has_read, has_write) = (program.has("read"), program.has("write"));
    let mut script = ObserverScript {
        program,
        host,
        current,
        has_read,
        has_write,
        state: new_state(),
        is_dead: false,
        mistakes: Mistakes::default(),
    };
    script
        .try_reset()
        .map_err(|error| script.program.script_error("reset", &error))
        .map_err(DeviceError::other)?;
    script.host.connect(true);
    Ok(Box::new(script))
}

struct ObserverScript {
    program: Program,
    host: Arc<Host>,
    current: Current,
    has_read: bool,
    has_write: bool,
    /// The script's `this`.
    state: Dynamic,
    /// True if a call has failed since the last reset.
    is_dead: bool,
    mistakes: Mistakes,
}

impl ObserverScript {
    fn try_reset(&mut self) -> Result<(), CallError> {
        self.state = new_state();
        match self.program.has("reset") {
            true => self.program.call("reset", &mut self.state, ()).map(drop),
            false => Ok(()),
        }
    }

    /// Reports a call that has failed, and stops the observer.
    #[cold]
    fn fail(&mut self, function: &'static str, arguments: &[u64], error: &CallError) {
        self.is_dead = true;
        // Free what the script has allocated.
        self.state = new_state();
        let mistake = self.program.script_error(function, error).to_string();
        let then = "the observer sees nothing";
        self.mistakes.report(self.host.name(), mistake, (function, arguments), then);
    }
}

impl Observer for ObserverScript {
    fn access(&mut self, access: &ObservedAccess) {
        let (function, is_wanted) = match access.direction {
            Direction::In => ("read", self.has_read),
            Direction::Out => ("write", self.has_write),
        };
        if self.is_dead || !is_wanted {
            return;
        }
        self.current.set(*access);
        let size = access.size.bytes().unwrap_or(0);
        let value = access.value.map_or(Dynamic::UNIT, |value| i64::from(value).into());
        let arguments = (i64::from(access.offset), i64::from(size), value);
        if let Err(error) = self.program.call(function, &mut self.state, arguments) {
            let numbers = [access.offset.into(), size.into(), access.value.unwrap_or(0).into()];
            self.fail(function, &numbers, &error);
        }
    }

    fn reset(&mut self) {
        self.is_dead = false;
        if let Err(error) = self.try_reset() {
            self.fail("reset", &[], &error);
        }
    }
}

/// The access that the script sees, for the functions that say more about it.
///
/// Never contended: calls of an observer come one at a time.
#[derive(Clone, Default)]
struct Current(Arc<Mutex<Option<ObservedAccess>>>);

impl Current {
    fn set(&self, access: ObservedAccess) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(access);
    }

    /// Returns a fact about the access, or nothing outside `read` and `write`.
    fn get(&self, fact: impl Fn(ObservedAccess) -> Dynamic) -> Dynamic {
        let access = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        access.map_or(Dynamic::UNIT, fact)
    }

    /// Adds the functions to the engine.
    fn register(&self, engine: &mut Engine) {
        let current = self.clone();
        engine.register_fn("time_ns", move || current.get(|access| number(access.time_ns)));
        let current = self.clone();
        engine.register_fn("pc", move || current.get(|access| number(access.pc)));
        let current = self.clone();
        engine.register_fn("vcpu", move || {
            current.get(|access| access.vcpu.map_or(Dynamic::UNIT, |vcpu| number(vcpu.into())))
        });
        let current = self.clone();
        engine
            .register_fn("by_hypercall", move || current.get(|access| access.by_hypercall.into()));
        let current = self.clone();
        engine.register_fn("may_have_faulted", move || {
            current.get(|access| access.may_have_faulted.into())
        });
    }
}

/// A number of 64 bits, which Rhai has with a sign.
fn number(value: u64) -> Dynamic {
    (value as i64).into()
}
