//! A distribution's Linux that has booted, reports on itself, and can be stopped.

use std::path::PathBuf;

use pvio::guest::{Kernel, Registers, Start};
use pvio::x86::Mode;
use pvio_cli::machine::Machine;
use tempfile::TempDir;

use super::memory::LiveRam;
use crate::{Host, LinuxGuest, Monitor, parse_hex, wait_for};

/// Shell commands that load the drivers of an IDE disk and open `/dev/ttyS1` for the report.
pub const LOAD_DISK_DRIVERS: &str = "
for module in scsi_common scsi_mod libata ata_piix; do insmod /$module.ko; done
stty -F /dev/ttyS1 raw
";

/// Shell command that sends the kernel's names, compressed.
pub const SEND_KALLSYMS: &str = "
gzip -c /proc/kallsyms > /dev/ttyS1
";

/// Shell commands that let programs see the kernel's addresses and its devices.
const PREPARE: &str = "
busybox mount -t sysfs sysfs /sys
echo 0 > /proc/sys/kernel/kptr_restrict
";

/// The last line of a report. The script sends it.
const READY: &[u8] = b"\nready\n";

/// A Linux guest, after its script has sent a report to `/dev/ttyS1`.
#[derive(Debug)]
pub struct BootedLinux {
    /// The monitor, which stops the guest.
    pub monitor: Monitor,
    /// The RAM of the guest.
    pub ram: LiveRam,
    /// The bytes that the script sent before its line `ready`.
    pub report: Vec<u8>,
    /// True if the kernel is 64-bit code.
    pub is_64_bit: bool,
    directory: TempDir,
    _linux: LinuxGuest,
}

impl BootedLinux {
    /// Boots the kernel that options of `boot-linux` choose, and waits until its script is ready.
    ///
    /// `append` replaces `nokaslr` in the kernel's command line. The script sends its report to
    /// `/dev/ttyS1`, and ends the report with the line `ready`.
    pub fn boot(options: &[&str], append: &str, script: &str) -> BootedLinux {
        BootedLinux::boot_on(Host::NEWEST.machine(), options, append, script)
    }

    /// Does what [`BootedLinux::boot`] does, on any machine.
    pub fn boot_on(machine: Machine, options: &[&str], append: &str, script: &str) -> BootedLinux {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let script = [LOAD_DISK_DRIVERS, PREPARE, script].concat();
        let mut linux = LinuxGuest::with_kernel(options, &script).unwrap();
        let arguments = linux.argument("-append");
        assert!(arguments.contains("nokaslr"));
        *arguments = arguments.replace("nokaslr", append);
        *linux.argument("-serial") = format!("file:{}", path("console"));
        let report = format!("file:{}", path("report"));
        let ram = format!("memory-backend-file,id=ram,size=256M,share=on,mem-path={}", path("ram"));
        let machine = linux.on(machine).args(["-serial", &report]);
        let machine = machine.args(["-object", &ram, "-machine", "memory-backend=ram"]);
        let monitor = Monitor::start(machine);
        let ram = LiveRam::open(&directory.path().join("ram"));
        let is_64_bit = !options.contains(&"i386");
        let report = Vec::new();
        let mut guest = BootedLinux { monitor, ram, report, is_64_bit, directory, _linux: linux };
        guest.report = wait_for(|| guest.sent_report().ok_or_else(|| guest.console()));
        guest
    }

    /// The report; `None` if it is not complete.
    fn sent_report(&self) -> Option<Vec<u8>> {
        let mut sent = self.read("report");
        let end = sent.windows(READY.len()).position(|bytes| bytes == READY)?;
        sent.truncate(end);
        Some(sent)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the text of the kernel's console so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.read("console")).replace('\r', "")
    }

    /// The lines of a part of the report: those after the line `PART:`, up to an empty line.
    ///
    /// # Panics
    ///
    /// If the report is not text, or has no such part.
    pub fn part<'a>(&'a self, part: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.find_part(part).unwrap_or_else(|| panic!("no {part}: {}", self.text()))
    }

    /// The same; `None` if the report has no such part.
    pub fn find_part<'a>(&'a self, part: &str) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
        let (_, lines) = self.text().split_once(&format!("\n{part}:\n"))?;
        Some(lines.lines().take_while(|line| !line.is_empty()))
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.report).expect("a report in text")
    }

    /// The address of a symbol in the report's part `symbols`.
    ///
    /// If several symbols have the name, this is the last: drivers come after the kernel.
    pub fn symbol(&self, name: &str) -> u64 {
        let lines = self.part("symbols");
        let line = lines.filter(|line| line.split(' ').nth(2) == Some(name)).last();
        let line = line.unwrap_or_else(|| panic!("no {name}"));
        parse_hex(line.split(' ').next().unwrap())
    }

    /// Stops the guest at a moment at which its registers fulfil a condition.
    pub fn stop(&mut self, condition: impl Fn(&Cpu) -> bool) -> Cpu {
        wait_for(|| {
            self.monitor.stop();
            let cpu = self.cpu();
            if condition(&cpu) {
                return Ok(cpu);
            }
            // The guest runs until the next attempt.
            self.monitor.cont();
            Err(cpu.text)
        })
    }

    /// The registers now.
    pub fn cpu(&mut self) -> Cpu {
        Cpu { text: self.monitor.ask("info registers"), is_64_bit: self.is_64_bit }
    }

    /// Finds the kernel in RAM.
    ///
    /// # Panics
    ///
    /// If it is not found.
    pub fn kernel(&mut self) -> Kernel {
        let registers = self.cpu().registers();
        Kernel::find(&self.ram, &[registers]).expect("a kernel")
    }
}

/// The registers of a vCPU, as the monitor prints them.
#[derive(Debug)]
pub struct Cpu {
    text: String,
    is_64_bit: bool,
}

impl Cpu {
    /// Returns true if the vCPU runs a program and not the kernel.
    pub fn is_in_user_mode(&self) -> bool {
        self.text.contains("CPL=3")
    }

    /// A register.
    pub fn get(&self, name: &str) -> u64 {
        let (_, rest) = self.text.split_once(&format!("{name}=")).expect(name);
        parse_hex(rest.split_whitespace().next().expect(name))
    }

    /// The base of a segment, from a line such as `GS =0000 ffff888010000000 ffffffff 00c00100`.
    pub fn base(&self, segment: &str) -> u64 {
        let (_, rest) = self.text.split_once(&format!("{segment} =")).expect(segment);
        parse_hex(rest.split_whitespace().nth(1).expect(segment))
    }

    /// The registers by which a kernel is found.
    pub fn registers(&self) -> Registers {
        Registers {
            cr0: self.get("CR0"),
            cr3: self.get("CR3"),
            cr4: self.get("CR4"),
            efer: self.get("EFER"),
        }
    }

    /// The registers at which unwinding starts.
    pub fn start(&self) -> Start {
        let (letter, mode) = if self.is_64_bit { ("R", Mode::Bits64) } else { ("E", Mode::Bits32) };
        let get = |rest: &str| self.get(&format!("{letter}{rest}"));
        Start { mode, ..Start::flat(get("IP"), get("SP"), get("BP")) }
    }
}
