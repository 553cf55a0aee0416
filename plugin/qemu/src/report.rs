//! Lines on stderr.

use std::fmt;
use std::io::Write;

/// Writes a line for the user, with the plugin's name before it. Where stderr takes nothing any more
/// (it may be a pipe that nobody reads) there is nobody to tell: the machine goes on.
pub fn say(line: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "pvio: {line}");
}

/// Writes text of several lines as it is.
pub fn show(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
