//! QEMU's monitor, spoken to by a test.

use pvio_cli::machine::{Ended, Machine, Running};

const PROMPT: &str = "(qemu) ";

/// The monitor of a machine that runs.
#[derive(Debug)]
pub struct Monitor {
    running: Running,
    /// How much of QEMU's stdout has been read.
    read: usize,
}

impl Monitor {
    /// Starts a machine with its monitor on stdin and stdout. Nobody else may write there.
    pub fn start(machine: Machine) -> Monitor {
        let running = machine.args(["-monitor", "stdio"]).start().unwrap();
        let mut monitor = Monitor { running, read: 0 };
        monitor.reply();
        monitor
    }

    /// A machine whose processors stand still: of its ports, only the monitor makes use.
    pub fn start_stopped(machine: Machine) -> Monitor {
        let arguments = ["-S", "-machine", "pc", "-m", "64", "-display", "none", "-nodefaults"];
        Monitor::start(machine.args(arguments))
    }

    /// Gives a command, and returns what QEMU says to it.
    pub fn ask(&mut self, command: &str) -> String {
        self.running.say(command).unwrap();
        // The first line is the command as it was typed, with everything that moves the cursor.
        let reply = self.reply();
        let (_typed, answer) = reply.split_once("\r\n").expect("the line of the command");
        answer.trim_end().replace('\r', "")
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

    /// Gives a command that ends QEMU, and waits until it has.
    pub fn last(mut self, command: &str) -> Ended {
        self.running.say(command).unwrap();
        self.running.wait().unwrap()
    }

    fn reply(&mut self) -> String {
        self.running.wait_for_after(self.read, PROMPT).unwrap();
        let stdout = self.running.stdout().unwrap();
        let reply = &stdout[self.read..];
        let reply = &reply[..reply.find(PROMPT).expect("it was waited for")];
        self.read += reply.len() + PROMPT.len();
        reply.to_owned()
    }
}

/// What the monitor calls a size.
fn unit(size: u8) -> char {
    match size {
        1 => 'b',
        2 => 'h',
        4 => 'w',
        _ => panic!("no access has {size} bytes"),
    }
}
