//! Names of sites, against what is in memory there: in guests of ours with ELF files, in Linux at the addresses
//! that it was linked for, and in Linux where it has moved itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use iced_x86::{Decoder, DecoderOptions};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};
use once_cell::sync::Lazy;
use pvio::guest_file::GuestFile;
use pvio::sections::Sections;
use pvio::stats::{SectionRow, SiteRow, Snapshot};
use pvio::symbols::Symbols;
use pvio::x86::Mode;
use pvio_cli::machine::Ended;
use pvio_tests::{Host, LinuxGuest, Monitor, assert_consistent, guest, on_both_qemus};

on_both_qemus! {
    guests_of_ours_by_their_elf_files
    linux_by_its_kallsyms
    linux_that_has_moved_itself
    a_file_of_another_kernel_names_nothing
    a_file_of_another_guest_names_nothing
    files_of_debug_information_name_sites
    a_file_that_has_moved_names_sites_where_it_is
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
    let of_program = format!("symbols={}", program.display());
    let of_kernel = format!("symbols={}", KALLSYMS.display());
    let options = ["device=latch@0x300", &*of_program, &of_kernel];
    let stats = boot_for_kallsyms(host, &file, &options, |linux| {
        let append = linux.argument("-append");
        *append = append.replace(" nokaslr", "");
    });
    let (moved, linked) = (Kallsyms::read(&file), Kallsyms::read(&KALLSYMS));
    let distance = moved.address("_stext") - linked.address("_stext");
    assert_eq!(distance % (2 << 20), 0, "it moves by large pages");
    assert_eq!(stats.symbol_files.len(), 2);
    assert!(stats.symbol_files.iter().all(|file| file.problem.is_none()), "{stats:?}");

    let program = Elf::read(&program);
    let (mut of_program, mut of_kernel, mut others) = (0, 0, 0);
    for site in &stats.sites {
        if program.at(pc(site)).is_some() {
            program.check(site);
            of_program += 1;
        } else if moved.is_kernel(pc(site)) {
            moved.check(site);
            of_kernel += 1;
        } else {
            // Firmware, what unpacks the kernel, and modules.
            assert_eq!(site.symbol, None, "{site:?}");
            others += 1;
        }
    }
    assert!(of_program >= 6 && of_kernel > 100 && others > 10);
}

