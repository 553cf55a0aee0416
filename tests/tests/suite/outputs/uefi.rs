//! Names of UEFI firmware's code: a distribution's OVMF, and an application of our own.

use std::time::Duration;

use object::{Object, ObjectSection};
use pvio::stats::{SiteRow, Snapshot};
use pvio_cli::paths;
use pvio_tests::{Host, assert_consistent, guest, on_both_qemus, site_pc};

on_both_qemus! {
    every_site_of_uefi_firmware_has_its_module
    functions_of_an_application_are_named_by_its_debug_file
}

/// Boots an application from a disk, by Debian's OVMF.
fn boot(host: &Host, options: &[&str]) -> Snapshot {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir_all(path("disk/EFI/BOOT")).unwrap();
    std::fs::copy(guest("uefi.efi"), path("disk/EFI/BOOT/BOOTX64.EFI")).unwrap();
    let [code, variables] = paths::uefi_firmware().unwrap();
    std::fs::copy(variables, path("variables")).unwrap();
    let flash = |unit: u8, file: String, more: &str| {
        format!("if=pflash,unit={unit},format=raw,file={file}{more}")
    };
    let machine = host.machine().plugin(options).time_limit(Duration::from_secs(300)).args([
        "-machine",
        "q35",
        "-m",
        "256",
        "-display",
        "none",
        "-nodefaults",
        "-net",
        "none",
        "-no-reboot",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-drive",
        &flash(0, code.display().to_string(), ",readonly=on"),
        "-drive",
        &flash(1, path("variables").display().to_string(), ""),
        "-drive",
        &format!("format=raw,file=fat:rw:{}", path("disk").display()),
    ]);
    let ended = machine.run().unwrap();
    // The status of isa-debug-exit: twice the value that the application wrote, plus 1.
    assert_eq!(ended.status.code(), Some(0x21), "{}", ended.stderr);
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    stats.clone()
}

fn module(site: &SiteRow) -> &str {
    let symbol = site.symbol.as_deref().unwrap_or_else(|| panic!("{site:?}"));
    symbol.split('+').next().expect("a first part")
}

fn every_site_of_uefi_firmware_has_its_module(host: &Host) {
    let stats = boot(host, &[]);
    for site in &stats.sites {
        let symbol = site.symbol.as_deref().unwrap_or_else(|| panic!("{site:?}"));
        let (name, offset) = symbol.split_once("+0x").unwrap_or_else(|| panic!("{site:?}"));
        assert!(name.len() > 3 && u64::from_str_radix(offset, 16).is_ok(), "{site:?}");
        assert_eq!(site.named_by.as_deref(), Some("firmware"), "{site:?}");
    }
    // In flash, where it lies in RAM, loaded, and loaded for a moment.
    for name in ["SecMain", "PlatformPei", "DxeCore", "PciHostBridgeDxe", "AmdSevDxe"] {
        assert!(stats.sites.iter().any(|site| module(site) == name), "{name}");
    }
    let image = std::fs::read(guest("uefi.efi")).unwrap();
    let ours = stats.sites.iter().filter(|site| module(site) == "BOOTX64.EFI");
    let ours: Vec<_> =
        ours.map(|site| (site.symbol.as_deref().unwrap(), site.counts.executions)).collect();
    assert_eq!(ours, [("BOOTX64.EFI+0x100c", 37), ("BOOTX64.EFI+0x1016", 1)]);
    assert_eq!((image[0x100c], image[0x1016]), (0xee, 0xee));
    // All sites of an image that is loaded are at one distance from their offsets.
    let base = |site: &SiteRow| {
        let (_, offset) = site.symbol.as_deref().unwrap().split_once("+0x").unwrap();
        site_pc(site) - u64::from_str_radix(offset, 16).unwrap()
    };
    let bases: Vec<u64> =
        stats.sites.iter().filter(|site| module(site) == "DxeCore").map(base).collect();
    assert!(bases.windows(2).all(|pair| pair[0] == pair[1] && pair[0] % 0x1000 == 0), "{bases:x?}");
}

fn functions_of_an_application_are_named_by_its_debug_file(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    // A file of another build comes first.
    let (other, debug) = (path("a/bootx64.elf"), path("b/BOOTX64.debug"));
    let mut bytes = std::fs::read(guest("uefi.elf")).unwrap();
    let text = {
        let file = object::File::parse(&*bytes).unwrap();
        file.section_by_name(".text").unwrap().file_range().unwrap().0 as usize
    };
    for site in [0x100c, 0x1016] {
        bytes[text + site] ^= 1;
    }
    std::fs::write(&other, bytes).unwrap();
    let mut objcopy = std::process::Command::new("objcopy");
    objcopy.arg("--only-keep-debug").arg(guest("uefi.elf")).arg(&debug);
    assert!(objcopy.status().unwrap().success());
    let stats = boot(host, &[&format!("symbols={}", directory.path().display())]);
    let ours = stats
        .sites
        .iter()
        .filter(|site| site.symbol.as_deref().is_some_and(|symbol| symbol.contains("BOOTX64.EFI")));
    let ours: Vec<_> = ours
        .map(|site| (site.symbol.as_deref().unwrap(), site.named_by.as_deref().unwrap()))
        .collect();
    let by = debug.to_str().unwrap();
    assert_eq!(ours, [("write [BOOTX64.EFI]", by), ("end [BOOTX64.EFI]", by)]);
    // Sites without a debug file are named by the firmware, as before.
    assert!(stats.sites.iter().any(|site| site.named_by.as_deref() == Some("firmware")));
    let problem = |path: &std::path::Path| {
        let mut files = stats.symbol_files.iter();
        files.find(|file| file.file == path.to_str().unwrap()).unwrap().problem.as_deref()
    };
    assert!(problem(&other).unwrap().contains("other instructions"));
    assert_eq!(problem(&debug), None);
}
