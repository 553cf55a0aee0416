//! The callbacks that QEMU makes for the plugin as a whole, in both shapes, and how they are registered.

use std::ffi::{c_uint, c_void};
use std::sync::atomic::Ordering;

use qemu_plugin_sys::{qemu_plugin_id_t, qemu_plugin_tb};

use super::api::{Api, Registration};
use super::exec_callbacks::{discon_type, discontinuity};
use super::installed::{self, Installed, guarded};
use super::register_file::RegisterFile;
use super::translation::translate;
use super::watch::VcpuIndex;
use crate::internals::{Ended, current_cpu};
use crate::report::say;

/// Asks QEMU for all callbacks. Those of idle vCPUs are for plugins that want them.
pub(super) fn register(id: qemu_plugin_id_t, api: &Api, follows_idle: bool) {
    let (kinds, none) = (discon_type::INTERRUPT | discon_type::EXCEPTION, std::ptr::null_mut());
    // SAFETY: `id` is the plugin's own, from QEMU; the callbacks are functions of this library, which
    // stays loaded, of the types that this API level calls them with.
    unsafe {
        match &api.registration {
            Registration::ById(functions, discontinuities) => {
                (functions.qemu_plugin_register_vcpu_init_cb)(id, by_id::vcpu_init);
                (functions.qemu_plugin_register_vcpu_tb_trans_cb)(id, by_id::tb_trans);
                (functions.qemu_plugin_register_atexit_cb)(id, by_id::atexit, none);
                if follows_idle {
                    (functions.qemu_plugin_register_vcpu_idle_cb)(id, by_id::vcpu_idle);
                    (functions.qemu_plugin_register_vcpu_resume_cb)(id, by_id::vcpu_resume);
                }
                if let Some(functions) = discontinuities {
                    let register = functions.qemu_plugin_register_vcpu_discon_cb;
                    register(id, kinds, by_id::vcpu_discon);
                }
            }
            Registration::ByUserdata(functions) => {
                use by_userdata::{
                    atexit, tb_trans, vcpu_discon, vcpu_idle, vcpu_init, vcpu_resume,
                };
                (functions.qemu_plugin_register_vcpu_init_cb)(id, vcpu_init, none);
                (functions.qemu_plugin_register_vcpu_tb_trans_cb)(id, tb_trans, none);
                (functions.qemu_plugin_register_atexit_cb)(id, atexit, none);
                (functions.qemu_plugin_register_vcpu_discon_cb)(id, kinds, vcpu_discon, none);
                if follows_idle {
                    (functions.qemu_plugin_register_vcpu_idle_cb)(id, vcpu_idle, none);
                    (functions.qemu_plugin_register_vcpu_resume_cb)(id, vcpu_resume, none);
                }
            }
        }
    }
}

/// API 4 to 6.
mod by_id {
    use super::*;

    pub extern "C" fn vcpu_init(_id: qemu_plugin_id_t, vcpu: c_uint) {
        guarded(|installed| vcpu_begins(installed, VcpuIndex(vcpu)));
    }

    pub extern "C" fn vcpu_idle(_id: qemu_plugin_id_t, vcpu: c_uint) {
        guarded(|installed| installed.plugin.vcpu_idles(VcpuIndex(vcpu)));
    }

    pub extern "C" fn vcpu_resume(_id: qemu_plugin_id_t, vcpu: c_uint) {
        guarded(|installed| installed.plugin.vcpu_resumes(VcpuIndex(vcpu)));
    }

    pub extern "C" fn tb_trans(_id: qemu_plugin_id_t, tb: *mut qemu_plugin_tb) {
        guarded(|installed| translate(installed, tb));
    }

    pub extern "C" fn vcpu_discon(
        _id: qemu_plugin_id_t,
        vcpu: c_uint,
        kind: c_uint,
        from: u64,
        _to: u64,
    ) {
        discontinuity(vcpu, kind, from);
    }

    pub extern "C" fn atexit(_id: qemu_plugin_id_t, _userdata: *mut c_void) {
        guarded(machine_ended);
    }
}

/// API 7.
mod by_userdata {
    use super::*;

    pub extern "C" fn vcpu_init(vcpu: c_uint, _userdata: *mut c_void) {
        guarded(|installed| vcpu_begins(installed, VcpuIndex(vcpu)));
    }

    pub extern "C" fn vcpu_idle(vcpu: c_uint, _userdata: *mut c_void) {
        guarded(|installed| installed.plugin.vcpu_idles(VcpuIndex(vcpu)));
    }

    pub extern "C" fn vcpu_resume(vcpu: c_uint, _userdata: *mut c_void) {
        guarded(|installed| installed.plugin.vcpu_resumes(VcpuIndex(vcpu)));
    }

    pub extern "C" fn tb_trans(tb: *mut qemu_plugin_tb, _userdata: *mut c_void) {
        guarded(|installed| translate(installed, tb));
    }

    pub extern "C" fn vcpu_discon(
        vcpu: c_uint,
        kind: c_uint,
        from: u64,
        _to: u64,
        _userdata: *mut c_void,
    ) {
        discontinuity(vcpu, kind, from);
    }

    pub extern "C" fn atexit(_userdata: *mut c_void) {
        guarded(machine_ended);
    }
}

fn vcpu_begins(installed: &Installed, index: VcpuIndex) {
    let host = &installed.host;
    let registers = || {
        let file = RegisterFile::of_current_vcpu(&host.api, current_cpu(), host.layout)
            .unwrap_or_else(|error| panic!("{error}"));
        host.learn_registers(&file);
        file
    };
    let vcpu = || installed.plugin.vcpu_begins(index);
    let has_thread = installed.vcpus.begin(index, registers, vcpu);
    if !has_thread {
        installed.plugin.vcpus_share_a_thread();
    }
}

fn machine_ended(installed: &Installed) {
    let how = match installed.shutdown.ended() {
        // A shutdown ends QEMU on its main thread; a device or a hypercall that calls `exit`, on the vCPU's.
        Ended::Unknown if installed.vcpus.run_on_this_thread() => Ended::Exit,
        how => how,
    };
    // QEMU also comes here when it gives up before the guest runs (and would in the parent of
    // `-daemonize`, if it forked after it has loaded plugins): there was no machine to end.
    let ran = installed.ran.load(Ordering::Relaxed) || !matches!(how, Ended::Exit | Ended::Unknown);
    installed::close();
    if ran {
        installed.plugin.machine_ended(how);
    } else if how == Ended::Unknown {
        // Such a QEMU does not report its accelerator either.
        say(
            "nothing was counted, because QEMU never called the plugin; it calls plugins only if it runs the \
             guest with TCG: start it with -accel tcg",
        );
    }
}
