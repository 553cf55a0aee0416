//! Boots SeaBIOS, a distribution's Linux, and generated BIOS images.

use std::path::PathBuf;

use pvio_cli::expected_forms;
use pvio_cli::machine::{Ended, Machine};
use pvio_cli::paths;
use tempfile::TempDir;

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
    boot_linux_with(machine, &[])
}

/// Boots Linux like [`boot_linux`], with options of `qemu-scripts/boot-linux`.
pub fn boot_linux_with(machine: Machine, options: &[&str]) -> Ended {
    let ended = machine.args(paths::linux_arguments(options).unwrap()).run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.stdout.contains("user space reached"), "{}", ended.stdout);
    ended
}

/// Makes a BIOS image that reads some ports and ends QEMU.
///
/// Its code starts at linear address 0xffffe000. Each port takes four bytes of code, the last of which is the `in`.
pub fn port_reader(directory: &TempDir, ports: &[u16]) -> PathBuf {
    let mut code = Vec::new();
    for port in ports {
        // mov dx, port; in al, dx
        code.extend([0xba, port.to_le_bytes()[0], port.to_le_bytes()[1], 0xec]);
    }
    bios(directory, code)
}

/// Makes a BIOS image that runs 16-bit code at linear address 0xffffe000, and then ends QEMU.
pub fn bios(directory: &TempDir, mut code: Vec<u8>) -> PathBuf {
    // mov al, n; out 0xf4, al; hlt
    code.extend([0xb0, (expected_forms::PASSED as u8) >> 1, 0xe6, 0xf4, 0xf4]);
    let mut image = vec![0; 0x1_0000];
    image[0xe000..][..code.len()].copy_from_slice(&code);
    // jmp 0xe000, from the reset vector
    image[0xfff0..0xfff3].copy_from_slice(&[0xe9, 0x0d, 0xe0]);
    let path = directory.path().join("bios.bin");
    std::fs::write(&path, image).unwrap();
    path
}
