//! The functions of the plugin API that pvio uses. Each is listed once for each type that it has had, with
//! its header and the versions of QEMU that have it.
//!
//! | plugin API | QEMU |
//! | --- | --- |
//! | 4 | 9.2 |
//! | 5 | 10.1 |
//! | 6 | 11.0 |
//! | 7 | 11.1 |

use std::ffi::{c_char, c_int, c_uint, c_void};

use qemu_plugin_sys::{
    GArray, GByteArray, qemu_plugin_cb_flags, qemu_plugin_cond, qemu_plugin_hwaddr,
    qemu_plugin_id_t, qemu_plugin_insn, qemu_plugin_mem_rw, qemu_plugin_mem_value,
    qemu_plugin_meminfo_t, qemu_plugin_op, qemu_plugin_register, qemu_plugin_scoreboard,
    qemu_plugin_tb, qemu_plugin_u64,
};

use crate::symbol::{lookup, symbol_table};

/// `qemu_plugin_vcpu_udata_cb_t`.
pub(super) type ExecCallback = extern "C" fn(vcpu_index: c_uint, userdata: *mut c_void);
/// `qemu_plugin_vcpu_mem_cb_t`.
pub(super) type MemCallback = extern "C" fn(
    vcpu_index: c_uint,
    info: qemu_plugin_meminfo_t,
    vaddr: u64,
    userdata: *mut c_void,
);

