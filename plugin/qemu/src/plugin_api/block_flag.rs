//! The next block that begins on a vCPU, for whoever waits for it.
//!
//! It knows how QEMU is asked for that at the least price. It does not know who waits, nor why.

use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};

use qemu_plugin_sys::{qemu_plugin_cb_flags, qemu_plugin_cond, qemu_plugin_tb, qemu_plugin_u64};

use super::VcpuIndex;
use super::api::{Api, InsnExecCallback};
use super::callbacks::Installed;
use super::vcpus::Vcpus;
use crate::internals::current_cpu;

/// What tells a vCPU's next block from others.
pub(super) struct BlockFlag {
    /// A flag for each vCPU, which QEMU looks at where a block begins, in less than a cycle.
    flags: qemu_plugin_u64,
    /// Where vCPUs share a thread: whose next block is waited for, as QEMU's `CPUState`.
    waiting: AtomicPtr<c_void>,
}

// SAFETY: the address of a scoreboard that lives for ever; QEMU's functions on it may be called from
// any thread.
unsafe impl Send for BlockFlag {}
// SAFETY: as above.
unsafe impl Sync for BlockFlag {}

impl BlockFlag {
    pub fn new(api: &Api) -> BlockFlag {
        // SAFETY: may be called at any time; the scoreboard is never freed.
        let score = unsafe { (api.scoreboard_new)(size_of::<u64>()) };
        let flags = qemu_plugin_u64 { score, offset: 0 };
        BlockFlag { flags, waiting: AtomicPtr::default() }
    }

    /// Where vCPUs share a thread, each block reports: QEMU makes wrong code of a conditional callback
    /// there (`gen_plugin_u64_ptr` multiplies a constant of the translator in place, which others use).
    pub fn watch(
        &self,
        api: &Api,
        vcpus: &Vcpus,
        tb: *mut qemu_plugin_tb,
        block_begins: InsnExecCallback,
    ) {
        let flags = qemu_plugin_cb_flags::QEMU_PLUGIN_CB_R_REGS;
        let differs = qemu_plugin_cond::QEMU_PLUGIN_COND_NE;
        let none = std::ptr::null_mut();
        // SAFETY: the block that is being translated; the callback is a function of this library, and
        // the scoreboard lives for ever.
        unsafe {
            match vcpus.share_a_thread() {
                true => (api.register_tb_exec_cb)(tb, block_begins, flags, none),
                false => (api.register_tb_exec_cond_cb)(
                    tb,
                    block_begins,
                    flags,
                    differs,
                    self.flags,
                    0,
                    none,
                ),
            }
        }
    }

    /// The vCPU in this callback waits for its next block.
    pub fn wait(&self, installed: &Installed, vcpu: VcpuIndex) {
        match installed.vcpus.share_a_thread() {
            true => self.waiting.store(current_cpu(), Ordering::Relaxed),
            // SAFETY: QEMU makes the scoreboard as large as there are vCPUs.
            false => unsafe { (installed.api.u64_set)(self.flags, vcpu.0, 1) },
        }
    }

    /// Whether the block that begins is one that was waited for; then it is no more.
    pub fn is_awaited(&self, installed: &Installed, vcpu: VcpuIndex) -> bool {
        if installed.vcpus.share_a_thread() {
            let waiting = self.waiting.load(Ordering::Relaxed);
            let is_it = !waiting.is_null() && waiting == current_cpu();
            if is_it {
                self.waiting.store(std::ptr::null_mut(), Ordering::Relaxed);
            }
            return is_it;
        }
        // SAFETY: as in `wait`.
        unsafe { (installed.api.u64_set)(self.flags, vcpu.0, 0) };
        true
    }
}
