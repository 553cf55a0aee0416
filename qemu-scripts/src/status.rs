//! How the programs end: what they say when something is wrong, and their exit statuses.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;

/// The exit status of a program whose stdout was closed before all was written: that of one that SIGPIPE
/// ended, as a shell gives it.
pub const CLOSED: u8 = 128 + rustix::process::Signal::PIPE.as_raw() as u8;

/// Stdout takes no more.
#[derive(Debug, thiserror::Error)]
#[error("stdout cannot be written")]
pub struct StdoutError(#[from] io::Error);

/// Writes to stdout.
pub fn print(text: &str) -> Result<(), StdoutError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Says in one line what is wrong.
pub fn complain(program: &str, error: &anyhow::Error) {
    // Where stderr takes nothing any more, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{program}: {error:#}");
}

/// Whether the reader of stdout has gone, as `head` goes when it has enough.
pub fn reader_has_gone(error: &anyhow::Error) -> bool {
    let stdout = error.chain().find_map(|cause| cause.downcast_ref::<StdoutError>());
    stdout.is_some_and(|StdoutError(error)| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Ends a program of this name: 0, 1 after a complaint, or without one [`CLOSED`].
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