symbol_table! {
    lookup lookup;

    /// Functions of every version that pvio supports.
    PluginFunctions: "qemu/qemu-plugin.h", since V9_2 {
        qemu_plugin_tb_n_insns: unsafe extern "C" fn(tb: *const qemu_plugin_tb) -> usize,
        qemu_plugin_tb_get_insn: unsafe extern "C" fn(
            tb: *const qemu_plugin_tb, idx: usize,
        ) -> *mut qemu_plugin_insn,
        qemu_plugin_insn_data: unsafe extern "C" fn(
            insn: *const qemu_plugin_insn, dest: *mut c_void, len: usize,
        ) -> usize,
        qemu_plugin_insn_vaddr: unsafe extern "C" fn(insn: *const qemu_plugin_insn) -> u64,
        /// The caller frees the string.
        qemu_plugin_insn_disas: unsafe extern "C" fn(insn: *const qemu_plugin_insn) -> *mut c_char,
        qemu_plugin_register_vcpu_insn_exec_cb: unsafe extern "C" fn(
            insn: *mut qemu_plugin_insn,
            cb: ExecCallback,
            flags: qemu_plugin_cb_flags,
            userdata: *mut c_void,
        ),
        qemu_plugin_register_vcpu_mem_cb: unsafe extern "C" fn(
            insn: *mut qemu_plugin_insn,
            cb: MemCallback,
            flags: qemu_plugin_cb_flags,
            rw: qemu_plugin_mem_rw,
            userdata: *mut c_void,
        ),
        qemu_plugin_register_vcpu_tb_exec_cb: unsafe extern "C" fn(
            tb: *mut qemu_plugin_tb,
            cb: ExecCallback,
            flags: qemu_plugin_cb_flags,
            userdata: *mut c_void,
        ),
        qemu_plugin_register_vcpu_tb_exec_cond_cb: unsafe extern "C" fn(
            tb: *mut qemu_plugin_tb,
            cb: ExecCallback,
            flags: qemu_plugin_cb_flags,
            cond: qemu_plugin_cond,
            entry: qemu_plugin_u64,
            imm: u64,
            userdata: *mut c_void,
        ),
        /// The size in bytes is 2 to this power.
        qemu_plugin_mem_size_shift: unsafe extern "C" fn(info: qemu_plugin_meminfo_t) -> c_uint,
        qemu_plugin_mem_is_store: unsafe extern "C" fn(info: qemu_plugin_meminfo_t) -> bool,
        qemu_plugin_mem_get_value: unsafe extern "C" fn(
            info: qemu_plugin_meminfo_t,
        ) -> qemu_plugin_mem_value,
    }

    /// Where an access to memory went. The result of the first is the thread's own, until its next call.
    AccessPlaces: "qemu/qemu-plugin.h", since V9_2 {
        qemu_plugin_get_hwaddr: unsafe extern "C" fn(
            info: qemu_plugin_meminfo_t, vaddr: u64,
        ) -> *mut qemu_plugin_hwaddr,
        qemu_plugin_hwaddr_phys_addr: unsafe extern "C" fn(haddr: *const qemu_plugin_hwaddr) -> u64,
        /// Null if the code is not in memory.
        qemu_plugin_insn_haddr: unsafe extern "C" fn(insn: *const qemu_plugin_insn) -> *mut c_void,
    }

    /// Memory by physical address, devices included; returns 0 for success. From API 5 on.
    PhysicalMemory: "qemu/qemu-plugin.h", since V10_1 {
        qemu_plugin_read_memory_hwaddr: unsafe extern "C" fn(
            addr: u64, data: *mut GByteArray, len: usize,
        ) -> c_uint,
        qemu_plugin_write_memory_hwaddr: unsafe extern "C" fn(
            addr: u64, data: *mut GByteArray,
        ) -> c_uint,
    }

    /// The physical address of a linear one. From API 5 on.
    AddressTranslation: "qemu/qemu-plugin.h", since V10_1 {
        qemu_plugin_translate_vaddr: unsafe extern "C" fn(vaddr: u64, hwaddr: *mut u64) -> bool,
    }

    /// Scoreboards: a row of numbers for each vCPU, which generated code can change.
    ScoreboardFunctions: "qemu/qemu-plugin.h", since V9_2 {
        qemu_plugin_scoreboard_new: unsafe extern "C" fn(
            element_size: usize,
        ) -> *mut qemu_plugin_scoreboard,
        qemu_plugin_u64_get: unsafe extern "C" fn(entry: qemu_plugin_u64, vcpu_index: c_uint) -> u64,
        qemu_plugin_u64_set: unsafe extern "C" fn(
            entry: qemu_plugin_u64, vcpu_index: c_uint, val: u64,
        ),
        qemu_plugin_u64_add: unsafe extern "C" fn(
            entry: qemu_plugin_u64, vcpu_index: c_uint, added: u64,
        ),
        qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu: unsafe extern "C" fn(
            insn: *mut qemu_plugin_insn, op: qemu_plugin_op, entry: qemu_plugin_u64, imm: u64,
        ),
        qemu_plugin_register_vcpu_insn_exec_cond_cb: unsafe extern "C" fn(
            insn: *mut qemu_plugin_insn,
            cb: ExecCallback,
            flags: qemu_plugin_cb_flags,
            cond: qemu_plugin_cond,
            entry: qemu_plugin_u64,
            imm: u64,
            userdata: *mut c_void,
        ),
    }

    /// Writes text to QEMU's log if `-d plugin` is given; copies the text.
    LogFunctions: "qemu/qemu-plugin.h", since V9_2 {
        qemu_plugin_outs: unsafe extern "C" fn(string: *const c_char),
    }

    /// Callbacks that get the plugin's id. API 4 to 6.
    CallbacksById: "qemu/qemu-plugin.h", since V9_2, until V11_1 {
        qemu_plugin_register_vcpu_init_cb: unsafe extern "C" fn(
            id: qemu_plugin_id_t,
            cb: extern "C" fn(id: qemu_plugin_id_t, vcpu_index: c_uint),
        ),
        qemu_plugin_register_vcpu_tb_trans_cb: unsafe extern "C" fn(
            id: qemu_plugin_id_t,
            cb: extern "C" fn(id: qemu_plugin_id_t, tb: *mut qemu_plugin_tb),
        ),
        qemu_plugin_register_vcpu_idle_cb: unsafe extern "C" fn(
            id: qemu_plugin_id_t,
            cb: extern "C" fn(id: qemu_plugin_id_t, vcpu_index: c_uint),
        ),
        qemu_plugin_register_vcpu_resume_cb: unsafe extern "C" fn(
            id: qemu_plugin_id_t,
            cb: extern "C" fn(id: qemu_plugin_id_t, vcpu_index: c_uint),
        ),
        qemu_plugin_register_atexit_cb: unsafe extern "C" fn(
            id: qemu_plugin_id_t,
            cb: extern "C" fn(id: qemu_plugin_id_t, userdata: *mut c_void),
            userdata: *mut c_void,
        ),
    }

    /// The callback for exceptions and interrupts, with the plugin's id. API 6. QEMU 10.2, whose API is 5, exports it, too.
    DiscontinuityById: "qemu/qemu-plugin.h", since V10_2, until V11_1 {
        qemu_plugin_register_vcpu_discon_cb: unsafe extern "C" fn(
            id: qemu_plugin_id_t,
            types: c_uint,
            cb: extern "C" fn(
                id: qemu_plugin_id_t, vcpu_index: c_uint, kind: c_uint, from_pc: u64, to_pc: u64,
            ),
        ),
    }

    /// Callbacks that get user data. API 7.
    CallbacksByUserdata: "qemu/qemu-plugin.h", since V11_1 {
        qemu_plugin_register_vcpu_init_cb: unsafe extern "C" fn(
            id: qemu_plugin_id_t,
            cb: extern "C" fn(vcpu_index: c_uint, userdata: *mut c_void),
            userdata: *mut c_void,
        ),
        qemu_plugin_register_vcpu_tb_trans_cb: unsafe extern "C" fn(
            id: qemu_plugin_id_t,
            cb: extern "C" fn(tb: *mut qemu_plugin_tb, userdata: *mut c_void),
            userdata: *mut c_void,
        ),
        qemu_plugin_register_vcpu_idle_cb: unsafe extern "C" fn(
            id: qemu_plugin_id_t,
            cb: extern "C" fn(vcpu_index: c_uint, userdata: *mut c_void),
            userdata: *mut c_void,
        ),
        qemu_plugin_register_vcpu_resume_cb: unsafe extern "C" fn(
            id: qemu_plugin_id_t,
            cb: extern "C" fn(vcpu_index: c_uint, userdata: *mut c_void),
            userdata: *mut c_void,
        ),
        qemu_plugin_register_atexit_cb: unsafe extern "C" fn(
            id: qemu_plugin_id_t,
            cb: extern "C" fn(userdata: *mut c_void),
            userdata: *mut c_void,
        ),
        qemu_plugin_register_vcpu_discon_cb: unsafe extern "C" fn(
            id: qemu_plugin_id_t,
            types: c_uint,
            cb: extern "C" fn(
                vcpu_index: c_uint, kind: c_uint, from_pc: u64, to_pc: u64, userdata: *mut c_void,
            ),
            userdata: *mut c_void,
        ),
    }

    /// The registers of the vCPU in this callback. The caller frees the array.
    RegisterList: "qemu/qemu-plugin.h", since V9_0 {
        qemu_plugin_get_registers: unsafe extern "C" fn() -> *mut GArray,
    }

    /// Appends a register to the buffer; returns its size in bytes, or -1. API 4 and 5.
    ReadRegisterLength: "qemu/qemu-plugin.h", since V9_0, until V11_0 {
        qemu_plugin_read_register: unsafe extern "C" fn(
            handle: *mut qemu_plugin_register, buf: *mut GByteArray,
        ) -> c_int,
    }

    /// The same; returns true if it did. From API 6 on.
    ReadRegisterSuccess: "qemu/qemu-plugin.h", since V11_0 {
        qemu_plugin_read_register: unsafe extern "C" fn(
            handle: *mut qemu_plugin_register, buf: *mut GByteArray,
        ) -> bool,
    }

    /// Writes a register; returns its size in bytes, or -1. API 5.
    WriteRegisterLength: "qemu/qemu-plugin.h", since V10_1, until V11_0 {
        qemu_plugin_write_register: unsafe extern "C" fn(
            handle: *mut qemu_plugin_register, buf: *mut GByteArray,
        ) -> c_int,
    }

    /// The same; returns true if it did. From API 6 on.
    WriteRegisterSuccess: "qemu/qemu-plugin.h", since V11_0 {
        qemu_plugin_write_register: unsafe extern "C" fn(
            handle: *mut qemu_plugin_register, buf: *mut GByteArray,
        ) -> bool,
    }

    /// Not called: its presence tells API 4.
    ReadMemory: "qemu/qemu-plugin.h", since V9_2 {
        #[expect(dead_code, reason = "its presence is what pvio asks for")]
        qemu_plugin_read_memory_vaddr: unsafe extern "C" fn(
            addr: u64, data: *mut GByteArray, len: usize,
        ) -> bool,
    }

    /// Not called: its presence tells API 6.
    SetPc: "qemu/qemu-plugin.h", since V11_0 {
        #[expect(dead_code, reason = "its presence is what pvio asks for")]
        qemu_plugin_set_pc: unsafe extern "C" fn(vaddr: u64) -> !,
    }

    /// GLib, whose types the API has, and to which QEMU is linked.
    GlibFunctions: "glib.h", since V9_2 {
        g_byte_array_new: unsafe extern "C" fn() -> *mut GByteArray,
        g_byte_array_set_size: unsafe extern "C" fn(
            array: *mut GByteArray, length: c_uint,
        ) -> *mut GByteArray,
        g_byte_array_unref: unsafe extern "C" fn(array: *mut GByteArray),
        g_array_get_element_size: unsafe extern "C" fn(array: *mut GArray) -> c_uint,
        g_array_free: unsafe extern "C" fn(array: *mut GArray, free_segment: c_int) -> *mut c_char,
        g_free: unsafe extern "C" fn(mem: *mut c_void),
    }
}
