//! QEMU's own BIOS without anything to boot.

use pvio_cli::machine::{Ended, Machine};

/// What it says when it has tried everything. It does nothing more after that.
const LAST_WORDS: &str = "No bootable device.";

/// Runs SeaBIOS on a machine that is complete but for its display, until it has nothing more to do. Its
/// messages, which go to port 0x402, are on stdout.
pub fn run_seabios(machine: Machine) -> Ended {
    let mut running = machine
        .args(["-display", "none", "-nodefaults", "-chardev", "stdio,id=messages"])
        .args(["-device", "isa-debugcon,iobase=0x402,chardev=messages"])
        .start()
        .unwrap();
    running.wait_for(LAST_WORDS).unwrap();
    running.signal(libc::SIGTERM).unwrap();
    let ended = running.wait().unwrap();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    ended
}
