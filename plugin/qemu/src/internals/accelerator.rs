//! The accelerator that runs the guest. QEMU chooses it before it loads plugins, and never changes it.

use std::ffi::CStr;

use super::symbols::{AcceleratorName, IcountMode, ReplayMode, TcgAllowed};

/// Returns the accelerator's name if QEMU reports that it is not TCG.
pub(crate) fn other_than_tcg() -> Option<String> {
    let tcg = TcgAllowed::find().ok()?;
    // SAFETY: QEMU wrote it on this thread, and does not write it again.
    if unsafe { *tcg.tcg_allowed.as_ptr() } {
        return None;
    }
    let Ok(accelerator) = AcceleratorName::find() else {
        return Some("another accelerator".into());
    };
    // SAFETY: there is an accelerator, or `tcg_allowed` would not be settled. Its name is a constant.
    let name = unsafe { CStr::from_ptr((accelerator.current_accel_name)()) };
    Some(name.to_string_lossy().into_owned())
}

/// Returns true if QEMU records the machine's run or replays it (`-icount rr=`); false if that is not known.
pub(crate) fn is_recorded() -> bool {
    // SAFETY: QEMU wrote it on this thread, and does not write it again before the run ends.
    ReplayMode::find().is_ok_and(|replay| unsafe { *replay.replay_mode.as_ptr() } != 0)
}

/// Returns true if QEMU counts instructions (`-icount`); false if that is not known.
pub(crate) fn icount_is_on() -> bool {
    // SAFETY: QEMU wrote it on this thread, and does not switch `-icount` on or off later.
    IcountMode::find().is_ok_and(|icount| unsafe { *icount.use_icount.as_ptr() } != 0)
}
