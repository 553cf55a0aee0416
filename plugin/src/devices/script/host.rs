//! The functions that a script may call beside Rhai's own.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rhai::{Engine, EvalAltResult};

use crate::devices::{Clock, Interrupt};
use crate::qemu::report::say;
use crate::untrusted_text::escape;

/// What a script reaches outside itself: the log, the guest's clock, and an interrupt line.
pub(super) struct Host {
    /// The device, for messages.
    name: String,
    /// `None` if this QEMU's clock cannot be read.
    clock: Option<Clock>,
    /// Without `irq=`, there is none.
    ///
    /// Never contended: calls of a device come one at a time.
    interrupt: Option<Mutex<Box<dyn Interrupt>>>,
    /// False while the script is tried out: then there is no log, and no line changes.
    is_connected: AtomicBool,
}

impl fmt::Debug for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Host").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Host {
    pub fn new(
        name: String,
        clock: Option<Clock>,
        interrupt: Option<Mutex<Box<dyn Interrupt>>>,
    ) -> Host {
        Host { name, clock, interrupt, is_connected: AtomicBool::new(false) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends the trial.
    pub fn connect(&self) {
        // Relaxed: one thread builds the device and hands it over.
        self.is_connected.store(true, Ordering::Relaxed);
    }

    fn is_connected(&self) -> bool {
        // Relaxed: as in `connect`.
        self.is_connected.load(Ordering::Relaxed)
    }

    fn log(&self, text: &str) {
        if self.is_connected() {
            say(format_args!("{}: {}", self.name, escape(text.as_bytes())));
        }
    }

    fn set_irq(&self, level: bool) -> Result<(), Box<EvalAltResult>> {
        let Some(interrupt) = &self.interrupt else {
            return Err("the device has no interrupt line; add irq=LINE to its option".into());
        };
        if self.is_connected() {
            interrupt.lock().unwrap_or_else(PoisonError::into_inner).set(level);
        }
        Ok(())
    }

    /// Lowers the interrupt line, if there is one.
    pub fn lower_irq(&self) {
        // Without a line there is nothing to lower.
        let _ = self.set_irq(false);
    }

    fn now(&self) -> Result<i64, Box<EvalAltResult>> {
        let clock = self.clock.as_ref().ok_or(
            "the guest's clock cannot be read in this QEMU, or with -icount; do without now_ns()",
        )?;
        Ok(clock().try_into().unwrap_or(i64::MAX))
    }
}

/// Adds the functions to the engine.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    let with = || Arc::clone(host);
    let log = with();
    engine.register_fn("log", move |text: &str| log.log(text));
    let log = with();
    engine.on_print(move |text| log.log(text));
    let log = with();
    engine.on_debug(move |text, _, _| log.log(text));
    let clock = with();
    engine.register_fn("now_ns", move || clock.now());
    let line = with();
    engine.register_fn("raise_irq", move || line.set_irq(true));
    let line = with();
    engine.register_fn("lower_irq", move || line.set_irq(false));
}