fn a_file_of_another_kernel_names_nothing(host: &Host) {
    // One function late in the kernel is 16 bytes longer, as after a small change: all up to it is the same.
    let kallsyms = Kallsyms::read(&KALLSYMS);
    let longer = kallsyms.address("__x64_sys_socket");
    let text = std::fs::read_to_string(&*KALLSYMS).unwrap();
    let line = |line: &str| {
        let (address, rest) = line.split_once(' ').unwrap();
        let address = u64::from_str_radix(address, 16).unwrap();
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
    assert!(stats.sites.iter().any(|site| kallsyms.is_kernel(pc(site))));
    assert!(stats.sites.iter().all(|site| site.symbol.is_none()));
    let problem = "no kernel in the guest's memory matches it, so its names are not used; name the file \
                   of the kernel that runs";
    assert_eq!(stats.symbol_files[0].problem.as_deref(), Some(problem));
    let line = format!("pvio: option \"{symbols}\": {problem}");
    assert_eq!(ended.stderr.lines().filter(|&said| said == line).count(), 1, "{}", ended.stderr);
}

/// Without its data symbols nothing tells whether a file fits, and its names are used where the user says so.
#[test]
fn names_that_cannot_be_checked_are_used_on_request() {
    let text = std::fs::read_to_string(&*KALLSYMS).unwrap();
    let code = |line: &&str| "tTwW".contains(line.split(' ').nth(1).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let map = directory.path().join("map");
    let lines = text.lines().filter(code).map(|line| format!("{line}\n"));
    std::fs::write(&map, lines.collect::<String>()).unwrap();
    let unsure = format!("symbols={}", map.display());
    let sure = format!("symbols={}@0", map.display());
    let boot = |options: &[&str]| {
        let linux = LinuxGuest::new("", &[]).unwrap();
        linux.on(Host::NEWEST.machine().plugin(options)).run().unwrap().stats().unwrap().clone()
    };
    let stats = boot(&[&unsure]);
    assert!(stats.sites.iter().all(|site| site.symbol.is_none()));
    let problem = stats.symbol_files[0].problem.as_deref().expect("what is missing");
    assert!(problem.contains("it lacks linux_banner and sys_call_table"), "{problem}");
    assert!(problem.ends_with(&format!("write {sure}")), "{problem}");

    let stats = boot(&[&sure]);
    assert_eq!(stats.symbol_files[0].problem, None);
    let kallsyms = Kallsyms::read(&KALLSYMS);
    let named: Vec<_> = stats.sites.iter().filter(|site| site.symbol.is_some()).collect();
    assert!(named.len() > 100);
    named.into_iter().for_each(|site| kallsyms.check(site));
}

/// Runs the guest `forms` with files of symbols.
fn run_forms(host: &Host, options: &[&str]) -> Ended {
    host.machine().plugin(options).bare_guest(&guest("forms.bin")).run().unwrap()
}

fn symbols_of(stats: &Snapshot) -> Vec<Option<&str>> {
    stats.sites.iter().map(|site| site.symbol.as_deref()).collect()
}

fn a_file_of_another_guest_names_nothing(host: &Host) {
    // Of the other's sites some may be named; as soon as most do not fit, none is.
    let other = format!("symbols={}", guest("around-stream.elf").display());
    let right = format!("symbols={}", guest("forms.elf").display());
    let ended = run_forms(host, &[&other, &right]);
    let stats = ended.stats().unwrap();
    let problem = stats.symbol_files[0].problem.as_deref().expect("what is wrong");
    assert!(problem.contains("so its names are not used"), "{problem}");
    assert!(ended.stderr.contains(&format!("option \"{other}\": {problem}\n")), "{}", ended.stderr);
    assert_eq!(stats.symbol_files[1].problem, None);
    let elf = Elf::read(&guest("forms.elf"));
    stats.sites.iter().for_each(|site| elf.check(site));
}

/// What is after the last symbol is not in it, as a module is not in the kernel.
#[test]
fn what_is_beyond_the_last_symbol_has_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let map = directory.path().join("map");
    let bare = run_forms(&Host::NEWEST, &[]);
    let sites = &bare.stats().unwrap().sites;
    let last = pc(sites.last().unwrap());
    let page = last & !0xfff;
    // Its function ends within its page, or where the file says so.
    for (text, is_named) in [
        (format!("{page:x} T in_the_page\n"), true),
        (format!("{:x} T before_the_page\n", page - 1), false),
        (format!("{page:x} T in_the_page\n{last:x} T _etext\n"), false),
        (format!("{page:x} T in_the_page\n{last:x} t of_a_module [module]\n"), false),
    ] {
        std::fs::write(&map, &text).unwrap();
        let ended = run_forms(&Host::NEWEST, &[&format!("symbols={}", map.display())]);
        let sites = &ended.stats().unwrap().sites;
        let symbol = sites.iter().find(|site| pc(site) == last).unwrap().symbol.as_deref();
        let name = format!("in_the_page+{:#x}", last - page);
        assert_eq!(symbol, is_named.then_some(&*name), "{text}");
    }
}

/// Each section, and whether instructions were counted in it.
fn sections_of(stats: &Snapshot) -> Vec<(&str, &str, &str, bool)> {
    let row = |row: &'_ SectionRow| {
        let counts = &row.instructions;
        counts.instructions.or(counts.instructions_unverified) > Some(0)
    };
    stats
        .sections
        .iter()
        .map(|section| (&*section.name, &*section.start, &*section.end, row(section)))
        .collect()
}

/// A copy of the guest `forms` as an ELF file, made by `objcopy`.
fn objcopy(directory: &Path, options: &[&str]) -> PathBuf {
    let copy = directory.join("copy");
    let mut command = std::process::Command::new("objcopy");
    command.args(options).arg(guest("forms.elf")).arg(&copy);
    assert!(command.status().unwrap().success());
    copy
}

