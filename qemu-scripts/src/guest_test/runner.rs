//! Boots a guest and waits for its verdict.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::expectation::Expectation;
use super::pattern::Watch;
use super::report::last_lines;
use super::settings::GuestFiles;
use super::unittest_run::Meaning;
use super::unittests::Build;
use super::waiter::{LOG_LIMIT, Waiter};
use super::{Entries, Entry, Guest, LogLine, Report, Settings, Unittests, Verdict};
use super::{command_line, kept, outputs, shadowed, unittest_run};
use crate::machine::Machine;

/// Time limit of a guest, if no setting says otherwise, in seconds.
const DEFAULT_TIMEOUT: u64 = 30;

/// Boots guests.
#[derive(Debug)]
pub struct Runner<'a> {
    qemu: PathBuf,
    /// The settings from options.
    settings: Settings,
    /// QEMU's arguments from the command line, in which `%g` stands for the guest's label.
    arguments: Vec<OsString>,
    /// Texts for the guests' command lines.
    append: Vec<OsString>,
    /// How the tests of kvm-unit-tests were built; `None` for other guests.
    build: Option<Build>,
    /// True if the user chose tests by a group.
    by_group: bool,
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
            append: Vec::new(),
            build: None,
            by_group: false,
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

    /// Adds texts to the guests' command lines.
    pub fn append(self, append: Vec<OsString>) -> Runner<'a> {
        Runner { append, ..self }
    }

    /// Takes the settings of guests from the `guest.toml` of Cargo's package.
    pub fn package(self, package: Option<PathBuf>) -> Runner<'a> {
        Runner { files: GuestFiles::of_package(package), ..self }
    }

    /// Runs the tests of a list as kvm-unit-tests does, by a group of them or not.
    pub fn unittests(self, list: &Unittests, by_group: bool) -> Runner<'a> {
        Runner { build: Some(list.build().clone()), by_group, ..self }
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
    /// Returns warnings: the plugin's, and those of what a guest does not get.
    ///
    /// # Errors
    ///
    /// Fails if a guest cannot be read, if options prevent verdicts or share an output, or if QEMU or the plugin refuses
    /// them.
    pub fn check(&self, entries: &Entries<'_>) -> Result<Vec<String>> {
        let mut first = None;
        let mut warnings = Vec::new();
        for entry in entries.first_runs() {
            let guest = self.open(&entry)?;
            check_options(&guest, entries.len())?;
            if warnings.is_empty() {
                warnings.extend(self.lost_command_line(&guest));
            }
            first.get_or_insert(guest);
        }
        let Some(first) = first else { return Ok(warnings) };
        warnings.extend(shadowed::warning());
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
        warnings.extend(ended.warnings().map(str::to_owned));
        Ok(warnings)
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

    /// Warns of a guest that has no command line when it boots, though there is one for it.
    fn lost_command_line(&self, guest: &Guest<'_>) -> Option<String> {
        let kind = guest.kind().filter(|&kind| !command_line::has_one(kind))?;
        let text = command_line::joined(&self.append);
        (!text.is_empty()).then(|| {
            format!(
                "{}: a guest that boots as {} has no command line: {:?} is only in its fw_cfg file {}",
                guest.name(),
                kind.name(),
                text.to_string_lossy(),
                command_line::FILE
            )
        })
    }

    fn open<'e>(&self, entry: &Entry<'e>) -> Result<Guest<'e>> {
        Guest::open(entry, &self.settings, &self.files)
    }

    fn attempt(&self, guest: &Guest<'_>) -> Result<Option<Report>> {
        if self.is_stopped() {
            return Ok(None);
        }
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name);
        let mut own = self.own_arguments(guest);
        if let (Some(test), Some(build)) = (guest.unittest, &self.build) {
            match unittest_run::prepare(test, build, self.by_group, directory.path()) {
                Ok(Ok(mut arguments)) => {
                    arguments.append(&mut own);
                    own = arguments;
                }
                Ok(Err(why)) => return Ok(Some(Report::skipped(why))),
                Err(error) => return Ok(Some(Report::not_run(format!("{error:#}")))),
            }
        }
        if let Some(kind) = guest.kind() {
            command_line::add(&mut own, kind, &self.append);
        }
        let boot = match guest.boot(directory.path(), command_line::is_in(&own))? {
            Ok(boot) => boot,
            Err(why) => {
                return Ok(Some(Report::not_run(format!("QEMU cannot boot this guest: {why}"))));
            }
        };
        let expectation = guest.settings.expectation();
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
            is_stopped: &|| self.is_stopped(),
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
        let mut verdict = Verdict::of(&end, &log, &expectation);
        match guest.unittest.and_then(|_| unittest_run::meaning(&end)) {
            Some(Meaning::Skipped(why)) => return Ok(Some(Report::skipped(why))),
            Some(Meaning::Failed(why)) => verdict.failure = verdict.failure.or(Some(why)),
            None => {}
        }
        let console = console.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        Ok(Some(Report {
            verdict,
            skipped: None,
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
    fn machine(&self, guest: &Guest<'_>) -> Machine {
        let machine = Machine::new(&self.qemu).plugin(&["summary=off"]);
        guest.settings.options.iter().fold(machine, |machine, option| {
            machine.plugin(&[&outputs::option_of(guest.label(), option)])
        })
    }

    /// Returns the arguments of the guest's file and of the command line.
    fn own_arguments(&self, guest: &Guest<'_>) -> Vec<OsString> {
        let file = guest.settings.arguments.iter().map(OsString::from);
        let all = file.chain(self.arguments.iter().cloned());
        all.map(|argument| outputs::argument_of(guest.label(), &argument)).collect()
    }

    fn kept_directory(&self, guest: &Guest<'_>) -> Option<PathBuf> {
        self.keep.as_ref().map(|directory| directory.join(guest.label()))
    }

    fn make_kept_directory(&self, guest: &Guest<'_>) -> Result<()> {
        let Some(directory) = self.kept_directory(guest) else { return Ok(()) };
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())
    }
}

/// Refuses options that prevent verdicts, and those that share an output among `runs` runs.
fn check_options(guest: &Guest<'_>, runs: usize) -> Result<()> {
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
