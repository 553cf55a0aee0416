//! Names that a distribution's kernels have for their code, from guest memory alone.
//!
//! Each kernel boots with KASLR, loads modules, and prints its `/proc/kallsyms`. Then it is stopped in user
//! mode, and what the plugin's decoder makes of its RAM is compared with that, symbol by symbol.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pvio::guest::{Kernel, PhysicalMemory, Registers};
use pvio_tests::{Host, LinuxGuest, Monitor};

const RAM: &str = "256M";

/// Loads the drivers of an IDE disk, sends the names, and goes on in user mode.
const SCRIPT: &str = "
for module in scsi_common scsi_mod libata ata_piix; do insmod /$module.ko; done
stty -F /dev/ttyS1 raw
gzip -c /proc/kallsyms > /dev/ttyS1
echo names are sent
while :; do :; done
";

/// The RAM of a guest that has stopped.
struct Ram {
    bytes: Vec<u8>,
    ranges: Vec<Range<u64>>,
}

impl Ram {
    fn read(path: &Path) -> Ram {
        const PAGE: usize = 0x1000;
        let bytes = std::fs::read(path).unwrap();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (page, contents) in (0..).step_by(PAGE).zip(bytes.chunks(PAGE)) {
            if contents.iter().all(|&byte| byte == 0) {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.end == page => last.end += PAGE as u64,
                _ => ranges.push(page..page + PAGE as u64),
            }
        }
        Ram { bytes, ranges }
    }

    /// Takes away the pages in which the kernel says where its tables are.
    fn without_vmcoreinfo(mut self) -> Ram {
        let mut found = 0;
        for page in self.bytes.chunks_mut(0x1000) {
            if page.starts_with(b"OSRELEASE=") {
                page.fill(0);
                found += 1;
            }
        }
        assert!(found > 0);
        self
    }

    /// Takes away the kernel's types, if it has any.
    fn without_types(mut self) -> Ram {
        /// How BTF begins: magic, version, flags, size of the header.
        const HEADER: [u8; 8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
        for page in self.bytes.chunks_mut(0x1000) {
            while let Some(at) = page.windows(8).position(|bytes| bytes == HEADER) {
                page[at] = 0;
            }
        }
        self
    }
}

impl PhysicalMemory for Ram {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        let start = physical as usize;
        let bytes = start.checked_add(into.len()).and_then(|end| self.bytes.get(start..end));
        bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        self.ranges.clone()
    }
}

/// A line of `/proc/kallsyms`.
#[derive(Clone, Debug)]
struct Symbol {
    address: u64,
    kind: char,
    name: String,
    module: Option<String>,
}

/// What the kernel itself says of its names.
pub(super) struct Kallsyms(Vec<Symbol>);

impl Kallsyms {
    /// Those of no kernel.
    pub(super) fn none() -> Kallsyms {
        Kallsyms(Vec::new())
    }

    pub(super) fn unpack(path: &Path) -> Kallsyms {
        let packed = std::fs::read(path).unwrap();
        let mut gzip = Command::new("gzip")
            .arg("-dc")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("gzip");
        let mut stdin = gzip.stdin.take().unwrap();
        let writer = std::thread::spawn(move || stdin.write_all(&packed));
        let output = gzip.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let mut symbols: Vec<Symbol> = text.lines().map(Kallsyms::line).collect();
        // Those of one address stay in the order of the table.
        symbols.sort_by_key(|symbol| symbol.address);
        Kallsyms(symbols)
    }

    fn line(line: &str) -> Symbol {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_else(|| panic!("{line}"));
        let address = u64::from_str_radix(word(), 16).unwrap();
        let (kind, name) = (word().chars().next().unwrap(), word().to_owned());
        let module = words.next().map(|module| module.trim_matches(['[', ']']).to_owned());
        Symbol { address, kind, name, module }
    }

