//! The reason why the machine ends, and a request to end it.

use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};

use super::c_types::{Notifier, SHUTDOWN_CAUSE_GUEST_SHUTDOWN};
use super::symbols::{EnumNames, ShutdownCauses, ShutdownNotifiers, ShutdownRequest};

/// Why the machine ended.
///
/// Derived from `ShutdownCause` in QEMU's `qapi/run-state.json`; causes that users need not distinguish are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The guest powered off, or asked a debug-exit device to end QEMU.
    Shutdown,
    /// The guest reset itself under `-no-reboot`.
    Reset,
    /// The guest reported that it panicked.
    Panic,
    /// `quit` in the monitor or over QMP.
    Quit,
    /// SIGTERM, SIGINT or SIGHUP.
    Signal,
    /// The user closed the window.
    Ui,
    /// QEMU stopped the guest because of an error on the host.
    HostError,
    /// QEMU called `exit` without a shutdown.
    Exit,
    /// Not known: this QEMU does not export the function.
    Unknown,
}

impl Ended {
    /// From QEMU's name of a `ShutdownCause`.
    fn from_cause(name: &str) -> Ended {
        match name {
            "guest-shutdown" => Ended::Shutdown,
            "guest-reset" | "host-qmp-system-reset" | "subsystem-reset" => Ended::Reset,
            "guest-panic" => Ended::Panic,
            "host-qmp-quit" => Ended::Quit,
            "host-signal" => Ended::Signal,
            "host-ui" => Ended::Ui,
            "host-error" => Ended::HostError,
            _ => Ended::Unknown,
        }
    }
}

/// The last `ShutdownCause` that QEMU announced; -1 before any. A notifier has no user data.
///
/// Relaxed: the number is all that it tells, and no other data depends on it. QEMU announces the shutdown
/// and exits on its main thread; an exit on another thread may miss a shutdown that is just announced.
static SHUTDOWN_CAUSE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn shutdown_announced(_notifier: *mut Notifier, cause: *mut c_void) {
    // SAFETY: QEMU's `qemu_system_shutdown` passes the address of a `ShutdownCause`, a C enum.
    let cause = unsafe { *cause.cast::<c_int>() };
    // Relaxed: the number is all that it tells. QEMU's global lock orders it before the end.
    SHUTDOWN_CAUSE.store(cause, Ordering::Relaxed);
}

/// The cause of a shutdown, as QEMU names it.
pub(crate) struct ShutdownCause(Option<(EnumNames, ShutdownCauses)>);

impl ShutdownCause {
    /// Asks QEMU to announce the shutdown. This library can no longer be unloaded.
    pub fn listen() -> ShutdownCause {
        let Ok(notifiers) = ShutdownNotifiers::find() else { return ShutdownCause(None) };
        let Some(names) = EnumNames::find().ok().zip(ShutdownCauses::find().ok()) else {
            return ShutdownCause(None);
        };
        let node = [std::ptr::null_mut(); 2];
        let notifier = Box::leak(Box::new(Notifier { notify: shutdown_announced, node }));
        // SAFETY: QEMU has the notifier in its list from now on, and it is never freed.
        unsafe { (notifiers.qemu_register_shutdown_notifier)(notifier) };
        ShutdownCause(Some(names))
    }

    /// Returns how the machine ended, once it has.
    pub fn ended(&self) -> Ended {
        let Some((names, causes)) = self.0 else {
            return Ended::Unknown;
        };
        let cause = SHUTDOWN_CAUSE.load(Ordering::Relaxed);
        if cause < 0 {
            return Ended::Exit;
        }
        // SAFETY: QEMU's own table, whose names are constants. The cause is QEMU's, so it is in range.
        let name = unsafe {
            CStr::from_ptr((names.qapi_enum_lookup)(causes.ShutdownCause_lookup.as_ptr(), cause))
        };
        Ended::from_cause(&name.to_string_lossy())
    }
}

impl ShutdownRequest {
    /// Asks QEMU to end as if the guest had switched the machine off, with this exit status.
    pub fn request(&self, status: u8) {
        // SAFETY: the cause is one of QEMU's. The function may be called on any thread, and only leaves a
        // request for the main loop.
        unsafe {
            (self.qemu_system_shutdown_request_with_code)(
                SHUTDOWN_CAUSE_GUEST_SHUTDOWN,
                c_int::from(status),
            );
        }
    }
}

/// Ends QEMU by `exit`, as some devices do.
///
/// The exit handlers of QEMU and of this plugin run; what QEMU does at a shutdown does not happen. For a
/// QEMU that does not export [`Machine::exit`](super::Machine::exit).
pub fn exit_process(status: u8) -> ! {
    // SAFETY: no thread is in an exit already, or this one waits for it; what is registered for the exit
    // is QEMU's own.
    unsafe { libc::exit(status.into()) }
}
