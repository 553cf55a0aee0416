//! `pvio test`: boots guests and reports their verdicts in the Test Anything Protocol.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use pvio_cli::guest_test::{Guest, Report, Runner, Tap};
use pvio_cli::progress::Progress;
use pvio_cli::status::{self, StdoutError};
use pvio_cli::{paths, signals};

/// Boots guests under the plugin and reports their verdicts in the Test Anything Protocol (TAP).
///
/// A guest passes if it calls the hypercall `exit` with code 0. It fails if it calls `exit` with another
/// code, ends in another way, or exceeds the time limit. Its log is shown as comments; lines "test NAME: ok"
/// and "test NAME: FAILED" become subtests.
///
/// ELF files and Linux kernels are booted by -kernel, other files NAME.bin by -bios, and all others as a
/// disk. Writes to the disk are discarded.
///
/// In OPTION and QEMU-ARGUMENT, %g is replaced by the guest's number and file name, such as 1-boot.bin. Use
/// it if several guests would otherwise write to the same file.
#[derive(Args)]
#[command(
    override_usage = "pvio test [OPTION...] GUEST... [-- QEMU-ARGUMENT...]",
    after_help = "\
Exit status:
  0    all guests passed
  1    some guests failed
  2    error: wrong usage, no QEMU, an option that the plugin refuses, a full disk
  130  interrupted
  141  stdout was closed before the report was complete; running guests were stopped"
)]
pub struct Arguments {
    /// Files to boot, one after the other
    #[arg(value_name = "GUEST", required = true)]
    guests: Vec<PathBuf>,
    /// More arguments for QEMU
    #[arg(value_name = "QEMU-ARGUMENT", last = true)]
    qemu_arguments: Vec<OsString>,
    /// Time limit of a guest
    #[arg(
        long, value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    timeout: u64,
    /// Option of the plugin, such as device=latch@0x300 or device=console@0xe9:file=%g.txt; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// Number of guests to run at once
    #[arg(
        long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    jobs: u16,
    /// Keep each guest's statistics, log and output in DIRECTORY/%g
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
}

/// Runs the command. Returns the program's exit status.
pub fn run(arguments: &Arguments) -> ExitCode {
    let stop = match signals::watch(signals::ENDS) {
        Ok(stop) => stop,
        Err(error) => {
            status::complain("guest-test", &error.into());
            return ExitCode::from(status::TROUBLE);
        }
    };
    let interrupted = || stop.load(Ordering::Relaxed);
    let result = match prepare(arguments, &stop) {
        // An interrupt from a terminal also ends the QEMU that `prepare` runs.
        Err(_) if interrupted() => Ok(None),
        Err(error) => Err(error),
        Ok((runner, guests)) => run_all(&runner, &guests, arguments),
    };
    match result {
        Err(error) if status::is_closed_pipe(&error) => ExitCode::from(status::CLOSED),
        Err(error) => {
            status::complain("guest-test", &error);
            ExitCode::from(status::TROUBLE)
        }
        Ok(Some(all_passed)) if !interrupted() => ExitCode::from(u8::from(!all_passed)),
        Ok(_) => ExitCode::from(INTERRUPTED),
    }
}

/// Exit status of an interrupted program, as in a shell.
const INTERRUPTED: u8 = 130;

/// Reads the arguments and checks everything that can be checked before a guest runs.
fn prepare<'a>(arguments: &Arguments, stop: &'a AtomicBool) -> Result<(Runner<'a>, Vec<Guest>)> {
    let guests = (1..).zip(&arguments.guests).map(|(number, path)| Guest::open(path, number));
    let guests = guests.collect::<Result<Vec<_>>>()?;
    let runner = Runner {
        qemu: paths::chosen_qemu()?,
        options: arguments.option.clone(),
        arguments: arguments.qemu_arguments.clone(),
        time_limit: Duration::from_secs(arguments.timeout),
        stop,
    };
    // Options may name files in these directories.
    for directory in guests.iter().filter_map(|guest| kept(arguments, guest)) {
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    }
    for warning in runner.check(&guests)? {
        status::warn("guest-test", &warning);
    }
    Ok((runner, guests))
}

/// Directory in which `--keep` keeps a guest's files.
fn kept(arguments: &Arguments, guest: &Guest) -> Option<PathBuf> {
    arguments.keep.as_ref().map(|directory| directory.join(guest.label()))
}

/// Runs the guests, and reports them in the order of the command line.
///
/// Returns true if all passed, `None` if they were stopped.
fn run_all(runner: &Runner<'_>, guests: &[Guest], arguments: &Arguments) -> Result<Option<bool>> {
    let mut tap = Tap::begin(io::stdout(), guests.len()).map_err(StdoutError::from)?;
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let jobs = usize::from(arguments.jobs).min(guests.len());
    let result = std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while !runner.stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(guest) = guests.get(number) else { break };
                    // The receiver is gone only if `stop` is set.
                    let _ = sender.send((number, runner.run(guest)));
                }
            });
        }
        drop(sender);
        let result = report_all(&mut tap, &receiver, guests, arguments);
        // After a write error the other guests are stopped.
        if result.is_err() {
            runner.stop.store(true, Ordering::Relaxed);
        }
        result
    });
    // If stdout cannot be written, `result` has that error already.
    let _ = match &result {
        Ok(None) => tap.bail_out("interrupted"),
        Err(error) => tap.bail_out(&format!("{error:#}")),
        Ok(Some(_)) => Ok(()),
    };
    result
}

/// Reports the guests. Returns true if all passed, `None` if they were stopped.
fn report_all(
    tap: &mut Tap<io::Stdout>,
    receiver: &mpsc::Receiver<(usize, Result<Option<Report>>)>,
    guests: &[Guest],
    arguments: &Arguments,
) -> Result<Option<bool>> {
    let mut waiting: Vec<Option<Report>> = guests.iter().map(|_| None).collect();
    let mut all_passed = true;
    let progress = Progress::new();
    for (number, guest) in guests.iter().enumerate() {
        let started = Instant::now();
        while waiting[number].is_none() {
            match receiver.recv_timeout(Duration::from_millis(500)) {
                Ok((number, report)) => match report? {
                    Some(report) => waiting[number] = Some(report),
                    None => return Ok(None),
                },
                Err(RecvTimeoutError::Timeout) => progress.set(&format!(
                    "guest {} of {}: {}, {} s",
                    number + 1,
                    guests.len(),
                    guest.name(),
                    started.elapsed().as_secs()
                )),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
        let report = waiting[number].take().expect("the report has arrived");
        progress.set("");
        if let Some(directory) = kept(arguments, guest) {
            keep_all(&directory, &report)?;
        }
        all_passed &= report.verdict.passed();
        tap.result(&guest.name(), &report).map_err(StdoutError::from)?;
    }
    Ok(Some(all_passed))
}

fn keep_all(directory: &Path, report: &Report) -> Result<()> {
    let Report { log, ended, .. } = report;
    let log: String = log.iter().map(|line| format!("{}\n", line.0)).collect();
    let mut files = vec![
        ("log.txt", log.into_bytes()),
        ("serial.txt", ended.stdout.clone().into()),
        ("qemu.txt", ended.stderr.clone().into()),
    ];
    if let Some(stats) = &ended.stats {
        files.push(("stats.json", serde_json::to_vec_pretty(stats)?));
    }
    for (name, contents) in files {
        let path = directory.join(name);
        std::fs::write(&path, contents).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