    /// The name of an address, as the kernel's `%pS` prints it; `None` outside of all code.
    pub(super) fn name(&self, address: u64) -> Option<String> {
        let after = self.0.partition_point(|symbol| symbol.address <= address);
        let last = self.0[..after].last()?.address;
        let first = self.0.partition_point(|symbol| symbol.address < last);
        let symbol = self.0[first..after].iter().find(|symbol| "tTwW".contains(symbol.kind))?;
        let in_kernel = self.code().iter().any(|code| code.contains(&address));
        (in_kernel || symbol.module.is_some()).then_some(())?;
        let offset = match address - symbol.address {
            0 => String::new(),
            offset => format!("+{offset:#x}"),
        };
        let module = symbol.module.as_ref().map_or(String::new(), |module| format!(" [{module}]"));
        Some(format!("{}{offset}{module}", symbol.name))
    }

    /// Whether an address is code of the kernel itself.
    pub(super) fn is_kernel(&self, address: u64) -> bool {
        !self.0.is_empty() && self.code().iter().any(|code| code.contains(&address))
    }

    fn address(&self, name: &str) -> u64 {
        let found = self.0.iter().find(|symbol| symbol.name == name && symbol.module.is_none());
        found.unwrap_or_else(|| panic!("no {name}")).address
    }

    /// The kernel's own code.
    fn code(&self) -> [Range<u64>; 2] {
        [("_stext", "_etext"), ("_sinittext", "_einittext")]
            .map(|(start, end)| self.address(start)..self.address(end))
    }

    /// Compares all names, at the first and at the last byte of each symbol. Returns how many are code of
    /// the kernel, and how many of modules.
    fn compare(&self, kernel: &Kernel) -> (usize, usize) {
        let code = self.code();
        let is_code = |symbol: &&Symbol| {
            let in_code = code.iter().any(|code| code.contains(&symbol.address));
            "tTwW".contains(symbol.kind) && (in_code || symbol.module.is_some())
        };
        let (mut of_kernel, mut of_modules) = (0, 0);
        let mut groups = self.0.chunk_by(|a, b| a.address == b.address).peekable();
        while let Some(group) = groups.next() {
            let address = group[0].address;
            let expected = group.iter().find(is_code);
            // Programs of the kernel's own packet filter, which no site is in.
            if group[0].module.as_deref().is_some_and(|module| module.starts_with("bpf")) {
                continue;
            }
            let named = kernel.name(address);
            let parts = named.map(|name| (name.symbol, name.module, name.offset));
            let wanted = expected.map(|symbol| (&*symbol.name, symbol.module.as_deref(), 0));
            assert_eq!(parts, wanted, "{address:#x}: {group:?}");
            let Some(symbol) = expected else { continue };
            match symbol.module {
                Some(_) => of_modules += 1,
                None => of_kernel += 1,
            }
            let Some(next) = groups.peek().map(|group| group[0].address) else { continue };
            let last = (next - 1).min(address + 0xfff);
            let in_code = code.iter().any(|code| code.contains(&last));
            if in_code && symbol.module.is_none() {
                let name = kernel.name(last).unwrap();
                assert_eq!((name.symbol, name.offset), (&*symbol.name, last - address));
            }
        }
        (of_kernel, of_modules)
    }
}

/// A guest that has booted, sent its names, and was stopped in user mode.
struct Stopped {
    ram: Ram,
    registers: Registers,
    kallsyms: Kallsyms,
    release: String,
}

