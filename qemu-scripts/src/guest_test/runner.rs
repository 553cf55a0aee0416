//! Boots a guest and waits for its verdict.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::expectation::Expectation;
use super::pattern::{Match, Watch};
use super::report::last_lines;
use super::settings::GuestFiles;
use super::verdict::{End, Stopped};
use super::{Entries, Entry, Guest, LogLine, Report, Settings, Verdict, kept, outputs};
use crate::machine::{Machine, Running};

/// Maximum size of a guest's log, in bytes. A guest that logs more is stopped.
const LOG_LIMIT: u64 = 16 << 20;

/// Maximum size of a guest's output, in bytes. A guest that writes more is stopped.
const OUTPUT_LIMIT: u64 = 16 << 20;

/// Time limit of a guest, if no setting says otherwise, in seconds.
const DEFAULT_TIMEOUT: u64 = 30;

/// Time from SIGTERM to SIGKILL.
const TERM_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval at which a machine is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Boots guests.
#[derive(Debug)]
pub struct Runner<'a> {
    qemu: PathBuf,
    /// The settings from options.
    settings: Settings,
    /// QEMU's arguments from the command line, in which `%g` stands for the guest's label.
    arguments: Vec<OsString>,
    /// Number of further attempts of a guest that fails.
    retries: u32,
    /// Directory with a directory for each guest's files.
    keep: Option<PathBuf>,
    /// Set to stop the guests.
    stop: &'a AtomicBool,
    cancelled: AtomicBool,
    files: GuestFiles,
}

impl<'a> Runner<'a> {
    /// Makes a runner that stops its guests if `stop` is set.
    pub fn new(qemu: PathBuf, settings: Settings, stop: &'a AtomicBool) -> Runner<'a> {
        Runner {
            qemu,
            settings,
            arguments: Vec::new(),
            retries: 0,
            keep: None,
            stop,
            cancelled: AtomicBool::new(false),
            files: GuestFiles::default(),
        }
    }

    /// Adds arguments of QEMU.
    pub fn arguments(self, arguments: Vec<OsString>) -> Runner<'a> {
        Runner { arguments, ..self }
    }

