//! The observers of a machine: each sees the accesses to its ports, whoever serves them.

mod vcpu_observers;

pub use vcpu_observers::{ObservedCode, VcpuObservers};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::devices::{DeviceError, DeviceRequest, ObservedAccess, Observer, ObserverKind};
use crate::devices::{PostCodes, Services, Settings};
use crate::qemu::report::say;
use crate::stats::ValueClock;
use crate::x86::{Port, PortRange};

/// An observer that cannot be built with its settings.
#[derive(Debug, thiserror::Error)]
#[error("{kind} at {range}: {source}")]
pub struct ObserverError {
    kind: &'static str,
    range: PortRange,
    source: DeviceError,
}

/// The latest `in` or `out` of a handle, until it retires or faults.
type Pending = Arc<Mutex<Option<ObservedAccess>>>;

/// The observers of a machine, shared by its vCPUs.
///
/// Lock order: the list of pending accesses, a pending access, an observer. None is held while QEMU's global lock is taken.
pub struct Observers {
    watched: Vec<Watched>,
    /// A bit for each port that has an observer.
    covered: Box<[u64; (1 << 16) / 64]>,
    clock: ValueClock,
    vcpus_mixed: AtomicBool,
    pending: Mutex<Vec<Pending>>,
}

/// An observer with its ports.
struct Watched {
    kind: &'static str,
    range: PortRange,
    observer: Mutex<Box<dyn Observer>>,
    /// True if the observer has panicked.
    is_broken: AtomicBool,
}

impl Observers {
    /// Builds the observers. `clock` gives the times of accesses.
    ///
    /// # Errors
    ///
    /// An observer's settings are wrong.
    pub fn build(
        requests: Vec<DeviceRequest<ObserverKind>>,
        services: &dyn Services,
        clock: ValueClock,
    ) -> Result<Observers, ObserverError> {
        let mut watched = Vec::new();
        let mut covered = Box::new([0; (1 << 16) / 64]);
        for DeviceRequest { kind, range, settings, .. } in requests {
            let mut settings = Settings::new(range, settings, services);
            let observer = (kind.build)(&mut settings)
                .and_then(|observer| settings.finish().map(|()| observer))
                .map_err(|source| ObserverError { kind: kind.name, range, source })?;
            for port in range.first().0..=range.last().0 {
                covered[usize::from(port / 64)] |= 1 << (port % 64);
            }
            watched.push(Watched {
                kind: kind.name,
                range,
                observer: Mutex::new(observer),
                is_broken: AtomicBool::new(false),
            });
        }
        let (vcpus_mixed, pending) = (AtomicBool::new(false), Mutex::default());
        Ok(Observers { watched, covered, clock, vcpus_mixed, pending })
    }

    /// Leaves the vCPU out of all further accesses, because QEMU's callbacks do not distinguish vCPUs.
    pub fn vcpus_are_mixed(&self) {
        // Relaxed: the vCPU that is found to share a thread stores it on that thread, before its first access.
        self.vcpus_mixed.store(true, Ordering::Relaxed);
    }

    /// Returns true if a port has an observer.
    #[inline]
    pub fn cover(&self, port: Port) -> bool {
        self.covered[usize::from(port.0 / 64)] & 1 << (port.0 % 64) != 0
    }

    /// Passes an access to the observers of its port.
    fn see(&self, access: &ObservedAccess) {
        for watched in self.watched.iter().filter(|watched| watched.range.contains(access.port)) {
            let offset = access.port.0 - watched.range.first().0;
            watched.call(|observer| observer.access(&ObservedAccess { offset, ..*access }));
        }
    }

    /// Resets all observers.
    pub fn reset(&self) {
        for watched in &self.watched {
            watched.call(|observer| observer.reset());
        }
    }

    /// The name of the clock, and the POST codes of all observers; `None` if none collects any.
    pub fn post_codes(&self) -> Option<(&'static str, PostCodes)> {
        let codes = self
            .watched
            .iter()
            .filter_map(|watched| watched.call(|observer| observer.post_codes()).flatten());
        let mut sum = codes.reduce(|mut sum, codes| {
            sum.rows.extend(codes.rows);
            sum.dropped += codes.dropped;
            sum
        })?;
        sum.rows.sort_by_key(|row| row.first_ns);
        Some((self.clock.name, sum))
    }

    /// Passes on what is pending, and lets all observers write what they buffer. Returns a line per failure.
    pub fn finish(&self) -> Vec<String> {
        for pending in lock(&self.pending).iter() {
            if let Some(access) = lock(pending).take() {
                self.see(&access);
            }
        }
        let failures = self.watched.iter().filter_map(|watched| {
            let error = watched.call(|observer| observer.finish())?.err()?;
            let Watched { kind, range, .. } = watched;
            Some(format!("{kind} at {range}: its output is incomplete: {error}"))
        });
        failures.collect()
    }
}

impl Watched {
    /// Calls the observer under its lock. Returns `None` if it panics or has panicked before.
    fn call<R>(&self, work: impl FnOnce(&mut dyn Observer) -> R) -> Option<R> {
        // Relaxed: a vCPU that sees it late calls the observer once more, and another panic is caught as well.
        if self.is_broken.load(Ordering::Relaxed) {
            return None;
        }
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut **lock(&self.observer))));
        if result.is_err() && !self.is_broken.swap(true, Ordering::Relaxed) {
            let Watched { kind, range, .. } = self;
            say(format_args!(
                "the observer {kind} at {range} panicked (see the message above): from now on it sees nothing"
            ));
        }
        result.ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
