//! The reasons why pvio cannot use a machine's port bus.

use std::ffi::CStr;

use crate::symbol::NotExported;
use crate::version::QemuVersion;

/// The reason why pvio cannot use QEMU's port bus.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// QEMU was built without loadable modules, which need the same functions.
    #[error(
        "this QEMU does not export {0:?}, which pvio's devices need; \
         use a QEMU that was built with modules, as distributions build it"
    )]
    NotExported(&'static CStr),
    /// QEMU is a version whose declarations may have changed.
    #[error("pvio's devices are not supported on this version of QEMU ({0}); use 9.2 to 11.1")]
    UnknownVersion(QemuVersion),
    /// The self-test of the port bus failed.
    #[error(
        "the self-test of QEMU's port bus failed ({0}); \
         use QEMU 10.0 or 11.1 as distributions build it"
    )]
    SelfTest(String),
    /// QEMU was told to accept only what can be migrated.
    #[error(
        "a device that has state cannot be migrated, and QEMU runs with -only-migratable; remove one of the two"
    )]
    OnlyMigratable,
}

impl From<NotExported> for MachineError {
    fn from(NotExported(symbol): NotExported) -> MachineError {
        MachineError::NotExported(symbol)
    }
}
