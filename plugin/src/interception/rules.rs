//! The meaning of QEMU's callbacks, which differs by version and option.

use crate::qemu::{HostInfo, QemuVersion};

/// The differences between QEMU versions and options that matter here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// True if QEMU reports exceptions (API 6).
    ///
    /// If so, an instruction counts as retired until an exception shows otherwise. If not, it is never known whether an
    /// instruction that may fault for lack of privilege has retired.
    pub exceptions_reported: bool,
    /// True if QEMU leaves the loop of every `rep` after each element: under `-icount`, and always before QEMU 10.0.
    pub steps_reps: bool,
    /// True if QEMU adds the base of a segment that 64-bit code ignores, for a prefix of `outs`: QEMU 10.2, and perhaps 10.1.
    pub adds_ignored_bases: bool,
}

impl Rules {
    pub fn of(host: &HostInfo) -> Rules {
        let ten = QemuVersion { major: 10, minor: 0, micro: 0 };
        let is_10_1_or_2 = |version: QemuVersion| version.major == 10 && version.minor > 0;
        Rules {
            exceptions_reported: host.reports_exceptions(),
            adds_ignored_bases: host.version.is_some_and(is_10_1_or_2),
            steps_reps: host.icount || host.version.is_some_and(|version| version < ten),
        }
    }
}
