//! Which QEMU this is, found out before it asks.
//!
//! QEMU reads the plugin's data symbol `qemu_plugin_version` and refuses the library when the number
//! is outside its own range; no fixed number suits all of 9.2 to 11.1 (4..=4 to 7..=7). The number is
//! read after the library's constructors ran, so a constructor looks at the host and sets it.

use std::fmt;

use crate::internals::{lookup, lookup_export};

/// A version of QEMU's plugin API (`QEMU_PLUGIN_VERSION` in `qemu-plugin.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiLevel(pub i32);

impl ApiLevel {
    /// The oldest that pvio runs on: QEMU 9.2. Guest memory can be read from here on.
    pub const OLDEST: ApiLevel = ApiLevel(4);
    /// Registers can be written, and addresses translated: QEMU 10.1.
    pub const WRITES: ApiLevel = ApiLevel(5);
    /// Registers are read with a `bool` result, and exceptions are reported: QEMU 11.0.
    pub const DISCONTINUITIES: ApiLevel = ApiLevel(6);
    /// Callbacks get user data instead of the plugin's id: QEMU 11.1.
    pub const USERDATA: ApiLevel = ApiLevel(7);
    /// The newest that pvio was made for.
    pub const NEWEST: ApiLevel = ApiLevel::USERDATA;
}

impl fmt::Display for ApiLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A release of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QemuVersion {
    /// The first number.
    pub major: i64,
    /// The second number.
    pub minor: i64,
    /// The third number.
    pub micro: i64,
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// `VersionTriple` in QEMU's `qapi/control.json`.
#[repr(C)]
struct VersionTriple {
    major: i64,
    minor: i64,
    micro: i64,
}

/// `VersionInfo` in QEMU's `qapi/control.json`.
#[repr(C)]
struct VersionInfo {
    qemu: *const VersionTriple,
    package: *const libc::c_char,
}

impl QemuVersion {
    /// The first whose internal functions were compared with how pvio uses them.
    const FIRST_KNOWN: QemuVersion = QemuVersion { major: 9, minor: 2, micro: 0 };
    /// The last minor version of which this is true.
    const LAST_KNOWN: (i64, i64) = (11, 1);

    /// Whether QEMU's own functions, which are no promised interface, are in it as pvio uses them.
    pub(crate) fn is_known(self) -> bool {
        self >= Self::FIRST_KNOWN && !self.is_newer_than_known()
    }

    /// Whether it is newer than any that pvio knows.
    pub(crate) fn is_newer_than_known(self) -> bool {
        // Development versions of the next call themselves x.y.50 and up; release candidates x.y.90.
        let minor = self.minor + i64::from(self.micro >= 50);
        (self.major, minor) > Self::LAST_KNOWN
    }

    /// Asks the QEMU that this process is; `None` where it does not export the question
    /// (a QEMU built without loadable modules).
    pub fn of_this_process() -> Option<QemuVersion> {
        let query = lookup_export(c"qmp_query_version")?;
        // SAFETY: `VersionInfo *qmp_query_version(Error **errp)` in every QEMU since 1.0; it only
        // reads constants, and allows a null `errp`.
        let info = unsafe {
            let query: extern "C" fn(*mut libc::c_void) -> *const VersionInfo =
                std::mem::transmute(query);
            query(std::ptr::null_mut())
        };
        // SAFETY: the result and its `qemu` are freshly allocated and never freed (it is asked once
        // or twice in a process), or null.
        let triple = unsafe { info.as_ref()?.qemu.as_ref()? };
        Some(QemuVersion { major: triple.major, minor: triple.minor, micro: triple.micro })
    }
}

/// The API level to declare to the QEMU that loads this library.
///
/// On a QEMU that is too old it is one which that QEMU accepts, so that [`super::install`] runs and
/// can say what is wrong.
pub fn declared_api_level() -> ApiLevel {
    level(|symbol| lookup(symbol).is_some(), QemuVersion::of_this_process)
}

fn level(
    exports: impl Fn(&std::ffi::CStr) -> bool,
    version: impl Fn() -> Option<QemuVersion>,
) -> ApiLevel {
    if exports(c"qemu_plugin_set_pc") {
        // 11.0 and 11.1 export the same functions with different signatures. Where the version
        // cannot be asked, the newer is the better guess; QEMU refuses a wrong one.
        // Release candidates of 11.1 call themselves 11.0.9x.
        let candidate = QemuVersion { major: 11, minor: 0, micro: 90 };
        match version() {
            Some(version) if version < candidate => ApiLevel(6),
            _ => ApiLevel(7),
        }
    } else if exports(c"qemu_plugin_write_register") {
        ApiLevel(5)
    } else if exports(c"qemu_plugin_read_memory_vaddr") {
        ApiLevel(4)
    } else if exports(c"qemu_plugin_get_registers") {
        ApiLevel(2)
    } else {
        ApiLevel(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_the_last_known_is_newer() {
        let is_newer = |major, minor, micro| {
            let version = QemuVersion { major, minor, micro };
            assert!(!(version.is_known() && version.is_newer_than_known()));
            version.is_newer_than_known()
        };
        assert!(!is_newer(9, 1, 0) && !is_newer(9, 2, 0) && !is_newer(10, 2, 91));
        assert!(!is_newer(11, 0, 90) && !is_newer(11, 1, 3));
        assert!(is_newer(11, 1, 50) && is_newer(11, 2, 0) && is_newer(12, 0, 0));
    }

    #[test]
    fn each_generation_is_recognised_by_what_it_exports() {
        let of = |symbols: &[&std::ffi::CStr], minor: Option<i64>| {
            let version = minor.map(|minor| QemuVersion { major: 11, minor, micro: 0 });
            level(|symbol| symbols.contains(&symbol), || version).0
        };
        let registers = c"qemu_plugin_get_registers";
        let memory = c"qemu_plugin_read_memory_vaddr";
        let write = c"qemu_plugin_write_register";
        let pc = c"qemu_plugin_set_pc";
        assert_eq!(of(&[], None), 1);
        assert_eq!(of(&[registers], None), 2);
        assert_eq!(of(&[registers, memory], None), 4);
        assert_eq!(of(&[registers, memory, write], None), 5);
        assert_eq!(of(&[registers, memory, write, pc], Some(0)), 6);
        assert_eq!(of(&[registers, memory, write, pc], Some(1)), 7);
        assert_eq!(of(&[registers, memory, write, pc], None), 7);
    }
}