    /// Runs a guest that fails again, this often at most.
    pub fn retries(self, retries: u32) -> Runner<'a> {
        Runner { retries, ..self }
    }

    /// Keeps the files of each guest in a directory there, named by the guest's label.
    pub fn keep(self, directory: Option<PathBuf>) -> Runner<'a> {
        Runner { keep: directory, ..self }
    }

    /// Stops the guests that run.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.cancelled.load(Ordering::Relaxed)
    }

    /// Checks before the first boot all guests, and that this QEMU and the options allow verdicts.
    ///
    /// Returns the plugin's warnings.
    ///
    /// # Errors
    ///
    /// Fails if a guest cannot be read, if options prevent verdicts or share an output, or if QEMU or the plugin refuses
    /// them.
    pub fn check(&self, entries: &Entries<'_>) -> Result<Vec<String>> {
        let mut first = None;
        for entry in entries.first_runs() {
            let guest = self.open(&entry)?;
            check_options(&guest, entries.len())?;
            first.get_or_insert(guest);
        }
        let Some(first) = first else { return Ok(Vec::new()) };
        // Options may name files in this directory.
        self.make_kept_directory(&first)?;
        // A QEMU that warns of `log` limits `exit`, too.
        let mut running = self
            .machine(&first)
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

    /// Boots a guest and waits for its verdict. Returns `None` if the guests are stopped.
    ///
    /// # Errors
    ///
    /// Fails if QEMU cannot be run, or if a file of the run cannot be made.
    pub fn run(&self, entry: &Entry<'_>) -> Result<Option<Report>> {
        let guest = self.open(entry)?;
        self.make_kept_directory(&guest)?;
        let mut earlier = Vec::new();
        loop {
            let Some(mut report) = self.attempt(&guest)? else { return Ok(None) };
            match report.verdict.failure.clone() {
                Some(failure) if earlier.len() < self.retries as usize => earlier.push(failure),
                _ => {
                    report.earlier = earlier;
                    return Ok(Some(report));
                }
            }
        }
    }

    fn open(&self, entry: &Entry<'_>) -> Result<Guest> {
        Guest::open(entry, &self.settings, &self.files)
    }

    fn attempt(&self, guest: &Guest) -> Result<Option<Report>> {
        if self.is_stopped() {
            return Ok(None);
        }
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name);
        let boot = match guest.boot(directory.path())? {
            Ok(boot) => boot,
            Err(why) => {
                return Ok(Some(Report::not_run(format!("QEMU cannot boot this guest: {why}"))));
            }
        };
        let expectation = guest.settings.expectation();
        let own = self.own_arguments(guest);
        let console = has_free_debug_console(&expectation, &own).then(|| path("console"));
        let log = path("log");
        let mut machine = self
            .machine(guest)
            .plugin(&[&format!("log={}", log.display())])
            .args(["-accel", "tcg", "-display", "none", "-nodefaults"])
            .args(["-no-reboot", "-monitor", "none"])
            .args(serial(&own))
            .args(boot);
        if let Some(console) = &console {
            machine = machine.args(["-debugcon", &format!("file:{}", console.display())]);
        }
        let mut running = machine.args(&own).start()?;
        let watched = [Some(running.stdout_path()), console.clone()].into_iter().flatten();
        let mut waiter = Waiter {
            runner: self,
            expectation: &expectation,
            time_limit: Duration::from_secs(guest.settings.timeout.unwrap_or(DEFAULT_TIMEOUT)),
            log: &log,
            outputs: watched.map(|path| (path.clone(), Watch::new(path))).collect(),
        };
        let has_debug_exit =
            own.iter().any(|argument| argument.to_string_lossy().contains("isa-debug-exit"));
        let Some(end) = waiter.wait(&mut running, has_debug_exit)? else { return Ok(None) };
        let log = LogLine::read(&log, LOG_LIMIT)?;
        if let Some(directory) = self.kept_directory(guest) {
            kept::keep(&directory, &end.ended, &log, console.as_deref())?;
        }
        let verdict = Verdict::of(&end, &log, &expectation);
        let console = console.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        Ok(Some(Report {
            verdict,
            log,
            wall: end.ended.wall,
            serial: last_lines(&end.ended.stdout),
            console: last_lines(&String::from_utf8_lossy(&console)),
            qemu: last_lines(&end.ended.stderr),
            stats: end.ended.stats,
            earlier: Vec::new(),
        }))
    }

    /// Makes a machine with the plugin and its options for this guest.
    fn machine(&self, guest: &Guest) -> Machine {
        let machine = Machine::new(&self.qemu).plugin(&["summary=off"]);
        guest.settings.options.iter().fold(machine, |machine, option| {
            machine.plugin(&[&outputs::option_of(guest.label(), option)])
        })
    }

    /// Returns the arguments of the guest's file and of the command line.
    fn own_arguments(&self, guest: &Guest) -> Vec<OsString> {
        let file = guest.settings.arguments.iter().map(OsString::from);
        let all = file.chain(self.arguments.iter().cloned());
        all.map(|argument| outputs::argument_of(guest.label(), &argument)).collect()
    }

    fn kept_directory(&self, guest: &Guest) -> Option<PathBuf> {
        self.keep.as_ref().map(|directory| directory.join(guest.label()))
    }

    fn make_kept_directory(&self, guest: &Guest) -> Result<()> {
        let Some(directory) = self.kept_directory(guest) else { return Ok(()) };
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())
    }
}

