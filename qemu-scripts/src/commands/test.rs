//! `pvio test`: boots guests and reports their verdicts.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use clap::{Args, ValueEnum};
use pvio_cli::guest_test::{
    BootKind, Entries, Format, GitHub, Junit, Lines, Pattern, Report, Runner, Selection, Settings,
    Shard, Suite, Tap, Totals, Unittests, run_in_order,
};
use pvio_cli::progress::Progress;
use pvio_cli::status::{self, StdoutError};
use pvio_cli::{guest_test, paths, signals};

/// Boots guests under the plugin and reports their verdicts.
///
/// A guest passes if it calls the hypercall `exit` with code 0. It fails if it calls `exit` with another
/// code, ends in another way, or exceeds the time limit. The options --success... name other ends that mean
/// success. Its log is shown as comments; lines "test NAME: ok" and "test NAME: FAILED" become subtests.
///
/// How a guest boots is found by its contents: BIOS images by -bios, ELF files and Linux kernels by -kernel,
/// EFI applications by UEFI firmware, disks and CD-ROMs as such. Writes to a disk are discarded. A directory
/// with EFI/BOOT/BOOTX64.EFI is a disk for UEFI firmware.
///
/// A file guest.toml in a guest's directory has the same settings for all guests there, and for one guest in
/// a table [guest."NAME"]: boot, success-status, success, failure, success-power-off, timeout, options (of
/// the plugin), arguments (of QEMU). Options of the command line come before those of the file.
///
/// Cargo may start it, by runner = "pvio test" in a .cargo/config.toml. Then all that follows the guest is for
/// the guest's command line, except QEMU's arguments after --, and guest.toml is that of Cargo's package.
///
/// A list of kvm-unit-tests (--unittests) names guests, their arguments and time limits; bash expands what it
/// has in the shell's syntax. Exit status 1 is success there. Tests that need KVM are skipped.
///
/// In OPTION and QEMU-ARGUMENT, %g is replaced by the guest's number and file name, such as 1-boot.bin. Use
/// it if several guests would otherwise write to the same file.
///
/// REGEX is a regular expression in the syntax of Rust's crate regex.
#[derive(Args)]
#[command(
    override_usage = "\
pvio test [OPTION...] GUEST... [-- QEMU-ARGUMENT...]
       pvio test [OPTION...] --unittests FILE [-- QEMU-ARGUMENT...]",
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
    #[arg(value_name = "GUEST", required_unless_present = "unittests")]
    guests: Vec<PathBuf>,
    /// More arguments for QEMU
    #[arg(value_name = "QEMU-ARGUMENT", last = true)]
    qemu_arguments: Vec<OsString>,
    /// Run the tests of a list of kvm-unit-tests, such as x86/unittests.cfg
    #[arg(long, value_name = "FILE", conflicts_with = "guests")]
    unittests: Option<PathBuf>,
    /// Only the tests of this group of the list; those in the group nodefault do not run without it
    #[arg(long, value_name = "GROUP", requires = "unittests")]
    group: Option<String>,
    /// Whether Cargo started this program, so that all that follows the guest is for the guest
    ///
    /// auto: if CARGO_PKG_NAME is set, the guest is in Cargo's target directory, and no other file there follows
    #[arg(
        long, value_name = "WHEN", num_args = 0..=1, require_equals = true, overrides_with = "runner",
        default_value = "auto", default_missing_value = "always"
    )]
    runner: When,
    /// Text for the guest's command line; may be repeated
    ///
    /// A kernel gets it as by QEMU's -append, an EFI application as its load options, any other guest only as the
    /// file opt/pvio/arguments of QEMU's device fw_cfg.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    append: Vec<OsString>,
    /// Argument for QEMU, as after --, but before the guest; may be repeated
    #[arg(long, value_name = "QEMU-ARGUMENT", allow_hyphen_values = true)]
    argument: Vec<OsString>,
    /// How to boot the guests, whatever they contain
    #[arg(long, value_name = "KIND")]
    boot: Option<BootKind>,
    /// Exit status of QEMU that means success, if a device ends QEMU; isa-debug-exit makes 2n + 1 of n, so a
    /// guest that writes 16 needs 33
    #[arg(long, value_name = "STATUS")]
    success_status: Option<u8>,
    /// A line of the serial port COM1 or of the debug console (port 0xe9) that matches means success, and
    /// ends the guest
    #[arg(long, value_name = "REGEX")]
    success: Option<Pattern>,
    /// A line there that matches means failure, and ends the guest
    #[arg(long, value_name = "REGEX")]
    failure: Option<Pattern>,
    /// A guest that powers off passes
    #[arg(long)]
    success_power_off: bool,
    /// Time limit of a guest [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(guest_test::TIMEOUTS))]
    timeout: Option<u64>,
    /// Option of the plugin, such as device=latch@0x300 or device=console@0xe9:file=%g.txt; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// Number of guests to run at once
    #[arg(
        long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    jobs: u16,
    /// Only the guests whose paths, or names in the list, match
    #[arg(long, value_name = "REGEX")]
    filter: Option<Pattern>,
    /// Only part I of N of the guests, from 1; a guest's path decides its part, so that other guests do not
    /// move it
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Number of runs of each guest
    #[arg(long, value_name = "N", default_value = "1")]
    repeat: NonZeroUsize,
    /// Number of further attempts of a guest that fails; one that passes then is reported as flaky
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    retries: u32,
    /// Stop after the first guest that fails; the others are reported as skipped
    #[arg(long)]
    fail_fast: bool,
    /// Format of the report on stdout [default: lines on a terminal, otherwise tap]
    #[arg(long, value_name = "FORMAT")]
    format: Option<OutputFormat>,
    /// Write a report in JUnit's XML, too; FILE is replaced in one step
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Keep each guest's statistics, log and output in DIRECTORY/%g
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
}

