//! A QEMU plugin whose only callback, for translated blocks, does nothing: `libpvio_empty.so`.
//!
//! QEMU translates differently if any plugin has such a callback. `qemu-scripts/bench` compares pvio with this
//! plugin to separate pvio's cost from QEMU's. It loads into QEMU 9.2 to 11.1 and does not depend on pvio
//! (pvio chooses the API version in `plugin/qemu/src/version.rs`).

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::sync::atomic::{AtomicI32, Ordering};

/// The callback. Its arguments are the id and the block, or the block and `userdata`.
extern "C" fn translated(_: *mut c_void, _: *mut c_void) {}

/// The registration function before plugin API 7 (QEMU 11.1).
type RegisterById = extern "C" fn(u64, extern "C" fn(*mut c_void, *mut c_void));
/// The registration function from plugin API 7 on.
type RegisterWithUserdata =
    extern "C" fn(u64, extern "C" fn(*mut c_void, *mut c_void), *mut c_void);

// SAFETY: QEMU reads a C `int` with this name, and an `AtomicI32` has its layout.
#[unsafe(export_name = "qemu_plugin_version")]
static VERSION: AtomicI32 = AtomicI32::new(0);

extern "C" fn declare_version() {
    VERSION.store(version(), Ordering::Relaxed);
}

// SAFETY: the dynamic loader calls the functions in this section with C's calling convention. They may ignore
// their arguments. QEMU reads the version afterwards.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = declare_version;

/// Returns a plugin API version that this process's QEMU (9.2 to 11.1) accepts.
fn version() -> c_int {
    if lookup(c"qemu_plugin_set_pc").is_none() {
        // QEMU 10.1 and 10.2 have version 5 and accept 4 too.
        return 4;
    }
    // QEMU 11.0 and 11.1 export the same symbols. Release candidates of 11.1 have the version 11.0.9x.
    match qemu_version() {
        Some(version) if version < [11, 0, 90] => 6,
        _ => 7,
    }
}

/// Returns QEMU's version. `None` if QEMU is built without loadable modules, and so exports no function for it.
fn qemu_version() -> Option<[i64; 3]> {
    let query = lookup(c"qmp_query_version")?;
    // SAFETY: the function is `VersionInfo *qmp_query_version(Error **errp)` in all of these versions, and
    // allows a null `errp`. Its result starts with a pointer to the three numbers, and the caller owns it.
    unsafe {
        let query: extern "C" fn(*mut c_void) -> *const *const [i64; 3] = transmute(query);
        Some(**query(std::ptr::null_mut()))
    }
}

fn lookup(symbol: &CStr) -> Option<*mut c_void> {
    // SAFETY: `dlsym` only reads the string and the process's symbol tables.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
    (!address.is_null()).then_some(address)
}

// SAFETY: QEMU calls a function of this name and type.
#[unsafe(export_name = "qemu_plugin_install")]
extern "C" fn install(
    id: u64,
    _info: *const c_void,
    _argc: c_int,
    _argv: *const *const c_char,
) -> c_int {
    let Some(register) = lookup(c"qemu_plugin_register_vcpu_tb_trans_cb") else { return -1 };
    // SAFETY: these are the function's types before API 7 and from 7 on. `translated` gets two words in both
    // and reads neither.
    unsafe {
        if VERSION.load(Ordering::Relaxed) < 7 {
            transmute::<*mut c_void, RegisterById>(register)(id, translated);
        } else {
            let register: RegisterWithUserdata = transmute(register);
            register(id, translated, std::ptr::null_mut());
        }
    }
    0
}
