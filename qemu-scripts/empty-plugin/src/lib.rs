//! A QEMU plugin whose one callback, for blocks that are translated, does nothing: `libpvio_empty.so`.
//!
//! QEMU translates differently as soon as any plugin has such a callback. A guest under this one is what
//! `qemu-scripts/bench` holds pvio against to tell pvio's price from QEMU's own. It knows nothing of pvio, and
//! of the plugin API what loads it into QEMU 9.2 to 11.1; pvio's own way of asking is in
//! `plugin/src/qemu/version.rs`.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::sync::atomic::{AtomicI32, Ordering};

/// The callback, in both of its shapes: of the id and the block, or of the block and `userdata`.
extern "C" fn translated(_: *mut c_void, _: *mut c_void) {}

/// The registration function before plugin API 7 (QEMU 11.1).
type RegisterById = extern "C" fn(u64, extern "C" fn(*mut c_void, *mut c_void));
/// The registration function from plugin API 7 on.
type RegisterWithUserdata =
    extern "C" fn(u64, extern "C" fn(*mut c_void, *mut c_void), *mut c_void);

// SAFETY: QEMU's name for a C `int` that it reads, which this is.
#[unsafe(export_name = "qemu_plugin_version")]
static VERSION: AtomicI32 = AtomicI32::new(0);

extern "C" fn declare_version() {
    VERSION.store(version(), Ordering::Relaxed);
}

// SAFETY: the dynamic loader calls the functions in this section, with C's calling convention and
// arguments that may be ignored; QEMU reads the version after that.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = declare_version;

/// A version of the plugin API that the QEMU which this process is accepts, if it is one of 9.2 to 11.1.
fn version() -> c_int {
    if lookup(c"qemu_plugin_set_pc").is_none() {
        // QEMU 10.1 and 10.2, which have 5, take 4 as well.
        return 4;
    }
    // 11.0 and 11.1 export the same. Release candidates of 11.1 call themselves 11.0.9x.
    match qemu_version() {
        Some(version) if version < [11, 0, 90] => 6,
        _ => 7,
    }
}

/// QEMU's version, where it tells: it exports the question where it has loadable modules.
fn qemu_version() -> Option<[i64; 3]> {
    let query = lookup(c"qmp_query_version")?;
    // SAFETY: `VersionInfo *qmp_query_version(Error **errp)` in all of these; it allows a null `errp`. What
    // is returned begins with a pointer to the three numbers, and is nobody else's.
    unsafe {
        let query: extern "C" fn(*mut c_void) -> *const *const [i64; 3] = transmute(query);
        Some(**query(std::ptr::null_mut()))
    }
}

fn lookup(symbol: &CStr) -> Option<*mut c_void> {
    // SAFETY: `dlsym` reads the string and the process's symbol tables, and nothing else.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
    (!address.is_null()).then_some(address)
}

// SAFETY: QEMU's name for a function of this type.
#[unsafe(export_name = "qemu_plugin_install")]
extern "C" fn install(
    id: u64,
    _info: *const c_void,
    _argc: c_int,
    _argv: *const *const c_char,
) -> c_int {
    let Some(register) = lookup(c"qemu_plugin_register_vcpu_tb_trans_cb") else { return -1 };
    // SAFETY: the function's types before API 7 and since; `translated` takes what either gives it, two
    // words, and looks at none.
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
