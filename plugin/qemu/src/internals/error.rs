//! Why pvio cannot work on a machine's port bus.

use std::ffi::CStr;

use crate::symbol::NotExported;
use crate::version::QemuVersion;

/// A QEMU on whose port bus pvio cannot work.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// QEMU was built without loadable modules, which need the same functions.
    #[error(
        "this QEMU does not export {0:?}, which serving ports needs; \
         use one built with modules, as distributions' are"
    )]
    NotExported(&'static CStr),
    /// QEMU is a version whose declarations may have changed.
    #[error("this QEMU ({0}) is not one on which serving ports was tried: use 9.2 to 11.1")]
    UnknownVersion(QemuVersion),
    /// The self-test of the port bus failed.
    #[error(
        "this QEMU does not pass port accesses on as expected ({0}); \
         use 10.0 or 11.1 as distributions build them"
    )]
    SelfTest(String),
    /// QEMU was told to accept only what can be migrated.
    #[error("a device with state cannot be migrated, and this QEMU runs with -only-migratable")]
    OnlyMigratable,
}

impl From<NotExported> for MachineError {
    fn from(NotExported(symbol): NotExported) -> MachineError {
        MachineError::NotExported(symbol)
    }
}
