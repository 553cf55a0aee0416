//! The screen and the keyboard of a guest, through QEMU's monitor.

use std::thread::sleep;
use std::time::Duration;

use pvio_cli::machine::{Ended, Machine};

use crate::Monitor;

/// A machine with a text screen, whose monitor is spoken to.
#[derive(Debug)]
pub struct Screen {
    monitor: Monitor,
    file: tempfile::NamedTempFile,
}

impl Screen {
    const COLUMNS: usize = 80;
    const ROWS: usize = 25;

    /// Starts a machine that has a VGA. Nobody else may write to its stdout.
    pub fn start(machine: Machine) -> Screen {
        Screen { monitor: Monitor::start(machine), file: tempfile::NamedTempFile::new().unwrap() }
    }

    /// What a person sees.
    pub fn text(&mut self) -> String {
        let bytes = 2 * Self::COLUMNS * Self::ROWS;
        let path = self.file.path().display();
        let said = self.monitor.ask(&format!("pmemsave 0xb8000 {bytes} \"{path}\""));
        assert_eq!(said, "");
        let memory = std::fs::read(&self.file).unwrap();
        let lines = memory.chunks(2 * Self::COLUMNS).map(|line| {
            // Each character has an attribute after it; what is not ASCII is the lines of a frame.
            let character = |cell: &[u8]| match cell[0] {
                printable @ b' '..=b'~' => char::from(printable),
                _ => ' ',
            };
            line.chunks(2).map(character).collect::<String>().trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Waits until some text is there.
    pub fn wait_for(&mut self, text: &str) {
        let mut seen = String::new();
        for _ in 0..1000 {
            seen = self.text();
            if seen.contains(text) {
                return;
            }
            sleep(Duration::from_millis(60));
        }
        panic!("no {text:?} on the screen:\n{seen}");
    }

    /// Presses a key, by the monitor's name of it.
    pub fn press(&mut self, key: &str) {
        assert_eq!(self.monitor.ask(&format!("sendkey {key} 1")), "");
    }

    /// Types letters after a prompt, each when the one before is on the screen: the keyboard holds few.
    pub fn type_after(&mut self, prompt: &str, text: &str) {
        for (end, letter) in text.char_indices() {
            self.press(letter.encode_utf8(&mut [0; 4]));
            self.wait_for(&format!("{prompt}{}", &text[..=end]));
        }
    }

    /// Ends QEMU.
    pub fn quit(self) -> Ended {
        self.monitor.quit()
    }
}
