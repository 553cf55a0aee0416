//! A PC that boots Linux from a disk, by the packaged SeaBIOS and by one that is built on `pvio.h`.
//!
//! `qemu-scripts/paravirt-seabios` builds the firmware; [`compare`] boots both and makes a [`Report`].

mod disk;
mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub use disk::Kernel;
pub use report::{Counts, Report};

use crate::machine::{Ended, Machine};
use crate::paravirt_linux::Way;

/// The longest that a boot may take on a busy host.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// Firmware that `qemu-scripts/paravirt-seabios` has built.
#[derive(Debug)]
pub struct Firmware {
    /// Name and version.
    pub name: String,
    bios: PathBuf,
    vga: PathBuf,
    boot_sector: Vec<u8>,
}

impl Firmware {
    /// The firmware in a directory: `bios.bin`, `vgabios.bin`, `boot.bin` and `name`.
    ///
    /// # Errors
    ///
    /// Fails if a file is missing.
    pub fn new(build: &Path) -> Result<Firmware> {
        let read = |name: &str| {
            let path = build.join(name);
            std::fs::read(&path).with_context(|| path.display().to_string())
        };
        let [bios, vga] = ["bios.bin", "vgabios.bin"].map(|name| build.join(name));
        for file in [&bios, &vga] {
            ensure!(file.exists(), "{} is missing", file.display());
        }
        let name = String::from_utf8_lossy(&read("name")?).trim_end().to_owned();
        Ok(Firmware { name, bios, vga, boot_sector: read("boot.bin")? })
    }
}

/// Boots a kernel from a disk until it powers off, and returns QEMU's end.
///
/// With [`Way::Instructions`], the firmware is the packaged one and the kernel has the parameter `nopvio`; with
/// [`Way::Hypercalls`], the firmware is `firmware`. `options` are the plugin's; `None` leaves the plugin out.
///
/// # Errors
///
/// Fails if the kernel does not reach user space.
pub fn boot(
    qemu: &Path,
    firmware: &Firmware,
    kernel: &Kernel,
    way: Way,
    options: Option<&[&str]>,
) -> Result<Ended> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("disk");
    let (bios, vga, nopvio) = match way {
        Way::Instructions => (None, "VGA".to_owned(), " nopvio"),
        Way::Hypercalls => {
            // A comma in a value is written twice.
            let rom = firmware.vga.display().to_string().replace(',', ",,");
            (Some(&firmware.bios), format!("VGA,romfile={rom}"), "")
        }
    };
    // Parameters after "--" are the program's.
    let parameters = match kernel.parameters.split_once(" --") {
        Some((own, program)) => format!("{own}{nopvio} --{program}"),
        None => format!("{}{nopvio}", kernel.parameters),
    };
    std::fs::write(&path, kernel.disk(&firmware.boot_sector, &parameters)?)?;
    let drive = format!("file={},format=raw,if=ide", path.display().to_string().replace(',', ",,"));
    let mut machine = Machine::new(qemu)
        .args(["-machine", "pc", "-accel", "tcg", "-m", "256", "-nodefaults", "-device", &vga])
        .args(["-display", "none", "-serial", "stdio", "-no-reboot", "-drive", &drive])
        .time_limit(TIME_LIMIT);
    if let Some(bios) = bios {
        machine = machine.args([Path::new("-bios"), bios]);
    }
    if let Some(options) = options {
        machine = machine.plugin(&["summary=off"]).plugin(options);
    }
    let ended = machine.run()?;
    ensure!(
        ended.status.success() && ended.stdout.contains("user space reached"),
        "{} did not boot by {} ({}): {}{}",
        kernel.name,
        firmware.name,
        ended.status,
        ended.stdout,
        ended.stderr
    );
    Ok(ended)
}

/// Boots both ways and compares what the plugin counted. `progress` gets a line for each step.
///
/// # Errors
///
/// The same as for [`boot`].
pub fn compare(
    qemu: &Path,
    firmware: &Firmware,
    kernel: &Kernel,
    mut progress: impl FnMut(&str),
) -> Result<Report> {
    let mut run = |way: Way| {
        progress(&format!("booting by {}", way.name()));
        boot(qemu, firmware, kernel, way, Some(&[]))
    };
    let [instructions, hypercalls] = [run(Way::Instructions)?, run(Way::Hypercalls)?];
    Report::of(firmware, kernel, [&instructions, &hypercalls])
}
