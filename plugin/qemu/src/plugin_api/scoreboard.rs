//! A scoreboard to which QEMU's generated code adds for every instruction of the guest.
//!
//! Each vCPU has a row: the instruction that it began last, whether its block runs at another address than
//! that of its translation, and the entries. The code adds before an instruction runs, for it and for those that
//! follow it in a segment of its block; the plugin subtracts instructions that turn out not to have retired.

use qemu_plugin_sys::qemu_plugin_cb_flags::QEMU_PLUGIN_CB_NO_REGS;
use qemu_plugin_sys::{
    qemu_plugin_cond, qemu_plugin_insn, qemu_plugin_op, qemu_plugin_scoreboard, qemu_plugin_u64,
};

use super::api::MissingFunction;
use super::symbols::{ExecCallback, ScoreboardFunctions};
use super::watch::{InlineAdd, VcpuIndex};
use crate::version::ApiLevel;

/// A scoreboard with the same number of entries for each vCPU.
///
/// QEMU's code adds to a vCPU's row without a lock or an atomic operation, on the thread of that vCPU. So
/// only a callback of the same vCPU may change the row. Any thread may read it: it sees some recent value.
pub struct Scoreboard {
    functions: ScoreboardFunctions,
    score: *mut qemu_plugin_scoreboard,
    entries: usize,
}

// SAFETY: the address of a scoreboard that lives for ever; QEMU's functions on it may be called from any
// thread.
unsafe impl Send for Scoreboard {}
// SAFETY: as above.
unsafe impl Sync for Scoreboard {}

/// The words of a row before the entries.
const FIRST_ENTRY: usize = 2;

/// The position, in the word of the last instruction, of the number of instructions that follow it in its segment.
const AHEAD: u32 = 59;

/// The maximum number of instructions that are added at once.
const MAX_SEGMENT: usize = 1 << (u64::BITS - AHEAD);

/// An instruction of the block that is being translated.
pub(super) struct Counted {
    pub insn: *mut qemu_plugin_insn,
    pub add: InlineAdd,
    /// The entries must be exact when it begins.
    pub begins_segment: bool,
}

impl Scoreboard {
    /// Makes a scoreboard with `entries` entries for each vCPU, all 0. QEMU keeps it until it ends.
    ///
    /// # Errors
    ///
    /// If this QEMU lacks a function that its API should have.
    pub fn new(api: ApiLevel, entries: usize) -> Result<Scoreboard, MissingFunction> {
        let functions = ScoreboardFunctions::find().map_err(MissingFunction::in_api(api))?;
        let size = (FIRST_ENTRY + entries) * size_of::<u64>();
        // SAFETY: may be called at any time; the scoreboard is never freed.
        let score = unsafe { (functions.qemu_plugin_scoreboard_new)(size) };
        Ok(Scoreboard { functions, score, entries })
    }

    /// Tokens are smaller than this.
    pub const MAX_TOKEN: u64 = 1 << AHEAD;

    /// The [`InlineAdd::token`] of the instruction that a vCPU started last, and how many instructions follow it in
    /// its segment.
    fn last_word(&self) -> qemu_plugin_u64 {
        qemu_plugin_u64 { score: self.score, offset: 0 }
    }

    /// Nonzero if the block that a vCPU runs is at another address than that of its translation.
    fn elsewhere_word(&self) -> qemu_plugin_u64 {
        qemu_plugin_u64 { score: self.score, offset: size_of::<u64>() }
    }

    fn entry(&self, entry: usize) -> qemu_plugin_u64 {
        assert!(entry < self.entries, "there is no entry {entry}");
        qemu_plugin_u64 { score: self.score, offset: (FIRST_ENTRY + entry) * size_of::<u64>() }
    }

    /// Returns the token of the instruction that a vCPU began last; 0 if it has begun none.
    pub fn last(&self, vcpu: VcpuIndex) -> u64 {
        self.last_and_ahead(vcpu) % Self::MAX_TOKEN
    }

    /// Returns the number of instructions that were added together with the last one and have not begun.
    ///
    /// It is 0 at the end of a block.
    pub fn ahead(&self, vcpu: VcpuIndex) -> u64 {
        self.last_and_ahead(vcpu) >> AHEAD
    }

    fn last_and_ahead(&self, vcpu: VcpuIndex) -> u64 {
        // SAFETY: QEMU makes the scoreboard as large as there are vCPUs, and this one has begun.
        unsafe { (self.functions.qemu_plugin_u64_get)(self.last_word(), vcpu.0) }
    }

    /// Takes the instructions of [`Scoreboard::ahead`] from an entry, in a callback of this vCPU: they do not run.
    ///
    /// # Panics
    ///
    /// If there is no such entry.
    pub fn take_back_ahead(&self, vcpu: VcpuIndex, entry: usize) {
        let last = self.last_and_ahead(vcpu);
        let (ahead, token) = (last >> AHEAD, last % Self::MAX_TOKEN);
        if ahead != 0 {
            // SAFETY: as in `last_and_ahead`.
            unsafe {
                let entry = self.entry(entry);
                (self.functions.qemu_plugin_u64_add)(entry, vcpu.0, ahead.wrapping_neg());
                (self.functions.qemu_plugin_u64_set)(self.last_word(), vcpu.0, token);
            }
        }
    }

