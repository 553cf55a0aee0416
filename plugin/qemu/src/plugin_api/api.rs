//! The plugin API's functions, looked up in the running QEMU.
//!
//! QEMU binds all of a plugin's symbols when it loads it, and one that it lacks is the end; so
//! nothing is linked, everything is looked up. Types are those of `qemu-plugin-sys`, except where a
//! signature changed after its newest (API 5).

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use qemu_plugin_sys::{
    GArray, GByteArray, qemu_plugin_cb_flags, qemu_plugin_cond, qemu_plugin_id_t, qemu_plugin_insn,
    qemu_plugin_mem_rw, qemu_plugin_mem_value, qemu_plugin_meminfo_t, qemu_plugin_register,
    qemu_plugin_scoreboard, qemu_plugin_tb, qemu_plugin_u64,
};

use crate::version::ApiLevel;

/// A function that this QEMU should export and does not.
#[derive(Debug, thiserror::Error)]
#[error("this QEMU does not export {0:?}, which its plugin API {1} should have")]
pub struct MissingFunction(&'static CStr, ApiLevel);

impl MissingFunction {
    pub(super) fn new(symbol: &'static CStr, api: ApiLevel) -> MissingFunction {
        MissingFunction(symbol, api)
    }
}

pub(super) type InsnExecCallback = extern "C" fn(c_uint, *mut c_void);
pub(super) type MemCallback = extern "C" fn(c_uint, qemu_plugin_meminfo_t, u64, *mut c_void);

/// How callbacks are registered, by the two shapes that QEMU has had.
pub(super) enum Registration {
    /// API 4 to 6: every callback is told the plugin's id.
    ById {
        vcpu_init: unsafe extern "C" fn(qemu_plugin_id_t, extern "C" fn(qemu_plugin_id_t, c_uint)),
        tb_trans: unsafe extern "C" fn(
            qemu_plugin_id_t,
            extern "C" fn(qemu_plugin_id_t, *mut qemu_plugin_tb),
        ),
        atexit: unsafe extern "C" fn(
            qemu_plugin_id_t,
            extern "C" fn(qemu_plugin_id_t, *mut c_void),
            *mut c_void,
        ),
        /// API 6 only.
        discontinuity: Option<
            unsafe extern "C" fn(
                qemu_plugin_id_t,
                c_uint,
                extern "C" fn(qemu_plugin_id_t, c_uint, c_uint, u64, u64),
            ),
        >,
    },
    /// API 7: every callback is told what was registered with it.
    ByUserdata {
        vcpu_init:
            unsafe extern "C" fn(qemu_plugin_id_t, extern "C" fn(c_uint, *mut c_void), *mut c_void),
        tb_trans: unsafe extern "C" fn(
            qemu_plugin_id_t,
            extern "C" fn(*mut qemu_plugin_tb, *mut c_void),
            *mut c_void,
        ),
        atexit: unsafe extern "C" fn(qemu_plugin_id_t, extern "C" fn(*mut c_void), *mut c_void),
        discontinuity: unsafe extern "C" fn(
            qemu_plugin_id_t,
            c_uint,
            extern "C" fn(c_uint, c_uint, u64, u64, *mut c_void),
            *mut c_void,
        ),
    },
}

/// `qemu_plugin_read_register`, by the two results that it has had.
pub(super) enum ReadRegister {
    /// API 4 and 5: the size, or -1.
    Length(unsafe extern "C" fn(*mut qemu_plugin_register, *mut GByteArray) -> c_int),
    /// From API 6: whether it worked.
    Success(unsafe extern "C" fn(*mut qemu_plugin_register, *mut GByteArray) -> bool),
}

/// `qemu_plugin_write_register`, from API 5 on, by the two results that it has had.
pub(super) enum WriteRegister {
    /// API 5: the size, or -1.
    Length(unsafe extern "C" fn(*mut qemu_plugin_register, *mut GByteArray) -> c_int),
    /// From API 6: whether it worked.
    Success(unsafe extern "C" fn(*mut qemu_plugin_register, *mut GByteArray) -> bool),
}

/// The functions that pvio calls, of the API level that this QEMU has.
pub(super) struct Api {
    pub registration: Registration,
    pub read_register: ReadRegister,
    /// `None` below API 5.
    pub write_register: Option<WriteRegister>,
    pub get_registers: unsafe extern "C" fn() -> *mut GArray,
    pub tb_n_insns: unsafe extern "C" fn(*const qemu_plugin_tb) -> usize,
    pub tb_get_insn: unsafe extern "C" fn(*const qemu_plugin_tb, usize) -> *mut qemu_plugin_insn,
    pub insn_data: unsafe extern "C" fn(*const qemu_plugin_insn, *mut c_void, usize) -> usize,
    pub insn_vaddr: unsafe extern "C" fn(*const qemu_plugin_insn) -> u64,
    pub insn_disas: unsafe extern "C" fn(*const qemu_plugin_insn) -> *mut c_char,
    pub register_insn_exec_cb: unsafe extern "C" fn(
        *mut qemu_plugin_insn,
        InsnExecCallback,
        qemu_plugin_cb_flags,
        *mut c_void,
    ),
    pub register_mem_cb: unsafe extern "C" fn(
        *mut qemu_plugin_insn,
        MemCallback,
        qemu_plugin_cb_flags,
        qemu_plugin_mem_rw,
        *mut c_void,
    ),
    pub register_tb_exec_cb: unsafe extern "C" fn(
        *mut qemu_plugin_tb,
        InsnExecCallback,
        qemu_plugin_cb_flags,
        *mut c_void,
    ),
    pub register_tb_exec_cond_cb: unsafe extern "C" fn(
        *mut qemu_plugin_tb,
        InsnExecCallback,
        qemu_plugin_cb_flags,
        qemu_plugin_cond,
        qemu_plugin_u64,
        u64,
        *mut c_void,
    ),
    pub mem_get_value: unsafe extern "C" fn(qemu_plugin_meminfo_t) -> qemu_plugin_mem_value,
    pub scoreboard_new: unsafe extern "C" fn(usize) -> *mut qemu_plugin_scoreboard,
    pub u64_set: unsafe extern "C" fn(qemu_plugin_u64, c_uint, u64),
    // GLib, which QEMU's API speaks and QEMU is linked to.
    pub byte_array_new: unsafe extern "C" fn() -> *mut GByteArray,
    pub byte_array_set_size: unsafe extern "C" fn(*mut GByteArray, c_uint) -> *mut GByteArray,
    pub array_get_element_size: unsafe extern "C" fn(*mut GArray) -> c_uint,
    pub array_free: unsafe extern "C" fn(*mut GArray, c_int) -> *mut c_char,
    pub free: unsafe extern "C" fn(*mut c_void),
}

/// A function of the API, looked up; an error where this QEMU lacks it.
macro_rules! function {
    ($level:expr, $symbol:literal) => {{
        let address = $crate::internals::lookup($symbol)
            .ok_or($crate::plugin_api::api::MissingFunction::new($symbol, $level))?;
        #[allow(clippy::missing_transmute_annotations, reason = "the place's type stands once")]
        // SAFETY: a non-null address of the C function of this name; the type that it is given is
        // that of the QEMU (or GLib) header for this API level.
        unsafe {
            std::mem::transmute(address)
        }
    }};
}

pub(super) use function;

impl Api {
    /// Looks everything up. `level` is what QEMU said in `qemu_info_t`.
    pub fn load(level: ApiLevel) -> Result<Api, MissingFunction> {
        let registration = if level >= ApiLevel::USERDATA {
            Registration::ByUserdata {
                vcpu_init: function!(level, c"qemu_plugin_register_vcpu_init_cb"),
                tb_trans: function!(level, c"qemu_plugin_register_vcpu_tb_trans_cb"),
                atexit: function!(level, c"qemu_plugin_register_atexit_cb"),
                discontinuity: function!(level, c"qemu_plugin_register_vcpu_discon_cb"),
            }
        } else {
            Registration::ById {
                vcpu_init: function!(level, c"qemu_plugin_register_vcpu_init_cb"),
                tb_trans: function!(level, c"qemu_plugin_register_vcpu_tb_trans_cb"),
                atexit: function!(level, c"qemu_plugin_register_atexit_cb"),
                discontinuity: if level >= ApiLevel::DISCONTINUITIES {
                    Some(function!(level, c"qemu_plugin_register_vcpu_discon_cb"))
                } else {
                    None
                },
            }
        };
        let read_register = if level >= ApiLevel::DISCONTINUITIES {
            ReadRegister::Success(function!(level, c"qemu_plugin_read_register"))
        } else {
            ReadRegister::Length(function!(level, c"qemu_plugin_read_register"))
        };
        let can_write = level >= ApiLevel::WRITES;
        Ok(Api {
            registration,
            read_register,
            write_register: match can_write {
                false => None,
                true if level >= ApiLevel::DISCONTINUITIES => {
                    Some(WriteRegister::Success(function!(level, c"qemu_plugin_write_register")))
                }
                true => {
                    Some(WriteRegister::Length(function!(level, c"qemu_plugin_write_register")))
                }
            },
            get_registers: function!(level, c"qemu_plugin_get_registers"),
            tb_n_insns: function!(level, c"qemu_plugin_tb_n_insns"),
            tb_get_insn: function!(level, c"qemu_plugin_tb_get_insn"),
            insn_data: function!(level, c"qemu_plugin_insn_data"),
            insn_vaddr: function!(level, c"qemu_plugin_insn_vaddr"),
            insn_disas: function!(level, c"qemu_plugin_insn_disas"),
            register_insn_exec_cb: function!(level, c"qemu_plugin_register_vcpu_insn_exec_cb"),
            register_mem_cb: function!(level, c"qemu_plugin_register_vcpu_mem_cb"),
            register_tb_exec_cb: function!(level, c"qemu_plugin_register_vcpu_tb_exec_cb"),
            register_tb_exec_cond_cb: function!(
                level,
                c"qemu_plugin_register_vcpu_tb_exec_cond_cb"
            ),
            mem_get_value: function!(level, c"qemu_plugin_mem_get_value"),
            scoreboard_new: function!(level, c"qemu_plugin_scoreboard_new"),
            u64_set: function!(level, c"qemu_plugin_u64_set"),
            byte_array_new: function!(level, c"g_byte_array_new"),
            byte_array_set_size: function!(level, c"g_byte_array_set_size"),
            array_get_element_size: function!(level, c"g_array_get_element_size"),
            array_free: function!(level, c"g_array_free"),
            free: function!(level, c"g_free"),
        })
    }
}
