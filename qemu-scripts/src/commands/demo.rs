//! `pvio demo`: checks the counts of a known guest, and compares instructions with hypercalls.

use anyhow::{Result, bail, ensure};
use clap::Args;
use pvio_cli::machine::{ANSWERING_API, Machine};
use pvio_cli::progress::Progress;
use pvio_cli::stats::render;
use pvio_cli::{demo, expected_forms, paths, status};
use pvio_x86::Mode;

/// Boots a guest with known port I/O, prints the plugin's counts and checks them.
///
/// The guest executes each of the 24 forms a known number of times, in 16, 32 and 64-bit code. A second
/// guest runs one driver twice: with port instructions and with hypercalls.
#[derive(Args)]
pub struct Arguments {
    /// Number of vCPUs; each runs the whole program
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    smp: u64,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if a guest fails, or if the counts are not those of its program.
pub fn run(&Arguments { smp }: &Arguments) -> Result<()> {
    let symbols = format!("symbols={}", paths::guest("forms.elf")?.display());
    let qemu = paths::chosen_qemu()?;
    let progress = Progress::new();
    progress.set("running the guest that uses all 24 forms");
    let ended = Machine::new(&qemu)
        .plugin(&["summary=off", &symbols])
        .bare_guest(&paths::guest("forms.bin")?)
        .args(["-accel", "tcg", "-smp", &smp.to_string()])
        .run()?;
    drop(progress);
    let stats = ended.stats()?;
    status::print(&render(stats, status::has_colour()))?;
    ensure!(
        ended.status.code() == Some(expected_forms::PASSED),
        "the guest failed its own checks ({}): {}",
        ended.status,
        ended.stderr
    );
    let limits = ended.without_exports();
    let differences = match limits {
        None => expected_forms::differences(stats, smp, &Mode::ALL),
        Some(_) => expected_forms::contradictions(stats, smp, &Mode::ALL),
    };
    if !differences.is_empty() {
        bail!("the counts are wrong:\n{}", differences.join("\n"));
    }
    status::print(match limits {
        None => {
            "\nEvery count is exact, by form, port and mode: the guest's program (tests/guests/forms.S) does the \
             same.\n\n"
        }
        Some(_) => {
            "\nEvery count that this QEMU decides is exact, and the others are all there: the guest's program \
             (tests/guests/forms.S) does the same.\n\n"
        }
    })?;
    if let Some(limits) = limits {
        status::print(&format!("The driver's demo is left out: {limits}.\n"))?;
    } else if stats.qemu.plugin_api >= ANSWERING_API {
        let progress = Progress::new();
        progress.set("running one driver by instructions and by hypercalls");
        let comparison = demo::compare(&qemu)?;
        drop(progress);
        let title = heading("One driver, by instructions and by hypercalls (tests/guests/demo)");
        status::print(&format!("{title}\n{comparison}\n"))?;
    } else {
        status::print(&format!(
            "Hypercalls need QEMU 10.1 or newer: on QEMU {} the driver's demo is left out.\n",
            stats.qemu.version.as_deref().unwrap_or("of unknown version")
        ))?;
    }
    status::print(
        "\nA guest of your own:\n\n  \
         qemu-scripts/run stats=stats.json -- -m 1G -nographic disk.img\n",
    )?;
    Ok(())
}

fn heading(text: &str) -> String {
    match status::has_colour() {
        true => format!("\x1b[1m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}
