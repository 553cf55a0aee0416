//! What counts as success of a guest, besides the hypercall `exit`.

use super::Pattern;

/// The ends that count as success, and the lines that decide earlier.
#[derive(Clone, Debug, Default)]
pub(super) struct Expectation {
    /// QEMU's exit status, when a device ends QEMU.
    pub status: Option<u8>,
    /// A line of the serial port or of the debug console that means success.
    pub success: Option<Pattern>,
    /// A line there that means failure.
    pub failure: Option<Pattern>,
    /// The guest powers off.
    pub power_off: bool,
}

impl Expectation {
    /// Returns true if lines of the guest's output can give the verdict.
    pub(super) fn has_patterns(&self) -> bool {
        self.success.is_some() || self.failure.is_some()
    }

    /// Lists what would have been success; `None` if only the hypercall is.
    pub(super) fn expected(&self) -> Option<String> {
        let status = self.status.map(|status| format!("exit status {status}"));
        let line = self.success.as_ref().map(|pattern| format!("a line that matches {pattern}"));
        let off = self.power_off.then(|| "a power-off".to_owned());
        let all: Vec<String> = [status, line, off].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join(" or "))
    }
}
