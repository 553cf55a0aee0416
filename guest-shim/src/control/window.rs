//! A window of the statistics that closes with its scope.

use super::{begin, end};
use crate::error::CallError;

/// An open window. Dropping it closes it.
///
/// ```
/// use pvio_guest::control::Window;
///
/// // Keep the result: the window is open until the end of the block. Without a host it is an error,
/// // and nothing else changes.
/// let _window = Window::begin("boot");
/// ```
#[derive(Debug)]
#[must_use = "dropping it closes the window"]
pub struct Window<'n> {
    name: &'n str,
}

impl<'n> Window<'n> {
    /// Opens a window.
    ///
    /// # Errors
    ///
    /// The same as for [`begin`].
    pub fn begin(name: &'n str) -> Result<Window<'n>, CallError> {
        begin(name).map(|()| Window { name })
    }

    /// Closes the window.
    ///
    /// # Errors
    ///
    /// The same as for [`end`](super::end), which dropping ignores.
    pub fn end(self) -> Result<(), CallError> {
        let name = self.name;
        core::mem::forget(self);
        end(name)
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        // A scope without a host must end, too.
        let _ = end(self.name);
    }
}
