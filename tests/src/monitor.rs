//! QEMU's monitor, for tests.

use std::path::Path;

use pvio_cli::machine::{Ended, Machine, Running};

const PROMPT: &str = "(qemu) ";

/// The monitor of a running machine.
#[derive(Debug)]
pub struct Monitor {
    running: Running,
    /// How many bytes of QEMU's stdout were read.
    read: usize,
}

impl Monitor {
    /// Starts a machine with its monitor on stdin and stdout. The monitor needs them alone.
    pub fn start(machine: Machine) -> Monitor {
        let running = machine.args(["-monitor", "stdio"]).start().unwrap();
        let mut monitor = Monitor { running, read: 0 };
        monitor.reply();
        monitor
    }

    /// Starts a machine whose vCPUs are stopped, so that only the monitor accesses ports.
    pub fn start_stopped(machine: Machine) -> Monitor {
        let arguments = ["-S", "-machine", "pc", "-m", "64", "-display", "none", "-nodefaults"];
        Monitor::start(machine.args(arguments))
    }

    /// Sends a command. Returns QEMU's answer.
    pub fn ask(&mut self, command: &str) -> String {
        self.running.say(command).unwrap();
        // The first line echoes the command, with codes that move the cursor.
        let reply = self.reply();
        let (_typed, answer) = reply.split_once("\r\n").expect("the line of the command");
        answer.trim_end().replace('\r', "")
    }

    /// Makes the drive of [`snapshot_drive`] able to hold snapshots: a raw image is not.
    pub fn add_overlay(&mut self, directory: &Path) {
        let overlay = directory.join("disk.qcow2");
        let answer = self.ask(&format!("snapshot_blkdev disk {} qcow2", overlay.display()));
        assert!(!answer.contains("Error"), "{answer}");
    }

    /// Writes to a port: 1, 2 or 4 bytes.
    pub fn write(&mut self, port: u16, size: u8, value: u32) {
        assert_eq!(self.ask(&format!("o /{} {port:#x} {value:#x}", unit(size))), "");
    }

    /// Reads from a port.
    pub fn read(&mut self, port: u16, size: u8) -> u32 {
        let answer = self.ask(&format!("i /{} {port:#x}", unit(size)));
        let value = answer.split_once(" = 0x").unwrap_or_else(|| panic!("{answer}")).1;
        u32::from_str_radix(value, 16).unwrap()
    }

    /// Ends QEMU.
    pub fn quit(self) -> Ended {
        self.last("quit")
    }

    /// Sends a command that ends QEMU, and waits for the end.
    pub fn last(mut self, command: &str) -> Ended {
        self.running.say(command).unwrap();
        self.running.wait().unwrap()
    }

    fn reply(&mut self) -> String {
        self.running.wait_for_after(self.read, PROMPT).unwrap();
        let stdout = self.running.stdout().unwrap();
        let reply = &stdout[self.read..];
        let reply = &reply[..reply.find(PROMPT).expect("a prompt")];
        self.read += reply.len() + PROMPT.len();
        reply.to_owned()
    }
}

/// Makes an empty disk in a directory. Returns its value for `-drive`.
pub fn snapshot_drive(directory: &Path) -> String {
    let raw = directory.join("disk.raw");
    std::fs::File::create(&raw).unwrap().set_len(1 << 20).unwrap();
    format!("if=none,id=disk,format=raw,file={}", raw.display())
}

/// The monitor's letter for a size in bytes.
fn unit(size: u8) -> char {
    match size {
        1 => 'b',
        2 => 'h',
        4 => 'w',
        _ => panic!("no access has {size} bytes"),
    }
}
