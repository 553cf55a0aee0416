//! QEMU's standard input and output as a serial line.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use rustix::termios::{InputModes, LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The two streams. A terminal gets its mode back when this is dropped.
pub(super) struct StandardStreams {
    /// `None` after its end.
    input: Option<File>,
    output: File,
    /// The terminal's mode before.
    mode: Option<Termios>,
}

impl StandardStreams {
    /// Opens the streams. A terminal passes each key at once and echoes none, but still sends signals.
    pub fn open() -> io::Result<StandardStreams> {
        let input: File = io::stdin().as_fd().try_clone_to_owned()?.into();
        let output = io::stdout().as_fd().try_clone_to_owned()?.into();
        let mode = input.is_terminal().then(|| tcgetattr(&input)).transpose()?;
        if let Some(mode) = &mode {
            let mut raw = mode.clone();
            raw.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO | LocalModes::IEXTEN);
            raw.input_modes &= !(InputModes::ICRNL | InputModes::INLCR | InputModes::IXON);
            tcsetattr(&input, OptionalActions::Now, &raw)?;
        }
        Ok(StandardStreams { input: Some(input), output, mode })
    }

    /// Where bytes come from, until it ends.
    pub fn input(&self) -> Option<&File> {
        self.input.as_ref()
    }

    pub fn output(&self) -> &File {
        &self.output
    }

    pub fn input_has_ended(&mut self) {
        self.restore();
        self.input = None;
    }

    fn restore(&mut self) {
        if let (Some(input), Some(mode)) = (&self.input, self.mode.take()) {
            // If the terminal is gone, nothing is left to restore.
            let _ = tcsetattr(input, OptionalActions::Now, &mode);
        }
    }
}

impl Drop for StandardStreams {
    fn drop(&mut self) {
        self.restore();
    }
}