/// Refuses options that prevent verdicts, and those that share an output among `runs` runs.
fn check_options(guest: &Guest, runs: usize) -> Result<()> {
    let by_hypercall = guest.settings.expectation().expected().is_none();
    for option in &guest.settings.options {
        match option.split_once('=').unwrap_or((option, "")) {
            (key @ ("stats" | "summary" | "log"), _) => {
                bail!("option {key:?} is set by guest-test; use --keep to keep its output")
            }
            ("hypercall", "off") if by_hypercall => bail!(
                "option \"hypercall=off\": guests report their verdict with a hypercall; use kernel or any"
            ),
            _ => outputs::refuse_shared(option, runs)?,
        }
    }
    Ok(())
}

/// Returns arguments that capture COM1, unless the user's arguments configure it.
fn serial(own: &[OsString]) -> &'static [&'static str] {
    let taken = ["-serial", "--serial", "-nographic", "--nographic"];
    match own.iter().any(|argument| taken.iter().any(|&name| argument == name)) {
        true => &[],
        false => &["-serial", "stdio"],
    }
}

/// Returns true if patterns are searched in the debug console, and the user's arguments do not configure it.
fn has_free_debug_console(expectation: &Expectation, own: &[OsString]) -> bool {
    let is_console = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument.ends_with("-debugcon") || argument.contains("isa-debugcon")
    };
    expectation.has_patterns() && !own.iter().any(is_console)
}

/// Waits until a machine ends, or until there is a reason to end it.
struct Waiter<'a> {
    runner: &'a Runner<'a>,
    expectation: &'a Expectation,
    time_limit: Duration,
    log: &'a Path,
    /// The files of the serial port and of the debug console.
    outputs: Vec<(PathBuf, Watch)>,
}

impl Waiter<'_> {
    /// Returns the end of the machine; `None` if the guests are stopped.
    fn wait(&mut self, running: &mut Running, has_debug_exit: bool) -> Result<Option<End>> {
        let started = Instant::now();
        let end = |ended, stopped, matched| End { ended, stopped, matched, has_debug_exit };
        let is_larger = |path: &Path, limit| path.metadata().is_ok_and(|file| file.len() > limit);
        let (stopped, matched) = loop {
            if let Some(ended) = running.poll()? {
                let matched = self.search(true);
                return Ok(Some(end(ended, None, matched)));
            }
            if self.runner.is_stopped() {
                return Ok(None);
            }
            if let Some(found) = self.search(false) {
                break (None, Some(found));
            }
            if started.elapsed() > self.time_limit {
                break (Some(Stopped::Time(self.time_limit)), None);
            } else if is_larger(self.log, LOG_LIMIT) {
                break (Some(Stopped::Log(LOG_LIMIT)), None);
            } else if self.outputs.iter().any(|(path, _)| is_larger(path, OUTPUT_LIMIT)) {
                break (Some(Stopped::Output(OUTPUT_LIMIT)), None);
            }
            std::thread::sleep(POLL);
        };
        // After SIGTERM the plugin still writes its statistics.
        running.signal(Signal::TERM.as_raw())?;
        let asked = Instant::now();
        loop {
            if let Some(mut ended) = running.poll()? {
                // Hides QEMU's line about the SIGTERM.
                let said =
                    ended.stderr.lines().filter(|line| !line.contains("terminating on signal"));
                ended.stderr = said.map(|line| format!("{line}\n")).collect();
                return Ok(Some(end(ended, stopped, matched)));
            }
            if asked.elapsed() > TERM_TIMEOUT {
                running.signal(Signal::KILL.as_raw())?;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Searches the outputs for a line that gives the verdict.
    fn search(&mut self, end: bool) -> Option<Match> {
        let Expectation { success, failure, .. } = self.expectation;
        if !self.expectation.has_patterns() {
            return None;
        }
        let search = |(_, watch): &mut (PathBuf, Watch)| {
            watch.search(success.as_ref(), failure.as_ref(), end)
        };
        // A failure in one output counts before a success in the other.
        let found: Vec<Match> = self.outputs.iter_mut().filter_map(search).collect();
        found.iter().find(|found| !found.success).or(found.first()).cloned()
    }
}
