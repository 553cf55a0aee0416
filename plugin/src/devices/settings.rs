//! What a device is given when it is made: its place, the user's `key=value` settings, and what it
//! may ask of the machine.

use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr;

use crate::x86::PortRange;

/// What a device may ask of the machine it is in.
pub trait Services {
    /// An interrupt line of the ISA bus; `None` if there is none of that number.
    fn interrupt(&self, line: u8) -> Option<Box<dyn Interrupt>>;

    /// What ends the machine with an exit status.
    fn exit(&self) -> Box<dyn Fn(u8) + Send>;

    /// Whether QEMU records the run or replays it (`-icount rr=`). It does not record what a device reads
    /// from the host: such a device must not be made then.
    fn is_recorded(&self) -> bool;
}

/// An interrupt line.
///
/// Setting it takes QEMU's global lock, where the thread does not hold it. In an access it is held
/// already; a thread of a device's own must hold no lock then that the device waits for in an access.
pub trait Interrupt: Send {
    /// Raises the line, or lowers it.
    fn set(&self, level: bool);

    /// Raises the line and lowers it: an edge, which the PC's interrupt controllers keep.
    fn pulse(&self) {
        self.set(true);
        self.set(false);
    }
}

/// What a device is made of.
pub struct Settings<'a> {
    /// Its ports.
    pub range: PortRange,
    values: Vec<(String, String)>,
    /// What the device has asked for.
    known: Vec<String>,
    services: &'a dyn Services,
}

impl<'a> Settings<'a> {
    /// For a device at `range`, given these settings.
    pub fn new(
        range: PortRange,
        values: Vec<(String, String)>,
        services: &'a dyn Services,
    ) -> Settings<'a> {
        Settings { range, values, known: Vec::new(), services }
    }

    /// Takes a setting, if it was given.
    pub fn take(&mut self, key: &str) -> Option<String> {
        self.known.push(key.to_owned());
        let place = self.values.iter().position(|(name, _)| name == key)?;
        Some(self.values.remove(place).1)
    }

    /// Takes a setting that is a number, decimal or with `0x`.
    pub fn take_number<N: TryFrom<u64>>(&mut self, key: &str) -> Result<Option<N>, String> {
        let Some(text) = self.take(key) else { return Ok(None) };
        let number = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => u64::from_str(&text).ok(),
        };
        let number = number.and_then(|number| N::try_from(number).ok());
        number.map(Some).ok_or_else(|| format!("{key}={text} is not a number that fits"))
    }

    /// Takes a setting that names an interrupt line of the ISA bus, usually `irq=LINE`.
    pub fn take_interrupt(&mut self, key: &str) -> Result<Option<Box<dyn Interrupt>>, String> {
        let Some(text) = self.take(key) else { return Ok(None) };
        let interrupt = text.parse().ok().and_then(|line| self.services.interrupt(line));
        let wrong = || format!("{key}={text} is not a line of the ISA bus; write 0 to 15");
        interrupt.map(Some).ok_or_else(wrong)
    }

    /// What ends the machine with an exit status.
    pub fn exit(&self) -> Box<dyn Fn(u8) + Send> {
        self.services.exit()
    }

    /// What is left when a device has taken what it knows: an error says that it knows no more.
    pub fn finish(&self) -> Result<(), String> {
        match self.values.first() {
            None => Ok(()),
            Some((key, _)) if self.known.is_empty() => {
                Err(format!("it has no setting {key:?}, nor any other"))
            }
            Some((key, _)) => {
                Err(format!("it has no setting {key:?}; it has {}", self.known.join(", ")))
            }
        }
    }

    /// Takes a setting that names a file to read: a regular one, since to wait for a pipe or a terminal
    /// would make the guest wait, too.
    pub fn take_input(&mut self, key: &str) -> Result<Option<File>, String> {
        let Some(path) = self.take(key) else { return Ok(None) };
        if self.services.is_recorded() {
            return Err(format!(
                "{key}={path} would be read anew in each replay, as QEMU records the run (rr=) without \
                 it; leave {key}= or rr= out"
            ));
        }
        let open = || match std::fs::metadata(&path)?.is_file() {
            true => File::open(&path),
            false => Err(io::Error::other("it is not a regular file")),
        };
        open().map(Some).map_err(|error| format!("{key}={path} cannot be read: {error}"))
    }

    /// Takes a setting that names a file to write.
    pub(crate) fn take_output(&mut self, key: &str) -> Result<super::output::Output, String> {
        match self.take(key) {
            None => super::output::Output::stdout()
                .map_err(|error| format!("stdout cannot be written: {error}; name a file")),
            Some(path) => super::output::Output::create(Path::new(&path))
                .map_err(|error| format!("{key}={path} cannot be written: {error}")),
        }
    }
}
