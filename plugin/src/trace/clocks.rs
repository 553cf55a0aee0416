//! The host's time and the guest's.
//!
//! Both clocks advance at the same rate while the machine runs, so an event has only the host's time. The guest's clock is
//! read occasionally, and the trace records how far it is ahead.

use quanta::Clock;

use crate::qemu::GuestClock;

/// After this time without events, the machine may have been stopped in between: 50 µs.
const GAP: u64 = 50_000;

/// Maximum number of events between two readings of the guest's clock.
const EVENTS: u32 = 1024;

/// Differences up to this size come from reading one clock after the other: 1 µs.
const NOISE: u64 = 1000;

/// The clocks of a machine.
pub(super) struct Clocks {
    /// The processor's time stamp counter where it can serve as a clock, because a trace reads it for each event.
    host: Clock,
    /// The host's clock when the trace began.
    began: u64,
    /// `None` if it cannot be read.
    guest: Option<GuestClock>,
}

/// One vCPU's last readings of the clocks.
#[derive(Debug, Default)]
pub(super) struct VcpuClock {
    last: u64,
    events: u32,
    ahead: Option<i64>,
}

impl Clocks {
    pub fn new(guest: Option<GuestClock>) -> Clocks {
        let host = Clock::new();
        Clocks { began: host.raw(), host, guest }
    }

    /// Returns host nanoseconds since the trace began, and how far the guest's clock is ahead if that has changed.
    #[inline]
    pub fn now(&self, vcpu: &mut VcpuClock) -> (u64, Option<i64>) {
        let host = self.host.delta_as_nanos(self.began, self.host.raw());
        let may_have_stopped = host.saturating_sub(vcpu.last) > GAP || vcpu.events >= EVENTS;
        vcpu.last = host;
        vcpu.events += 1;
        match may_have_stopped || vcpu.ahead.is_none() {
            true => (host, self.look(host, vcpu)),
            false => (host, None),
        }
    }

    #[inline(never)]
    fn look(&self, host: u64, vcpu: &mut VcpuClock) -> Option<i64> {
        vcpu.events = 0;
        let ahead = self.guest.as_ref()?.now().wrapping_sub(host) as i64;
        if vcpu.ahead.is_some_and(|before| before.abs_diff(ahead) < NOISE) {
            return None;
        }
        vcpu.ahead = Some(ahead);
        Some(ahead)
    }
}
