//! The symbols by which QEMU finds a plugin in a shared library.

use std::sync::atomic::{AtomicI32, Ordering};

use crate::version::declared_api_level;

/// `qemu_plugin_version`: QEMU reads it as a C `int`, after the library's constructors have run.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct DeclaredVersion(AtomicI32);

impl DeclaredVersion {
    /// Nothing declared yet.
    pub const fn new() -> DeclaredVersion {
        DeclaredVersion(AtomicI32::new(0))
    }

    /// Declares what the QEMU that loads the library wants to see.
    pub fn declare(&self) {
        self.0.store(declared_api_level().0, Ordering::Relaxed);
    }
}