    /// Makes [`Scoreboard::last`] 0, in a callback of this vCPU or while it does not run.
    pub fn forget_last(&self, vcpu: VcpuIndex) {
        // SAFETY: as in `last_and_ahead`.
        unsafe { (self.functions.qemu_plugin_u64_set)(self.last_word(), vcpu.0, 0) }
    }

    /// Returns an entry of a vCPU: the instructions that have begun and those of [`Scoreboard::ahead`], less those that
    /// were taken back.
    ///
    /// # Panics
    ///
    /// If there is no such entry.
    pub fn get(&self, vcpu: VcpuIndex, entry: usize) -> u64 {
        // SAFETY: as in `last`.
        unsafe { (self.functions.qemu_plugin_u64_get)(self.entry(entry), vcpu.0) }
    }

    /// Takes 1 from an entry, in a callback of this vCPU.
    ///
    /// # Panics
    ///
    /// If there is no such entry.
    pub fn take_back(&self, vcpu: VcpuIndex, entry: usize) {
        let minus_one = 1u64.wrapping_neg();
        // SAFETY: as in `last`.
        unsafe { (self.functions.qemu_plugin_u64_add)(self.entry(entry), vcpu.0, minus_one) }
    }

    /// Takes 1 from an entry and adds it to another, in a callback of this vCPU.
    ///
    /// # Panics
    ///
    /// If one of the entries is not there.
    pub fn move_one(&self, vcpu: VcpuIndex, from: usize, to: usize) {
        self.take_back(vcpu, from);
        // SAFETY: as in `last`.
        unsafe { (self.functions.qemu_plugin_u64_add)(self.entry(to), vcpu.0, 1) }
    }

    /// Sets whether the vCPU's block runs at another address than that of its translation. Call it in the
    /// callback for the start of the block.
    pub fn set_elsewhere(&self, vcpu: VcpuIndex, elsewhere: bool) {
        // SAFETY: as in `last`.
        unsafe {
            (self.functions.qemu_plugin_u64_set)(self.elsewhere_word(), vcpu.0, elsewhere.into());
        }
    }

    /// Makes the instructions of the block being translated add to their entries.
    ///
    /// `left`, `restarted` and `elsewhere` are the callbacks for [`Vcpu::block_was_left`](super::Vcpu::block_was_left),
    /// [`Vcpu::restarted`](super::Vcpu::restarted) and [`Vcpu::added_elsewhere`](super::Vcpu::added_elsewhere).
    pub(super) fn watch(
        &self,
        block: &[Counted],
        left: ExecCallback,
        restarted: ExecCallback,
        elsewhere: ExecCallback,
    ) {
        if let Some(first) = block.first() {
            self.watch_start(first, left, restarted);
        }
        for segment in block.chunk_by(|_, next| !next.begins_segment && next.add.joins) {
            for segment in segment.chunks(MAX_SEGMENT) {
                self.watch_segment(segment, elsewhere);
            }
        }
    }

    /// Checks at the first instruction whether the block before was left in the middle, and whether the instruction is
    /// restarted: if it is, a block begins with it.
    fn watch_start(&self, first: &Counted, left: ExecCallback, restarted: ExecCallback) {
        let conditional = self.functions.qemu_plugin_register_vcpu_insn_exec_cond_cb;
        let (insn, last, none) = (first.insn, self.last_word(), std::ptr::null_mut());
        let flags = QEMU_PLUGIN_CB_NO_REGS;
        // SAFETY: an instruction of the block that is being translated. The callbacks are functions of this
        // library, which stays loaded; the user data is null; the scoreboard lives for ever. QEMU runs these
        // in the order of their registration.
        unsafe {
            let is_at_least = qemu_plugin_cond::QEMU_PLUGIN_COND_GE;
            conditional(insn, left, flags, is_at_least, last, Self::MAX_TOKEN, none);
            if first.add.repeats_only_by_restart {
                let is = qemu_plugin_cond::QEMU_PLUGIN_COND_EQ;
                conditional(insn, restarted, flags, is, last, first.add.token, none);
            }
        }
    }

    /// Makes the first instruction of a segment add all of them.
    fn watch_segment(&self, segment: &[Counted], elsewhere: ExecCallback) {
        let functions = &self.functions;
        let inline = functions.qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu;
        let conditional = functions.qemu_plugin_register_vcpu_insn_exec_cond_cb;
        let count = segment.len() as u64;
        for (ahead, &Counted { insn, add, .. }) in (0..count).rev().zip(segment) {
            // SAFETY: as in `watch_start`; the user data is a number.
            unsafe {
                if ahead + 1 == count {
                    let op = qemu_plugin_op::QEMU_PLUGIN_INLINE_ADD_U64;
                    inline(insn, op, self.entry(add.entry), count);
                }
                let store = qemu_plugin_op::QEMU_PLUGIN_INLINE_STORE_U64;
                inline(insn, store, self.last_word(), ahead << AHEAD | add.token);
                if self.entries > 1 {
                    let is_not = qemu_plugin_cond::QEMU_PLUGIN_COND_NE;
                    let word = self.elsewhere_word();
                    let token = std::ptr::without_provenance_mut(add.token as usize);
                    let flags = QEMU_PLUGIN_CB_NO_REGS;
                    conditional(insn, elsewhere, flags, is_not, word, 0, token);
                }
            }
        }
    }
}
