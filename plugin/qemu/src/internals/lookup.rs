//! Symbols of the running QEMU, by name.

use std::ffi::{CStr, c_void};

use once_cell::sync::OnceCell;

/// The address of a symbol in this process, if it has one: QEMU's, or of a library that it is linked to.
pub(crate) fn lookup(symbol: &CStr) -> Option<*mut c_void> {
    // SAFETY: `dlsym` reads the string and QEMU's symbol tables, and nothing else.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// With this variable set, QEMU's own functions are taken as missing: so that the tests see what
/// pvio does on a QEMU that was built without loadable modules, and exports none.
const WITHOUT_EXPORTS: &str = "PVIO_TEST_WITHOUT_EXPORTS";

/// The address of one of QEMU's own functions or variables, if this QEMU exports it.
pub(crate) fn lookup_export(symbol: &CStr) -> Option<*mut c_void> {
    // Read once: QEMU's libraries may change the environment while vCPUs run.
    static HIDDEN: OnceCell<bool> = OnceCell::new();
    match HIDDEN.get_or_init(|| std::env::var_os(WITHOUT_EXPORTS).is_some()) {
        true => None,
        false => lookup(symbol),
    }
}
