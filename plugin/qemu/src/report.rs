//! Lines on stderr.

use std::fmt;

use crate::output::write_stderr;

/// Writes a line for the user, with the plugin's name before it.
///
/// If stderr accepts nothing (it may be a pipe that nobody reads), the line is lost and the machine continues.
pub fn say(line: impl fmt::Display) {
    show(&format!("pvio: {line}\n"));
}

/// Writes text of several lines as it is.
pub fn show(text: &str) {
    write_stderr(text.as_bytes());
}
