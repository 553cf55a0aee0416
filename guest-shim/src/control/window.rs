//! A window of the statistics that ends with its scope.

use super::{begin, end};
use crate::error::CallError;

/// A window that is open. It ends when this is dropped.
///
/// ```
/// use pvio_guest::control::Window;
///
/// // The result is kept, so that the window stays open to the end of the block. Where nobody
/// // listens it is an error, and nothing else is different.
/// let _window = Window::begin("boot");
/// ```
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Window<'n> {
    name: &'n str,
}

impl<'n> Window<'n> {
    /// Begins it.
    pub fn begin(name: &'n str) -> Result<Window<'n>, CallError> {
        begin(name).map(|()| Window { name })
    }

    /// Ends it, and says whether that went well; dropping it does not.
    pub fn end(self) -> Result<(), CallError> {
        let name = self.name;
        core::mem::forget(self);
        end(name)
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        // Whether anybody has heard does not matter to whoever leaves the scope.
        let _ = end(self.name);
    }
}
