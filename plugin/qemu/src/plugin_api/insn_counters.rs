//! Counters that QEMU's own generated code adds to, for every instruction of the guest.
//!
//! Each vCPU has a row in a scoreboard of QEMU's: what it began last, whether its block runs at another address than
//! that of its translation, and the counters. What the code
//! adds it adds before the instruction runs; what turns out not to have run is taken back.

use std::ffi::{c_uint, c_void};

use qemu_plugin_sys::{
    qemu_plugin_cond, qemu_plugin_insn, qemu_plugin_op, qemu_plugin_scoreboard, qemu_plugin_u64,
};

use super::api::{InsnExecCallback, MissingFunction, function};
use super::{InsnCount, VcpuIndex};
use crate::version::ApiLevel;
use qemu_plugin_sys::qemu_plugin_cb_flags::{self, QEMU_PLUGIN_CB_NO_REGS};

/// The counters of a machine.
pub struct InsnCounters {
    exec_inline: unsafe extern "C" fn(*mut qemu_plugin_insn, qemu_plugin_op, qemu_plugin_u64, u64),
    exec_cond_cb: unsafe extern "C" fn(
        *mut qemu_plugin_insn,
        InsnExecCallback,
        qemu_plugin_cb_flags,
        qemu_plugin_cond,
        qemu_plugin_u64,
        u64,
        *mut c_void,
    ),
    u64_get: unsafe extern "C" fn(qemu_plugin_u64, c_uint) -> u64,
    u64_set: unsafe extern "C" fn(qemu_plugin_u64, c_uint, u64),
    u64_add: unsafe extern "C" fn(qemu_plugin_u64, c_uint, u64),
    score: *mut qemu_plugin_scoreboard,
    /// How many counters each vCPU has.
    counters: usize,
}

// SAFETY: the address of a scoreboard that lives for ever, and functions of QEMU's, which may be called
// from any thread.
unsafe impl Send for InsnCounters {}
// SAFETY: as above.
unsafe impl Sync for InsnCounters {}

/// The words of a row before the counters.
const FIRST_COUNTER: usize = 2;

impl InsnCounters {
    /// Makes so many counters for each vCPU.
    pub fn new(api: ApiLevel, counters: usize) -> Result<InsnCounters, MissingFunction> {
        let scoreboard_new: unsafe extern "C" fn(usize) -> *mut qemu_plugin_scoreboard =
            function!(api, c"qemu_plugin_scoreboard_new");
        // SAFETY: may be called at any time; the scoreboard is never freed.
        let score = unsafe { scoreboard_new((FIRST_COUNTER + counters) * size_of::<u64>()) };
        Ok(InsnCounters {
            exec_inline: function!(api, c"qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu"),
            exec_cond_cb: function!(api, c"qemu_plugin_register_vcpu_insn_exec_cond_cb"),
            u64_get: function!(api, c"qemu_plugin_u64_get"),
            u64_set: function!(api, c"qemu_plugin_u64_set"),
            u64_add: function!(api, c"qemu_plugin_u64_add"),
            score,
            counters,
        })
    }

    /// Which instruction a vCPU began last: its [`InsnCount::token`].
    fn last_entry(&self) -> qemu_plugin_u64 {
        qemu_plugin_u64 { score: self.score, offset: 0 }
    }

    /// Not 0 where the block that a vCPU runs is elsewhere than it was translated.
    fn elsewhere_entry(&self) -> qemu_plugin_u64 {
        qemu_plugin_u64 { score: self.score, offset: size_of::<u64>() }
    }

    fn entry(&self, counter: usize) -> qemu_plugin_u64 {
        assert!(counter < self.counters, "there is no counter {counter}");
        qemu_plugin_u64 { score: self.score, offset: (FIRST_COUNTER + counter) * size_of::<u64>() }
    }

    /// The token of the instruction that a vCPU began last.
    pub fn last(&self, vcpu: VcpuIndex) -> u64 {
        // SAFETY: QEMU makes the scoreboard as large as there are vCPUs, and this one has begun.
        unsafe { (self.u64_get)(self.last_entry(), vcpu.0) }
    }

    /// What a vCPU has counted.
    pub fn get(&self, vcpu: VcpuIndex, counter: usize) -> u64 {
        // SAFETY: as in `last`.
        unsafe { (self.u64_get)(self.entry(counter), vcpu.0) }
    }

    /// Takes one back, in a callback for this vCPU.
    pub fn take_back(&self, vcpu: VcpuIndex, counter: usize) {
        // SAFETY: as in `last`.
        unsafe { (self.u64_add)(self.entry(counter), vcpu.0, 1u64.wrapping_neg()) }
    }

    /// Moves one from a counter to another, in a callback for this vCPU.
    pub fn move_one(&self, vcpu: VcpuIndex, from: usize, to: usize) {
        self.take_back(vcpu, from);
        // SAFETY: as in `last`.
        unsafe { (self.u64_add)(self.entry(to), vcpu.0, 1) }
    }

    /// Whether the vCPU's block runs at another address than that of its translation, from this callback for its
    /// beginning on.
    pub fn set_elsewhere(&self, vcpu: VcpuIndex, elsewhere: bool) {
        // SAFETY: as in `last`.
        unsafe { (self.u64_set)(self.elsewhere_entry(), vcpu.0, elsewhere.into()) }
    }

    /// Counts an instruction of the block that is being translated. `is_first`: QEMU starts an
    /// instruction anew only by a block that begins with it.
    pub(super) fn watch(
        &self,
        insn: *mut qemu_plugin_insn,
        is_first: bool,
        count: InsnCount,
        restarted: InsnExecCallback,
        counted_elsewhere: InsnExecCallback,
    ) {
        let entry = self.entry(count.counter);
        // SAFETY: the callback is a function of this library, which stays loaded, and the user data is
        // a number; the scoreboard lives for ever. QEMU runs these in the order of their registration.
        unsafe {
            if is_first && count.repeats_only_by_restart {
                (self.exec_cond_cb)(
                    insn,
                    restarted,
                    QEMU_PLUGIN_CB_NO_REGS,
                    qemu_plugin_cond::QEMU_PLUGIN_COND_EQ,
                    self.last_entry(),
                    count.token,
                    std::ptr::null_mut(),
                );
            }
            let add = qemu_plugin_op::QEMU_PLUGIN_INLINE_ADD_U64;
            (self.exec_inline)(insn, add, entry, 1);
            let store = qemu_plugin_op::QEMU_PLUGIN_INLINE_STORE_U64;
            (self.exec_inline)(insn, store, self.last_entry(), count.token);
            if self.counters > 1 {
                (self.exec_cond_cb)(
                    insn,
                    counted_elsewhere,
                    QEMU_PLUGIN_CB_NO_REGS,
                    qemu_plugin_cond::QEMU_PLUGIN_COND_NE,
                    self.elsewhere_entry(),
                    0,
                    std::ptr::without_provenance_mut(count.token as usize),
                );
            }
        }
    }
}
