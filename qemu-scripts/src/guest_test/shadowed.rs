//! Files of the user's that QEMU takes for its own.

use std::path::Path;

/// Files that QEMU loads by itself, and looks for in the working directory before its own.
const OWN_FILES: [&str; 8] = [
    "bios.bin",
    "bios-256k.bin",
    "kvmvapic.bin",
    "linuxboot.bin",
    "linuxboot_dma.bin",
    "multiboot.bin",
    "multiboot_dma.bin",
    "pvh.bin",
];

/// Warns of a file in the working directory that QEMU takes for one of its own.
pub(super) fn warning() -> Option<String> {
    let name = OWN_FILES.into_iter().find(|name| Path::new(name).exists())?;
    Some(format!(
        "QEMU takes {name} in the working directory for its own file of that name: rename it if that is not what you want"
    ))
}
