//! Guests that report whether they passed.
//!
//! A guest reports its verdict with the hypercall `exit`, and logs with `log`. A machine that ends in another way
//! has no verdict.

mod log;
mod outputs;
mod quote;
mod tap;
mod verdict;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::machine::{Ended, Machine, Running};

pub use log::LogLine;
pub use tap::Tap;
pub use verdict::Verdict;

use verdict::Stopped;

/// Maximum size of a guest's log, in bytes. A guest that logs more is stopped.
const LOG_LIMIT: u64 = 16 << 20;

/// Time from SIGTERM to SIGKILL.
const TERM_TIMEOUT: Duration = Duration::from_secs(5);

/// A guest to boot.
#[derive(Clone, Debug)]
pub struct Guest {
    path: PathBuf,
    label: String,
    arguments: Vec<OsString>,
}

impl Guest {
    /// Opens a guest's file and decides how QEMU boots it.
    ///
    /// `number` distinguishes guests with the same name.
    ///
    /// # Errors
    ///
    /// Fails if the file is a directory, is empty or cannot be read.
    pub fn open(path: &Path, number: usize) -> Result<Guest> {
        let metadata = path.metadata().with_context(|| path.display().to_string())?;
        ensure!(!metadata.is_dir(), "{}: this is a directory; name a guest's file", path.display());
        let mut start = Vec::new();
        File::open(path)
            .and_then(|file| file.take(1024).read_to_end(&mut start))
            .with_context(|| path.display().to_string())?;
        ensure!(!start.is_empty(), "{}: this file is empty; name a guest's file", path.display());
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        let label = outputs::label(number, &file_name);
        Ok(Guest { path: path.to_owned(), label, arguments: boot_arguments(path, &start) })
    }

    /// Returns the path from the command line.
    pub fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Returns the guest's number and file name, safe within a file name: `1-boot.bin`.
    pub fn label(&self) -> &str {
        &self.label
    }
}

fn boot_arguments(path: &Path, start: &[u8]) -> Vec<OsString> {
    let linux_header = start.get(0x202..0x206);
    if start.starts_with(b"\x7fELF") || linux_header == Some(b"HdrS") {
        return vec!["-kernel".into(), path.into()];
    }
    let format = match path.extension().and_then(OsStr::to_str) {
        Some("bin") => return vec!["-bios".into(), path.into()],
        Some("iso") => "format=raw,media=cdrom",
        _ if start.starts_with(b"QFI\xfb") => "format=qcow2",
        _ => "format=raw",
    };
    // Writes to the disk are discarded, so the next run finds the same disk.
    let mut drive = OsString::from(format!("{format},snapshot=on,file="));
    drive.push(path.to_string_lossy().replace(',', ",,"));
    vec!["-drive".into(), drive]
}

/// Boots guests.
#[derive(Debug)]
pub struct Runner<'a> {
    /// QEMU's path.
    pub qemu: PathBuf,
    /// More options of the plugin, in which `%g` stands for the guest's label.
    pub options: Vec<String>,
    /// More arguments of QEMU, in which `%g` stands for the guest's label.
    pub arguments: Vec<OsString>,
    /// Time limit of a guest.
    pub time_limit: Duration,
    /// Set to stop the guests.
    pub stop: &'a AtomicBool,
}

/// The result of a guest.
#[derive(Debug)]
pub struct Report {
    /// The guest's verdict.
    pub verdict: Verdict,
    /// The guest's log.
    pub log: Vec<LogLine>,
    /// QEMU's exit status, output and statistics.
    pub ended: Ended,
}

