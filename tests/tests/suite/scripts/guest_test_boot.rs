//! `qemu-scripts/guest-test`: how guests boot is found by their contents.

use std::os::unix::fs::symlink;

use pvio_cli::paths;
use pvio_tests::boot_images::*;
use pvio_tests::guests::Guests;
use pvio_tests::{Host, guest, on_packaged_qemus};

on_packaged_qemus! {
    what_boots_is_found_by_content_not_by_name
    linux_boots_under_any_name
    efi_applications_boot_from_a_directory_that_stays_as_it_is
    boot_kind_of_an_option_or_file_comes_before_contents
    what_qemu_cannot_boot_is_one_line
}

const DEVICE: [&str; 3] = ["--", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"];

fn passed(names: &[&str]) -> String {
    let mut report = format!("TAP version 13\n1..{}\n", names.len());
    for (number, name) in (1..).zip(names) {
        report += &format!("ok {number} - {name} # time=T\n");
    }
    report
}

fn what_boots_is_found_by_content_not_by_name(host: &Host) {
    let guests = Guests::on(host);
    let files = [
        ("sector.bin", boot_sector(EXIT_33)),
        ("bios.img", bios(EXIT_33)),
        ("multiboot.iso", elf32(&multiboot_1(0), EXIT_33)),
        ("flat", multiboot_flat(EXIT_33)),
        // Not pvh.bin: QEMU would take it for its own file of that name.
        ("kernel.bin", elf64(62, &pvh_note(), EXIT_33)),
        ("cd.bin", iso(EXIT_33, true)),
        ("cow.raw", qcow2(EXIT_33)),
    ];
    for (name, contents) in &files {
        guests.add(name, contents);
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    let options = ["--success-status", "33", "--timeout", "60"];
    let report = guests.test_without_calls(&[&options[..], &names, &DEVICE].concat(), true);
    assert_eq!(report, passed(&names));
    for (name, contents) in &files {
        assert_eq!(&std::fs::read(guests.path(name)).unwrap(), contents, "{name}");
    }
}

fn linux_boots_under_any_name(host: &Host) {
    let guests = Guests::on(host);
    let arguments = paths::linux_arguments(&[]).unwrap();
    let kernel = arguments.iter().position(|argument| argument == "-kernel").unwrap();
    symlink(&arguments[kernel + 1], guests.path("linux.bin")).unwrap();
    let others: Vec<&str> =
        arguments[..kernel].iter().chain(&arguments[kernel + 2..]).map(|a| &**a).collect();
    let options = ["--success-power-off", "--timeout", "120", "linux.bin", "--"];
    let report = guests.test_without_calls(&[&options[..], &others].concat(), true);
    assert_eq!(report, passed(&["linux.bin"]));
}

/// Both widths of code, as a file and as a directory.
fn efi_applications_boot_from_a_directory_that_stays_as_it_is(host: &Host) {
    let guests = Guests::on(host);
    let application = std::fs::read(guest("uefi.efi")).unwrap();
    guests.add("application.bin", &application);
    guests.add("small", std::fs::read(guest("uefi32.efi")).unwrap());
    std::fs::create_dir_all(guests.path("esp/efi/boot")).unwrap();
    guests.add("esp/efi/boot/bootx64.efi", &application);
    let names = ["application.bin", "small", "esp"];
    let options = ["--success-status", "33", "--timeout", "300"];
    let report = guests.test_without_calls(&[&options[..], &names, &DEVICE].concat(), true);
    assert_eq!(report, passed(&names));
    // Firmware keeps its variables in files on a disk that it may write.
    let files: Vec<_> = std::fs::read_dir(guests.path("esp")).unwrap().collect();
    assert_eq!(files.len(), 1, "{files:?}");
}

fn boot_kind_of_an_option_or_file_comes_before_contents(host: &Host) {
    let guests = Guests::on(host);
    // By its contents, this is a disk for a BIOS.
    guests.add("disk.img", fat12(&std::fs::read(guest("uefi.efi")).unwrap()));
    let options = ["--success-status", "33", "--timeout", "300", "disk.img"];
    let by_option = [&["--boot", "efi-disk"], &options[..], &DEVICE].concat();
    assert_eq!(guests.test_without_calls(&by_option, true), passed(&["disk.img"]));
    guests.add("guest.toml", "[guest.\"disk.img\"]\nboot = \"efi-disk\"\n");
    let by_file = [&options[..], &DEVICE].concat();
    assert_eq!(guests.test_without_calls(&by_file, true), passed(&["disk.img"]));
}

fn what_qemu_cannot_boot_is_one_line(host: &Host) {
    let guests = Guests::on(host);
    guests
        .add("64", elf64(62, b"", EXIT_33))
        .add("64-multiboot", elf64(62, &multiboot_1(0), EXIT_33))
        .add("multiboot-2", elf32(&multiboot_2(), EXIT_33))
        .add("32", elf32(b"", EXIT_33))
        .add("arm", elf64(183, b"", EXIT_33))
        .add("data.iso", iso(b"", false))
        .add("text.bin", "hello\n");
    std::fs::create_dir(guests.path("directory")).unwrap();
    let names =
        ["64", "64-multiboot", "multiboot-2", "32", "arm", "data.iso", "text.bin", "directory"];
    let report = guests.test_without_calls(&names, false);
    let why = [
        "this ELF64 has no PVH note (XEN_ELFNOTE_PHYS32_ENTRY), which QEMU's -kernel needs: add one, or make a disk \
         image with a boot loader",
        "QEMU boots multiboot 1 only as ELF32: convert it with objcopy -I elf64-x86-64 -O elf32-i386, or give it a PVH \
         note in place of the multiboot header",
        "QEMU's -kernel does not know multiboot 2: add a PVH note (XEN_ELFNOTE_PHYS32_ENTRY), or make an ISO with \
         grub-mkrescue",
        "this ELF32 has neither a multiboot 1 header in its first 8 KiB nor a PVH note: add one, or make a disk image \
         with a boot loader",
        "this ELF file is not for x86: build it for i686 or x86_64",
        "this ISO has no boot record (El Torito): make it with grub-mkrescue, or with xorriso -as mkisofs -b",
        "it is not an ELF file, a Linux kernel, an EFI application, an ISO, a qcow2 image, a disk with 55 AA at byte \
         510, or a BIOS (a multiple of 64 KiB with a jump 16 bytes before its end); --boot KIND boots it nevertheless",
        "this directory has no EFI/BOOT/BOOTX64.EFI: name a guest's file, or a directory with that file",
    ];
    let mut expected = "TAP version 13\n1..8\n".to_owned();
    for (number, (name, why)) in (1..).zip(names.iter().zip(why)) {
        expected += &format!(
            "not ok {number} - {name} # time=T\n  ---\n  message: \"QEMU cannot boot this guest: {why}\"\n  ...\n"
        );
    }
    assert_eq!(report, expected);
    // QEMU itself refuses what is refused here.
    for name in ["64", "64-multiboot", "multiboot-2"] {
        let report = guests.test_without_calls(&["--boot", "kernel", name], false);
        assert!(report.contains("QEMU did not run the guest"), "{report}");
    }
}