fn files_of_debug_information_name_sites(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let debug = objcopy(directory.path(), &["--only-keep-debug"]);
    let whole = guest("forms.elf");
    let named_by = |path: &Path| {
        let symbols = format!("symbols={}", path.display());
        let insns = format!("insns={}", path.display());
        run_forms(host, &[&symbols, &insns]).stats().unwrap().clone()
    };
    let (by_debug, by_whole) = (named_by(&debug), named_by(&whole));
    assert!(by_whole.sites.iter().all(|site| site.symbol.is_some()));
    assert_eq!(symbols_of(&by_debug), symbols_of(&by_whole));
    assert_eq!(sections_of(&by_debug), sections_of(&by_whole));
}

fn a_file_that_has_moved_names_sites_where_it_is(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let moved = objcopy(directory.path(), &["--change-addresses=-0x1000"]);
    let mut bytes = std::fs::read(&moved).unwrap();
    // Position independent.
    bytes[0x10] = 3;
    std::fs::write(&moved, bytes).unwrap();
    let moved = moved.display().to_string();
    for key in ["symbols", "insns"] {
        let ended = run_forms(host, &[&format!("{key}={moved}")]);
        assert!(!ended.status.success(), "it started: {}", ended.stderr);
        let right = format!("write {key}={moved}@ADDRESS");
        assert!(ended.stderr.contains(&right), "{}", ended.stderr);
    }
    let whole = guest("forms.elf").display().to_string();
    let named_by = |file: &str| {
        let options = [format!("symbols={file}"), format!("insns={file}")];
        run_forms(host, &options.each_ref().map(|option| &**option)).stats().unwrap().clone()
    };
    let (by_moved, by_whole) = (named_by(&format!("{moved}@0x1000")), named_by(&whole));
    assert_eq!(symbols_of(&by_moved), symbols_of(&by_whole));
    assert_eq!(sections_of(&by_moved), sections_of(&by_whole));
    assert!(by_whole.sites.iter().all(|site| site.symbol.is_some()));
    // At another address its code does not fit.
    let by_wrong = named_by(&format!("{moved}@4"));
    assert!(by_wrong.sites.iter().all(|site| site.symbol.is_none()));
}

/// Whatever is in a file, it is read or refused, soon and without a panic.
#[test]
fn broken_files_are_read_or_refused() {
    let whole = std::fs::read(guest("forms.elf")).unwrap();
    let sections = u64::from_le_bytes(whole[0x28..0x30].try_into().unwrap()) as usize;
    let file = tempfile::NamedTempFile::new().unwrap();
    let name = format!("{}@0", file.path().display());
    let mut random = fastrand::Rng::with_seed(1);
    let (mut read, mut refused) = (0, 0);
    let began = std::time::Instant::now();
    for _ in 0..2000 {
        let mut broken = whole.clone();
        for _ in 0..random.usize(1..4) {
            let part = if random.bool() { 0..0x40 } else { sections..whole.len() };
            let value = [0, 1, 0x7f, 0xff, random.u8(..)][random.usize(..5)];
            broken[random.usize(part)] = value;
        }
        broken.truncate(if random.bool() { whole.len() } else { random.usize(..whole.len()) });
        std::fs::write(&file, &broken).unwrap();
        let guest_file = GuestFile::parse(&name).unwrap();
        let _ = Sections::load(&guest_file);
        match Symbols::load(&[guest_file]) {
            Ok(symbols) => {
                read += 1;
                let sites: Vec<(u64, &[u8])> =
                    (0..64).map(|n| (0xf_0000 + n * 7, &b"\xee"[..])).collect();
                let names = symbols.judge(&sites);
                sites.iter().for_each(|(pc, bytes)| drop(names.name(*pc, bytes)));
            }
            Err(error) => {
                refused += 1;
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
            }
        }
    }
    assert!(read > 100 && refused > 100, "{read} {refused}");
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

/// A pipe nobody writes to, and a device, keep QEMU from starting instead of making it wait.
#[test]
fn what_is_not_a_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let files = [
        (&*pipe, "is a FIFO; name a regular file"),
        (Path::new("/dev/zero"), "is a character device; name a regular file"),
        (directory.path(), "is a directory; name a file in it"),
    ];
    for (path, why) in files {
        for key in ["symbols", "insns"] {
            let ended = run_forms(&Host::NEWEST, &[&format!("{key}={}", path.display())]);
            assert!(!ended.status.success(), "it started: {}", ended.stderr);
            let line = format!("option \"{key}\": {} {why}", path.display());
            assert!(ended.stderr.contains(&line), "{}", ended.stderr);
        }
    }
}
