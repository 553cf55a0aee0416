//! A pager for long text on a terminal, chosen by the same rules as git's.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGINT;

use crate::status::StdoutError;

/// Passes text to a pager if stdout is a terminal, and to stdout otherwise.
///
/// The pager is `$PVIO_PAGER`, `$PAGER` or `less`, run by the shell; an empty name or `cat` means no pager. `less` ends
/// at once if the text fits on the screen, unless `$LESS` is set.
///
/// # Errors
///
/// Fails with the error of `write`, such as a closed pipe after the user leaves the pager.
pub fn page(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), StdoutError> {
    let pager = command(|name| std::env::var_os(name)).filter(|_| io::stdout().is_terminal());
    let Some(mut pager) = pager.and_then(start) else {
        let mut stdout = io::stdout().lock();
        return Ok(write(&mut stdout).and_then(|()| stdout.flush())?);
    };
    // Closes the pipe before waiting for the pager.
    let result = pager.stdin.take().map(|mut pipe| write(&mut pipe));
    pager.wait()?;
    Ok(result.unwrap_or(Ok(()))?)
}

/// Prints text through the pager.
///
/// # Errors
///
/// Fails if stdout cannot be written.
pub fn print(text: &str) -> Result<(), StdoutError> {
    page(|out| out.write_all(text.as_bytes()))
}

/// Returns the pager's shell command; `None` for no pager.
fn command(variable: impl Fn(&str) -> Option<OsString>) -> Option<OsString> {
    let pager = variable("PVIO_PAGER").or_else(|| variable("PAGER"));
    let pager = pager.unwrap_or_else(|| "less".into());
    (!pager.is_empty() && pager != "cat").then_some(pager)
}

/// Starts a pager. Returns `None` if there is no such program: text without a pager is better than none.
fn start(pager: OsString) -> Option<Child> {
    let program = pager.to_str()?.split_whitespace().next()?.to_owned();
    let found = Command::new("sh").args(["-c", "command -v -- \"$1\"", "sh", &program]).output();
    if !found.ok()?.status.success() {
        return None;
    }
    let mut command = Command::new("sh");
    command.arg("-c").arg(&pager).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        // End if the text fits on the screen; show colours; leave the text on the screen.
        command.env("LESS", "FRX");
    }
    let child = command.spawn().ok()?;
    // Leaves ^C to the pager. If ^C ended only this program, the pager and the shell would both read the terminal.
    let _ = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)));
    Some(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(&str, &str)]) -> Option<OsString> {
        let value = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
        command(|name| value(name).map(Into::into))
    }

    #[test]
    fn pager_is_chosen_as_git_chooses_it() {
        assert_eq!(with(&[]), Some("less".into()));
        assert_eq!(with(&[("PAGER", "more -d")]), Some("more -d".into()));
        assert_eq!(with(&[("PAGER", "more"), ("PVIO_PAGER", "most")]), Some("most".into()));
        assert_eq!(with(&[("PAGER", "more"), ("PVIO_PAGER", "")]), None);
        assert_eq!(with(&[("PAGER", "cat")]), None);
    }

    #[test]
    fn a_missing_pager_is_not_started() {
        assert!(start("no-such-pager -x".into()).is_none());
    }
}
