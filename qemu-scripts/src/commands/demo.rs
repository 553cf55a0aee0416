//! `pvio demo`: runs a guest whose program is known, and compares the counts with the program. Then it runs
//! one driver by instructions and by hypercalls.

use anyhow::{Result, bail, ensure};
use clap::Args;
use pvio_cli::machine::Machine;
use pvio_cli::progress::Progress;
use pvio_cli::stats::render;
use pvio_cli::{demo, expected_forms, paths, status};
use pvio_x86::Mode;

/// Boots a guest that executes each of the 24 forms of port I/O a known number of times, in 16, 32
/// and 64-bit code, prints what the plugin counted, and checks it. Then another that runs one driver
/// twice: by its instructions, and by hypercalls.
#[derive(Args)]
pub struct Arguments {
    /// How many vCPUs the guest has; each runs the whole program
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    smp: u64,
}

/// The first plugin API in which a plugin can answer the guest.
const ANSWERING_API: i32 = 5;

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
    status::print(&render(stats, is_terminal()))?;
    ensure!(
        ended.status.code() == Some(expected_forms::PASSED),
        "the guest found something wrong ({}): {}",
        ended.status,
        ended.stderr
    );
    let differences = expected_forms::differences(stats, smp, &Mode::ALL);
    if !differences.is_empty() {
        bail!("the counts are not what the program does:\n{}", differences.join("\n"));
    }
    status::print(
        "\nEach of the 24 rows, of the ports and of the modes is what the guest's program does \
         (tests/guests/forms.S).\n\n",
    )?;
    if stats.qemu.plugin_api >= ANSWERING_API {
        let progress = Progress::new();
        progress.set("running one driver by instructions and by hypercalls");
        let comparison = demo::compare(&qemu)?;
        drop(progress);
        let title =
            heading("One driver, by its instructions and by hypercalls (tests/guests/demo)");
        status::print(&format!("{title}\n{comparison}\n"))?;
    } else {
        status::print(&format!(
            "Hypercalls need QEMU 10.1 or newer: on QEMU {} a driver by hypercalls is not shown.\n",
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
    match is_terminal() {
        true => format!("\x1b[1m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}
