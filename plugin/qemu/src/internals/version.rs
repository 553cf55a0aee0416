//! QEMU's version, as QEMU tells it.

use super::symbols::VersionQuery;
use crate::symbol::NotExported;
use crate::version::QemuVersion;

impl QemuVersion {
    /// Asks the QEMU that this process is; `None` if it was built without loadable modules.
    pub fn of_this_process() -> Option<QemuVersion> {
        QemuVersion::ask().ok()
    }

    pub(super) fn ask() -> Result<QemuVersion, NotExported> {
        let query = VersionQuery::find()?;
        // SAFETY: the function allows a null `errp`. It allocates the result and its `qemu` (GLib aborts
        // where it cannot), and nobody frees them: pvio asks once or twice in a process.
        let version = unsafe { &*(*(query.qmp_query_version)(std::ptr::null_mut())).qemu };
        Ok(QemuVersion { major: version.major, minor: version.minor, micro: version.micro })
    }
}
