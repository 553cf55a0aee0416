//! Guests that judge themselves: booted, listened to, and held to what they say.
//!
//! A guest says how it went by the hypercall `exit`, and what there is to say by `log`. Everything
//! else that may end a machine is no verdict.

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

/// How much a guest may log before it is taken for one that does nothing else.
const LOG_LIMIT: u64 = 16 << 20;

/// How long a machine may take to end when it is asked to, before it is made to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something to boot.
#[derive(Clone, Debug)]
pub struct Guest {
    path: PathBuf,
    label: String,
    arguments: Vec<OsString>,
}

impl Guest {
    /// Looks at a file, and decides how QEMU boots it. The number tells guests of one name apart.
    pub fn open(path: &Path, number: usize) -> Result<Guest> {
        let metadata = path.metadata().with_context(|| path.display().to_string())?;
        ensure!(!metadata.is_dir(), "{}: it is a directory, and no guest", path.display());
        let mut start = Vec::new();
        File::open(path)
            .and_then(|file| file.take(1024).read_to_end(&mut start))
            .with_context(|| path.display().to_string())?;
        ensure!(!start.is_empty(), "{}: it is empty", path.display());
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        let label = outputs::label(number, &file_name);
        Ok(Guest { path: path.to_owned(), label, arguments: boot_arguments(path, &start) })
    }

    /// As the user named it.
    pub fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Its number and the name of its file, as they can stand in a file's name: `1-boot.bin`.
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
    // What a guest writes to its disk is forgotten: the next run finds the same.
    let mut drive = OsString::from(format!("{format},snapshot=on,file="));
    drive.push(path.to_string_lossy().replace(',', ",,"));
    vec!["-drive".into(), drive]
}

/// How guests are booted.
#[derive(Debug)]
pub struct Runner<'a> {
    /// The QEMU.
    pub qemu: PathBuf,
    /// The plugin's options, beside those that say what the guest said. In them `%g` stands for the
    /// guest's label.
    pub options: Vec<String>,
    /// More arguments for QEMU, with the same in them.
    pub arguments: Vec<OsString>,
    /// How long a guest may run.
    pub time_limit: Duration,
    /// Set when nobody waits for verdicts any more.
    pub stop: &'a AtomicBool,
}

/// What came of a guest.
#[derive(Debug)]
pub struct Report {
    /// What there is to say of it.
    pub verdict: Verdict,
    /// What the guest logged.
    pub log: Vec<LogLine>,
    /// What QEMU left behind.
    pub ended: Ended,
}

impl Runner<'_> {
    /// Makes sure that guests can be heard on this QEMU, and that the options are such, before any is
    /// booted.
    pub fn check(&self, guests: &[Guest]) -> Result<()> {
        for option in &self.options {
            match option.split_once('=').unwrap_or((option, "")) {
                (key @ ("stats" | "summary" | "log"), _) => {
                    bail!("option {key:?} is guest-test's own; --keep keeps what it would write")
                }
                ("hypercall", "off") => bail!("with hypercall=off a guest has no way to a verdict"),
                _ => outputs::refuse_shared(option, guests.len())?,
            }
        }
        let first = guests.first().context("there is no guest")?;
        // Where a guest cannot log, nor can it say how it went.
        let mut running = self
            .machine(first)
            .plugin(&["log=/dev/null"])
            .args(["-machine", "none", "-display", "none", "-monitor", "stdio"])
            .start()?;
        // It may have refused already: then its last words are of interest, not the pipe's.
        let _ = running.say("quit");
        let ended = running.wait()?;
        if !ended.status.success() {
            let mut lines = ended.stderr.lines();
            let refusal = lines.clone().find_map(|line| line.strip_prefix("pvio: "));
            let why = refusal.or_else(|| lines.next_back()).unwrap_or("it says nothing");
            bail!("{} does not start with the plugin: {why}", self.qemu.display());
        }
        Ok(())
    }

    /// Boots a guest, and waits for its verdict. `None` when told to stop.
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

    /// A machine with the plugin and its options, as they are for this guest.
    fn machine(&self, guest: &Guest) -> Machine {
        let machine = Machine::new(&self.qemu).plugin(&["summary=off"]);
        self.options.iter().fold(machine, |machine, option| {
            machine.plugin(&[&outputs::option_of(&guest.label, option)])
        })
    }

    /// COM1, to show what the guest last said there; not where the user has plans for it.
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
        // Asked to end, it still says what was counted; otherwise it is killed.
        running.signal(Signal::TERM.as_raw())?;
        let asked = Instant::now();
        loop {
            if let Some(mut ended) = running.poll()? {
                // Who ended it is known.
                let said =
                    ended.stderr.lines().filter(|line| !line.contains("terminating on signal"));
                ended.stderr = said.map(|line| format!("{line}\n")).collect();
                return Ok(Some((ended, stopped)));
            }
            if asked.elapsed() > PATIENCE {
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
    fn a_guest_is_booted_by_what_it_is() {
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
