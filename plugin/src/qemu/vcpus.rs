//! One place for each vCPU, that its own thread alone uses.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ThreadId;

use once_cell::sync::OnceCell;

use super::registers::RegisterFile;
use super::{Vcpu, VcpuIndex};

/// What belongs to one vCPU.
pub(super) struct VcpuState {
    pub registers: RegisterFile,
    pub vcpu: Box<dyn Vcpu>,
}

struct Slot {
    thread: ThreadId,
    state: UnsafeCell<VcpuState>,
}

// SAFETY: `state` is touched in `Vcpus::with` alone, whose caller promises to be on the slot's own
// thread; `VcpuState` may be sent there.
unsafe impl Sync for Slot {}

/// All vCPUs that have begun to run.
pub(super) struct Vcpus {
    slots: Box<[OnceCell<Slot>]>,
    /// For each vCPU, whose slot it uses: its own, or the first one's on the same thread.
    homes: Box<[AtomicUsize]>,
    shared: AtomicBool,
}

impl Vcpus {
    /// Room for `most` vCPUs, the machine's maximum.
    pub fn new(most: usize) -> Vcpus {
        Vcpus {
            slots: (0..most).map(|_| OnceCell::new()).collect(),
            homes: (0..most).map(AtomicUsize::new).collect(),
            shared: AtomicBool::new(false),
        }
    }

    /// Enters a vCPU that begins to run on this thread, and says whether it has the thread for
    /// itself. One that has not gets no state of its own; `state` is not called.
    pub fn begin(&self, index: VcpuIndex, state: impl FnOnce() -> VcpuState) -> bool {
        let index = index.0 as usize;
        let thread = std::thread::current().id();
        let shared =
            self.slots.iter().position(|slot| slot.get().is_some_and(|slot| slot.thread == thread));
        match shared {
            // A vCPU that is unplugged and plugged in again begins twice.
            Some(home) if home != index => {
                self.homes[index].store(home, Ordering::Relaxed);
                self.shared.store(true, Ordering::Relaxed);
                false
            }
            _ => {
                self.slots[index].get_or_init(|| Slot { thread, state: UnsafeCell::new(state()) });
                true
            }
        }
    }

    /// Whether some vCPU has no thread for itself.
    pub fn share_a_thread(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// Runs `use_it` on the state of a vCPU.
    ///
    /// # Safety
    ///
    /// Only from a callback that QEMU makes for this vCPU on the vCPU's thread, and not from within
    /// another call.
    pub unsafe fn with<R>(
        &self,
        index: VcpuIndex,
        use_it: impl FnOnce(&mut VcpuState) -> R,
    ) -> Option<R> {
        let home = self.homes.get(index.0 as usize)?.load(Ordering::Relaxed);
        let slot = self.slots[home].get()?;
        // SAFETY: QEMU runs a vCPU's callbacks one after another on its thread (or all vCPUs' on
        // one), and the caller promises not to be inside one already: nobody else has a reference.
        Some(use_it(unsafe { &mut *slot.state.get() }))
    }
}
