//! Runs QEMU: starts it, talks to it, ends it, and collects its output.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::stats::Snapshot;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tempfile::TempDir;
use wait4::Wait4;

use crate::paths;

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

/// A QEMU command line under construction.
#[derive(Debug)]
pub struct Machine {
    qemu: PathBuf,
    arguments: Vec<OsString>,
    /// Options of the plugin. `None` runs QEMU without it.
    plugin_options: Option<Vec<String>>,
    environment: Vec<(String, String)>,
    time_limit: Duration,
}

impl Machine {
    /// A machine on this QEMU, without the plugin.
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

    /// Loads the plugin with these options. Further calls add options.
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

    /// Sets how long it may run. Waiting longer is an error.
    pub fn time_limit(mut self, limit: Duration) -> Machine {
        self.time_limit = limit;
        self
    }

    /// Configures [`BARE_PC`], with a guest in place of the BIOS.
    pub fn bare_guest(self, image: &Path) -> Machine {
        self.args(BARE_PC).args([OsStr::new("-bios"), image.as_os_str()])
    }

    /// Starts it, and waits until it ends.
    pub fn run(self) -> Result<Ended> {
        self.start()?.wait()
    }

    /// Starts it. Statistics go to [`Ended`] unless an option names a file.
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
        // A guest that spins must not outlive a test that was killed.
        let die_with_starter =
            || Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: between fork and exec the closure makes one system call, and allocates nothing.
        unsafe { command.pre_exec(die_with_starter) };
        let child = command
            .stdin(Stdio::piped())
            .stdout(File::create(directory.path().join("stdout"))?)
            .stderr(File::create(directory.path().join("stderr"))?)
            .spawn()
            .with_context(|| format!("{} does not run", self.qemu.display()))?;
        Ok(Running {
            child: Some(child),
            directory,
            started: Instant::now(),
            time_limit: self.time_limit,
        })
    }
}

/// The value of `-plugin`. A comma ends an option unless it is doubled.
fn plugin_argument(library: &Path, options: &[String]) -> OsString {
    let mut argument = OsString::from(library.to_string_lossy().replace(',', ",,"));
    for option in options {
        argument.push(",");
        argument.push(option.replace(',', ",,"));
    }
    argument
}

/// What [`Running`] says when it is used after its end.
const ENDED: &str = "QEMU has ended";

/// A running QEMU. Killed when this is dropped, or when the thread that started it ends.
#[derive(Debug)]
pub struct Running {
    /// `None` once it has been waited for.
    child: Option<Child>,
    directory: TempDir,
    started: Instant,
    time_limit: Duration,
}

impl Running {
    /// Writes a line to its standard input, for `-monitor stdio`.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let child = self.child.as_mut().context(ENDED)?;
        let stdin: &mut ChildStdin = child.stdin.as_mut().context("stdin is a pipe")?;
        writeln!(stdin, "{line}").context("QEMU no longer reads its standard input")
    }

    /// Sends it a signal, such as `SIGTERM`, by its number.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let signal = Signal::from_named_raw(signal).context("there is no such signal")?;
        rustix::process::kill_process(self.pid()?, signal).context("the signal was not sent")
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_child(self.child.as_ref().context(ENDED)?))
    }

    /// Its resident memory, in bytes.
    pub fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid()?);
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.with_context(|| format!("{path} tells no VmRSS"))? << 10)
    }

    /// Number of its threads that have used at least 50 ms of CPU time.
    pub fn busy_threads(&self) -> Result<usize> {
        let mut busy = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid()?))? {
            // It may have ended meanwhile.
            let Ok(stat) = std::fs::read_to_string(thread?.path().join("stat")) else { continue };
            // After the name, which may contain anything. Fields 14 and 15 are times in hundredths of a second:
            // proc(5).
            let (_, fields) = stat.rsplit_once(')').context("a line of /proc has a name in it")?;
            let times = fields.split_whitespace().skip(11).take(2);
            let hundredths: u64 = times.filter_map(|time| time.parse::<u64>().ok()).sum();
            busy += usize::from(hundredths >= 5);
        }
        Ok(busy)
    }

    /// Its stdout so far.
    pub fn stdout(&self) -> Result<String> {
        read_lossy(&self.directory.path().join("stdout"))
    }

    /// Waits until its stdout contains a text.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        self.wait_for_after(0, text)
    }

    /// Waits until its stdout contains a text after the first `read` bytes.
    pub fn wait_for_after(&mut self, read: usize, text: &str) -> Result<()> {
        while !self.stdout()?.get(read..).is_some_and(|rest| rest.contains(text)) {
            if let Some((status, ..)) = self.try_wait()? {
                bail!("QEMU ended ({status}) before it wrote {text:?}: {}", self.stdout()?);
            }
            self.check_time(&format!("before it wrote {text:?}"))?;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Waits until it ends.
    pub fn wait(mut self) -> Result<Ended> {
        loop {
            if let Some(ended) = self.poll()? {
                return Ok(ended);
            }
            self.check_time("and did not end")?;
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns its output if it has ended. Must not be called again after that.
    pub fn poll(&mut self) -> Result<Option<Ended>> {
        let Some((status, cpu, memory)) = self.try_wait()? else {
            return Ok(None);
        };
        let path = |name| self.directory.path().join(name);
        let stats = path("stats.json");
        Ok(Some(Ended {
            status,
            wall: self.started.elapsed(),
            cpu,
            memory,
            stdout: read_lossy(&path("stdout"))?,
            stderr: read_lossy(&path("stderr"))?,
            stats: match stats.exists() {
                true => Some(read_stats(&stats)?),
                false => None,
            },
        }))
    }

    /// Returns the exit status, the CPU time and the peak memory in bytes, once it has ended.
    fn try_wait(&mut self) -> Result<Option<(ExitStatus, Duration, u64)>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = rustix::process::waitid(WaitId::Pid(self.pid()?), options);
        if ended.context("QEMU cannot be waited for")?.is_none() {
            return Ok(None);
        }
        let child = self.child.take().context(ENDED)?;
        let ended = child.wait4().context("QEMU cannot be waited for")?;
        let usage = ended.rusage;
        Ok(Some((ended.status, usage.utime + usage.stime, usage.maxrss)))
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
        // It still runs after an error.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A QEMU that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Elapsed time.
    pub wall: Duration,
    /// CPU time.
    pub cpu: Duration,
    /// Peak resident memory, in bytes.
    pub memory: u64,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
    /// The statistics, if the plugin wrote them.
    pub stats: Option<Snapshot>,
}

impl Ended {
    /// The statistics.
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
pub fn read_stats(path: &Path) -> Result<Snapshot> {
    let json = std::fs::read(path).with_context(|| format!("{} is missing", path.display()))?;
    serde_json::from_slice(&json).with_context(|| format!("{} is not a dump", path.display()))
}

fn read_lossy(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}
