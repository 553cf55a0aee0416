//! The clock that the guest sees.

use std::ffi::c_int;

use super::symbols::ClockQuery;

/// `QEMU_CLOCK_VIRTUAL` of `QEMUClockType`: it stands still while the machine is stopped.
pub(super) const VIRTUAL: c_int = 1;

/// QEMU's virtual clock.
pub struct GuestClock(ClockQuery);

impl GuestClock {
    /// Finds the clock; `None` if QEMU does not export it, or runs with `-icount`.
    ///
    /// Under `-icount` QEMU aborts when the clock is read in the middle of a block.
    pub fn find(icount: bool) -> Option<GuestClock> {
        ClockQuery::find().ok().filter(|_| !icount).map(GuestClock)
    }

    /// Returns the nanoseconds since the machine started.
    pub fn now(&self) -> u64 {
        // SAFETY: without `-icount` it reads the host's clock and an offset, under a sequence lock, on any thread.
        let time = unsafe { (self.0.qemu_clock_get_ns)(VIRTUAL) };
        time.try_into().unwrap_or(0)
    }
}
