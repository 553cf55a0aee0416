//! The state of each vCPU, which only its own thread uses.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use once_cell::sync::OnceCell;

use super::plugin::Vcpu;
use super::register_file::RegisterFile;
use super::watch::VcpuIndex;

/// The state of one vCPU.
pub(super) struct VcpuState {
    pub registers: RegisterFile,
    pub vcpu: Box<dyn Vcpu>,
}

struct Slot {
    /// Changes when the vCPU is unplugged and plugged in again.
    thread: Mutex<ThreadId>,
    state: UnsafeCell<VcpuState>,
}

// SAFETY: `state` is touched in `Vcpus::begin` and `Vcpus::with` alone, on the slot's own thread;
// `VcpuState` may be sent there.
unsafe impl Sync for Slot {}

fn lock(thread: &Mutex<ThreadId>) -> MutexGuard<'_, ThreadId> {
    thread.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All vCPUs that have begun to run.
pub(super) struct Vcpus {
    slots: Box<[OnceCell<Slot>]>,
    /// For each vCPU that has begun, the state that it uses: its own, or the first one's on the same thread.
    states: Box<[AtomicPtr<VcpuState>]>,
    /// True if two vCPUs share a thread.
    ///
    /// Relaxed: the thread that shares its vCPUs sets it, before their callbacks ask for it.
    shared: AtomicBool,
}

impl Vcpus {
    /// Makes room for `most` vCPUs, the machine's maximum.
    pub fn new(most: usize) -> Vcpus {
        Vcpus {
            slots: (0..most).map(|_| OnceCell::new()).collect(),
            states: (0..most).map(|_| AtomicPtr::default()).collect(),
            shared: AtomicBool::new(false),
        }
    }

    /// Enters a vCPU that begins to run on this thread. Returns true if no other vCPU uses the thread.
    ///
    /// A vCPU that shares its thread gets no state of its own. One that is unplugged and plugged in again begins
    /// twice: it keeps its [`Vcpu`], but QEMU has a new object for it, with registers elsewhere.
    pub fn begin(
        &self,
        index: VcpuIndex,
        registers: impl FnOnce() -> RegisterFile,
        vcpu: impl FnOnce() -> Box<dyn Vcpu>,
    ) -> bool {
        let index = index.0 as usize;
        let thread = std::thread::current().id();
        let is_here = |slot: &Slot| *lock(&slot.thread) == thread;
        let home = self.slots.iter().position(|slot| slot.get().is_some_and(is_here));
        if let Some(home) = home.filter(|&home| home != index) {
            // Relaxed: this thread has stored it. Release: see below.
            let state = self.states[home].load(Ordering::Relaxed);
            self.states[index].store(state, Ordering::Release);
            self.shared.store(true, Ordering::Relaxed);
            return false;
        }
        match self.slots[index].get() {
            Some(slot) => {
                *lock(&slot.thread) = thread;
                // SAFETY: QEMU has waited for the end of the thread that the vCPU had before (which also
                // orders what that thread wrote), and this one, which it has now, is in its first
                // callback: nobody else has a reference.
                unsafe { (*slot.state.get()).registers = registers() };
            }
            None => {
                let state = UnsafeCell::new(VcpuState { registers: registers(), vcpu: vcpu() });
                let slot =
                    self.slots[index].get_or_init(|| Slot { thread: Mutex::new(thread), state });
                // Release, with the load in `with`: who sees the pointer sees the state.
                self.states[index].store(slot.state.get(), Ordering::Release);
            }
        }
        true
    }

    /// Returns true if this thread runs a vCPU.
    pub fn run_on_this_thread(&self) -> bool {
        let thread = std::thread::current().id();
        let mut slots = self.slots.iter().filter_map(OnceCell::get);
        slots.any(|slot| *lock(&slot.thread) == thread)
    }

    /// Returns true if vCPUs share a thread.
    pub fn share_a_thread(&self) -> bool {
        // Relaxed: the thread that stores it is the one that the vCPUs share.
        self.shared.load(Ordering::Relaxed)
    }

    /// Runs `use_it` on the state of a vCPU, if that has begun.
    ///
    /// # Safety
    ///
    /// Only from a callback that QEMU makes for this vCPU on the vCPU's thread, and not from within
    /// another call.
    #[inline]
    pub unsafe fn with<R>(
        &self,
        index: VcpuIndex,
        use_it: impl FnOnce(&mut VcpuState) -> R,
    ) -> Option<R> {
        // Acquire, with the stores in `begin`. QEMU runs the vCPU on the thread that stored it, where
        // program order would do; a plain load on x86, and one instruction on arm64.
        let state = self.states.get(index.0 as usize)?.load(Ordering::Acquire);
        // SAFETY: null, or a state in a slot, which stays where it is. QEMU runs a vCPU's callbacks one
        // after another on its thread (or all vCPUs' on one), and the caller promises not to be inside
        // one already: nobody else has a reference.
        unsafe { state.as_mut() }.map(use_it)
    }
}
