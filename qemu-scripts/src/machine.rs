//! Runs QEMU: starts it, sends it commands and signals, and collects its output.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::stats::Snapshot;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tempfile::TempDir;
use wait4::Wait4;

use crate::paths;

/// First version of the plugin API in which a plugin can answer hypercalls: QEMU 10.1.
pub const ANSWERING_API: i32 = 5;

/// Default time limit of a guest.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// QEMU's arguments for the PC of the guests in `tests/guests`. The guest's last `out` ends QEMU.
pub const BARE_PC: [&str; 10] = [
    "-machine",
    "pc",
    "-m",
    "64",
    "-display",
    "none",
    "-nodefaults",
    "-no-reboot",
    "-device",
    "isa-debug-exit,iobase=0xf4,iosize=0x04",
];

/// QEMU's arguments for a machine without a processor, controlled by stdin.
const EMPTY: [&str; 6] = ["-machine", "none", "-display", "none", "-monitor", "stdio"];

/// A QEMU command line under construction.
#[derive(Debug)]
pub struct Machine {
    qemu: PathBuf,
    arguments: Vec<OsString>,
    /// The plugin's options. `None` runs QEMU without the plugin.
    plugin_options: Option<Vec<String>>,
    environment: Vec<(String, String)>,
    time_limit: Duration,
}

impl Machine {
    /// Makes a command line of this QEMU without the plugin.
    pub fn new(qemu: &Path) -> Machine {
        Machine {
            qemu: qemu.to_owned(),
            arguments: Vec::new(),
            plugin_options: None,
            environment: Vec::new(),
            time_limit: TIME_LIMIT,
        }
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Machine {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Loads the plugin with these options. More calls add options.
    pub fn plugin(mut self, options: &[&str]) -> Machine {
        let all = self.plugin_options.get_or_insert_default();
        all.extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// Sets a variable in QEMU's environment.
    pub fn env(mut self, name: &str, value: &str) -> Machine {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a time limit. Waiting longer is an error.
    pub fn time_limit(mut self, limit: Duration) -> Machine {
        self.time_limit = limit;
        self
    }

    /// Configures [`BARE_PC`] with a guest in place of the BIOS.
    ///
    /// The guest ends QEMU by an `out` to isa-debug-exit.
    pub fn bare_guest(self, image: &Path) -> Machine {
        self.args(BARE_PC).args([OsStr::new("-bios"), image.as_os_str()])
    }

    /// Loads the plugin into a machine without a processor, and returns its warning about missing exports.
    ///
    /// Returns `None` if QEMU exports its functions.
    ///
    /// # Errors
    ///
    /// Fails if QEMU does not start with the plugin.
    pub fn without_exports(qemu: &Path) -> Result<Option<String>> {
        let machine = Machine::new(qemu).plugin(&["summary=off"]);
        let mut running = machine.args(EMPTY).start()?;
        // It may have ended already.
        let _ = running.say("quit");
        let ended = running.wait()?;
        ensure!(ended.status.success(), "{}", ended.stderr.trim_end());
        Ok(ended.without_exports().map(str::to_owned))
    }

    /// Starts QEMU and waits until it ends.
    ///
    /// # Errors
    ///
    /// The same as for [`Machine::start`] and [`Running::wait`].
    pub fn run(self) -> Result<Ended> {
        self.start()?.wait()
    }

    /// Starts QEMU.
    ///
    /// Statistics go to [`Ended`] unless an option names a file.
    ///
    /// # Errors
    ///
    /// Fails if the plugin is not built or QEMU cannot be started.
    pub fn start(self) -> Result<Running> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(&self.qemu);
        if let Some(mut options) = self.plugin_options {
            if !options.iter().any(|option| option.starts_with("stats=")) {
                options.push(format!("stats={}", directory.path().join("stats.json").display()));
            }
            command.arg("-plugin").arg(plugin_argument(&paths::plugin()?, &options));
        }
        command.args(&self.arguments).envs(self.environment);
        // A guest in a loop must not outlive a killed test.
        let die_with_starter =
            || Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: between fork and exec the closure makes one system call and does not allocate.
        unsafe { command.pre_exec(die_with_starter) };
        let child = command
            .stdin(Stdio::piped())
            .stdout(File::create(directory.path().join("stdout"))?)
            .stderr(File::create(directory.path().join("stderr"))?)
            .spawn()
            .with_context(|| format!("{} cannot be run", self.qemu.display()))?;
        Ok(Running {
            child: Some(child),
            directory,
            started: Instant::now(),
            time_limit: self.time_limit,
            peak: 0,
        })
    }
}

/// Returns the value of `-plugin`, with commas within options doubled.
pub fn plugin_argument(library: &Path, options: &[String]) -> OsString {
    let mut argument = OsString::from(library.to_string_lossy().replace(',', ",,"));
    for option in options {
        argument.push(",");
        argument.push(option.replace(',', ",,"));
    }
    argument
}

/// Error of a [`Running`] that is used after QEMU has ended.
const ENDED: &str = "QEMU has ended";

/// A running QEMU. Killed on drop, and when the thread that started it ends.
#[derive(Debug)]
pub struct Running {
    /// `None` after QEMU has ended.
    child: Option<Child>,
    directory: TempDir,
    started: Instant,
    time_limit: Duration,
    /// The most resident memory that was seen, in bytes.
    peak: u64,
}

impl Running {
    /// Writes a line to QEMU's stdin, for `-monitor stdio`.
    ///
    /// # Errors
    ///
    /// Fails if QEMU has ended or closed its stdin.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let child = self.child.as_mut().context(ENDED)?;
        let stdin: &mut ChildStdin = child.stdin.as_mut().context("QEMU has no stdin")?;
        writeln!(stdin, "{line}").context("QEMU has closed its stdin")
    }

    /// Sends QEMU a signal, such as `SIGTERM`, by its number.
    ///
    /// # Errors
    ///
    /// Fails if QEMU has ended or the number is not a signal's.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let signal = Signal::from_named_raw(signal).context("the signal's number is unknown")?;
        rustix::process::kill_process(self.pid()?, signal).context("QEMU cannot be signalled")
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_child(self.child.as_ref().context(ENDED)?))
    }

