//! The edits of the kernel's files.

use super::edit::Change::{After, AfterLast, Around, Before};
use super::edit::Edit;
use super::edit::Line::{Begins, Is};

const fn edit(file: &'static str, change: super::edit::Change) -> Edit {
    Edit { file, change }
}

/// All edits, in the order of a boot.
pub(super) const EDITS: [Edit; 13] = [
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
