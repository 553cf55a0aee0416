//! The installed plugin, and how QEMU's callbacks find it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use once_cell::sync::OnceCell;

use super::block_flag::BlockFlag;
use super::host::Host;
use super::plugin::Plugin;
use super::register_file::VcpuThread;
use super::vcpus::Vcpus;
use crate::internals::ShutdownCause;
use crate::report::say;

/// The state that the callbacks use.
pub(super) struct Installed {
    pub host: Host,
    pub shutdown: ShutdownCause,
    pub vcpus: Vcpus,
    pub plugin: Box<dyn Plugin>,
    /// True if the guest has begun to run: a block has been translated.
    ///
    /// Relaxed: the flag is all that it tells, and no other data depends on it.
    pub ran: AtomicBool,
    /// `None` if the plugin does not follow blocks.
    pub block_flag: Option<BlockFlag>,
}

impl Installed {
    pub fn vcpu_thread(&self) -> VcpuThread {
        if self.vcpus.share_a_thread() { VcpuThread::Shared } else { VcpuThread::Own }
    }
}

/// The installed plugin, set once. Before API 7 QEMU gives its callbacks no user data.
static INSTALLED: OnceCell<Installed> = OnceCell::new();

/// The installed plugin while callbacks are handled: from the installation to the end of the machine. QEMU may exit
/// while vCPUs run; their later callbacks are ignored, so that the counters no longer change.
static OPEN: AtomicPtr<Installed> = AtomicPtr::new(std::ptr::null_mut());

/// Installs a plugin; `None` if one is installed already.
pub(super) fn open(installed: Installed) -> Option<&'static Installed> {
    INSTALLED.set(installed).ok()?;
    let installed = INSTALLED.get()?;
    // Release, with the load in `guarded`: a thread that sees the pointer sees what it points to.
    OPEN.store(std::ptr::from_ref(installed).cast_mut(), Ordering::Release);
    Some(installed)
}

/// Ignores callbacks from now on. Callbacks that other threads are running are completed.
pub(super) fn close() {
    // Relaxed: it publishes nothing.
    OPEN.store(std::ptr::null_mut(), Ordering::Relaxed);
}

/// Runs a callback's work, if a plugin is installed.
///
/// A panic must not unwind into QEMU: it is caught here. Its own message is on stderr; a second line reports
/// that the counts are wrong.
#[inline]
pub(super) fn guarded(work: impl FnOnce(&'static Installed)) {
    // SAFETY: null or what is in `INSTALLED` for ever, of which only shared references are made. Acquire:
    // see `open`.
    let Some(installed) = (unsafe { OPEN.load(Ordering::Acquire).as_ref() }) else { return };
    if catch_unwind(AssertUnwindSafe(|| work(installed))).is_err() {
        say_once();
    }
}

#[cold]
fn say_once() {
    // Relaxed: only one thread gets `false`, and no other data depends on it.
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        say(
            "pvio itself failed (see the message above): the guest continues, but the counts are wrong",
        );
    }
}
