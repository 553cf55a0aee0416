//! A Linux guest that has booted and can be stopped, and what it says about itself.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pvio::guest::{Kernel, PhysicalMemory, Registers, Start};
use pvio::x86::Mode;
use pvio_cli::machine::Machine;
use pvio_tests::{Host, LinuxGuest, Monitor};
use tempfile::TempDir;

const RAM: &str = "256M";
const RAM_SIZE: u64 = 256 << 20;

/// Loads the drivers of an IDE disk, and makes what every guest says first.
const BEGIN: &str = "
for module in scsi_common scsi_mod libata ata_piix; do insmod /$module.ko; done
busybox mount -t sysfs sysfs /sys
stty -F /dev/ttyS1 raw
echo 0 > /proc/sys/kernel/kptr_restrict
";

/// The guest's RAM, as it is at each moment.
pub struct Ram(File);

impl Ram {
    /// A copy of it.
    pub fn copy(&self) -> Vec<u8> {
        let mut bytes = vec![0; RAM_SIZE as usize];
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }
}

impl PhysicalMemory for Ram {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        self.0.read_exact_at(into, physical).is_ok()
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        std::iter::once(0..RAM_SIZE).collect()
    }
}

pub struct Guest {
    pub monitor: Monitor,
    pub ram: Ram,
    /// What the script sent.
    pub said: String,
    pub is_64_bit: bool,
    directory: TempDir,
    _linux: LinuxGuest,
}

impl Guest {
    /// Boots a kernel with a script that sends text to `/dev/ttyS1`, and waits for its line `ready`.
    pub fn boot(options: &[&str], append: &str, script: &str) -> Guest {
        Guest::boot_on(Host::NEWEST.machine(), options, append, script)
    }

