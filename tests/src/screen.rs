//! A guest's screen and keyboard, through QEMU's monitor.

use pvio_cli::machine::{Ended, Machine};
use qapi::qmp::{KeyValue, QKeyCode, send_key};

use crate::{Monitor, wait_for};

/// A machine with a text screen and a keyboard.
#[derive(Debug)]
pub struct Screen {
    monitor: Monitor,
    file: tempfile::NamedTempFile,
}

impl Screen {
    const COLUMNS: usize = 80;
    const ROWS: usize = 25;

    /// Starts a machine that has a VGA.
    pub fn start(machine: Machine) -> Screen {
        Screen { monitor: Monitor::start(machine), file: tempfile::NamedTempFile::new().unwrap() }
    }

    /// The text on the screen.
    pub fn text(&mut self) -> String {
        let bytes = 2 * Self::COLUMNS * Self::ROWS;
        self.monitor.save_memory(0xb8000, bytes as u64, self.file.path());
        let memory = std::fs::read(&self.file).unwrap();
        let lines = memory.chunks(2 * Self::COLUMNS).map(|line| {
            // A cell is a character and its attribute. Characters outside ASCII draw frames.
            let character = |cell: &[u8]| match cell[0] {
                printable @ b' '..=b'~' => char::from(printable),
                _ => ' ',
            };
            line.chunks(2).map(character).collect::<String>().trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Waits until a text is on the screen.
    pub fn wait_for(&mut self, text: &str) {
        wait_for(|| {
            let screen = self.text();
            let error = || format!("no {text:?} on the screen:\n{screen}");
            screen.contains(text).then_some(()).ok_or_else(error)
        });
    }

    /// Presses a key, by its name in QMP.
    pub fn press(&mut self, key: &str) {
        let key = key.parse::<QKeyCode>().expect("a key").into();
        let keys = vec![KeyValue::qcode(key)];
        self.monitor.execute(send_key { keys, hold_time: Some(1) }).unwrap();
    }

    /// Types letters after a prompt.
    ///
    /// It waits until each letter is on the screen: the keyboard's buffer is small.
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
