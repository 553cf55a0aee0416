//! Observes the interrupt lines of the ISA bus: every level that a device of QEMU's sets.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use once_cell::sync::OnceCell;

use super::c_types::IrqState;
use super::symbols::{IrqFunctions, IrqInterception, IrqObservation};
use crate::symbol::NotExported;

/// Gets the number of a line, and its level.
pub(super) type LineObserver = Box<dyn Fn(u8, bool) + Send + Sync>;

/// The observer, set once. QEMU gives its callbacks the line's own user data, so they cannot carry it.
static OBSERVER: OnceCell<(LineObserver, IrqFunctions)> = OnceCell::new();

/// The way in which this QEMU lets others see its lines.
pub(super) enum IrqTap {
    /// A handler before the line's own, which it must call.
    Interception(IrqInterception),
    /// A callback after the line's own handler.
    Observation(IrqObservation),
}

impl IrqTap {
    pub fn find() -> Result<IrqTap, NotExported> {
        match IrqObservation::find() {
            Ok(observation) => Ok(IrqTap::Observation(observation)),
            Err(_) => Ok(IrqTap::Interception(IrqInterception::find()?)),
        }
    }

    /// Passes the levels of `lines` to `observer` from now on. Does nothing at a second call.
    ///
    /// The number of a line is the one with which its handler was made. Those of the ISA bus have their own numbers.
    ///
    /// # Safety
    ///
    /// `lines` are lines of the machine that live until QEMU ends, and QEMU's global lock is held.
    pub unsafe fn observe(
        &self,
        functions: IrqFunctions,
        lines: &mut [*mut IrqState],
        observer: LineObserver,
    ) {
        if OBSERVER.set((observer, functions)).is_err() {
            return;
        }
        let count = lines.len() as c_int;
        // SAFETY: by this function's contract. QEMU keeps what the array points to, not the array.
        unsafe {
            match self {
                IrqTap::Observation(observation) => {
                    (observation.qemu_irq_set_observer)(lines.as_mut_ptr(), line_was_set, count);
                }
                IrqTap::Interception(interception) => {
                    (interception.qemu_irq_intercept_in)(lines.as_mut_ptr(), line_is_set, count);
                }
            }
        }
    }
}

/// For [`IrqTap::Observation`]: the line's own handler has run.
extern "C" fn line_was_set(_opaque: *mut c_void, line: c_int, level: c_int) {
    if let Some((observer, _)) = OBSERVER.get() {
        report(observer, line, level);
    }
}

/// For [`IrqTap::Interception`]: `opaque` is the address of a copy of the line, with its own handler.
extern "C" fn line_is_set(opaque: *mut c_void, line: c_int, level: c_int) {
    let Some((observer, functions)) = OBSERVER.get() else { return };
    // SAFETY: QEMU calls this under the global lock, with the `qemu_irq *` that `qemu_irq_intercept_in` made for
    // this line and never frees.
    unsafe { (functions.qemu_set_irq)(*opaque.cast::<*mut IrqState>(), level) };
    report(observer, line, level);
}

/// A panic must not unwind into QEMU. Its message is on stderr.
fn report(observer: &LineObserver, line: c_int, level: c_int) {
    if let Ok(line) = u8::try_from(line) {
        let _ = catch_unwind(AssertUnwindSafe(|| observer(line, level != 0)));
    }
}
