//! The test guest: a kernel, one program, and a disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::Times;
use super::stage::Layout;
use crate::linux::archive;
use crate::machine::{Ended, Machine, Running};

/// The kernel's way of accessing ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By instructions: the parameter `nopvio`.
    Instructions,
    /// By hypercalls.
    Hypercalls,
}

impl Way {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Way::Instructions => "instructions",
            Way::Hypercalls => "hypercalls",
        }
    }
}

/// The kernel's parameters: an early console from the setup code on. `no_timer_check`, because on a busy host an emulated
/// timer ticks late.
pub(crate) const PARAMETERS: &str =
    "earlyprintk=ttyS0,115200 console=ttyS0,115200 debug panic=-1 no_timer_check nokaslr";

/// Parameter that makes the disk's driver move all data by port accesses.
const NO_DMA: &str = "libata.dma=0";

/// The program's argument for a few accesses to ports of its own.
const PORTS: &str = "port";

/// The longest that a run may take on a busy host.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// Size of the disk, in bytes.
const DISK: usize = 32 << 20;

/// A kernel that `qemu-scripts/paravirt-linux` has built, and its test program.
#[derive(Debug)]
pub struct Guest {
    /// Version and architecture.
    pub name: String,
    kernel: PathBuf,
    system_map: PathBuf,
    pub(super) layout: Layout,
    directory: TempDir,
}

/// One run of the guest.
#[derive(Debug)]
pub struct Run {
    /// QEMU's end.
    pub ended: Ended,
    /// The kernel's line about its port I/O.
    pub line: String,
    /// The CPU time, if the guest used the disk.
    pub times: Option<Times>,
}

/// Contents of the disk.
#[derive(Debug)]
pub struct Disk;

impl Disk {
    /// The numbers of the guest's program: 32-bit xorshift.
    pub fn written() -> Vec<u8> {
        let mut number = 2_463_534_242_u32;
        let next = |_| {
            number ^= number << 13;
            number ^= number >> 17;
            number ^= number << 5;
            number.to_le_bytes()
        };
        (0..DISK / 4).flat_map(next).collect()
    }

    /// The checksum of the guest's program.
    pub fn checksum(bytes: &[u8]) -> u32 {
        let words = bytes
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        words.fold(0_u32, |sum, word| sum.rotate_left(5).wrapping_add(word))
    }

    /// The disk's contents at first.
    pub fn initial() -> Vec<u8> {
        (0..DISK as u32 / 4).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect()
    }
}

