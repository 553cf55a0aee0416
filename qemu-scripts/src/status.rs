//! Error messages and exit statuses of the commands.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;

/// Exit status of a command whose stdout was closed early: what a shell reports for SIGPIPE.
pub const CLOSED: u8 = 128 + rustix::process::Signal::PIPE.as_raw() as u8;

/// Stdout cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("stdout cannot be written")]
pub struct StdoutError(#[from] io::Error);

/// Writes to stdout.
pub fn print(text: &str) -> Result<(), StdoutError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Prints an error to stderr, in one line.
pub fn complain(program: &str, error: &anyhow::Error) {
    // If stderr is closed as well, nobody can be told.
    let _ = writeln!(io::stderr(), "{program}: {error:#}");
}

/// Returns true if the reader of stdout has gone, as `head` does when it has enough.
pub fn reader_has_gone(error: &anyhow::Error) -> bool {
    let stdout = error.chain().find_map(|cause| cause.downcast_ref::<StdoutError>());
    stdout.is_some_and(|StdoutError(error)| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Ends a command of this name: with 0, with 1 after it prints the error, or silently with [`CLOSED`].
pub fn end(program: &str, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if reader_has_gone(&error) => ExitCode::from(CLOSED),
        Err(error) => {
            complain(program, &error);
            ExitCode::FAILURE
        }
    }
}
