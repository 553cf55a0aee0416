//! Keeps QEMU from saving or migrating the machine, with a reason.

use std::ffi::CString;
use std::sync::atomic::AtomicPtr;

use super::c_types::Error;
use super::error::MachineError;
use super::global_lock::GlobalLock;
use super::symbols::{ErrorFunctions, MigrationBlockers};

/// QEMU's functions to block migration.
pub(super) struct MigrationBlocker {
    errors: ErrorFunctions,
    blockers: MigrationBlockers,
}

impl MigrationBlocker {
    pub fn new(errors: ErrorFunctions, blockers: MigrationBlockers) -> MigrationBlocker {
        MigrationBlocker { errors, blockers }
    }

    /// Blocks saving and migration until QEMU ends. `why` is QEMU's message to the user.
    pub fn block(&self, lock: &GlobalLock, why: &str) -> Result<(), MachineError> {
        lock.assert_held();
        let why = CString::new(why.replace('\0', "")).expect("no NUL");
        // QEMU keeps the address for ever, to take the error out again.
        let reason: &'static AtomicPtr<Error> = Box::leak(Box::default());
        let place = reason.as_ptr();
        let (file, function, format) = (c"pvio".as_ptr(), c"pvio".as_ptr(), c"%s".as_ptr());
        let mut refused = std::ptr::null_mut();
        // SAFETY: with the global lock held. The first function stores a new error at the address, which
        // is null there as it demands; the format takes the one string that is given.
        let blocked = unsafe {
            (self.errors.error_setg_internal)(place, file, 0, function, format, why.as_ptr());
            (self.blockers.migrate_add_blocker)(place, &mut refused)
        };
        if blocked == 0 { Ok(()) } else { Err(MachineError::OnlyMigratable) }
    }
}
