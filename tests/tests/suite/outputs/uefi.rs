//! Names of UEFI firmware's code: a distribution's OVMF, and the application in `tests/guests/uefi`.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use object::{Object, ObjectSection};
use pvio::stats::{CallerRow, ChainEnd, SiteRow, Snapshot};
use pvio_cli::machine::Machine;
use pvio_cli::paths;
use pvio_tests::linux::Kallsyms;
use pvio_tests::{Host, assert_consistent, guest, leave_out, on_both_qemus, site_pc};

use super::guest_callers::{address, check_names, of_kernel};
use super::guest_symbols::relocated_linux;

on_both_qemus! {
    every_site_of_uefi_firmware_has_its_module
    functions_of_an_application_are_named_by_its_debug_file
    every_site_of_32_bit_firmware_has_its_module
    linux_that_uefi_started_has_its_names_and_callers
}

/// Gives a machine Debian's OVMF of 32 or 64 bits, with a copy of its variables in a directory.
pub(super) fn with_ovmf(machine: Machine, bits: u32, directory: &Path) -> Machine {
    let [code, variables] = paths::uefi_firmware(bits).unwrap();
    let copy = directory.join("variables");
    std::fs::copy(variables, &copy).unwrap();
    let flash = |unit: u8, file: &Path, more: &str| {
        format!("if=pflash,unit={unit},format=raw,file={}{more}", file.display())
    };
    let drives = [flash(0, &code, ",readonly=on"), flash(1, &copy, "")];
    let machine = machine.time_limit(Duration::from_secs(300));
    machine.args(drives.iter().flat_map(|drive| ["-drive", drive]))
}

/// Says that a test cannot run on QEMU 10.2, which `qemu-scripts/build-qemu.sh` builds without disks that are directories.
fn lacks_disk(host: &Host, test: &str) -> bool {
    let lacks = host.api == 5;
    if lacks {
        leave_out(module_path!(), test, "disks that are directories (vvfat)");
    }
    lacks
}

/// Boots an application from a disk, by Debian's OVMF.
fn boot(host: &Host, bits: u32, options: &[&str]) -> Snapshot {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir_all(path("disk/EFI/BOOT")).unwrap();
    let (application, name) = match bits {
        32 => ("uefi32.efi", "BOOTIA32.EFI"),
        _ => ("uefi.efi", "BOOTX64.EFI"),
    };
    std::fs::copy(guest(application), path("disk/EFI/BOOT").join(name)).unwrap();
    let machine = with_ovmf(host.machine().plugin(options), bits, directory.path()).args([
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
        &format!("format=raw,file=fat:rw:{}", path("disk").display()),
    ]);
    let ended = machine.run().unwrap();
    // The status of isa-debug-exit: twice the value that the application wrote, plus 1.
    assert_eq!(ended.status.code(), Some(0x21), "{}", ended.stderr);
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    stats.clone()
}

fn has_site_of(stats: &Snapshot, module: &str) -> bool {
    let symbols = stats.sites.iter().filter_map(|site| site.symbol.as_deref());
    symbols.filter_map(|symbol| symbol.split_once('+')).any(|(name, _)| name == module)
}

fn module(site: &SiteRow) -> &str {
    let symbol = site.symbol.as_deref().unwrap_or_else(|| panic!("{site:?}"));
    symbol.split('+').next().expect("a first part")
}

