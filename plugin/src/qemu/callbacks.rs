//! What QEMU calls: C functions of both shapes, each of which turns its arguments into values and
//! hands them to the [`Plugin`](super::Plugin) or [`Vcpu`](super::Vcpu).
//!
//! A panic must not unwind into QEMU: each function catches it. The guest goes on; the panic's own
//! message is on stderr, followed by a line that says what it means for the counts.

use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use once_cell::sync::OnceCell;
use qemu_plugin_sys::{
    qemu_plugin_cb_flags, qemu_plugin_id_t, qemu_plugin_insn, qemu_plugin_mem_rw,
    qemu_plugin_meminfo_t, qemu_plugin_tb,
};

use super::api::{Api, Registration};
use super::exports::Exports;
use super::insn::Insn;
use super::registers::{RegisterFile, Registers};
use super::vcpus::{VcpuState, Vcpus};
use super::version::ApiLevel;
use super::{Discontinuity, MemoryAccess, Plugin, Token, VcpuIndex, Watch};

/// What the callbacks work with.
pub(super) struct Installed {
    pub api: Api,
    pub exports: Exports,
    pub vcpus: Vcpus,
    pub plugin: Box<dyn Plugin>,
    /// Whether the guest has begun to run: a block has been translated.
    pub ran: AtomicBool,
}

/// Before API 7 QEMU gives its callbacks nothing to find their plugin by, so there is one global.
/// It is set once, when the plugin is installed.
pub(super) static INSTALLED: OnceCell<Installed> = OnceCell::new();

/// `enum qemu_plugin_discon_type` in `qemu-plugin.h`, API 6.
const DISCON_INTERRUPT: c_uint = 1 << 0;
const DISCON_EXCEPTION: c_uint = 1 << 1;

fn token_to_userdata(token: Token) -> *mut c_void {
    const { assert!(usize::BITS == 64, "a token has 64 bits") };
    std::ptr::without_provenance_mut(token.0 as usize)
}

fn userdata_to_token(userdata: *mut c_void) -> Token {
    Token(userdata.addr() as u64)
}

