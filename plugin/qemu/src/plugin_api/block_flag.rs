//! Reports the next block of a vCPU at low cost, if the plugin waits for it.

use std::sync::atomic::{AtomicPtr, Ordering};

use qemu_plugin_sys::{qemu_plugin_cb_flags, qemu_plugin_cond, qemu_plugin_tb, qemu_plugin_u64};

use super::api::Api;
use super::symbols::ExecCallback;
use super::vcpus::Vcpus;
use super::watch::VcpuIndex;
use crate::internals::{CpuState, current_cpu};

/// A flag for each vCPU, set while the vCPU waits for its next block.
pub(super) struct BlockFlag {
    /// A flag for each vCPU. Generated code tests it where a block begins, in less than a cycle.
    flags: qemu_plugin_u64,
    /// If vCPUs share a thread: the one that waits.
    ///
    /// Relaxed: only the thread that all vCPUs share uses it.
    waiting: AtomicPtr<CpuState>,
}

// SAFETY: the address of a scoreboard that lives for ever; QEMU's functions on it may be called from
// any thread.
unsafe impl Send for BlockFlag {}
// SAFETY: as above.
unsafe impl Sync for BlockFlag {}

impl BlockFlag {
    pub fn new(api: &Api) -> BlockFlag {
        // SAFETY: may be called at any time; the scoreboard is never freed.
        let score = unsafe { (api.scoreboard.qemu_plugin_scoreboard_new)(size_of::<u64>()) };
        let flags = qemu_plugin_u64 { score, offset: 0 };
        BlockFlag { flags, waiting: AtomicPtr::default() }
    }

    /// Calls `callback` at the start of the block being translated, if its vCPU waits.
    ///
    /// If vCPUs share a thread, every block reports: QEMU generates wrong code for a conditional callback
    /// there (`gen_plugin_u64_ptr` multiplies a constant of the translator in place, which others use).
    pub fn watch(&self, api: &Api, vcpus: &Vcpus, tb: *mut qemu_plugin_tb, callback: ExecCallback) {
        let functions = &api.plugin;
        let flags = qemu_plugin_cb_flags::QEMU_PLUGIN_CB_R_REGS;
        let differs = qemu_plugin_cond::QEMU_PLUGIN_COND_NE;
        let none = std::ptr::null_mut();
        // SAFETY: the block that is being translated; the callback is a function of this library, and
        // the scoreboard lives for ever.
        unsafe {
            match vcpus.share_a_thread() {
                true => (functions.qemu_plugin_register_vcpu_tb_exec_cb)(tb, callback, flags, none),
                false => {
                    let register = functions.qemu_plugin_register_vcpu_tb_exec_cond_cb;
                    register(tb, callback, flags, differs, self.flags, 0, none);
                }
            }
        }
    }

    /// The vCPU in this callback waits for its next block.
    pub fn wait(&self, api: &Api, vcpus: &Vcpus, vcpu: VcpuIndex) {
        match vcpus.share_a_thread() {
            // Relaxed: all vCPUs that use it are on one thread.
            true => self.waiting.store(current_cpu(), Ordering::Relaxed),
            // SAFETY: QEMU makes the scoreboard as large as there are vCPUs. Each vCPU's thread alone
            // uses its flag.
            false => unsafe { (api.scoreboard.qemu_plugin_u64_set)(self.flags, vcpu.0, 1) },
        }
    }

    /// Returns true if the vCPU in this callback has waited for the block that begins. It waits no more.
    pub fn take(&self, api: &Api, vcpus: &Vcpus, vcpu: VcpuIndex) -> bool {
        if vcpus.share_a_thread() {
            let waiting = self.waiting.load(Ordering::Relaxed);
            let is_it = !waiting.is_null() && waiting == current_cpu();
            if is_it {
                self.waiting.store(std::ptr::null_mut(), Ordering::Relaxed);
            }
            return is_it;
        }
        // SAFETY: as in `wait`.
        unsafe { (api.scoreboard.qemu_plugin_u64_set)(self.flags, vcpu.0, 0) };
        true
    }
}