/// Whether Cargo started this program.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, ValueEnum)]
enum OutputFormat {
    /// The Test Anything Protocol, version 13
    Tap,
    /// A line for each guest, and more about failures
    Lines,
    /// Lines, and annotations for a workflow of GitHub
    Github,
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
    let prepared = suite(arguments).and_then(|suite| {
        let (runner, entries, mut reports) = prepare(arguments, &suite, &stop)?;
        run_all(&runner, &entries, &mut reports, arguments)
    });
    let result = match prepared {
        // An interrupt from a terminal also ends the QEMU that `prepare` runs.
        Err(_) if interrupted() => Ok(None),
        result => result,
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

/// Returns the guests to choose from.
fn suite(arguments: &Arguments) -> Result<Suite> {
    let Some(list) = &arguments.unittests else {
        return Ok(match (arguments.runner, &arguments.guests[..]) {
            (When::Always, [program]) => Suite::Cargo(program.clone()),
            _ => Suite::Paths(arguments.guests.clone()),
        });
    };
    let list = Unittests::read(list)?;
    for warning in list.warnings() {
        status::warn("guest-test", warning);
    }
    if let Some(group) = &arguments.group {
        list.check_group(group)?;
    }
    Ok(Suite::Unittests(list))
}

/// Reads the arguments and checks everything that can be checked before a guest runs.
fn prepare<'a>(
    arguments: &'a Arguments,
    suite: &'a Suite,
    stop: &'a AtomicBool,
) -> Result<(Runner<'a>, Entries<'a>, Reports)> {
    let selection = Selection {
        filter: arguments.filter.clone(),
        group: arguments.group.clone(),
        shard: arguments.shard,
        repeat: arguments.repeat,
    };
    let entries = Entries::new(suite, &selection);
    let settings = Settings {
        boot: arguments.boot,
        success_status: arguments.success_status,
        success: arguments.success.clone(),
        failure: arguments.failure.clone(),
        success_power_off: arguments.success_power_off.then_some(true),
        timeout: arguments.timeout,
        options: arguments.option.clone(),
        ..Settings::default()
    };
    let runner = Runner::new(paths::chosen_qemu()?, settings, stop)
        .arguments([&arguments.argument[..], &arguments.qemu_arguments].concat())
        .append(arguments.append.clone())
        .retries(arguments.retries)
        .keep(arguments.keep.clone());
    let runner = match suite {
        Suite::Paths(_) => runner,
        Suite::Cargo(_) => {
            runner.package(std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from))
        }
        Suite::Unittests(list) => runner.unittests(list, arguments.group.is_some()),
    };
    let reports = Reports::new(arguments)?;
    for warning in runner.check(&entries)? {
        status::warn("guest-test", &warning);
    }
    Ok((runner, entries, reports))
}

