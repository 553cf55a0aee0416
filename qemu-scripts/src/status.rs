//! Error messages and exit statuses of the commands.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Result;

/// Exit status of a command whose stdout was closed early, as a shell reports SIGPIPE.
pub const CLOSED: u8 = 128 + rustix::process::Signal::PIPE.as_raw() as u8;

/// Exit status after an error: a bad file, a bad option, a full disk.
pub const TROUBLE: u8 = 2;

/// Stdout cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("stdout cannot be written")]
pub struct StdoutError(#[from] io::Error);

/// Writes to stdout.
///
/// # Errors
///
/// Fails if stdout is closed or full.
pub fn print(text: &str) -> Result<(), StdoutError> {
    print_bytes(text.as_bytes())
}

/// Writes bytes to stdout.
///
/// # Errors
///
/// Fails if stdout is closed or full.
pub fn print_bytes(bytes: &[u8]) -> Result<(), StdoutError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// Prints an error to stderr, in one line.
pub fn complain(program: &str, error: &anyhow::Error) {
    print_line(program, &format!("{error:#}"));
}

/// Prints a line to stderr.
pub fn print_line(program: &str, line: &str) {
    // If stderr is closed too, there is no place for an error.
    let _ = writeln!(io::stderr(), "{program}: {line}");
}

/// Prints a warning to stderr, in one line.
pub fn warn(program: &str, warning: &str) {
    print_line(program, &format!("warning: {warning}"));
}

/// Returns true if stdout is a terminal that shows colours, and `NO_COLOR` is not set.
pub fn has_colour() -> bool {
    let set = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    io::stdout().is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// Returns true if stdout's reader has closed it, as `head` does.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let stdout = error.chain().find_map(|cause| cause.downcast_ref::<StdoutError>());
    stdout.is_some_and(|StdoutError(error)| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Ends a command with status 0, with 1 after an error, or silently with [`CLOSED`].
pub fn end(program: &str, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::from(CLOSED),
        Err(error) => {
            complain(program, &error);
            ExitCode::FAILURE
        }
    }
}

/// Ends a command whose result is an exit status. Prints an error and ends with [`TROUBLE`].
pub fn end_with_answer(program: &str, result: Result<ExitCode>) -> ExitCode {
    match result {
        Ok(status) => status,
        Err(error) if is_closed_pipe(&error) => ExitCode::from(CLOSED),
        Err(error) => {
            complain(program, &error);
            ExitCode::from(TROUBLE)
        }
    }
}
