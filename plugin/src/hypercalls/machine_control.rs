//! The requests that hypercalls pass to the plugin: dump, reset, exit.

use pvio_guest::abi::DUMPS_MAX;

/// Dumps statistics and ends the machine, at the guest's request.
pub trait MachineControl: Send + Sync {
    /// Dumps the statistics now.
    ///
    /// # Errors
    ///
    /// The guest has used up its dumps, or the dump cannot be written.
    fn dump(&self) -> Result<(), DumpError>;

    /// Ends QEMU with an exit status of 0 to 255. May return before QEMU ends.
    fn exit(&self, status: u8);
}

/// A dump that the guest asked for and that was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// The guest has used up its dumps.
    #[error("there have been {DUMPS_MAX} dumps already")]
    Full,
    /// The dump cannot be written; the reason is on stderr.
    #[error("the dump was not written")]
    Failed,
}