/// The reports of a run: one on stdout, and a file.
struct Reports {
    stdout: Box<dyn Format>,
    junit: Option<Junit>,
}

impl Reports {
    fn new(arguments: &Arguments) -> Result<Reports> {
        let default = match io::stdout().is_terminal() {
            true => OutputFormat::Lines,
            false => OutputFormat::Tap,
        };
        let suite = match arguments.shard {
            Some(shard) => format!("pvio test {shard}"),
            None => "pvio test".into(),
        };
        Ok(Reports {
            stdout: match arguments.format.unwrap_or(default) {
                OutputFormat::Tap => Box::new(Tap::new(io::stdout())),
                OutputFormat::Lines => Box::new(Lines::new(io::stdout(), status::has_colour())),
                OutputFormat::Github => Box::new(GitHub::new(io::stdout())),
            },
            junit: match &arguments.junit {
                Some(path) => Some(Junit::new(path, suite)?),
                None => None,
            },
        })
    }

    /// Writes a part of each report.
    fn write(&mut self, put: impl Fn(&mut dyn Format) -> io::Result<()>) -> Result<()> {
        // An error of the file is one of its own.
        let file = self.junit.as_mut().map_or(Ok(()), |junit| put(junit));
        put(&mut *self.stdout).map_err(StdoutError::from)?;
        Ok(file?)
    }
}

/// The reason why a run of guests ended early.
enum Early {
    Interrupted,
    /// The guest with this number failed, and no other is to run.
    FailFast(usize),
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Early {
    fn from(error: E) -> Early {
        Early::Failed(error.into())
    }
}

/// Runs the guests, and reports them in the order of the command line.
///
/// Returns true if all passed, `None` if they were stopped.
fn run_all(
    runner: &Runner<'_>,
    entries: &Entries<'_>,
    reports: &mut Reports,
    arguments: &Arguments,
) -> Result<Option<bool>> {
    reports.write(|format| format.begin(entries.len()))?;
    let mut totals = Totals::default();
    let progress = Progress::new();
    let entry = |number| entries.get(number).expect("a run of the selection");
    let take = |number, report: Result<Option<Report>>| {
        let report = report?.ok_or(Early::Interrupted)?;
        progress.set("");
        totals.add(&report);
        let name = entry(number).name();
        reports.write(|format| match &report.skipped {
            Some(why) => format.skipped(&name, why),
            None => format.result(&name, &report),
        })?;
        match arguments.fail_fast && !report.verdict.passed() {
            true => Err(Early::FailFast(number)),
            false => Ok(()),
        }
    };
    let result = run_in_order(
        entries.len(),
        usize::from(arguments.jobs),
        |number| runner.run(&entry(number)),
        take,
        |number, waited| {
            progress.set(&format!(
                "guest {} of {}: {}, {} s",
                number + 1,
                entries.len(),
                entry(number).name(),
                waited.as_secs()
            ));
        },
        || runner.cancel(),
    );
    progress.set("");
    match result {
        Ok(()) => {}
        Err(Early::FailFast(failed)) => {
            for number in failed + 1..entries.len() {
                totals.skipped += 1;
                let name = entry(number).name();
                reports.write(|format| format.skipped(&name, "a guest before it failed"))?;
            }
        }
        // If stdout cannot be written, `result` has that error already.
        Err(Early::Interrupted) => {
            let _ = reports.write(|format| format.bail_out("interrupted"));
            return Ok(None);
        }
        Err(Early::Failed(error)) => {
            let _ = reports.write(|format| format.bail_out(&format!("{error:#}")));
            return Err(error);
        }
    }
    reports.write(|format| format.end(&totals))?;
    Ok(Some(totals.failed == 0))
}
