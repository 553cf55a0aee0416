//! What QEMU calls: C functions of both shapes, each of which turns its arguments into values and
//! hands them to the [`Plugin`](super::Plugin) or [`Vcpu`](super::Vcpu).
//!
//! A panic must not unwind into QEMU: each function catches it. The guest goes on; the panic's own
//! message is on stderr, followed by a line that says what it means for the counts.

use std::ffi::{c_uint, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use once_cell::sync::OnceCell;
use qemu_plugin_sys::{
    qemu_plugin_cb_flags, qemu_plugin_id_t, qemu_plugin_insn, qemu_plugin_mem_rw,
    qemu_plugin_mem_value_type, qemu_plugin_meminfo_t, qemu_plugin_tb,
};

use super::api::{Api, InsnExecCallback, Registration};
use super::block_flag::BlockFlag;
use super::insn::{Block, Insn};
use super::register_file::{RegisterFile, RipHandle, Whose};
use super::registers::{CallingVcpu, Registers};
use super::vcpus::{VcpuState, Vcpus};
use super::{Discontinuity, MemoryWatch, Next, Plugin, Token, VcpuIndex, Watch};
use crate::internals::CpuLayout;
use crate::internals::{Ended, Exports, current_cpu};
use crate::report::say;

/// What the callbacks work with.
pub(super) struct Installed {
    pub api: Api,
    pub exports: Exports,
    /// Where registers are, if QEMU tells.
    pub layout: Option<CpuLayout>,
    pub vcpus: Vcpus,
    pub plugin: Box<dyn Plugin>,
    /// Whether the guest has begun to run: a block has been translated.
    pub ran: AtomicBool,
    /// How to ask for RIP, once a vCPU has begun.
    pub rip: OnceCell<RipHandle>,
    /// Where the plugin follows blocks.
    pub block_flag: Option<BlockFlag>,
}

impl Installed {
    fn whose_registers(&self) -> Whose {
        if self.vcpus.share_a_thread() { Whose::Shared } else { Whose::Own }
    }
}

/// Before API 7 QEMU gives its callbacks nothing to find their plugin by, so there is one global.
/// It is set once, when the plugin is installed.
static INSTALLED: OnceCell<Installed> = OnceCell::new();

/// The same for callbacks, from the installation to the end of the machine. QEMU may leave while vCPUs
/// run: what they do after that nobody counts, so that the counters stand still.
static OPEN: AtomicPtr<Installed> = AtomicPtr::new(std::ptr::null_mut());

/// Installs what callbacks work with, once; `None` where it was done before.
pub(super) fn open(installed: Installed) -> Option<&'static Installed> {
    INSTALLED.set(installed).ok()?;
    let installed = INSTALLED.get()?;
    OPEN.store(std::ptr::from_ref(installed).cast_mut(), Ordering::Release);
    Some(installed)
}

/// One access of an instruction to guest memory.
pub struct MemoryAccess<'a> {
    api: &'a Api,
    info: qemu_plugin_meminfo_t,
    /// It belongs to the callback's thread.
    callback: PhantomData<*mut ()>,
}

impl MemoryAccess<'_> {
    /// What was read or written, zero-extended; of more than 4 bytes the low ones.
    pub fn value(&self) -> u32 {
        // SAFETY: QEMU's own description of the access, in the callback for it.
        let value = unsafe { (self.api.mem_get_value)(self.info) };
        // SAFETY: each variant is a plain number in the low bytes, of the size that `type_` names.
        unsafe {
            match value.type_ {
                qemu_plugin_mem_value_type::QEMU_PLUGIN_MEM_VALUE_U8 => value.data.u8_.into(),
                qemu_plugin_mem_value_type::QEMU_PLUGIN_MEM_VALUE_U16 => value.data.u16_.into(),
                _ => value.data.u32_,
            }
        }
    }
}

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
    // SAFETY: null or what is in `INSTALLED` for ever, of which only shared references are made.
    let Some(installed) = (unsafe { OPEN.load(Ordering::Acquire).as_ref() }) else { return };
    let result = catch_unwind(AssertUnwindSafe(|| work(installed)));
    if result.is_err() && !SAID.swap(true, Ordering::Relaxed) {
        say("an error of pvio itself (above): the guest goes on, its counts are wrong");
    }
}