fn every_site_of_uefi_firmware_has_its_module(host: &Host) {
    if lacks_disk(host, "every_site_of_uefi_firmware_has_its_module") {
        return;
    }
    let stats = boot(host, 64, &[]);
    for site in &stats.sites {
        let symbol = site.symbol.as_deref().unwrap_or_else(|| panic!("{site:?}"));
        let (name, offset) = symbol.split_once("+0x").unwrap_or_else(|| panic!("{site:?}"));
        assert!(name.len() > 3 && u64::from_str_radix(offset, 16).is_ok(), "{site:?}");
        assert_eq!(site.named_by.as_deref(), Some("firmware"), "{site:?}");
    }
    // In flash, where it lies in RAM, loaded, and loaded for a moment.
    for name in ["SecMain", "PlatformPei", "DxeCore", "PciHostBridgeDxe", "AmdSevDxe"] {
        assert!(has_site_of(&stats, name), "{name}");
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

/// The application is from a disk, so only the firmware's list of images has its name.
fn every_site_of_32_bit_firmware_has_its_module(host: &Host) {
    if lacks_disk(host, "every_site_of_32_bit_firmware_has_its_module") {
        return;
    }
    /// The end of RAM, which the chipset hides from all code outside system management mode.
    const SMRAM: Range<u64> = 0xf80_0000..0x1000_0000;
    let stats = boot(host, 32, &[]);
    let (hidden, others): (Vec<_>, Vec<_>) =
        stats.sites.iter().partition(|site| SMRAM.contains(&site_pc(site)));
    assert!(hidden.len() < 10 && others.len() > 100, "{hidden:?}");
    for site in others {
        assert_eq!(site.named_by.as_deref(), Some("firmware"), "{site:?}");
    }
    for name in ["SecMain", "PlatformPei", "DxeCore", "BdsDxe"] {
        assert!(has_site_of(&stats, name), "{name}");
    }
    let is_ours = |site: &&SiteRow| {
        site.symbol.as_deref().is_some_and(|symbol| symbol.starts_with("BOOTIA32.EFI"))
    };
    let ours = stats.sites.iter().filter(is_ours);
    let ours: Vec<_> =
        ours.map(|site| (site.symbol.as_deref().unwrap(), site.counts.executions)).collect();
    let image = std::fs::read(guest("uefi32.efi")).unwrap();
    let code = &image[0x1000..0x1020];
    let outs = code.iter().enumerate().filter(|(_, byte)| **byte == 0xee);
    let outs: Vec<String> =
        outs.map(|(at, _)| format!("BOOTIA32.EFI+{:#x}", 0x1000 + at)).collect();
    assert_eq!(ours, [(&*outs[0], 37), (&*outs[1], 1)]);
}

fn functions_of_an_application_are_named_by_its_debug_file(host: &Host) {
    if lacks_disk(host, "functions_of_an_application_are_named_by_its_debug_file") {
        return;
    }
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
    let stats = boot(host, 64, &[&format!("symbols={}", directory.path().display())]);
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

/// A kernel that firmware started is named by its own tables, and unwound by them.
///
/// The kernel calls firmware after its start. Firmware has no frames, so the callers of its own accesses are unknown.
fn linux_that_uefi_started_has_its_names_and_callers(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let names = directory.path().join("names");
    let linux = relocated_linux("");
    let machine = linux.on(host.machine().plugin(&["callers=on"]));
    let machine = with_ovmf(machine, 64, directory.path());
    let serial = format!("file:{}", names.display());
    let ended = machine.args(["-serial", &serial, "-net", "none"]).run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.stdout.contains("efi: EFI v2"), "{}", ended.stdout);
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    // Firmware writes its console to this port, too.
    const GZIP: &[u8] = &[0x1f, 0x8b, 8];
    let sent = std::fs::read(names).unwrap();
    let begin = sent.windows(GZIP.len()).position(|bytes| bytes == GZIP).unwrap();
    let kallsyms = Kallsyms::unpack(&sent[begin..]);
    let in_kernel = |site: &&SiteRow| kallsyms.is_kernel(site_pc(site));
    let (own, others): (Vec<_>, Vec<_>) = stats.sites.iter().partition(in_kernel);
    for site in &own {
        assert_eq!(site.symbol, kallsyms.name(site_pc(site)), "{site:?}");
        assert_eq!(site.named_by.as_deref(), Some("guest kernel"), "{site:?}");
    }
    let of_firmware = others.iter().filter(|site| site.named_by.as_deref() == Some("firmware"));
    let of_firmware = of_firmware.count();
    assert!(own.len() > 60 && of_firmware > 60, "{} {of_firmware}", own.len());
    check_names(stats, &kallsyms);
    let mut whole = 0;
    for row in of_kernel(stats, &kallsyms) {
        assert!(matches!(row.end, ChainEnd::Bottom | ChainEnd::User), "{row:?}");
        whole += 1;
    }
    assert!(whole > 60, "{whole}");
    let is_of_firmware = |row: &&CallerRow| address(&row.pc) >> 32 == 0;
    for row in stats.callers.iter().filter(is_of_firmware) {
        assert_eq!(row.end, ChainEnd::Unknown, "{row:?}");
    }
}
