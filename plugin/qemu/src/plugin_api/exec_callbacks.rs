//! The C functions that QEMU calls while the guest runs. Each converts its arguments and calls the
//! [`Vcpu`](super::Vcpu).

use std::ffi::{c_uint, c_void};

use qemu_plugin_sys::qemu_plugin_meminfo_t;

use super::installed::{Installed, guarded};
use super::memory_access::MemoryAccess;
use super::registers::{Registers, WritableRegisters};
use super::vcpus::VcpuState;
use super::watch::{Discontinuity, Next, Token, VcpuIndex};

/// A token as QEMU's user data.
pub(super) fn token_to_userdata(token: Token) -> *mut c_void {
    const { assert!(usize::BITS == 64, "a token has 64 bits") };
    std::ptr::without_provenance_mut(token.0 as usize)
}

fn userdata_to_token(userdata: *mut c_void) -> Token {
    Token(userdata.addr() as u64)
}

/// Runs `report` on the state of the vCPU that is in a callback. Only from the callbacks in this file.
#[inline]
fn on_vcpu(vcpu: c_uint, report: impl FnOnce(&'static Installed, &mut VcpuState)) {
    guarded(|installed| {
        // SAFETY: QEMU calls the functions of this file for `vcpu` on the vCPU's thread. None of them calls
        // back into another: what a report asks QEMU for (an access to a port of its own, a register)
        // makes no callback.
        unsafe { installed.vcpus.with(VcpuIndex(vcpu), |state| report(installed, state)) };
    });
}

/// For [`Watch::Exec`](super::Watch::Exec).
pub(super) extern "C" fn exec(vcpu: c_uint, userdata: *mut c_void) {
    on_vcpu(vcpu, |installed, state| {
        let (api, thread) = (&installed.host.api, installed.vcpu_thread());
        let mut registers = Registers::new(api, &mut state.registers, thread);
        let next = state.vcpu.exec(userdata_to_token(userdata), &mut registers);
        follow(installed, vcpu, next);
    });
}

/// For [`Watch::ExecAndMemory`](super::Watch::ExecAndMemory).
pub(super) extern "C" fn exec_and_memory(vcpu: c_uint, userdata: *mut c_void) {
    on_vcpu(vcpu, |installed, state| {
        let (api, thread) = (&installed.host.api, installed.vcpu_thread());
        let mut registers = Registers::of_string(api, &mut state.registers, thread);
        let next = state.vcpu.exec(userdata_to_token(userdata), &mut registers);
        follow(installed, vcpu, next);
    });
}

#[inline]
fn follow(installed: &Installed, vcpu: c_uint, next: Next) {
    if let (Next::Block, Some(flag)) = (next, &installed.block_flag) {
        flag.wait(&installed.host.api, &installed.vcpus, VcpuIndex(vcpu));
    }
}

/// For [`Watch::ExecWithWrites`](super::Watch::ExecWithWrites).
pub(super) extern "C" fn exec_with_writes(vcpu: c_uint, userdata: *mut c_void) {
    on_vcpu(vcpu, |installed, state| {
        let (api, thread) = (&installed.host.api, installed.vcpu_thread());
        let mut registers = WritableRegisters::new(api, &mut state.registers, thread);
        state.vcpu.exec_with_writes(userdata_to_token(userdata), &mut registers);
    });
}

/// For [`Watch::ExecReadOnly`](super::Watch::ExecReadOnly).
pub(super) extern "C" fn exec_read_only(vcpu: c_uint, userdata: *mut c_void) {
    on_vcpu(vcpu, |installed, state| {
        let (api, thread) = (&installed.host.api, installed.vcpu_thread());
        let mut registers = Registers::new(api, &mut state.registers, thread);
        state.vcpu.exec_read_only(userdata_to_token(userdata), &mut registers);
    });
}

/// For [`Watch::ExecNoRegs`](super::Watch::ExecNoRegs).
pub(super) extern "C" fn exec_no_regs(vcpu: c_uint, userdata: *mut c_void) {
    on_vcpu(vcpu, |installed, state| {
        let (api, thread) = (&installed.host.api, installed.vcpu_thread());
        let mut registers = Registers::new(api, &mut state.registers, thread);
        state.vcpu.exec_no_regs(userdata_to_token(userdata), &mut registers);
    });
}

/// For [`Watch::Tracepoint`](super::Watch::Tracepoint).
pub(super) extern "C" fn tracepoint(vcpu: c_uint, userdata: *mut c_void) {
    on_vcpu(vcpu, |installed, state| {
        let (api, thread) = (&installed.host.api, installed.vcpu_thread());
        let mut registers = Registers::new(api, &mut state.registers, thread);
        state.vcpu.tracepoint(userdata_to_token(userdata), &mut registers);
    });
}

/// The accesses of [`Watch::ExecAndMemory`](super::Watch::ExecAndMemory).
pub(super) extern "C" fn memory(
    vcpu: c_uint,
    info: qemu_plugin_meminfo_t,
    vaddr: u64,
    userdata: *mut c_void,
) {
    on_vcpu(vcpu, |installed, state| {
        let access = MemoryAccess::new(&installed.host.api, info, vaddr);
        state.vcpu.memory_accessed(userdata_to_token(userdata), &access);
    });
}

/// For [`Watch::Memory`](super::Watch::Memory).
pub(super) extern "C" fn memory_touched(
    vcpu: c_uint,
    info: qemu_plugin_meminfo_t,
    vaddr: u64,
    userdata: *mut c_void,
) {
    on_vcpu(vcpu, |installed, state| {
        let access = MemoryAccess::new(&installed.host.api, info, vaddr);
        state.vcpu.memory_touched(userdata_to_token(userdata), &access);
    });
}

/// For [`Watch::Block`](super::Watch::Block).
pub(super) extern "C" fn watched_block_begins(vcpu: c_uint, userdata: *mut c_void) {
    on_vcpu(vcpu, |_, state| state.vcpu.watched_block_begins(userdata_to_token(userdata)));
}

/// A block begins that some vCPU may wait for.
pub(super) extern "C" fn block_begins(vcpu: c_uint, _userdata: *mut c_void) {
    on_vcpu(vcpu, |installed, state| {
        let (api, thread) = (&installed.host.api, installed.vcpu_thread());
        let take =
            |flag: &super::block_flag::BlockFlag| flag.take(api, &installed.vcpus, VcpuIndex(vcpu));
        if installed.block_flag.as_ref().is_some_and(take) {
            let mut registers = Registers::new(api, &mut state.registers, thread);
            state.vcpu.block_begins(&mut registers);
        }
    });
}

/// A block begins whose instructions add to the scoreboard. The user data is RIP at its translation.
pub(super) extern "C" fn scored_block_begins(vcpu: c_uint, userdata: *mut c_void) {
    on_vcpu(vcpu, |installed, state| {
        let rip = state.registers.rip(&installed.host.api, installed.vcpu_thread());
        let Token(at_translation) = userdata_to_token(userdata);
        state.vcpu.scored_block_begins(rip.wrapping_sub(at_translation));
    });
}

/// A block begins, and the one before was left in the middle.
pub(super) extern "C" fn block_was_left(vcpu: c_uint, _userdata: *mut c_void) {
    on_vcpu(vcpu, |_, state| state.vcpu.block_was_left());
}

/// The instruction that began last begins again.
pub(super) extern "C" fn restarted(vcpu: c_uint, _userdata: *mut c_void) {
    on_vcpu(vcpu, |_, state| state.vcpu.restarted());
}

/// An instruction has added to the scoreboard, and runs at another address than that of its translation.
pub(super) extern "C" fn added_elsewhere(vcpu: c_uint, userdata: *mut c_void) {
    on_vcpu(vcpu, |_, state| state.vcpu.added_elsewhere(userdata_to_token(userdata)));
}

/// `enum qemu_plugin_discon_type` in `qemu/qemu-plugin.h`, from API 6 on.
pub(super) mod discon_type {
    use std::ffi::c_uint;

    pub const INTERRUPT: c_uint = 1 << 0;
    pub const EXCEPTION: c_uint = 1 << 1;
}

/// For both shapes of the callback.
pub(super) fn discontinuity(vcpu: c_uint, kind: c_uint, from: u64) {
    let event = match kind {
        discon_type::EXCEPTION => Discontinuity::Exception,
        discon_type::INTERRUPT => Discontinuity::Delivered { from },
        _ => return,
    };
    on_vcpu(vcpu, |_, state| state.vcpu.discontinuity(event));
}
