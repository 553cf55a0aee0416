//! Files as `/proc/kallsyms` and `System.map`, for Linux at its link address and for relocated Linux.

use std::path::{Path, PathBuf};

use iced_x86::{Decoder, DecoderOptions};
use once_cell::sync::Lazy;
use pvio::stats::{SiteRow, Snapshot};
use pvio::x86::Mode;
use pvio_tests::linux::Kallsyms;
use pvio_tests::{
    Host, LinuxGuest, Monitor, assert_consistent, guest, on_both_qemus, parse_hex, site_bytes,
    site_pc, split_symbol, wait_until,
};

use super::elf_code::ElfCode;

on_both_qemus! {
    kallsyms_file_names_every_site_of_linux
    kallsyms_file_names_every_site_of_relocated_linux
    file_of_another_kernel_names_no_site
}

/// Linear address minus physical address of the kernel's image, if the kernel is not relocated.
const LINKED: u64 = 0xffff_ffff_8000_0000;

/// Boots a Linux that writes its `/proc/kallsyms` to a disk. Copies it to `file` and returns the dump.
fn boot_for_kallsyms(
    host: &Host,
    file: &Path,
    options: &[&str],
    change: impl FnOnce(&mut LinuxGuest),
) -> Snapshot {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk");
    std::fs::File::create(&disk).unwrap().set_len(32 << 20).unwrap();
    let script = "/ioperm grant; dd if=/proc/kallsyms of=/dev/sda bs=64k conv=fsync 2>/dev/null";
    let program = std::fs::read(guest("ioperm")).unwrap();
    let mut linux = LinuxGuest::with_disk(script, &[("ioperm", &program)]).unwrap();
    change(&mut linux);
    let drive = format!("file={},if=ide,format=raw", disk.display());
    let machine = linux.on(host.machine().plugin(options)).args(["-drive", &drive]);
    let ended = machine.run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    let contents = std::fs::read(&disk).unwrap();
    let end = contents.iter().position(|&byte| byte == 0).expect("zeros after the text");
    std::fs::write(file, &contents[..end]).unwrap();
    assert_consistent(ended.stats().unwrap());
    ended.stats().unwrap().clone()
}

/// The names and addresses of the kernel without KASLR. They are the same on every machine.
static KALLSYMS: Lazy<PathBuf> = Lazy::new(|| {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kallsyms");
    boot_for_kallsyms(&Host::NEWEST, &path, &[], |_| ());
    path
});

/// Functions in Linux's sources and port instructions in them.
const KNOWN: [(&str, &str); 8] = [
    ("io_serial_in", "in al,dx"),
    ("io_serial_out", "out dx,al"),
    ("pci_conf1_read", "out dx,eax"),
    ("pci_conf1_read", "in eax,dx"),
    ("pci_conf1_write", "out dx,ax"),
    ("init_8259A", "out 0xa1,al"),
    ("rtc_cmos_read", "in al,0x71"),
    ("native_io_delay", "out 0x80,al"),
];

fn kallsyms_file_names_every_site_of_linux(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name).display().to_string();
    let mut linux = LinuxGuest::new("", &[]).unwrap();
    // The kernel waits for a disk that never appears. Meanwhile it keeps the code that only a boot needs.
    linux.argument("-append").push_str(" rdinit=/none root=/dev/none rootwait");
    *linux.argument("-serial") = format!("file:{}", path("console"));
    let symbols = format!("symbols={}", KALLSYMS.display());
    let mut monitor = Monitor::start(linux.on(host.machine().plugin(&[&symbols])));
    let console = || std::fs::read_to_string(path("console")).unwrap_or_default();
    wait_until(|| console().contains("Waiting for root device"), console);

    let kallsyms = Kallsyms::read(&KALLSYMS);
    let start = kallsyms.address("_stext") - LINKED;
    let size = kallsyms.address("_einittext") - LINKED - start;
    monitor.save_memory(start, size, Path::new(&path("memory")));
    let memory = std::fs::read(path("memory")).unwrap();
    let ended = monitor.quit();
    let stats = ended.stats().unwrap();
    assert_consistent(stats);

    let mut named = 0;
    for site in &stats.sites {
        // The BIOS and the kernel's decompressor are not in the file.
        if site_pc(site) < LINKED {
            assert_eq!(site.symbol, None, "{site:?}");
            continue;
        }
        kallsyms.assert_names(site);
        let at = |pc: u64| &memory[(pc - LINKED - start) as usize..];
        assert!(at(site_pc(site)).starts_with(&site_bytes(site)), "{site:?}");
        // Decoding from the start of the function meets the site.
        let (_, offset) = split_symbol(site.symbol.as_deref().expect("a name"));
        let begin = site_pc(site) - offset;
        let mut decoder = Decoder::with_ip(64, at(begin), begin, DecoderOptions::NONE);
        let at_site = decoder.iter().find(|insn| insn.ip() >= site_pc(site)).expect("more code");
        assert_eq!(at_site.next_ip() - site_pc(site), site_bytes(site).len() as u64, "{site:?}");
        assert_eq!(at_site.ip(), site_pc(site), "{site:?}");
        assert_eq!(site.mode, Some(Mode::Bits64));
        named += 1;
    }
    assert!(named > 100, "{named}");
    for (function, insn) in KNOWN {
        let is_there = |site: &SiteRow| {
            site.symbol.as_deref().is_some_and(|symbol| split_symbol(symbol).0 == function)
                && site.insn == insn
        };
        assert!(stats.sites.iter().any(is_there), "{function}: {insn}");
    }
}

