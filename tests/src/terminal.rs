//! A terminal with a shell.

use std::process::Command;

use crate::wait_until;

/// A terminal of 80 by 24 with a shell, in tmux.
#[derive(Debug)]
pub struct Terminal {
    directory: tempfile::TempDir,
}

impl Terminal {
    /// Starts the shell.
    pub fn start() -> Terminal {
        let terminal = Terminal { directory: tempfile::tempdir().unwrap() };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh"]);
        terminal
    }

    /// Runs a command of tmux.
    pub fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.directory.path().join("tmux")).args(arguments);
        let output = command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").output();
        let output =
            output.expect("install Debian's package tmux, or run qemu-scripts/setup --tests");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types keys, as `tmux send-keys` names them.
    pub fn type_(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"][..], keys].concat());
    }

    /// The text on the screen.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen has a text.
    pub fn wait_for(&self, text: &str) -> String {
        wait_until(|| self.screen().contains(text), || format!("no {text:?}: {}", self.screen()));
        self.screen()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
