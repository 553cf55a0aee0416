//! Names of sites, against what is in memory there: in guests of ours with ELF files, in Linux at the addresses
//! that it was linked for, and in Linux where it has moved itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use iced_x86::{Decoder, DecoderOptions};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};
use once_cell::sync::Lazy;
use pvio::stats::{SiteRow, Snapshot};
use pvio::symbols::Symbols;
use pvio::x86::Mode;
use pvio_tests::{Host, LinuxGuest, Monitor, assert_consistent, guest, on_both_qemus};

on_both_qemus! {
    guests_of_ours_by_their_elf_files
    linux_by_its_kallsyms
    linux_that_has_moved_itself
}

fn pc(site: &SiteRow) -> u64 {
    u64::from_str_radix(&site.pc[2..], 16).unwrap()
}

fn bytes(site: &SiteRow) -> Vec<u8> {
    let digits = |start: usize| u8::from_str_radix(&site.bytes[start..start + 2], 16).unwrap();
    (0..site.bytes.len()).step_by(2).map(digits).collect()
}

/// A name in a dump, `name` or `name+0x12`, taken apart.
fn parts(symbol: &str) -> (&str, u64) {
    match symbol.rsplit_once("+0x") {
        Some((name, offset)) => (name, u64::from_str_radix(offset, 16).unwrap()),
        None => (symbol, 0),
    }
}

/// What an ELF file says of its code, read without pvio's help.
struct Elf {
    /// Address and bytes of each section of code.
    code: Vec<(u64, Vec<u8>)>,
    /// Address and size of each name there.
    symbols: BTreeMap<String, Vec<(u64, u64)>>,
}

impl Elf {
    fn read(path: &Path) -> Elf {
        let contents = std::fs::read(path).unwrap();
        let file = object::File::parse(&*contents).unwrap();
        let code = file.sections().filter(|section| section.kind() == SectionKind::Text);
        let code = code.map(|section| (section.address(), section.data().unwrap().to_vec()));
        let mut symbols: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        for symbol in file.symbols().filter(|symbol| symbol.section_index().is_some()) {
            let place = (symbol.address(), symbol.size());
            symbols.entry(symbol.name().unwrap().to_owned()).or_default().push(place);
        }
        Elf { code: code.collect(), symbols }
    }

    /// The bytes from an address on.
    fn at(&self, pc: u64) -> Option<&[u8]> {
        let in_section = |(address, bytes): &'_ (u64, Vec<u8>)| {
            (*address..*address + bytes.len() as u64).contains(&pc).then_some(*address)
        };
        let (address, bytes) = self.code.iter().find(|section| in_section(section).is_some())?;
        bytes.get((pc - address) as usize..)
    }

    /// A site that the file covers has a name, its instruction is at that place of the file, and the name's
    /// symbol covers it.
    fn check(&self, site: &SiteRow) {
        let pc = pc(site);
        let Some(code) = self.at(pc) else {
            assert_eq!(site.symbol, None, "{site:?}");
            return;
        };
        assert!(code.starts_with(&bytes(site)), "{site:?}");
        let symbol = site.symbol.as_deref().unwrap_or_else(|| panic!("{site:?}"));
        let (name, offset) = parts(symbol);
        let covers =
            |&(address, size): &(u64, u64)| address + offset == pc && (size == 0 || offset < size);
        assert!(self.symbols[name].iter().any(covers), "{site:?}");
        // No other begins in between.
        let others = self.symbols.values().flatten();
        let between =
            |&&(address, size): &&(u64, u64)| address > pc - offset && address <= pc && size == 0;
        assert_eq!(others.filter(between).count(), 0, "{site:?}");
    }
}

fn guests_of_ours_by_their_elf_files(host: &Host) {
    // One in assembly, whose names are labels, and one in C, whose names have sizes.
    for name in ["forms", "around-stream"] {
        let elf = guest(&format!("{name}.elf"));
        let symbols = format!("symbols={}", elf.display());
        let device = "device=latch@0x300";
        let machine = host.machine().plugin(&[&symbols, device]);
        let ended = machine.bare_guest(&guest(&format!("{name}.bin"))).run().unwrap();
        let stats = ended.stats().unwrap();
        assert_consistent(stats);
        assert!(stats.sites.len() > 5);
        let elf = Elf::read(&elf);
        stats.sites.iter().for_each(|site| elf.check(site));
    }
}

