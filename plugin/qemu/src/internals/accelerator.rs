//! What runs the guest, as QEMU has settled it before it loads plugins.

use std::ffi::{CStr, c_char, c_int};

use super::lookup::lookup_export;

/// The name of the accelerator that runs the guest, if QEMU says that it is not TCG.
pub(crate) fn other_than_tcg() -> Option<String> {
    // SAFETY: `bool tcg_allowed` in QEMU's `system/tcg.h`, set when the accelerator is.
    let is_tcg = unsafe { *lookup_export(c"tcg_allowed")?.cast::<bool>() };
    if is_tcg {
        return None;
    }
    let Some(name) = lookup_export(c"current_accel_name") else {
        return Some("another accelerator".into());
    };
    // SAFETY: `const char *current_accel_name(void)` in QEMU's `qemu/accel.h` since 8.2, a constant of
    // the accelerator's class; the accelerator is chosen, or `tcg_allowed` would not be settled.
    let name = unsafe {
        let name: unsafe extern "C" fn() -> *const c_char = std::mem::transmute(name);
        CStr::from_ptr(name())
    };
    Some(name.to_string_lossy().into_owned())
}

/// Whether QEMU records the machine's run or replays it (`-icount rr=`); not, where it does not export
/// what would tell.
pub(crate) fn is_recorded() -> bool {
    // SAFETY: `ReplayMode replay_mode` in QEMU's `system/replay.h`, a C enum whose 0 is neither, set
    // before the accelerator is.
    lookup_export(c"replay_mode").is_some_and(|mode| unsafe { *mode.cast::<c_int>() } != 0)
}
