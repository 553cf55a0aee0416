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

use super::program::Function;
use super::running::{Running, try_reset};
use super::{Loaded, load};
use crate::devices::socket::build_observer;
use crate::devices::{DeviceError, ObservedAccess, Observer, ObserverKind, Settings};
use crate::x86::Direction;

/// The kind `observe`.
pub const OBSERVE: ObserverKind = ObserverKind { name: "observe", ports: 1, build };

pub(super) const FUNCTIONS: &[Function] = &[
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
    try_reset(&program).map_err(DeviceError::other)?;
    host.connect(true);
    let running = Running::new(program, host, "the observer sees nothing");
    Ok(Box::new(ObserverScript { running, current, has_read, has_write }))
}

struct ObserverScript {
    running: Running,
    current: Current,
    has_read: bool,
    has_write: bool,
}

impl Observer for ObserverScript {
    fn access(&mut self, access: &ObservedAccess) {
        let (function, is_wanted) = match access.direction {
            Direction::In => ("read", self.has_read),
            Direction::Out => ("write", self.has_write),
        };
        if !is_wanted {
            return;
        }
        self.current.set(*access);
        let size = access.size.bytes().unwrap_or(0);
        let value = access.value.map_or(Dynamic::UNIT, |value| i64::from(value).into());
        let arguments = (i64::from(access.offset), i64::from(size), value);
        let numbers = [access.offset.into(), size.into(), access.value.unwrap_or(0).into()];
        self.running.call(function, arguments, &numbers, |_| Ok(()));
    }

    fn reset(&mut self) {
        self.running.reset();
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
