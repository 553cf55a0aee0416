//! A guest on QEMU: how it is started, spoken to, ended, and what it left behind.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pvio::stats::Snapshot;
use tempfile::TempDir;

use crate::places;

/// How long a guest may run, unless it is told otherwise.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A QEMU command line in the making.
#[derive(Debug)]
pub struct Machine {
    qemu: PathBuf,
    arguments: Vec<OsString>,
    /// Options for the plugin; `None` runs without it.
    plugin_options: Option<Vec<String>>,
    environment: Vec<(String, String)>,
    time_limit: Duration,
}

impl Machine {
    /// This QEMU, without the plugin.
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

    /// Loads the plugin, with these options; may be called again for more.
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

    /// How long it may run before waiting for it is an error.
    pub fn time_limit(mut self, limit: Duration) -> Machine {
        self.time_limit = limit;
        self
    }

    /// The PC of our own guests, with one of them in place of the BIOS. Its last `out` ends QEMU.
    pub fn bare_guest(self, image: &Path) -> Machine {
        self.args(["-machine", "pc", "-m", "64", "-display", "none", "-nodefaults", "-no-reboot"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
            .args([OsStr::new("-bios"), image.as_os_str()])
    }

    /// Starts it, and waits until it ends.
    pub fn run(self) -> Result<Ended> {
        self.start()?.wait()
    }

    /// Starts it. Where the options name no file for statistics, they are kept for [`Ended`].
    pub fn start(self) -> Result<Running> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(&self.qemu);
        if let Some(mut options) = self.plugin_options {
            if !options.iter().any(|option| option.starts_with("stats=")) {
                options.push(format!("stats={}", directory.path().join("stats.json").display()));
            }
            command.arg("-plugin").arg(plugin_argument(&places::plugin()?, &options));
        }
        command.args(&self.arguments).envs(self.environment);
        // SAFETY: the one call between fork and exec is a system call without memory of its own.
        unsafe { command.pre_exec(die_with_starter) };
        let child = command
            .stdin(Stdio::piped())
            .stdout(File::create(directory.path().join("stdout"))?)
            .stderr(File::create(directory.path().join("stderr"))?)
            .spawn()
            .with_context(|| format!("{} does not run", self.qemu.display()))?;
        Ok(Running { child, directory, started: Instant::now(), time_limit: self.time_limit })
    }
}

/// Has this process killed when the thread that started it is no more: a guest that spins must not
/// outlive a test that was killed.
fn die_with_starter() -> std::io::Result<()> {
    // SAFETY: sets an attribute of this process; takes no address.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// What to give to `-plugin`. QEMU takes a comma for the end of an option unless it is doubled.
fn plugin_argument(library: &Path, options: &[String]) -> OsString {
    let mut argument = OsString::from(library.to_string_lossy().replace(',', ",,"));
    for option in options {
        argument.push(",");
        argument.push(option.replace(',', ",,"));
    }
    argument
}

/// A QEMU that runs. It is killed when this is dropped, or when the thread that started it ends.
#[derive(Debug)]
pub struct Running {
    child: Child,
    directory: TempDir,
    started: Instant,
    time_limit: Duration,
}

impl Running {
    /// Writes a line to its standard input, for `-monitor stdio`.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let stdin: &mut ChildStdin = self.child.stdin.as_mut().context("stdin is a pipe")?;
        writeln!(stdin, "{line}").context("QEMU no longer reads its standard input")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        let pid = libc::pid_t::try_from(self.child.id())?;
        // SAFETY: sends a signal to our own child, which has not been waited for.
        match unsafe { libc::kill(pid, signal) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()).context("the signal was not sent"),
        }
    }

    /// How much memory of it is resident, in bytes.
    pub fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.with_context(|| format!("{path} tells no VmRSS"))? << 10)
    }

    /// How many of its threads have used the processor for at least 50 ms.
    pub fn busy_threads(&self) -> Result<usize> {
        let mut busy = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // It may have ended meanwhile.
            let Ok(stat) = std::fs::read_to_string(thread?.path().join("stat")) else { continue };
            // Behind the name, which may contain anything: proc(5), of which fields 14 and 15 are times
            // in hundredths of a second.
            let (_, fields) = stat.rsplit_once(')').context("a line of /proc has a name in it")?;
            let times = fields.split_whitespace().skip(11).take(2);
            let hundredths: u64 = times.filter_map(|time| time.parse::<u64>().ok()).sum();
            busy += usize::from(hundredths >= 5);
        }
        Ok(busy)
    }

    /// What it has written to stdout up to now.
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
            if let Some(status) = self.child.try_wait()? {
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

    /// What it left behind, if it has ended. To be asked no more after that.
    pub fn poll(&mut self) -> Result<Option<Ended>> {
        let Some((status, cpu)) = self.try_wait()? else {
            return Ok(None);
        };
        let path = |name| self.directory.path().join(name);
        let stats = path("stats.json");
        Ok(Some(Ended {
            status,
            wall: self.started.elapsed(),
            cpu,
            stdout: read_lossy(&path("stdout"))?,
            stderr: read_lossy(&path("stderr"))?,
            stats: match stats.exists() {
                true => Some(read_stats(&stats)?),
                false => None,
            },
        }))
    }

    /// The child's end and the processor time that it took, once it has ended.
    fn try_wait(&mut self) -> Result<Option<(ExitStatus, Duration)>> {
        let pid = libc::pid_t::try_from(self.child.id())?;
        let mut status = 0;
        // SAFETY: plain data, for which all zeros are a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: waits for our own child and writes to the two variables above.
        match unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, &mut usage) } {
            0 => Ok(None),
            -1 => Err(std::io::Error::last_os_error()).context("QEMU cannot be waited for"),
            _ => {
                let time = |time: libc::timeval| {
                    Duration::from_secs(time.tv_sec as u64)
                        + Duration::from_micros(time.tv_usec as u64)
                };
                let cpu = time(usage.ru_utime) + time(usage.ru_stime);
                Ok(Some((ExitStatus::from_raw(status), cpu)))
            }
        }
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
        // Left behind by an error: it must not go on.
        if matches!(self.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A QEMU that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// How long it ran.
    pub wall: Duration,
    /// How much processor time it took.
    pub cpu: Duration,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// The statistics, if the plugin was loaded and has written them.
    pub stats: Option<Snapshot>,
}

impl Ended {
    /// The statistics; without them an error with what QEMU said instead.
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
