//! Work that runs while no vCPU runs guest code, asked for by a thread of the plugin's own.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::c_types::CpuState;
use super::global_lock::GlobalLock;
use super::symbols::{LockFunctions, SafeWork, VcpuLookup};

/// QEMU's way to run work while no vCPU runs.
pub struct ExclusiveWork {
    work: SafeWork,
    lookup: VcpuLookup,
    lock: GlobalLock,
}

/// Work that a vCPU's thread is asked to do.
struct Job {
    state: Mutex<State>,
    changed: Condvar,
}

enum State {
    Waiting(Box<dyn FnOnce() + Send>),
    Runs,
    Done,
    /// Nobody wants it any more.
    Cancelled,
}

impl Job {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the work, unless it was cancelled.
    fn run(&self) {
        let state = std::mem::replace(&mut *self.lock(), State::Runs);
        let after = match state {
            State::Waiting(work) => {
                // A panic must not unwind into QEMU. The one who waits finds no result.
                let _ = catch_unwind(AssertUnwindSafe(work));
                State::Done
            }
            other => other,
        };
        *self.lock() = after;
        self.changed.notify_all();
    }

    /// Waits for the work. Cancels it if it has not begun in time.
    fn wait(&self, patience: Duration) {
        let is_waiting = |state: &mut State| matches!(state, State::Waiting(_));
        let waited = self.changed.wait_timeout_while(self.lock(), patience, is_waiting);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Waiting(_)) {
            *state = State::Cancelled;
        }
        let runs = |state: &mut State| matches!(state, State::Runs);
        drop(self.changed.wait_while(state, runs).unwrap_or_else(PoisonError::into_inner));
    }
}

/// QEMU calls it on a vCPU's thread, while no vCPU runs guest code. `job` is an `Arc<Job>`.
unsafe extern "C" fn run_job(_cpu: *mut CpuState, job: *mut c_void) {
    // SAFETY: `ExclusiveWork::run` made the pointer of an `Arc`, and QEMU calls this once.
    let job = unsafe { Arc::from_raw(job.cast_const().cast::<Job>()) };
    job.run();
}

impl ExclusiveWork {
    /// `None` if this QEMU does not export what is needed.
    pub fn find() -> Option<ExclusiveWork> {
        Some(ExclusiveWork {
            work: SafeWork::find().ok()?,
            lookup: VcpuLookup::find().ok()?,
            lock: GlobalLock::new(LockFunctions::find().ok()?),
        })
    }

    /// Runs `work` while no vCPU runs guest code or is in a callback.
    ///
    /// QEMU interrupts the vCPUs, so a vCPU that halts or loops does not delay it. Call it on a thread that
    /// is not QEMU's and holds no lock that a vCPU or a holder of QEMU's global lock may wait for.
    ///
    /// Returns `None` if the vCPUs did not stop in time. The work does not run then.
    pub fn run<R: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Option<R> {
        let result = Arc::new(Mutex::new(None));
        let into = Arc::clone(&result);
        let put = move || *into.lock().unwrap_or_else(PoisonError::into_inner) = Some(work());
        let job = Arc::new(Job {
            state: Mutex::new(State::Waiting(Box::new(put))),
            changed: Condvar::new(),
        });
        let is_asked = self.lock.with(|| {
            // SAFETY: the lock is held, so QEMU removes no vCPU from its list meanwhile. The first vCPU is
            // never removed at all.
            let cpu = unsafe { (self.lookup.qemu_get_cpu)(0) };
            if !cpu.is_null() {
                let data = Arc::into_raw(Arc::clone(&job)).cast_mut().cast::<c_void>();
                // SAFETY: the vCPU is QEMU's; `run_job` is a function of this library, which is never
                // unloaded while QEMU runs, and takes this pointer.
                unsafe { (self.work.async_safe_run_on_cpu)(cpu, run_job, data) };
            }
            !cpu.is_null()
        });
        match is_asked {
            true => job.wait(patience),
            // Without a vCPU, none runs.
            false => job.run(),
        }
        result.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Runs `work` with QEMU's global lock held, under which the machine keeps its memory and its vCPUs.
    pub fn with_global_lock<R>(&self, work: impl FnOnce() -> R) -> R {
        self.lock.with(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(work: impl FnOnce() + Send + 'static) -> Job {
        Job { state: Mutex::new(State::Waiting(Box::new(work))), changed: Condvar::new() }
    }

    #[test]
    fn work_that_has_not_begun_in_time_never_runs() {
        let job = job(|| panic!("it was cancelled"));
        job.wait(Duration::from_millis(1));
        job.run();
        assert!(matches!(*job.lock(), State::Cancelled));
    }

    #[test]
    fn work_that_has_begun_is_waited_for() {
        let done = Arc::new(Mutex::new(false));
        let set = Arc::clone(&done);
        let job = Arc::new(job(move || {
            std::thread::sleep(Duration::from_millis(50));
            *set.lock().unwrap() = true;
        }));
        let runner = Arc::clone(&job);
        let thread = std::thread::spawn(move || runner.run());
        job.wait(Duration::from_secs(60));
        assert!(*done.lock().unwrap());
        thread.join().unwrap();
    }
}
