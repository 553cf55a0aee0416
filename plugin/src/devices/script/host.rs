//! The functions that a script may call beside Rhai's own.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rhai::{Engine, EvalAltResult};

use super::registers::Registers;
use super::timers::{TIMERS, Timers};
use crate::devices::{Clock, Interrupt};
use crate::qemu::report::say;
use crate::untrusted_text::escape;

/// What a script reaches outside itself: the log, the guest's clock, timers, an interrupt line, and the vCPU's registers.
pub(super) struct Host {
    /// The device, for messages.
    name: String,
    /// `None` if this QEMU's clock cannot be read.
    clock: Option<Clock>,
    /// `None` without a clock.
    timers: Option<Timers>,
    /// Without `irq=`, there is none.
    ///
    /// Never contended: calls of a device come one at a time.
    interrupt: Option<Mutex<Box<dyn Interrupt>>>,
    /// Without `registers=on`, there are none.
    registers: Option<Registers>,
    /// False while a script is tried out: then there is no log, and no line or timer changes.
    is_connected: AtomicBool,
    /// True if the script has a function for timers.
    has_timer: AtomicBool,
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
        timers: Option<Timers>,
        interrupt: Option<Mutex<Box<dyn Interrupt>>>,
    ) -> Host {
        let [is_connected, has_timer] = [false; 2].map(AtomicBool::new);
        Host { name, clock, timers, interrupt, registers: None, is_connected, has_timer }
    }

    /// The same with the registers of the vCPU.
    pub fn with_registers(self, registers: Option<Registers>) -> Host {
        Host { registers, ..self }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Begins (`false`) or ends the trial of a script.
    pub fn connect(&self, is_connected: bool) {
        // Relaxed: calls of a device come one at a time.
        self.is_connected.store(is_connected, Ordering::Relaxed);
    }

    fn is_connected(&self) -> bool {
        // Relaxed: as in `connect`.
        self.is_connected.load(Ordering::Relaxed)
    }

    /// Says whether the script has a function `timer`.
    pub fn allow_timers(&self, has_timer: bool) {
        // Relaxed: as in `connect`.
        self.has_timer.store(has_timer, Ordering::Relaxed);
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

    /// Stops all that the script has begun: its timers, and the interrupt line.
    pub fn quiet(&self) {
        if let Some(timers) = &self.timers {
            timers.cancel_all();
        }
        // Without a line there is nothing to lower.
        let _ = self.set_irq(false);
    }

    fn now(&self) -> Result<i64, Box<EvalAltResult>> {
        let clock = self.clock.as_ref().ok_or(
            "the guest's clock cannot be read in this QEMU, or with -icount; do without now_ns()",
        )?;
        Ok(clock().try_into().unwrap_or(i64::MAX))
    }

    /// The timers, for a call that names one.
    fn timers(&self, number: i64) -> Result<(&Timers, usize), Box<EvalAltResult>> {
        // Relaxed: as in `connect`.
        if !self.has_timer.load(Ordering::Relaxed) {
            return Err("the script has no function timer; write fn timer(number)".into());
        }
        let timers = self
            .timers
            .as_ref()
            .ok_or("there are no timers in this QEMU, or with -icount; do without after()")?;
        let index =
            usize::try_from(number).ok().filter(|&index| index < TIMERS).ok_or_else(|| {
                format!("there is no timer {number}; the timers are 0 to {}", TIMERS - 1)
            })?;
        Ok((timers, index))
    }

    fn after(&self, delay: i64, number: i64) -> Result<(), Box<EvalAltResult>> {
        let (timers, number) = self.timers(number)?;
        let delay = u64::try_from(delay).map_err(|_| {
            format!("after({delay}) is in the past; give nanoseconds from now, 0 or more")
        })?;
        if self.is_connected() {
            timers.set(number, self.now()? as u64, delay);
        }
        Ok(())
    }

    fn cancel(&self, number: i64) -> Result<(), Box<EvalAltResult>> {
        let (timers, number) = self.timers(number)?;
        if self.is_connected() {
            timers.cancel(number);
        }
        Ok(())
    }

    /// Returns whether a timer that QEMU reports is due. From then on it is not set.
    pub fn take_due_timer(&self, number: usize) -> bool {
        let now = self.now().map_or(0, |now| now as u64);
        self.timers.as_ref().is_some_and(|timers| timers.take_due(number, now))
    }
}

impl Host {
    fn registers(&self) -> Result<&Registers, Box<EvalAltResult>> {
        let registers = self.registers.as_ref();
        Ok(registers.ok_or("the device does not see registers; add registers=on to its option")?)
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
    let timers = with();
    engine.register_fn("after", move |delay: i64| timers.after(delay, 0));
    let timers = with();
    engine.register_fn("after", move |delay: i64, number: i64| timers.after(delay, number));
    let timers = with();
    engine.register_fn("cancel", move || timers.cancel(0));
    let timers = with();
    engine.register_fn("cancel", move |number: i64| timers.cancel(number));
    let registers = with();
    engine.register_fn("register", move |name: &str| registers.registers()?.read(name));
    let registers = with();
    engine.register_fn("set_register", move |name: &str, value: i64| {
        registers.registers()?.write(name, value)
    });
    let line = with();
    engine.register_fn("raise_irq", move || line.set_irq(true));
    let line = with();
    engine.register_fn("lower_irq", move || line.set_irq(false));
}