    /// Returns QEMU's resident memory, in bytes.
    ///
    /// # Errors
    ///
    /// Fails if QEMU has ended.
    pub fn resident(&self) -> Result<u64> {
        self.memory("VmRSS")
    }

    /// Returns a number of bytes that proc_pid_status(5) names.
    fn memory(&self, name: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid()?);
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.with_context(|| format!("{path} has no {name}"))? << 10)
    }

    /// Returns the CPU time of all threads of QEMU that are still running.
    ///
    /// # Errors
    ///
    /// Fails if QEMU has ended, or if this kernel has no statistics of its scheduler.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid()?))? {
            let path = thread?.path().join("schedstat");
            // The thread may have ended meanwhile.
            let Ok(stat) = std::fs::read_to_string(&path) else { continue };
            let time = stat.split_whitespace().next().and_then(|time| time.parse::<u64>().ok());
            nanoseconds += time.with_context(|| path.display().to_string())?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Counts QEMU's threads that have used at least 50 ms of CPU time.
    ///
    /// # Errors
    ///
    /// Fails if QEMU has ended.
    pub fn busy_threads(&self) -> Result<usize> {
        let mut busy = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid()?))? {
            // The thread may have ended meanwhile.
            let Ok(stat) = std::fs::read_to_string(thread?.path().join("stat")) else { continue };
            // Skips the name, which may contain anything. Fields 14 and 15 of proc(5) are user and system time
            // in hundredths of a second.
            let (_, fields) =
                stat.rsplit_once(')').context("/proc/PID/task/TID/stat has no name")?;
            let times = fields.split_whitespace().skip(11).take(2);
            let hundredths: u64 = times.filter_map(|time| time.parse::<u64>().ok()).sum();
            busy += usize::from(hundredths >= 5);
        }
        Ok(busy)
    }

    /// Returns QEMU's stdout so far.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn stdout(&self) -> Result<String> {
        read_lossy(&self.stdout_path())
    }

    /// Returns the path of the file with QEMU's stdout.
    pub fn stdout_path(&self) -> PathBuf {
        self.directory.path().join("stdout")
    }

    /// Waits until QEMU's stdout contains a text.
    ///
    /// # Errors
    ///
    /// Fails if QEMU ends first, or at the time limit.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        while !self.stdout()?.contains(text) {
            if let Some((status, _)) = self.try_wait()? {
                bail!("QEMU ended ({status}) before it wrote {text:?}: {}", self.stdout()?);
            }
            self.check_time(&format!("before it wrote {text:?}"))?;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Waits until QEMU ends.
    ///
    /// # Errors
    ///
    /// Fails at the time limit, or if the statistics cannot be read as a dump.
    pub fn wait(mut self) -> Result<Ended> {
        loop {
            if let Some(ended) = self.poll()? {
                return Ok(ended);
            }
            self.check_time("and did not end")?;
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns QEMU's output if QEMU has ended.
    ///
    /// # Errors
    ///
    /// Fails if the statistics cannot be read as a dump, or if an earlier call returned the output.
    pub fn poll(&mut self) -> Result<Option<Ended>> {
        let Some((status, cpu)) = self.try_wait()? else {
            // A process that ends has no memory left. The system's peak of an ended process is no use: it is that of this
            // process if that is higher, since both are one until QEMU is executed.
            self.peak = self.peak.max(self.memory("VmHWM").unwrap_or(0));
            return Ok(None);
        };
        let path = |name| self.directory.path().join(name);
        let stats = path("stats.json");
        Ok(Some(Ended {
            status,
            wall: self.started.elapsed(),
            cpu,
            memory: self.peak,
            stdout: read_lossy(&path("stdout"))?,
            stderr: read_lossy(&path("stderr"))?,
            stats: match stats.exists() {
                true => Some(read_stats(&stats)?),
                false => None,
            },
        }))
    }

    /// Returns exit status and CPU time if QEMU has ended.
    fn try_wait(&mut self) -> Result<Option<(ExitStatus, Duration)>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = rustix::process::waitid(WaitId::Pid(self.pid()?), options);
        if ended.context("QEMU cannot be waited for")?.is_none() {
            return Ok(None);
        }
        let child = self.child.take().context(ENDED)?;
        let ended = child.wait4().context("QEMU cannot be waited for")?;
        let usage = ended.rusage;
        Ok(Some((ended.status, usage.utime + usage.stime)))
    }

    fn check_time(&self, what: &str) -> Result<()> {
        if self.started.elapsed() > self.time_limit {
            let (stdout, stderr) =
                (self.stdout()?, read_lossy(&self.directory.path().join("stderr"))?);
            bail!(
                "QEMU ran for {} seconds {what}\nstdout: {stdout}\nstderr: {stderr}",
                self.time_limit.as_secs()
            );
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After an error QEMU may still run.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A QEMU that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status.
    pub status: ExitStatus,
    /// The elapsed time.
    pub wall: Duration,
    /// The CPU time of all threads.
    pub cpu: Duration,
    /// The peak resident memory, in bytes, as [`Running::poll`] last saw it. [`Running::wait`] looks every 2 ms.
    pub memory: u64,
    /// The contents of stdout.
    pub stdout: String,
    /// The contents of stderr.
    pub stderr: String,
    /// The statistics, if the plugin wrote them.
    pub stats: Option<Snapshot>,
}

impl Ended {
    /// Returns the plugin's warnings.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.stderr.lines().filter_map(|line| line.strip_prefix("pvio: warning: "))
    }

    /// Returns the plugin's warning that QEMU exports none of its functions, if there is one.
    pub fn without_exports(&self) -> Option<&str> {
        self.warnings().find(|line| line.starts_with("this QEMU exports none of its functions"))
    }

    /// Returns the statistics.
    ///
    /// # Errors
    ///
    /// Fails with QEMU's stderr if there are none.
    pub fn stats(&self) -> Result<&Snapshot> {
        self.stats.as_ref().with_context(|| {
            format!("QEMU ended ({}) without statistics: {}", self.status, self.stderr)
        })
    }
}

/// Reads a JSON dump.
///
/// # Errors
///
/// Fails if the file is missing or is not a complete dump.
pub fn read_stats(path: &Path) -> Result<Snapshot> {
    Ok(Snapshot::load(path)?)
}

fn read_lossy(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}
