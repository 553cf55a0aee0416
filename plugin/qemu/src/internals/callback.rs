//! Work that QEMU calls back, on its main thread and under its global lock, until QEMU ends.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::report::say;

/// Work, and what is said if it panics.
struct Callback {
    work: Box<dyn Fn() + Send + Sync>,
    panicked: &'static str,
}

/// Returns the user data for [`run`]. It is never freed, since QEMU may call back until its end.
pub(super) fn leak(work: Box<dyn Fn() + Send + Sync>, panicked: &'static str) -> *mut c_void {
    let callback: *mut Callback = Box::leak(Box::new(Callback { work, panicked }));
    callback.cast()
}

/// Runs the work. A panic must not unwind into QEMU.
///
/// # Safety
///
/// `opaque` is a result of [`leak`].
pub(super) unsafe extern "C" fn run(opaque: *mut c_void) {
    // SAFETY: by this function's contract.
    let Callback { work, panicked } = unsafe { &*opaque.cast::<Callback>() };
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        say(format_args!("{panicked} (see the message above)"));
    }
}