/// The names of a form's labels in the guest `forms` say what is there: `rep_insw_32.plain`.
#[test]
fn labels_are_at_the_instruction_that_they_name() {
    let symbols = format!("symbols={}", guest("forms.elf").display());
    let machine = Host::NEWEST.machine().plugin(&[&symbols]).bare_guest(&guest("forms.bin"));
    let ended = machine.run().unwrap();
    let plain: Vec<_> = ended.stats().unwrap().sites.iter().collect();
    let labelled = |site: &&&SiteRow| site.symbol.as_deref().unwrap().ends_with(".plain");
    let plain: Vec<_> = plain.iter().filter(labelled).collect();
    assert_eq!(plain.len(), 24 * 3);
    for site in plain {
        let form = site.form.to_string().replace([' ', ','], "_");
        let mode = site.mode.expect("a mode").bits();
        assert_eq!(site.symbol, Some(format!("{form}_{mode}.plain")), "{site:?}");
    }
}

/// Where the kernel's image is in the address space of a kernel that has not moved itself, less where it is
/// in memory.
const LINKED: u64 = 0xffff_ffff_8000_0000;

/// A file as `/proc/kallsyms`, read without pvio's help: addresses, kinds and names, by address.
struct Kallsyms(Vec<(u64, char, String)>);

impl Kallsyms {
    fn read(path: &Path) -> Kallsyms {
        let text = std::fs::read_to_string(path).unwrap();
        let mut symbols: Vec<_> = text
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let address = u64::from_str_radix(words[0], 16).unwrap();
                (address, words[1].parse().unwrap(), words[2].to_owned())
            })
            .collect();
        symbols.sort_by_key(|&(address, ..)| address);
        Kallsyms(symbols)
    }

    fn address(&self, name: &str) -> u64 {
        let mut symbols = self.0.iter().filter(|(.., symbol)| symbol == name);
        symbols.next().unwrap_or_else(|| panic!("no {name}")).0
    }

    /// The kernel's own code, without modules.
    fn is_kernel(&self, pc: u64) -> bool {
        let sections = [("_stext", "_etext"), ("_sinittext", "_einittext")];
        sections.iter().any(|&(start, end)| (self.address(start)..self.address(end)).contains(&pc))
    }

    /// A name is that of a symbol of code before the site, and nothing begins in between.
    fn check(&self, site: &SiteRow) {
        let pc = pc(site);
        let symbol = site.symbol.as_deref().unwrap_or_else(|| panic!("{site:?}"));
        let (name, offset) = parts(symbol);
        let is_it = |(address, kind, symbol): &&(u64, char, String)| {
            *address == pc - offset && "tTwW".contains(*kind) && symbol == name
        };
        assert!(self.0.iter().any(|symbol| is_it(&symbol)), "{site:?}");
        let between =
            |&&(address, ..): &&(u64, char, String)| address > pc - offset && address <= pc;
        assert_eq!(self.0.iter().find(between), None, "{site:?}");
    }
}

/// Boots a Linux that writes its `/proc/kallsyms` to a disk, with the plugin, and returns both.
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
    let end = contents.iter().position(|&byte| byte == 0).expect("room on the disk");
    std::fs::write(file, &contents[..end]).unwrap();
    assert_consistent(ended.stats().unwrap());
    ended.stats().unwrap().clone()
}

/// The kernel's names and addresses, when it stays where it was linked for: the same on every machine.
static KALLSYMS: Lazy<PathBuf> = Lazy::new(|| {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kallsyms");
    boot_for_kallsyms(&Host::NEWEST, &path, &[], |_| ());
    path
});

/// Functions of Linux's sources, and what they do there.
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

