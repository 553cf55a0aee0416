//! pvio's guest support for Linux: the files of `guest-shim/linux`, and the edits of the kernel's.

use std::path::Path;

use anyhow::{Result, ensure};

use super::edit::Change::{After, AfterLast, Around, Before};
use super::edit::Line::{Begins, Is};
use super::edit::{Edit, edit};
use super::{OwnFile, Patched, read};

/// pvio's own files, by their paths in the kernel's tree.
const FILES: [OwnFile; 8] = [
    own_file!("linux", "arch/x86/Kconfig.pvio"),
    own_file!("linux", "arch/x86/boot/pvio.c"),
    own_file!("linux", "arch/x86/boot/compressed/pvio.c"),
    own_file!("linux", "arch/x86/include/asm/pvio.h"),
    own_file!("linux", "arch/x86/include/asm/pvio_strings.h"),
    own_file!("linux", "arch/x86/include/asm/shared/pvio.h"),
    own_file!("linux", "arch/x86/include/asm/shared/pvio_abi.h"),
    own_file!("linux", "arch/x86/kernel/pvio.c"),
];

/// All edits, in the order of a boot.
const EDITS: [Edit; 13] = [
    edit(
        "arch/x86/Kconfig",
        Before(Is("config INTEL_TDX_GUEST"), "source \"arch/x86/Kconfig.pvio\""),
    ),
    // The setup code and the decompressor.
    edit(
        "arch/x86/boot/Makefile",
        AfterLast(Begins("setup-y"), "setup-$(CONFIG_PVIO_GUEST) += pvio.o"),
    ),
    edit(
        "arch/x86/boot/io.h",
        After(Is("#include <asm/shared/io.h>"), "#include <asm/shared/pvio.h>"),
    ),
    edit("arch/x86/boot/main.c", After(Is("copy_boot_params();"), "pvio_detect();")),
    edit(
        "arch/x86/boot/compressed/Makefile",
        After(
            Begins("vmlinux-objs-$(CONFIG_ACPI)"),
            "vmlinux-objs-$(CONFIG_PVIO_GUEST) += $(obj)/pvio.o",
        ),
    ),
    edit("arch/x86/boot/compressed/misc.c", After(Is("early_tdx_detect();"), "pvio_detect();")),
    // The kernel.
    edit(
        "arch/x86/kernel/Makefile",
        After(Begins("obj-$(CONFIG_KVM_GUEST)"), "obj-$(CONFIG_PVIO_GUEST) += pvio.o"),
    ),
    edit(
        "arch/x86/include/asm/io.h",
        After(Is("#include <asm/shared/io.h>"), "#include <asm/pvio.h>"),
    ),
    // After the strings of this file.
    edit(
        "arch/x86/include/asm/io.h",
        AfterLast(Is("#undef BUILDIO"), "#include <asm/pvio_strings.h>"),
    ),
    // On AMD, early_cpu_init() reads the PCI configuration.
    edit("arch/x86/kernel/setup.c", Before(Is("early_cpu_init();"), "pvio_guest_init();")),
    edit("arch/x86/kernel/cpu/common.c", After(Is("load_fixmap_gdt(cpu);"), "pvio_cpu_init();")),
    // Code that has its own instructions.
    edit(
        "arch/x86/kernel/io_delay.c",
        Around(["asm volatile (\"outb %al, $", "\");"], ["outb(0, ", ");"]),
    ),
    edit("arch/x86/lib/kaslr.c", After(Is("#ifndef KASLR_COMPRESSED_BOOT"), "#include <asm/io.h>")),
];

/// Puts pvio's files into a tree and edits the kernel's.
///
/// A tree that has been patched before stays as it is, except for own files that have changed since.
///
/// # Errors
///
/// Fails if the directory is not a Linux source tree, or if a line that an edit looks for is not there exactly once. The
/// tree is then unchanged. Fails if a file cannot be written.
pub fn patch(tree: &Path) -> Result<Patched> {
    let version = version(tree)?;
    let [files, edited] = super::patch(tree, &format!("Linux {version}"), &EDITS, &FILES)?;
    Ok(Patched { version, files, edited })
}

/// Returns the version that a tree's Makefile names.
fn version(tree: &Path) -> Result<String> {
    let makefile = read(tree, "Makefile")?;
    let variable = |name: &str| {
        let mut values = makefile.lines().filter_map(|line| {
            let (left, right) = line.split_once('=')?;
            (left.trim_end() == name).then(|| right.trim())
        });
        values.next().filter(|value| !value.is_empty())
    };
    let numbers = ["VERSION", "PATCHLEVEL", "SUBLEVEL"].map(variable);
    let numbers: Vec<&str> = numbers.into_iter().flatten().collect();
    ensure!(numbers.len() == 3, "{} is not the source of a Linux kernel", tree.display());
    Ok(numbers.join("."))
}

#[cfg(test)]
mod tests;