/// The relocated kernel's own list, after the boot, gives the distance.
fn kallsyms_file_names_every_site_of_relocated_linux(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kallsyms");
    let program = guest("ioperm");
    let of_program = format!("symbols={}", program.display());
    let of_kernel = format!("symbols={}", KALLSYMS.display());
    let options = ["device=latch@0x300", &*of_program, &of_kernel];
    let stats = boot_for_kallsyms(host, &file, &options, |linux| {
        let append = linux.argument("-append");
        *append = append.replace(" nokaslr", "");
    });
    let (moved, linked) = (Kallsyms::read(&file), Kallsyms::read(&KALLSYMS));
    let distance = moved.address("_stext") - linked.address("_stext");
    assert_eq!(distance % (2 << 20), 0, "the kernel is relocated by large pages");
    assert_eq!(stats.symbol_files.len(), 2);
    assert!(stats.symbol_files.iter().all(|file| file.problem.is_none()), "{stats:?}");

    let program = ElfCode::read(&program);
    let (mut of_program, mut of_kernel, mut others) = (0, 0, 0);
    for site in &stats.sites {
        if program.code_at(site_pc(site)).is_some() {
            program.check(site);
            of_program += 1;
        } else if moved.is_kernel(site_pc(site)) {
            moved.assert_names(site);
            of_kernel += 1;
        } else {
            // Firmware, the kernel's decompressor, and modules.
            assert_eq!(site.symbol, None, "{site:?}");
            others += 1;
        }
    }
    assert!(of_program >= 6 && of_kernel > 100 && others > 10);
}

fn file_of_another_kernel_names_no_site(host: &Host) {
    // One function late in the kernel is 16 bytes longer, as after a small change. All before it is the same.
    let kallsyms = Kallsyms::read(&KALLSYMS);
    let longer = kallsyms.address("__x64_sys_socket");
    let text = std::fs::read_to_string(&*KALLSYMS).unwrap();
    let line = |line: &str| {
        let (address, rest) = line.split_once(' ').unwrap();
        let address = parse_hex(address);
        let is_after = (longer..kallsyms.address("_etext")).contains(&address);
        format!("{:016x} {rest}\n", if is_after { address + 16 } else { address })
    };
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other");
    std::fs::write(&other, text.lines().map(line).collect::<String>()).unwrap();
    let symbols = format!("symbols={}", other.display());
    let linux = LinuxGuest::new("", &[]).unwrap();
    let ended = linux.on(host.machine().plugin(&[&symbols])).run().unwrap();
    let stats = ended.stats().unwrap();
    assert!(stats.sites.iter().any(|site| kallsyms.is_kernel(site_pc(site))));
    assert!(stats.sites.iter().all(|site| site.symbol.is_none()));
    let problem = stats.symbol_files[0].problem.as_deref().expect("a problem");
    assert!(
        problem.starts_with("it does not describe the kernel that runs in the guest (6."),
        "{problem}"
    );
    assert!(
        problem.ends_with(", so its names are not used; name the file of that kernel"),
        "{problem}"
    );
    let line = format!("pvio: option \"{symbols}\": {problem}");
    assert_eq!(ended.stderr.lines().filter(|&said| said == line).count(), 1, "{}", ended.stderr);
}

/// Boots the kernel that stays where it was linked.
fn boot_with(options: &[&str], variables: &[(&str, &str)]) -> Snapshot {
    let linux = LinuxGuest::new("", &[]).unwrap();
    let machine = linux.on(Host::NEWEST.machine().plugin(options));
    let machine = variables.iter().fold(machine, |machine, (name, value)| machine.env(name, value));
    machine.run().unwrap().stats().unwrap().clone()
}

fn assert_names_sites(stats: &Snapshot) {
    assert_eq!(stats.symbol_files[0].problem, None);
    let kallsyms = Kallsyms::read(&KALLSYMS);
    let named: Vec<_> = stats.sites.iter().filter(|site| site.symbol.is_some()).collect();
    assert!(named.len() > 100);
    named.into_iter().for_each(|site| kallsyms.assert_names(site));
}

#[test]
fn kernel_file_without_data_symbols_names_sites() {
    let text = std::fs::read_to_string(&*KALLSYMS).unwrap();
    let code = |line: &&str| "tTwW".contains(line.split(' ').nth(1).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let map = directory.path().join("map");
    let lines = text.lines().filter(code).map(|line| format!("{line}\n"));
    std::fs::write(&map, lines.collect::<String>()).unwrap();
    assert_names_sites(&boot_with(&[&format!("symbols={}", map.display())], &[]));
}

/// If pvio cannot read guest memory, it uses the names only with an offset from the user.
#[test]
fn uncheckable_kernel_file_is_used_with_an_explicit_offset() {
    let without_offset = format!("symbols={}", KALLSYMS.display());
    let with_offset = format!("{without_offset}@0");
    let unreadable = [("PVIO_TEST_WITHOUT_EXPORTS", "1")];
    let stats = boot_with(&[&without_offset], &unreadable);
    assert!(stats.sites.iter().all(|site| site.symbol.is_none()));
    let problem = stats.symbol_files[0].problem.as_deref().expect("a problem");
    assert!(problem.contains("does not let pvio read the guest's memory"), "{problem}");
    assert!(problem.ends_with(&format!("write {with_offset}")), "{problem}");
    assert_names_sites(&boot_with(&[&with_offset], &unreadable));
}