impl Runner<'_> {
    /// Checks before the first boot that this QEMU and the options allow verdicts.
    ///
    /// Returns the plugin's warnings.
    ///
    /// # Errors
    ///
    /// Fails if the options prevent verdicts or share an output, or if QEMU or the plugin refuses them.
    pub fn check(&self, guests: &[Guest]) -> Result<Vec<String>> {
        for option in &self.options {
            match option.split_once('=').unwrap_or((option, "")) {
                (key @ ("stats" | "summary" | "log"), _) => {
                    bail!("option {key:?} is set by guest-test; use --keep to keep its output")
                }
                ("hypercall", "off") => bail!(
                    "option \"hypercall=off\": guests report their verdict with a hypercall; use kernel or any"
                ),
                _ => outputs::refuse_shared(option, guests.len())?,
            }
        }
        let first = guests.first().context("no guest is named")?;
        // A QEMU that warns of `log` limits `exit`, too.
        let mut running = self
            .machine(first)
            .plugin(&["log=/dev/null"])
            .args(["-machine", "none", "-display", "none", "-monitor", "stdio"])
            .start()?;
        // QEMU may have ended already. Then its stderr has the reason.
        let _ = running.say("quit");
        let ended = running.wait()?;
        if !ended.status.success() {
            let mut lines = ended.stderr.lines();
            let refusal = lines.clone().find_map(|line| line.strip_prefix("pvio: "));
            let why = refusal.or_else(|| lines.next_back()).unwrap_or("it printed no reason");
            bail!("{} does not start with the plugin: {why}", self.qemu.display());
        }
        Ok(ended.warnings().map(str::to_owned).collect())
    }

    /// Boots a guest and waits for its verdict. Returns `None` if `stop` is set.
    ///
    /// # Errors
    ///
    /// Fails if QEMU cannot be run.
    pub fn run(&self, guest: &Guest) -> Result<Option<Report>> {
        let directory = tempfile::tempdir()?;
        let log = directory.path().join("log");
        let machine = self
            .machine(guest)
            .plugin(&[&format!("log={}", log.display())])
            .args(["-machine", "pc", "-accel", "tcg", "-display", "none", "-nodefaults"])
            .args(["-no-reboot", "-monitor", "none"])
            .args(self.serial())
            .args(&guest.arguments)
            .args(
                self.arguments.iter().map(|argument| outputs::argument_of(&guest.label, argument)),
            );
        let mut running = machine.start()?;
        let Some((ended, stopped)) = self.wait(&mut running, &log)? else {
            return Ok(None);
        };
        let log = LogLine::read(&log, LOG_LIMIT)?;
        Ok(Some(Report { verdict: Verdict::of(&ended, stopped, &log), log, ended }))
    }

    /// Makes a machine with the plugin and its options for this guest.
    fn machine(&self, guest: &Guest) -> Machine {
        let machine = Machine::new(&self.qemu).plugin(&["summary=off"]);
        self.options.iter().fold(machine, |machine, option| {
            machine.plugin(&[&outputs::option_of(&guest.label, option)])
        })
    }

    /// Returns arguments that capture COM1, unless the user's arguments configure it.
    fn serial(&self) -> &[&str] {
        let taken = ["-serial", "--serial", "-nographic", "--nographic"];
        match self.arguments.iter().any(|argument| taken.iter().any(|&name| argument == name)) {
            true => &[],
            false => &["-serial", "stdio"],
        }
    }

    fn wait(&self, running: &mut Running, log: &Path) -> Result<Option<(Ended, Option<Stopped>)>> {
        let started = Instant::now();
        let mut stopped = None;
        while stopped.is_none() {
            if let Some(ended) = running.poll()? {
                return Ok(Some((ended, None)));
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if started.elapsed() > self.time_limit {
                stopped = Some(Stopped::TimeLimit(self.time_limit));
            } else if log.metadata().is_ok_and(|file| file.len() > LOG_LIMIT) {
                stopped = Some(Stopped::LogLimit(LOG_LIMIT));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // After SIGTERM the plugin still writes its statistics.
        running.signal(Signal::TERM.as_raw())?;
        let asked = Instant::now();
        loop {
            if let Some(mut ended) = running.poll()? {
                // Hides QEMU's line about the SIGTERM.
                let said =
                    ended.stderr.lines().filter(|line| !line.contains("terminating on signal"));
                ended.stderr = said.map(|line| format!("{line}\n")).collect();
                return Ok(Some((ended, stopped)));
            }
            if asked.elapsed() > TERM_TIMEOUT {
                running.signal(Signal::KILL.as_raw())?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_type_decides_how_a_guest_boots() {
        let arguments = |name: &str, start: &[u8]| boot_arguments(Path::new(name), start);
        assert_eq!(arguments("a.bin", b"\xf4"), ["-bios", "a.bin"]);
        assert_eq!(arguments("a.bin", b"\x7fELF\x01"), ["-kernel", "a.bin"]);
        let mut linux = vec![0; 1024];
        linux[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(arguments("vmlinuz", &linux), ["-kernel", "vmlinuz"]);
        let drive = |name, start| arguments(name, start)[1].to_string_lossy().into_owned();
        assert_eq!(drive("a,b", b"\xeb"), "format=raw,snapshot=on,file=a,,b");
        assert_eq!(drive("a.qcow2", b"QFI\xfb"), "format=qcow2,snapshot=on,file=a.qcow2");
        assert_eq!(drive("a.iso", b"\0"), "format=raw,media=cdrom,snapshot=on,file=a.iso");
    }
}