/// Runs a callback's work, if a plugin is installed, and keeps a panic from crossing into QEMU.
fn guarded(work: impl FnOnce(&'static Installed)) {
    static SAID: AtomicBool = AtomicBool::new(false);
    let Some(installed) = INSTALLED.get() else { return };
    let result = catch_unwind(AssertUnwindSafe(|| work(installed)));
    if result.is_err() && !SAID.swap(true, Ordering::Relaxed) {
        eprintln!("pvio: an error of pvio itself (above): the guest goes on, its counts are wrong");
    }
}

/// Asks QEMU for all callbacks.
pub(super) fn register(id: qemu_plugin_id_t, api: &Api) {
    match &api.registration {
        Registration::ById { vcpu_init, tb_trans, atexit, discontinuity } => {
            vcpu_init(id, vcpu_init_by_id);
            tb_trans(id, tb_trans_by_id);
            atexit(id, atexit_by_id, std::ptr::null_mut());
            if let Some(register) = discontinuity {
                register(id, DISCON_INTERRUPT | DISCON_EXCEPTION, discontinuity_by_id);
            }
        }
        Registration::ByUserdata { vcpu_init, tb_trans, atexit, discontinuity } => {
            let none = std::ptr::null_mut();
            vcpu_init(id, vcpu_init_by_userdata, none);
            tb_trans(id, tb_trans_by_userdata, none);
            atexit(id, atexit_by_userdata, none);
            let types = DISCON_INTERRUPT | DISCON_EXCEPTION;
            discontinuity(id, types, discontinuity_by_userdata, none);
        }
    }
}

extern "C" fn vcpu_init_by_id(_id: qemu_plugin_id_t, vcpu: c_uint) {
    guarded(|installed| vcpu_begins(installed, VcpuIndex(vcpu)));
}

extern "C" fn vcpu_init_by_userdata(vcpu: c_uint, _userdata: *mut c_void) {
    guarded(|installed| vcpu_begins(installed, VcpuIndex(vcpu)));
}

fn vcpu_begins(installed: &Installed, index: VcpuIndex) {
    let has_thread = installed.vcpus.begin(index, || VcpuState {
        registers: RegisterFile::of_current_vcpu(&installed.api)
            .unwrap_or_else(|error| panic!("{error}")),
        vcpu: installed.plugin.vcpu_begins(index),
    });
    if !has_thread {
        installed.plugin.vcpus_share_a_thread();
    }
}

extern "C" fn tb_trans_by_id(_id: qemu_plugin_id_t, tb: *mut qemu_plugin_tb) {
    guarded(|installed| translate(installed, tb));
}

extern "C" fn tb_trans_by_userdata(tb: *mut qemu_plugin_tb, _userdata: *mut c_void) {
    guarded(|installed| translate(installed, tb));
}

fn translate(installed: &Installed, tb: *mut qemu_plugin_tb) {
    installed.ran.store(true, Ordering::Relaxed);
    let api = &installed.api;
    for index in 0..(api.tb_n_insns)(tb) {
        let handle = (api.tb_get_insn)(tb, index);
        let insn = Insn::new(api, &installed.exports, handle);
        if let Some(watch) = installed.plugin.translate(&insn) {
            register_watch(api, handle, watch);
        }
    }
}

fn register_watch(api: &Api, insn: *mut qemu_plugin_insn, watch: Watch) {
    use qemu_plugin_cb_flags::{QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_CB_R_REGS};
    let userdata = token_to_userdata(watch.token);
    let flags = if watch.registers { QEMU_PLUGIN_CB_R_REGS } else { QEMU_PLUGIN_CB_NO_REGS };
    (api.register_insn_exec_cb)(insn, insn_exec, flags, userdata);
    if let Some(access) = watch.memory {
        let which = match access {
            MemoryAccess::Load => qemu_plugin_mem_rw::QEMU_PLUGIN_MEM_R,
            MemoryAccess::Store => qemu_plugin_mem_rw::QEMU_PLUGIN_MEM_W,
        };
        (api.register_mem_cb)(insn, memory, QEMU_PLUGIN_CB_NO_REGS, which, userdata);
    }
}

extern "C" fn insn_exec(vcpu: c_uint, userdata: *mut c_void) {
    guarded(|installed| {
        let report = |state: &mut VcpuState| {
            let mut registers = Registers::new(&installed.api, &mut state.registers);
            state.vcpu.about_to_run(userdata_to_token(userdata), &mut registers);
        };
        // SAFETY: QEMU calls this for `vcpu` on its thread, and nothing here calls back into it.
        unsafe { installed.vcpus.with(VcpuIndex(vcpu), report) };
    });
}

extern "C" fn memory(
    vcpu: c_uint,
    _info: qemu_plugin_meminfo_t,
    _vaddr: u64,
    userdata: *mut c_void,
) {
    guarded(|installed| {
        let report = |state: &mut VcpuState| {
            state.vcpu.memory_accessed(userdata_to_token(userdata));
        };
        // SAFETY: as in `insn_exec`.
        unsafe { installed.vcpus.with(VcpuIndex(vcpu), report) };
    });
}

extern "C" fn discontinuity_by_id(
    _id: qemu_plugin_id_t,
    vcpu: c_uint,
    kind: c_uint,
    from: u64,
    _to: u64,
) {
    guarded(|installed| discontinuity(installed, VcpuIndex(vcpu), kind, from));
}

extern "C" fn discontinuity_by_userdata(
    vcpu: c_uint,
    kind: c_uint,
    from: u64,
    _to: u64,
    _userdata: *mut c_void,
) {
    guarded(|installed| discontinuity(installed, VcpuIndex(vcpu), kind, from));
}

fn discontinuity(installed: &Installed, vcpu: VcpuIndex, kind: c_uint, from: u64) {
    let event = match kind {
        DISCON_EXCEPTION => Discontinuity::Exception,
        DISCON_INTERRUPT => Discontinuity::Delivered { from },
        _ => return,
    };
    // SAFETY: as in `insn_exec`.
    unsafe { installed.vcpus.with(vcpu, |state| state.vcpu.discontinuity(event)) };
}

extern "C" fn atexit_by_id(_id: qemu_plugin_id_t, _userdata: *mut c_void) {
    guarded(machine_ended);
}

extern "C" fn atexit_by_userdata(_userdata: *mut c_void) {
    guarded(machine_ended);
}

fn machine_ended(installed: &Installed) {
    let how = installed.exports.ended();
    // QEMU also comes here when it gives up before the guest runs (and would in the parent of
    // `-daemonize`, if it forked after it has loaded plugins): there was no machine to end.
    let ran = installed.ran.load(Ordering::Relaxed)
        || !matches!(how, super::Ended::Exit | super::Ended::Unknown);
    if ran {
        installed.plugin.machine_ended(how);
    }
}

/// Whether exceptions are reported at this API level.
pub(super) fn reports_exceptions(level: ApiLevel) -> bool {
    level >= ApiLevel::DISCONTINUITIES
}
