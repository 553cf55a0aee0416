//! Versions: of QEMU, and of its plugin API.

use std::fmt;

/// A version of QEMU's plugin API (`QEMU_PLUGIN_VERSION` in `qemu/qemu-plugin.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiLevel(pub i32);

impl ApiLevel {
    /// The oldest that pvio supports: that of QEMU 9.2.
    pub const OLDEST: ApiLevel = ApiLevel(4);
    /// QEMU 10.1: registers can be written.
    pub const WRITES: ApiLevel = ApiLevel(5);
    /// QEMU 11.0: exceptions are reported, and registers are read with a `bool` result.
    pub const DISCONTINUITIES: ApiLevel = ApiLevel(6);
    /// QEMU 11.1: callbacks get user data instead of the plugin's id.
    pub const USERDATA: ApiLevel = ApiLevel(7);
    /// The newest that pvio supports.
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

/// The releases that the tables of symbols name.
pub(crate) const V9_0: QemuVersion = QemuVersion::new(9, 0);
pub(crate) const V9_2: QemuVersion = QemuVersion::new(9, 2);
pub(crate) const V10_1: QemuVersion = QemuVersion::new(10, 1);
pub(crate) const V10_2: QemuVersion = QemuVersion::new(10, 2);
pub(crate) const V11_0: QemuVersion = QemuVersion::new(11, 0);
pub(crate) const V11_1: QemuVersion = QemuVersion::new(11, 1);

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

impl QemuVersion {
    /// The last minor version whose internal functions were compared with the table.
    const LAST_KNOWN: (i64, i64) = (11, 1);

    /// The first release of a minor version.
    const fn new(major: i64, minor: i64) -> QemuVersion {
        QemuVersion { major, minor, micro: 0 }
    }

    /// Returns true if QEMU's internal functions were compared with the table for this version.
    pub(crate) fn is_known(self) -> bool {
        self >= V9_2 && !self.is_newer_than_known()
    }

    /// Returns true if it is newer than any version that pvio knows.
    pub(crate) fn is_newer_than_known(self) -> bool {
        // Development versions of the next call themselves x.y.50 and up; release candidates x.y.90.
        let minor = self.minor + i64::from(self.micro >= 50);
        (self.major, minor) > Self::LAST_KNOWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_after_the_last_known_are_newer() {
        let is_newer = |major, minor, micro| {
            let version = QemuVersion { major, minor, micro };
            assert!(!(version.is_known() && version.is_newer_than_known()));
            version.is_newer_than_known()
        };
        assert!(!is_newer(9, 1, 0) && !is_newer(9, 2, 0) && !is_newer(10, 2, 91));
        assert!(!is_newer(11, 0, 90) && !is_newer(11, 1, 3));
        assert!(is_newer(11, 1, 50) && is_newer(11, 2, 0) && is_newer(12, 0, 0));
    }
}
