//! Translation of a block: the plugin decides how to watch each instruction, and this module requests the
//! callbacks from QEMU.

use std::sync::atomic::Ordering;

use qemu_plugin_sys::{qemu_plugin_cb_flags, qemu_plugin_insn, qemu_plugin_mem_rw, qemu_plugin_tb};

use super::api::Api;
use super::exec_callbacks::{self, token_to_userdata};
use super::insn::Block;
use super::installed::Installed;
use super::scoreboard::Counted;
use super::symbols::ExecCallback;
use super::watch::{MemoryWatch, Token, Watch};

/// Only in a translation callback, for its block.
pub(super) fn translate(installed: &Installed, tb: *mut qemu_plugin_tb) {
    // Relaxed: it publishes nothing, and the end of the machine is after the end of its vCPUs.
    installed.ran.store(true, Ordering::Relaxed);
    let api = &installed.host.api;
    if let Some(flag) = &installed.block_flag {
        flag.watch(api, &installed.vcpus, tb, exec_callbacks::block_begins);
    }
    let block = Block::new(&installed.host, tb);
    let scoreboard = installed.plugin.scoreboard();
    let mut counted = Vec::new();
    for insn in block.insns() {
        let handle = insn.handle();
        let watches = installed.plugin.translate(&insn);
        let is_watched = !watches.is_empty();
        for watch in watches {
            register_watch(api, handle, watch);
        }
        if scoreboard.is_some() {
            let add = installed.plugin.inline_add(&insn);
            // What watches the instruction may read the entries.
            counted.push(Counted { insn: handle, add, begins_segment: is_watched });
        }
    }
    // After the watches: an instruction is reported before it adds.
    if let Some(scoreboard) = scoreboard {
        if counted.iter().any(|counted| counted.add.needs_distance) {
            watch_scored_block(api, tb, block.rip());
        }
        let left = exec_callbacks::block_was_left;
        let (restarted, elsewhere) = (exec_callbacks::restarted, exec_callbacks::added_elsewhere);
        scoreboard.watch(&counted, left, restarted, elsewhere);
    }
}

/// Reports each run of a block, since its address may differ from that of its translation.
fn watch_scored_block(api: &Api, tb: *mut qemu_plugin_tb, rip: u64) {
    let flags = qemu_plugin_cb_flags::QEMU_PLUGIN_CB_R_REGS;
    let userdata = token_to_userdata(Token(rip));
    let register = api.plugin.qemu_plugin_register_vcpu_tb_exec_cb;
    // SAFETY: the block that is being translated; the callback is a function of this library, which stays
    // loaded, and the user data is a number.
    unsafe { register(tb, exec_callbacks::scored_block_begins, flags, userdata) };
}

fn register_watch(api: &Api, insn: *mut qemu_plugin_insn, watch: Watch) {
    use qemu_plugin_cb_flags::{
        QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_CB_R_REGS, QEMU_PLUGIN_CB_RW_REGS,
    };
    let (token, callback, flags): (_, ExecCallback, _) = match watch {
        Watch::Exec(token) => (token, exec_callbacks::exec, QEMU_PLUGIN_CB_R_REGS),
        // Every QEMU takes registers back that were written in place, if it is told to. API 4 offers no
        // other way to write them.
        Watch::ExecAndMemory(token, _) => {
            (token, exec_callbacks::exec_and_memory, QEMU_PLUGIN_CB_RW_REGS)
        }
        Watch::ExecWithWrites(token) => {
            (token, exec_callbacks::exec_with_writes, QEMU_PLUGIN_CB_RW_REGS)
        }
        Watch::ExecReadOnly(token) => {
            (token, exec_callbacks::exec_read_only, QEMU_PLUGIN_CB_R_REGS)
        }
        Watch::ExecNoRegs(token) => (token, exec_callbacks::exec_no_regs, QEMU_PLUGIN_CB_NO_REGS),
        Watch::Tracepoint(token) => (token, exec_callbacks::tracepoint, QEMU_PLUGIN_CB_R_REGS),
        Watch::Block(token) => {
            (token, exec_callbacks::watched_block_begins, QEMU_PLUGIN_CB_NO_REGS)
        }
        Watch::Memory(token, accesses) => {
            let register = api.plugin.qemu_plugin_register_vcpu_mem_cb;
            let (flags, userdata) = (QEMU_PLUGIN_CB_NO_REGS, token_to_userdata(token));
            let callback = exec_callbacks::memory_touched;
            // SAFETY: as below.
            unsafe { register(insn, callback, flags, kinds_of(accesses), userdata) };
            return;
        }
    };
    let userdata = token_to_userdata(token);
    let register = api.plugin.qemu_plugin_register_vcpu_insn_exec_cb;
    // SAFETY: an instruction of the block that is being translated; the callback is a function of this
    // library, which stays loaded, and the user data is a number.
    unsafe { register(insn, callback, flags, userdata) };
    let Watch::ExecAndMemory(_, accesses) = watch else { return };
    let (register, kinds) = (api.plugin.qemu_plugin_register_vcpu_mem_cb, kinds_of(accesses));
    // SAFETY: as above.
    unsafe { register(insn, exec_callbacks::memory, QEMU_PLUGIN_CB_NO_REGS, kinds, userdata) };
}

fn kinds_of(accesses: MemoryWatch) -> qemu_plugin_mem_rw {
    match accesses {
        MemoryWatch::Reads => qemu_plugin_mem_rw::QEMU_PLUGIN_MEM_R,
        MemoryWatch::Writes => qemu_plugin_mem_rw::QEMU_PLUGIN_MEM_W,
        MemoryWatch::All => qemu_plugin_mem_rw::QEMU_PLUGIN_MEM_RW,
    }
}
