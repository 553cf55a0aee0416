//! Boots of guests that others wrote: SeaBIOS and a distribution's Linux.

use pvio_cli::machine::{Ended, Machine};
use pvio_cli::paths;

/// SeaBIOS's last message if there is nothing to boot.
const LAST_WORDS: &str = "No bootable device.";

/// Runs SeaBIOS on a machine without anything to boot, until its last message.
///
/// Its messages, which go to port 0x402, are on stdout.
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

/// Boots the distribution's kernel of `qemu-scripts/boot-linux` to user space and to power-off.
pub fn boot_linux(machine: Machine) -> Ended {
    let ended = machine.args(paths::linux_arguments(&[]).unwrap()).run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.stdout.contains("user space reached"), "{}", ended.stdout);
    ended
}