    /// The same on a machine.
    pub fn boot_on(machine: Machine, options: &[&str], append: &str, script: &str) -> Guest {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let script = [BEGIN, script].concat();
        let mut linux = LinuxGuest::with_kernel(options, &script).unwrap();
        let arguments = linux.argument("-append");
        assert!(arguments.contains("nokaslr"));
        *arguments = arguments.replace("nokaslr", append);
        *linux.argument("-serial") = format!("file:{}", path("console").display());
        let said = format!("file:{}", path("said").display());
        let backend = path("ram").display().to_string();
        let backend = format!("memory-backend-file,id=ram,size={RAM},share=on,mem-path={backend}");
        let machine = linux.on(machine).args(["-serial", &said]);
        let machine = machine.args(["-object", &backend, "-machine", "memory-backend=ram"]);
        let monitor = Monitor::start(machine);
        let ram = Ram(File::open(path("ram")).unwrap());
        let is_64_bit = !options.contains(&"i386");
        let mut guest =
            Guest { monitor, ram, said: String::new(), is_64_bit, directory, _linux: linux };
        guest.wait_for(|guest| guest.read("said").contains("\nready\n"));
        guest.said = guest.read("said");
        guest
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// What the kernel wrote to its console.
    pub fn console(&self) -> String {
        self.read("console").replace('\r', "")
    }

    pub fn wait_for(&self, is_there: impl Fn(&Guest) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(100);
        while !is_there(self) {
            assert!(Instant::now() < deadline, "{}", self.console());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the guest as soon as it is where it should be.
    pub fn stop(&mut self, is_right: impl Fn(&Cpu) -> bool) -> Cpu {
        let deadline = Instant::now() + Duration::from_secs(100);
        loop {
            self.monitor.ask("stop");
            let cpu = self.cpu();
            if is_right(&cpu) {
                return cpu;
            }
            assert!(Instant::now() < deadline, "{cpu:?}");
            self.monitor.ask("cont");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn cpu(&mut self) -> Cpu {
        Cpu { text: self.monitor.ask("info registers"), is_64_bit: self.is_64_bit }
    }

    /// The lines of a part of what the script sent: those after the line `PART:`, up to an empty one.
    pub fn part(&self, part: &str) -> impl Iterator<Item = &str> {
        let title = format!("\n{part}:\n");
        let (_, lines) = self.said.split_once(&title).unwrap_or_else(|| panic!("{}", self.said));
        lines.lines().take_while(|line| !line.is_empty())
    }

    pub fn kernel(&mut self) -> Kernel {
        let registers = self.cpu().registers();
        let start = Instant::now();
        let kernel = Kernel::find(&self.ram, &[registers]).expect("a kernel");
        println!("{:?}, found in {:?}", kernel.release(), start.elapsed());
        kernel
    }

    /// The address of a symbol that the script sent: of two with one name the second, as drivers come last.
    pub fn symbol(&self, name: &str) -> u64 {
        let lines = self.part("symbols");
        let line = lines.filter(|line| line.split(' ').nth(2) == Some(name)).last();
        let line = line.unwrap_or_else(|| panic!("no {name}"));
        u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap()
    }
}

/// The registers of a processor that has stopped.
#[derive(Debug)]
pub struct Cpu {
    text: String,
    is_64_bit: bool,
}

impl Cpu {
    pub fn is_in_user_mode(&self) -> bool {
        self.text.contains("CPL=3")
    }

    pub fn get(&self, name: &str) -> u64 {
        let (_, rest) = self.text.split_once(&format!("{name}=")).expect(name);
        u64::from_str_radix(rest.split_whitespace().next().expect(name), 16).expect(name)
    }

    /// The base of a segment, of a line such as `GS =0000 ffff888010000000 ffffffff 00c00100`.
    pub fn base(&self, segment: &str) -> u64 {
        let (_, rest) = self.text.split_once(&format!("{segment} =")).expect(segment);
        u64::from_str_radix(rest.split_whitespace().nth(1).expect(segment), 16).unwrap()
    }

    pub fn registers(&self) -> Registers {
        Registers {
            cr0: self.get("CR0"),
            cr3: self.get("CR3"),
            cr4: self.get("CR4"),
            efer: self.get("EFER"),
        }
    }

    pub fn start(&self) -> Start {
        let name = |letter: &str, rest: &str| format!("{letter}{rest}");
        let letter = if self.is_64_bit { "R" } else { "E" };
        let get = |rest: &str| self.get(&name(letter, rest));
        let mode = if self.is_64_bit { Mode::Bits64 } else { Mode::Bits32 };
        Start { mode, ..Start::flat(get("IP"), get("SP"), get("BP")) }
    }
}

/// QEMU's debugger stub, as far as breakpoints need it.
pub struct Debugger(TcpStream);

impl Debugger {
    /// Attaches to a guest, which stops.
    pub fn attach(guest: &mut Guest) -> Debugger {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        guest.monitor.ask(&format!("gdbserver tcp:127.0.0.1:{port}"));
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Debugger(stream)
    }

    fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        self.0.write_all(format!("${packet}#{sum:02x}").as_bytes()).unwrap();
    }

    /// Waits for a packet, and acknowledges it.
    fn reply(&mut self) -> String {
        let mut byte = || {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("the debugger stub's answer");
            byte[0] as char
        };
        while byte() != '$' {}
        let text: String =
            std::iter::from_fn(|| Some(byte()).filter(|&byte| byte != '#')).collect();
        // The checksum.
        byte();
        byte();
        self.0.write_all(b"+").unwrap();
        text
    }

    fn ask(&mut self, packet: &str) {
        self.send(packet);
        assert_eq!(self.reply(), "OK", "{packet}");
    }

    /// Sends a packet that runs the guest, and waits until it stops.
    fn run(&mut self, packet: &str) {
        self.send(packet);
        let stopped = self.reply();
        assert!(stopped.starts_with('T'), "{stopped}");
    }

    /// Runs the guest to an address, where it is not already.
    pub fn run_to(&mut self, address: u64) {
        self.ask(&format!("Z1,{address:x},1"));
        self.run("c");
        self.ask(&format!("z1,{address:x},1"));
    }

    /// Runs one instruction.
    pub fn step(&mut self) {
        self.run("s");
    }

    /// Lets the guest run on for good.
    pub fn go_on(&mut self) {
        self.send("c");
    }
}