/// Asks QEMU for all callbacks.
pub(super) fn register(id: qemu_plugin_id_t, api: &Api) {
    // SAFETY: `id` is the plugin's own, from QEMU; the callbacks are functions of this library, which
    // stays loaded, of the types that this API level calls them with.
    unsafe {
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
}

extern "C" fn vcpu_init_by_id(_id: qemu_plugin_id_t, vcpu: c_uint) {
    guarded(|installed| vcpu_begins(installed, VcpuIndex(vcpu)));
}

extern "C" fn vcpu_init_by_userdata(vcpu: c_uint, _userdata: *mut c_void) {
    guarded(|installed| vcpu_begins(installed, VcpuIndex(vcpu)));
}

fn vcpu_begins(installed: &Installed, index: VcpuIndex) {
    let registers = || {
        let file = RegisterFile::of_current_vcpu(&installed.api, current_cpu(), installed.layout)
            .unwrap_or_else(|error| panic!("{error}"));
        installed.rip.get_or_init(|| file.rip_handle());
        file
    };
    let vcpu = || installed.plugin.vcpu_begins(index);
    let has_thread = installed.vcpus.begin(index, registers, vcpu);
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
    if let Some(flag) = &installed.block_flag {
        flag.watch(api, &installed.vcpus, tb, block_begins);
    }
    // SAFETY: QEMU's block, which lasts as long as this callback, and has at least one instruction.
    let (count, first) = unsafe { ((api.tb_n_insns)(tb), (api.tb_get_insn)(tb, 0)) };
    let block = Block::new(installed, first);
    let counters = installed.plugin.insn_counters();
    if counters.is_some() {
        watch_counted_block(api, tb, block.rip());
    }
    for index in 0..count {
        // SAFETY: as above; it has that many instructions.
        let handle = unsafe { (api.tb_get_insn)(tb, index) };
        let insn = Insn::new(&block, handle);
        for watch in installed.plugin.translate(&insn) {
            register_watch(api, handle, watch);
        }
        // Behind the watch: what is told of the instruction comes before it is counted.
        if let Some(counters) = counters {
            let count = installed.plugin.count(&insn);
            counters.watch(handle, index == 0, count, restarted, counted_elsewhere);
        }
    }
}

/// Has each run of a block reported, since it may be at another address than that of its translation.
fn watch_counted_block(api: &Api, tb: *mut qemu_plugin_tb, rip: u64) {
    let flags = qemu_plugin_cb_flags::QEMU_PLUGIN_CB_R_REGS;
    let userdata = token_to_userdata(Token(rip));
    // SAFETY: the block that is being translated; the callback is a function of this library, which stays
    // loaded, and the user data is a number.
    unsafe { (api.register_tb_exec_cb)(tb, counted_block, flags, userdata) };
}

fn register_watch(api: &Api, insn: *mut qemu_plugin_insn, watch: Watch) {
    use qemu_plugin_cb_flags::{
        QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_CB_R_REGS, QEMU_PLUGIN_CB_RW_REGS,
    };
    let (token, callback, flags, memory_watch): (_, InsnExecCallback, _, _) = match watch {
        Watch::Runs(token, None) => (token, insn_exec, QEMU_PLUGIN_CB_R_REGS, None),
        // Every QEMU takes registers back that were written in place, if it is told to.
        Watch::Runs(token, accesses) => (token, string_exec, QEMU_PLUGIN_CB_RW_REGS, accesses),
        Watch::Calls(token) => (token, call, QEMU_PLUGIN_CB_RW_REGS, None),
        Watch::Doorbell(token) => (token, doorbell, QEMU_PLUGIN_CB_NO_REGS, None),
        Watch::RegisterMailbox(token) => (token, register_mailbox, QEMU_PLUGIN_CB_R_REGS, None),
        Watch::Passes(token) => (token, passes, QEMU_PLUGIN_CB_R_REGS, None),
    };
    let userdata = token_to_userdata(token);
    // SAFETY: an instruction of the block that is being translated; the callback is a function of this
    // library, which stays loaded, and the user data is a number.
    unsafe { (api.register_insn_exec_cb)(insn, callback, flags, userdata) };
    let accesses = match memory_watch {
        None => return,
        Some(MemoryWatch::Reads) => qemu_plugin_mem_rw::QEMU_PLUGIN_MEM_R,
        Some(MemoryWatch::Writes) => qemu_plugin_mem_rw::QEMU_PLUGIN_MEM_W,
    };
    // SAFETY: as above.
    unsafe { (api.register_mem_cb)(insn, memory, QEMU_PLUGIN_CB_NO_REGS, accesses, userdata) };
}

extern "C" fn insn_exec(vcpu: c_uint, userdata: *mut c_void) {
    about_to_run(vcpu, userdata, false);
}

/// One with accesses to guest memory.
extern "C" fn string_exec(vcpu: c_uint, userdata: *mut c_void) {
    about_to_run(vcpu, userdata, true);
}

fn about_to_run(vcpu: c_uint, userdata: *mut c_void, is_string: bool) {
    guarded(|installed| {
        let whose = installed.whose_registers();
        let report = |state: &mut VcpuState| {
            let (api, file) = (&installed.api, &mut state.registers);
            let mut registers = match is_string {
                true => Registers::of_string(api, file, whose),
                false => Registers::new(api, file, whose),
            };
            let next = state.vcpu.about_to_run(userdata_to_token(userdata), &mut registers);
            if let (Next::Block, Some(flag)) = (next, &installed.block_flag) {
                flag.wait(installed, VcpuIndex(vcpu));
            }
        };
        // SAFETY: QEMU calls this for `vcpu` on its thread, and nothing here calls back into it.
        unsafe { installed.vcpus.with(VcpuIndex(vcpu), report) };
    });
}

/// A block begins whose instructions are counted; `userdata` is what RIP was when it was translated.
extern "C" fn counted_block(vcpu: c_uint, userdata: *mut c_void) {
    guarded(|installed| {
        let whose = installed.whose_registers();
        let report = |state: &mut VcpuState| {
            let rip = state.registers.rip(&installed.api, whose);
            let Token(at_translation) = userdata_to_token(userdata);
            state.vcpu.counted_block(rip.wrapping_sub(at_translation));
        };
        // SAFETY: as in `insn_exec`.
        unsafe { installed.vcpus.with(VcpuIndex(vcpu), report) };
    });
}

/// An instruction starts that was counted when it started before.
extern "C" fn restarted(vcpu: c_uint, _userdata: *mut c_void) {
    guarded(|installed| {
        // SAFETY: as in `insn_exec`.
        unsafe { installed.vcpus.with(VcpuIndex(vcpu), |state| state.vcpu.counted_again()) };
    });
}

/// An instruction of a block was counted that runs at another address than that of its translation.
extern "C" fn counted_elsewhere(vcpu: c_uint, userdata: *mut c_void) {
    guarded(|installed| {
        let report =
            |state: &mut VcpuState| state.vcpu.counted_elsewhere(userdata_to_token(userdata));
        // SAFETY: as in `insn_exec`.
        unsafe { installed.vcpus.with(VcpuIndex(vcpu), report) };
    });
}

extern "C" fn call(vcpu: c_uint, userdata: *mut c_void) {
    guarded(|installed| {
        let whose = installed.whose_registers();
        let report = |state: &mut VcpuState| {
            let mut calling = CallingVcpu::new(&installed.api, &mut state.registers, whose);
            state.vcpu.called(userdata_to_token(userdata), &mut calling);
        };
        // SAFETY: as in `insn_exec`. What QEMU is asked for in a call (an access to a port of its own)
        // makes no callback.
        unsafe { installed.vcpus.with(VcpuIndex(vcpu), report) };
    });
}

extern "C" fn doorbell(vcpu: c_uint, userdata: *mut c_void) {
    guarded(|installed| {
        let whose = installed.whose_registers();
        let report = |state: &mut VcpuState| {
            let rip = state.registers.rip(&installed.api, whose);
            state.vcpu.doorbell(userdata_to_token(userdata), rip);
        };
        // SAFETY: as in `call`.
        unsafe { installed.vcpus.with(VcpuIndex(vcpu), report) };
    });
}

extern "C" fn register_mailbox(vcpu: c_uint, userdata: *mut c_void) {
    guarded(|installed| {
        let whose = installed.whose_registers();
        let report = |state: &mut VcpuState| {
            let mut calling = CallingVcpu::new(&installed.api, &mut state.registers, whose);
            state.vcpu.register_mailbox(userdata_to_token(userdata), &mut calling);
        };
        // SAFETY: as in `insn_exec`.
        unsafe { installed.vcpus.with(VcpuIndex(vcpu), report) };
    });
}

extern "C" fn passes(vcpu: c_uint, userdata: *mut c_void) {
    guarded(|installed| {
        let whose = installed.whose_registers();
        let report = |state: &mut VcpuState| {
            let mut registers = Registers::new(&installed.api, &mut state.registers, whose);
            state.vcpu.passes(userdata_to_token(userdata), &mut registers);
        };
        // SAFETY: as in `insn_exec`.
        unsafe { installed.vcpus.with(VcpuIndex(vcpu), report) };
    });
}

extern "C" fn memory(
    vcpu: c_uint,
    info: qemu_plugin_meminfo_t,
    _vaddr: u64,
    userdata: *mut c_void,
) {
    guarded(|installed| {
        let report = |state: &mut VcpuState| {
            let access = MemoryAccess { api: &installed.api, info, callback: PhantomData };
            state.vcpu.memory_accessed(userdata_to_token(userdata), &access);
        };
        // SAFETY: as in `insn_exec`.
        unsafe { installed.vcpus.with(VcpuIndex(vcpu), report) };
    });
}

extern "C" fn block_begins(vcpu: c_uint, _userdata: *mut c_void) {
    guarded(|installed| {
        let awaited = installed
            .block_flag
            .as_ref()
            .is_some_and(|flag| flag.is_awaited(installed, VcpuIndex(vcpu)));
        if !awaited {
            return;
        }
        let whose = installed.whose_registers();
        let report = |state: &mut VcpuState| {
            let mut registers = Registers::new(&installed.api, &mut state.registers, whose);
            state.vcpu.block_begins(&mut registers);
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
    let ran = installed.ran.load(Ordering::Relaxed) || !matches!(how, Ended::Exit | Ended::Unknown);
    OPEN.store(std::ptr::null_mut(), Ordering::Release);
    if ran {
        installed.plugin.machine_ended(how);
    } else if how == Ended::Unknown {
        // Such a QEMU does not tell which accelerator it has, either.
        say(
            "nothing was counted: QEMU has ended without a call of the plugin; it makes them where it \
             runs the guest by TCG (-accel tcg) alone",
        );
    }
}
