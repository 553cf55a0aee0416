//! The host's time and the guest's.
//!
//! Both clocks advance alike while the machine runs, so an event has the host's time only. The guest's is read now and
//! then, and says by how much it is ahead.

use quanta::Clock;

use crate::qemu::GuestClock;

/// A time without events after which the machine may have been stopped meanwhile: 50 µs.
const GAP: u64 = 50_000;

/// The most events between two looks at the guest's clock.
const EVENTS: u32 = 1024;

/// A difference of this size comes from reading one clock after the other: 1 µs.
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

/// What one vCPU knows of them.
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

    /// Host nanoseconds since the trace began, and by how much the guest's clock is ahead if that has changed.
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