impl Guest {
    /// Makes a guest of the files `bzImage`, `init` and `name` in a directory.
    ///
    /// # Errors
    ///
    /// Fails if a file is missing or `bzImage` is not a kernel.
    pub fn new(build: &Path) -> Result<Guest> {
        let read = |name: &str| {
            let path = build.join(name);
            std::fs::read(&path).with_context(|| path.display().to_string())
        };
        let kernel = build.join("bzImage");
        let layout = Layout::of(&read("bzImage")?)
            .with_context(|| format!("{} is not a Linux kernel", kernel.display()))?;
        let name = String::from_utf8_lossy(&read("name")?).trim_end().to_owned();
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("initramfs"), archive(&[("init", &read("init")?)])?)?;
        Ok(Guest { name, kernel, system_map: build.join("System.map"), layout, directory })
    }

    /// The file of the kernel's symbols.
    pub fn system_map(&self) -> &Path {
        &self.system_map
    }

    /// Boots to user space, with DMA.
    ///
    /// # Errors
    ///
    /// Fails if the guest does not reach user space, or takes another way.
    pub fn boot(&self, qemu: &Path, way: Way) -> Result<Run> {
        let run = self.end(
            self.machine(qemu, &[PORTS], &parameters(way)).plugin(&["summary=off"]).start()?,
            way,
        )?;
        let months: Vec<&str> = run
            .ended
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix("pvio: month by "))
            .collect();
        let months =
            months.iter().filter_map(|month| month.split_once(": ")).map(|(_, month)| month);
        let months: Vec<&str> = months.collect();
        ensure!(
            months.len() == 2 && months[0] == months[1],
            "/dev/port and instructions differ: {months:?}"
        );
        Ok(run)
    }

    /// Boots without the plugin, or with options of it.
    ///
    /// # Errors
    ///
    /// Fails if the guest does not reach user space.
    pub fn boot_with(&self, qemu: &Path, plugin: Option<&[&str]>) -> Result<Ended> {
        let machine = self.machine(qemu, &[PORTS], "");
        let ended = match plugin {
            Some(options) => machine.plugin(&["summary=off"]).plugin(options).run()?,
            None => machine.run()?,
        };
        reached(&ended)?;
        Ok(ended)
    }

    /// Boots, and reads and writes the disk without DMA.
    ///
    /// # Errors
    ///
    /// Fails if the guest does not reach user space, takes another way, or reads or writes something else.
    pub fn use_disk(&self, qemu: &Path, way: Way) -> Result<Run> {
        let path = self.directory.path().join("disk");
        let initial = Disk::initial();
        std::fs::write(&path, &initial)?;
        let parameters = format!("{NO_DMA} {}", parameters(way));
        let drive = format!("file={},format=raw,if=ide,cache=unsafe", path.display());
        let machine = self.machine(qemu, &["read", "write"], &parameters).args(["-drive", &drive]);
        let mut running = machine.plugin(&["summary=off"]).start()?;
        let mut at = |mark: &str| -> Result<f64> {
            running.wait_for(&format!("pvio: {mark}"))?;
            Ok(running.cpu_time()?.as_secs_f64())
        };
        let boot = at("user space reached")?;
        let [read, read_end] = [at("read begins")?, at("read ends")?];
        let [write, write_end] = [at("write begins")?, at("write ends")?];
        let times = Times { boot, read: read_end - read, write: write_end - write };
        let mut run = self.end(running, way)?;
        let line = format!("pvio: checksum: {:08x}", Disk::checksum(&initial));
        ensure!(
            run.ended.stdout.contains(&line),
            "the guest did not read what is on the disk: {}",
            run.ended.stdout
        );
        ensure!(
            std::fs::read(&path)? == Disk::written(),
            "the disk does not have what the guest wrote"
        );
        run.times = Some(times);
        Ok(run)
    }

    /// A machine, without the plugin, that boots the kernel with these parameters. `work` is what the program does:
    /// words that `guest-shim/linux/test/init.c` names.
    pub fn machine(&self, qemu: &Path, work: &[&str], parameters: &str) -> Machine {
        let initramfs = self.directory.path().join("initramfs");
        let append = format!("{PARAMETERS} {parameters} -- {}", work.join(" "));
        Machine::new(qemu)
            .args(["-machine", "pc", "-accel", "tcg", "-m", "256", "-nic", "none"])
            .args(["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot"])
            .args([Path::new("-kernel"), &self.kernel, Path::new("-initrd"), &initramfs])
            .args(["-append", &append])
            .time_limit(TIME_LIMIT)
    }

    fn end(&self, running: Running, way: Way) -> Result<Run> {
        let ended = running.wait()?;
        reached(&ended)?;
        let line =
            port_io(&ended).context("the kernel says nothing about its port I/O")?.to_owned();
        let expected = format!("port I/O by {}", way.name());
        ensure!(line.contains(&expected), "the kernel did not use {}: {line}", way.name());
        Ok(Run { ended, line, times: None })
    }
}

fn parameters(way: Way) -> String {
    match way {
        Way::Instructions => "nopvio".to_owned(),
        Way::Hypercalls => String::new(),
    }
}

fn reached(ended: &Ended) -> Result<()> {
    ensure!(
        ended.status.success()
            && ended.stdout.contains("pvio: user space reached")
            && !ended.stdout.contains("pvio: failed"),
        "Linux did not run ({}): {}{}",
        ended.status,
        ended.stdout,
        ended.stderr
    );
    Ok(())
}

/// The kernel's line about its port I/O, without its time.
pub(super) fn port_io(ended: &Ended) -> Option<&str> {
    let at = ended.stdout.find("pvio: port I/O by ")?;
    ended.stdout[at..].lines().next().map(str::trim_end)
}