fn linux_by_its_kallsyms(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name).display().to_string();
    let mut linux = LinuxGuest::new("", &[]).unwrap();
    // It waits for a disk that does not come; until then it keeps the code that only a boot needs.
    linux.argument("-append").push_str(" rdinit=/none root=/dev/none rootwait");
    *linux.argument("-serial") = format!("file:{}", path("console"));
    let symbols = format!("symbols={}", KALLSYMS.display());
    let mut monitor = Monitor::start(linux.on(host.machine().plugin(&[&symbols])));
    let waits = "Waiting for root device";
    let console = || std::fs::read_to_string(path("console")).unwrap_or_default();
    for _ in 0..1200 {
        if console().contains(waits) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(console().contains(waits), "{}", console());

    let kallsyms = Kallsyms::read(&KALLSYMS);
    let start = kallsyms.address("_stext") - LINKED;
    let size = kallsyms.address("_einittext") - LINKED - start;
    let save = format!("pmemsave {start:#x} {size:#x} \"{}\"", path("memory"));
    assert_eq!(monitor.ask(&save), "");
    let memory = std::fs::read(path("memory")).unwrap();
    let ended = monitor.quit();
    let stats = ended.stats().unwrap();
    assert_consistent(stats);

    let mut named = 0;
    for site in &stats.sites {
        // The BIOS, and what unpacks the kernel, are not in the file.
        if pc(site) < LINKED {
            assert_eq!(site.symbol, None, "{site:?}");
            continue;
        }
        kallsyms.check(site);
        let at = |pc: u64| &memory[(pc - LINKED - start) as usize..];
        assert!(at(pc(site)).starts_with(&bytes(site)), "{site:?}");
        // Instruction by instruction from the function's beginning, the site is one of them.
        let (_, offset) = parts(site.symbol.as_deref().expect("a name"));
        let begin = pc(site) - offset;
        let mut decoder = Decoder::with_ip(64, at(begin), begin, DecoderOptions::NONE);
        let at_site = decoder.iter().find(|insn| insn.ip() >= pc(site)).expect("more code");
        assert_eq!(at_site.next_ip() - pc(site), bytes(site).len() as u64, "{site:?}");
        assert_eq!(at_site.ip(), pc(site), "{site:?}");
        assert_eq!(site.mode, Some(Mode::Bits64));
        named += 1;
    }
    assert!(named > 100, "{named}");
    for (function, insn) in KNOWN {
        let is_it = |site: &&SiteRow| {
            site.symbol.as_deref().is_some_and(|symbol| parts(symbol).0 == function)
                && site.insn == insn
        };
        assert!(stats.sites.iter().any(|site| is_it(&site)), "{function}: {insn}");
    }
}

/// The kernel's own list, after the boot, tells how far it has moved.
fn linux_that_has_moved_itself(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kallsyms");
    let program = guest("ioperm");
    let symbols = format!("symbols={}", program.display());
    let stats = boot_for_kallsyms(host, &file, &["device=latch@0x300", &symbols], |linux| {
        let append = linux.argument("-append");
        *append = append.replace(" nokaslr", "");
    });
    let (moved, linked) = (Kallsyms::read(&file), Kallsyms::read(&KALLSYMS));
    let distance = moved.address("_stext") - linked.address("_stext");
    assert_eq!(distance % (2 << 20), 0, "it moves by large pages");
    let names = |path: &Path| Symbols::load(&[path.to_owned()]).unwrap();
    let (by_moved, by_linked) = (names(&file), names(&KALLSYMS));

    let program = Elf::read(&program);
    let mut named = 0;
    for site in &stats.sites {
        if program.at(pc(site)).is_some() {
            program.check(site);
            continue;
        }
        // Whatever is not in the file that was given stays a number.
        assert_eq!(site.symbol, None);
        if moved.is_kernel(pc(site)) {
            let name = by_moved.name(pc(site));
            assert_eq!(name, by_linked.name(pc(site) - distance), "{site:?}");
            moved.check(&SiteRow { symbol: name, ..site.clone() });
            named += 1;
        }
    }
    assert!(named > 100, "{named}");
    let of_program = stats.sites.iter().filter(|site| site.symbol.is_some());
    assert!(of_program.count() >= 6);
}
