//! The macro behind the two tables of QEMU's symbols: it declares them and looks them up.
//!
//! QEMU binds all symbols of a plugin when it loads it, and fails if one is missing. So nothing is
//! linked: [`symbol_table`] declares groups of symbols, and each group is looked up at run time.
//!
//! | table | what it declares |
//! | --- | --- |
//! | `plugin_api/symbols.rs` | the plugin API, and the GLib functions that it needs |
//! | `internals/symbols.rs` | what QEMU exports for its own loadable modules |

use std::ffi::{CStr, c_void};

use once_cell::sync::OnceCell;

use crate::version::QemuVersion;

/// A symbol that this QEMU does not export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotExported(pub &'static CStr);

/// A row of a table: a symbol that pvio may look up.
#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    /// Its C name.
    pub name: &'static CStr,
    /// Its C type, written in Rust. A variable is a pointer or a `Global`.
    pub c_type: &'static str,
    /// The header of QEMU's newest known version that declares it.
    pub header: &'static str,
    /// The first version that has it with this type, or 9.2 if pvio need not distinguish older versions.
    pub since: QemuVersion,
    /// The first version that no longer has it, or has it with another type.
    pub until: Option<QemuVersion>,
}

impl Symbol {
    /// Returns true if this version of QEMU has the symbol with this type.
    pub fn is_in(&self, version: QemuVersion) -> bool {
        version >= self.since && self.until.is_none_or(|until| version < until)
    }
}

/// The address of one of QEMU's global variables.
#[repr(transparent)]
pub(crate) struct Global<T>(*mut T);

impl<T> Clone for Global<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Global<T> {}

// SAFETY: an address, which any thread may hold; each use of it says why that use is right.
unsafe impl<T> Send for Global<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    pub fn as_ptr(self) -> *mut T {
        self.0
    }
}

/// Finds a symbol of QEMU, or of a library that QEMU is linked to.
pub(crate) fn lookup(symbol: &CStr) -> Option<*mut c_void> {
    // SAFETY: `dlsym` reads the string and the symbol tables, and nothing else.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// Features of QEMU that tests hide, to run pvio as on a QEMU that was built without them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hidden {
    /// Hides all internal symbols, as without loadable modules. Set by `PVIO_TEST_WITHOUT_EXPORTS`.
    pub exports: bool,
    /// Hides the disassembly, as without capstone. Set by `PVIO_TEST_WITHOUT_DISASSEMBLY`.
    pub disassembly: bool,
}

/// Returns what the environment hides. It is read once, because QEMU's libraries may change it while vCPUs run.
pub(crate) fn hidden() -> Hidden {
    static HIDDEN: OnceCell<Hidden> = OnceCell::new();
    *HIDDEN.get_or_init(|| {
        let is_set = |name| std::env::var_os(name).is_some();
        Hidden {
            exports: is_set("PVIO_TEST_WITHOUT_EXPORTS"),
            disassembly: is_set("PVIO_TEST_WITHOUT_DISASSEMBLY"),
        }
    })
}

/// Finds a symbol that QEMU exports for its own modules.
pub(crate) fn lookup_internal(symbol: &CStr) -> Option<*mut c_void> {
    match hidden().exports {
        true => None,
        false => lookup(symbol),
    }
}

/// Declares a table of symbols in groups: for each group a struct with a field for each symbol.
///
/// `Group::find()` looks up all symbols of a group, or names the first that this QEMU does not export.
/// A group names its header, the first version with these types, and the first that has others.
macro_rules! symbol_table {
    (
        lookup $lookup:path;
        $(
            $(#[$group_attribute:meta])*
            $group:ident: $header:literal, since $since:ident $(, until $until:ident)? {
                $( $(#[$attribute:meta])* $symbol:ident: $type:ty, )+
            }
        )+
    ) => {
        $(
            $(#[$group_attribute])*
            #[derive(Clone, Copy)]
            #[allow(non_snake_case, reason = "the fields have the symbols' names")]
            pub(crate) struct $group {
                $( $(#[$attribute])* pub $symbol: $type, )+
            }

            impl $group {
                const UNTIL: Option<$crate::version::QemuVersion> =
                    [$( Some($crate::version::$until), )? None][0];

                /// Looks up all symbols of the group.
                pub fn find() -> Result<$group, $crate::symbol::NotExported> {
                    Ok($group {
                        $( $symbol: {
                            let name = $crate::symbol::c_name!($symbol);
                            let address = $lookup(name).ok_or($crate::symbol::NotExported(name))?;
                            // SAFETY: the address is not null, and that of the symbol with this name.
                            // Its type is copied from the header that the group names, as the versions
                            // have it for which the group stands. Who finds a group of the internals
                            // looks at QEMU's version first, or uses what no version has changed.
                            unsafe { std::mem::transmute::<*mut std::ffi::c_void, $type>(address) }
                        }, )+
                    })
                }
            }
        )+

        /// The rows.
        pub(crate) const TABLE: &[$crate::symbol::Symbol] = &[ $( $( $crate::symbol::Symbol {
            name: $crate::symbol::c_name!($symbol),
            c_type: stringify!($type),
            header: $header,
            since: $crate::version::$since,
            until: $group::UNTIL,
        }, )+ )+ ];
    };
}

/// A symbol's name as C has it.
macro_rules! c_name {
    ($symbol:ident) => {
        const {
            match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($symbol), "\0").as_bytes())
            {
                Ok(name) => name,
                Err(_) => unreachable!(),
            }
        }
    };
}

pub(crate) use {c_name, symbol_table};

/// All symbols that pvio may look up in QEMU.
///
/// No QEMU has all of them: a symbol whose type changed has a row for each type.
pub fn symbols() -> impl Iterator<Item = Symbol> {
    [crate::plugin_api::TABLE, crate::internals::TABLE].into_iter().flatten().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_one_type_of_a_symbol() {
        let all: Vec<Symbol> = symbols().collect();
        assert!(all.len() > 50);
        for (index, one) in all.iter().enumerate() {
            assert!(one.until.is_none_or(|until| until > one.since), "{one:?}");
            for other in &all[index + 1..] {
                let is_both = one.is_in(other.since) || other.is_in(one.since);
                assert!(one.name != other.name || !is_both, "{one:?} and {other:?}");
            }
        }
    }

    #[test]
    fn a_symbol_that_is_not_exported_is_named() {
        symbol_table! {
            lookup lookup;
            Known: "stdlib.h", since V9_2 { getenv: Global<u8>, }
            Unknown: "stdlib.h", since V9_2 { getenv: Global<u8>, getenv_of_pvio: Global<u8>, }
        }
        assert_eq!(TABLE.len(), 3);
        assert!(Known::find().is_ok_and(|known| !known.getenv.as_ptr().is_null()));
        let missing = Unknown::find().map(|unknown| (unknown.getenv.0, unknown.getenv_of_pvio.0));
        assert_eq!(missing, Err(NotExported(c"getenv_of_pvio")));
    }
}
