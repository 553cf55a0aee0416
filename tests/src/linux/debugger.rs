//! QEMU's gdb stub.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::Monitor;

/// A connection to QEMU's gdb stub, for breakpoints and single steps.
#[derive(Debug)]
pub struct Debugger(UnixStream);

impl Debugger {
    /// Attaches to a guest, which stops.
    pub fn attach(monitor: &mut Monitor) -> Debugger {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("gdb");
        monitor.ask(&format!("gdbserver unix:{},server=on,wait=off", socket.display()));
        let stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Debugger(stream)
    }

    /// Runs the guest until it reaches an address. It leaves its present address first.
    pub fn run_to(&mut self, address: u64) {
        self.command(&format!("Z1,{address:x},1"));
        self.resume("c");
        while self.rip() != address {
            self.resume("c");
        }
        self.command(&format!("z1,{address:x},1"));
    }

    /// Runs one instruction, which does not lead to itself.
    pub fn step(&mut self) {
        let rip = self.rip();
        while self.rip() == rip {
            self.resume("s");
        }
    }

    /// Lets the guest run until it stops by itself. Returns RIP there.
    pub fn run_to_stop(&mut self) -> u64 {
        self.resume("c");
        self.rip()
    }

    /// Reads RIP, register 16 of the stub for x86-64.
    fn rip(&mut self) -> u64 {
        self.send("p10");
        let bytes = self.reply();
        u64::from_str_radix(&bytes, 16).expect("a register in hexadecimal").swap_bytes()
    }

    /// Lets the guest run, without a breakpoint.
    pub fn continue_freely(&mut self) {
        self.send("c");
    }

    /// Sends a packet that the stub answers with `OK`.
    fn command(&mut self, packet: &str) {
        self.send(packet);
        assert_eq!(self.reply(), "OK", "{packet}");
    }

    /// Sends a packet that runs the guest, and waits until the guest stops.
    fn resume(&mut self, packet: &str) {
        self.send(packet);
        let stopped = self.reply();
        assert!(stopped.starts_with('T'), "{stopped}");
    }

    fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        self.0.write_all(format!("${packet}#{sum:02x}").as_bytes()).unwrap();
    }

    /// Waits for a packet, and acknowledges it.
    fn reply(&mut self) -> String {
        let mut byte = || {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("the reply of the gdb stub");
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
}
