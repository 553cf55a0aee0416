//! Errors of temporary files.

use std::io;

/// Returns the error of the system call alone. The crate tempfile adds the temporary file, which the user does not know.
pub fn without_path(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((call, _)) => io::Error::new(error.kind(), call),
        None => error,
    }
}