fn boot(options: &[&str], append: &str) -> Stopped {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    let console = || std::fs::read_to_string(path("console")).unwrap_or_default();
    let script = ["uname -r > /release; echo release $(cat /release)", SCRIPT].concat();
    let mut linux = LinuxGuest::with_kernel(options, &script).unwrap();
    let arguments = linux.argument("-append");
    assert!(arguments.contains("nokaslr"));
    *arguments = arguments.replace("nokaslr", append);
    *linux.argument("-serial") = format!("file:{}", path("console").display());
    let names = format!("file:{}", path("names").display());
    let backend = path("ram").display().to_string();
    let backend = format!("memory-backend-file,id=ram,size={RAM},share=on,mem-path={backend}");
    let machine = linux.on(Host::NEWEST.machine()).args(["-serial", &names]);
    let machine = machine.args(["-object", &backend, "-machine", "memory-backend=ram"]);
    let mut monitor = Monitor::start(machine);
    let deadline = Instant::now() + Duration::from_secs(100);
    while !console().contains("names are sent") {
        assert!(Instant::now() < deadline, "{}", console());
        std::thread::sleep(Duration::from_millis(50));
    }
    let registers = loop {
        monitor.ask("stop");
        let registers = monitor.ask("info registers");
        if registers.contains("CPL=3") {
            break registers;
        }
        assert!(Instant::now() < deadline, "{registers}");
        monitor.ask("cont");
        std::thread::sleep(Duration::from_millis(20));
    };
    let register = |name: &str| {
        let (_, rest) = registers.split_once(&format!("{name}=")).expect(name);
        let digits = rest.split_whitespace().next().expect(name);
        u64::from_str_radix(digits, 16).expect(name)
    };
    let registers = Registers {
        cr0: register("CR0"),
        cr3: register("CR3"),
        cr4: register("CR4"),
        efer: register("EFER"),
    };
    let ram = Ram::read(&path("ram"));
    monitor.quit();
    let text = console();
    let (_, rest) = text.split_once("release ").unwrap_or_else(|| panic!("{text}"));
    let release = rest.split_whitespace().next().unwrap().to_owned();
    Stopped { ram, registers, kallsyms: Kallsyms::unpack(&path("names")), release }
}

/// What is found by what the kernel says of its tables and types, and by the shape of both.
fn check(guest: Stopped) {
    let Stopped { ram, registers, kallsyms, release } = guest;
    let has_names_of_data = kallsyms.0.iter().any(|symbol| symbol.name == "linux_banner");
    let check = |ram: &Ram| {
        let start = Instant::now();
        let kernel = Kernel::find(ram, &[registers]).expect("a kernel");
        let time = start.elapsed();
        // A kernel that has no names for its data says it in one place only.
        if has_names_of_data || kernel.release().is_some() {
            assert_eq!(kernel.release(), Some(&*release));
        }
        assert_eq!(kernel.stext(), kallsyms.address("_stext"));
        let (of_kernel, of_modules) = kallsyms.compare(&kernel);
        println!("{release}: {of_kernel} names, {of_modules} of modules, in {time:?}");
        assert!(of_kernel > 20_000, "{of_kernel}");
        assert!(of_modules > 500, "{of_modules}");
        // It takes a tenth of this where nothing else runs.
        assert!(time < Duration::from_secs(2), "{time:?}");
        for outside in [0, 0x1000, kallsyms.address("_stext") - 1, kallsyms.address("_etext")] {
            assert_eq!(kernel.name(outside), None, "{outside:#x}");
        }
    };
    check(&ram);
    let ram = ram.without_vmcoreinfo();
    check(&ram);
    check(&ram.without_types());
}

#[test]
fn names_of_linux_6_1() {
    check(boot(&["--suite", "bookworm"], "pti=on"));
}

#[test]
fn names_of_linux_6_12() {
    check(boot(&["--suite", "trixie"], "pti=off"));
}

#[test]
fn names_of_the_newest_linux() {
    check(boot(&["--suite", "trixie-backports"], "pti=on"));
}

/// Debian's has neither types nor names of data: the list of modules is found by its shape.
#[test]
fn names_of_a_32_bit_linux() {
    check(boot(&["--suite", "bookworm", "--arch", "i386"], ""));
}

/// Bytes anywhere in a real kernel's memory are changed: names are found or not, and nothing worse.
#[test]
fn broken_memory_of_a_kernel_does_no_harm() {
    let Stopped { mut ram, registers, kallsyms, .. } = boot(&["--suite", "bookworm"], "pti=on");
    let mut random = fastrand::Rng::with_seed(61);
    let ranges = ram.ranges.clone();
    for _ in 0..20 {
        for _ in 0..2000 {
            let range = &ranges[random.usize(..ranges.len())];
            ram.bytes[random.u64(range.clone()) as usize] = random.u8(..);
        }
        let start = Instant::now();
        let kernel = Kernel::find(&ram, &[registers]);
        assert!(start.elapsed() < Duration::from_secs(10));
        let names = kernel.iter().flat_map(|kernel| {
            kallsyms.0.iter().step_by(100).filter_map(|symbol| kernel.name(symbol.address))
        });
        for name in names {
            assert!(name.symbol.bytes().all(|byte| byte.is_ascii_graphic()), "{name}");
        }
    }
}
