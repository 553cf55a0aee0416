//! Filters and names of the access log, and reading the log while it grows.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use object::{Object, ObjectSymbol};
use pvio_cli::machine::Machine;
use pvio_tests::{Host, LinuxGuest, Monitor, guest, on_both_qemus, refusal};
use qapi::qmp::RunState;

use pvio_tests::linux::Kallsyms;

on_both_qemus! {
    each_filter_leaves_of_the_log_what_it_says
    a_filter_leaves_what_the_trace_of_qemu_has
    code_has_the_name_of_its_symbol_in_the_file
    code_of_a_relocated_kernel_has_its_name_or_none
    a_symbol_of_the_kernel_is_a_filter
    lines_appear_while_the_guest_runs
    a_wrong_filter_keeps_qemu_from_starting
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    pc: u64,
    is_out: bool,
    port: u64,
    size: u64,
    value: u64,
    symbol: String,
    process: String,
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}

fn parse(log: &str) -> Vec<Line> {
    let mut lines = log.lines();
    assert_eq!(lines.next(), Some("# seconds vcpu pc direction port size value\tsymbol\tprocess"));
    let line = |line: &str| {
        let parts: Vec<&str> = line.split('\t').collect();
        let [access, symbol, process] = parts[..] else { panic!("{line}") };
        let words: Vec<&str> = access.split_whitespace().collect();
        let [_time, _vcpu, pc, direction, port, size, value] = words[..] else { panic!("{line}") };
        Line {
            pc: hex(pc),
            is_out: direction == "out",
            port: hex(port),
            size: size.parse().unwrap(),
            value: hex(value.trim_end_matches('?')),
            symbol: symbol.to_owned(),
            process: process.to_owned(),
        }
    };
    lines.map(line).collect()
}

/// Runs a guest to its end, and reads the log.
fn logged(machine: Machine, filters: &str, more: &[&str]) -> Vec<Line> {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let option = format!("access-log={}{filters}", log.display());
    let options = [&["summary=off", &option], more].concat();
    let ended = machine.plugin(&options).run().unwrap();
    assert_eq!(ended.stderr, "");
    parse(&std::fs::read_to_string(log).unwrap())
}

/// Each filter alone and some together: compares the log that pvio filters with the whole log, filtered here.
fn each_filter_leaves_of_the_log_what_it_says(host: &Host) {
    let run = |filters| logged(host.machine().bare_guest(&guest("forms.bin")), filters, &[]);
    let all = run("");
    let pc = all[all.len() / 2].pc;
    let at = format!(":pc={pc:#x}-{:#x}", pc + 0x20);
    let is_at = |line: &Line| (pc..=pc + 0x20).contains(&line.pc);
    let is_port = |line: &Line| (0x5030..=0x50a0).contains(&line.port);
    type Wanted<'a> = &'a dyn Fn(&Line) -> bool;
    let cases: [(&str, Wanted<'_>); 8] = [
        (":0x5030-0x50a0", &is_port),
        (":-0x5030-0x50a0:-0x511", &|line| !is_port(line) && line.port != 0x511),
        (":in", &|line| !line.is_out),
        (":-in", &|line| line.is_out),
        (":value=0xff:value=0x100-0xffff", &|line| (0xff..=0xffff).contains(&line.value)),
        (":-value=0xffffffff", &|line| line.value != 0xffff_ffff),
        (&at, &is_at),
        (":out:0x50a0-0x5170:-value=0xa5", &|line| {
            line.is_out && line.port >= 0x50a0 && line.value != 0xa5
        }),
    ];
    for (filters, wanted) in cases {
        let expected: Vec<Line> = all.iter().filter(|line| wanted(line)).cloned().collect();
        assert!(!expected.is_empty() && expected.len() < all.len(), "{filters} is no test");
        assert!(run(filters) == expected, "{filters}");
    }
}

/// Compares a filtered log with QEMU's trace of the accesses that reached the regions.
fn a_filter_leaves_what_the_trace_of_qemu_has(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let machine = host.machine().bare_guest(&guest("poweroff.bin")).args([
        "-trace",
        "memory_region_ops_*",
        "-D",
        trace.to_str().unwrap(),
    ]);
    let lines = logged(machine, ":0xcf8-0xcff:0x604:out:-value=0x2000", &[]);
    let trace = std::fs::read_to_string(trace).unwrap();
    let field = |line: &str, name: &str| -> Option<u64> {
        let mut words = line.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).map(hex)
    };
    let writes = trace.lines().filter(|line| line.contains("memory_region_ops_write"));
    let traced: Vec<(u64, u64)> = writes
        .filter_map(|line| Some((field(line, "addr")?, field(line, "value")?)))
        .filter(|&(port, value)| matches!(port, 0x604 | 0xcf8..=0xcff) && value != 0x2000)
        .collect();
    let logged: Vec<(u64, u64)> = lines.iter().map(|line| (line.port, line.value)).collect();
    assert_eq!(logged, traced);
    assert!(!logged.is_empty());
}

/// The symbols of code in an ELF file, by address.
fn symbols(path: &Path) -> BTreeMap<u64, Vec<String>> {
    let elf = std::fs::read(path).unwrap();
    let file = object::File::parse(&*elf).unwrap();
    let mut symbols: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.section_index().is_some()) {
        symbols.entry(symbol.address()).or_default().push(symbol.name().unwrap().to_owned());
    }
    symbols
}

fn code_has_the_name_of_its_symbol_in_the_file(host: &Host) {
    let elf = guest("forms.elf");
    let symbols_option = format!("symbols={}", elf.display());
    let run = |filters| {
        logged(host.machine().bare_guest(&guest("forms.bin")), filters, &[&symbols_option])
    };
    let symbols = symbols(&elf);
    let all = run("");
    for line in &all {
        let (name, offset) = line.symbol.split_once('+').unwrap_or((&line.symbol, "0x0"));
        let (start, names) = symbols.range(..=line.pc).next_back().unwrap();
        assert!(names.iter().any(|known| known == name), "{line:?}: {names:?}");
        assert_eq!(line.pc - start, hex(offset), "{line:?}");
    }
    assert!(all.len() > 10_000, "{}", all.len());
    // The code from this symbol to the next.
    let (&start, _) = symbols.iter().find(|(_, names)| names[0] == "rep_outsb_32").unwrap();
    let (&end, _) = symbols.range(start + 1..).next().unwrap();
    let is_in = |line: &&Line| (start..end).contains(&line.pc);
    let expected: Vec<Line> = all.iter().filter(is_in).cloned().collect();
    assert!(!expected.is_empty() && expected.len() < all.len());
    assert!(run(":symbol=rep_outsb_32") == expected);
    assert!(run(":symbol=rep_outs*_32:-symbol=*d_32:-symbol=*w_32") == expected);
    let others: Vec<Line> = all.iter().filter(|line| !is_in(line)).cloned().collect();
    assert!(run(":-symbol=rep_outsb_32") == others);
}

/// Boots Debian's kernel with KASLR, which sends its names in the end.
fn boot_linux(host: &Host, filters: &str) -> (Vec<Line>, Kallsyms) {
    let directory = tempfile::tempdir().unwrap();
    let names = directory.path().join("names");
    let script = "
for module in scsi_common scsi_mod libata ata_piix; do insmod /$module.ko; done
cat /sys/class/rtc/rtc0/time
stty -F /dev/ttyS1 raw
gzip -c /proc/kallsyms > /dev/ttyS1
";
    let mut linux = LinuxGuest::with_kernel(&[], script).unwrap();
    let arguments = linux.argument("-append");
    *arguments = arguments.replace("nokaslr", "pti=on");
    let names_option = format!("file:{}", names.display());
    let machine = linux.on(host.machine()).args(["-serial", &names_option]);
    (logged(machine, filters, &[]), Kallsyms::unpack(&std::fs::read(&names).unwrap()))
}

/// The kernel's own names, each looked up once.
struct Names<'a> {
    kallsyms: &'a Kallsyms,
    known: HashMap<u64, Option<String>>,
}

impl Names<'_> {
    fn new(kallsyms: &Kallsyms) -> Names<'_> {
        Names { kallsyms, known: HashMap::new() }
    }

    fn of(&mut self, pc: u64) -> Option<String> {
        self.known.entry(pc).or_insert_with(|| self.kallsyms.name(pc)).clone()
    }
}

fn code_of_a_relocated_kernel_has_its_name_or_none(host: &Host) {
    let (lines, kallsyms) = boot_linux(host, ":-0x61:-0x42:-0x2f8-0x2ff");
    let (mut named, mut unnamed) = (0, 0);
    let mut names = Names::new(&kallsyms);
    for line in &lines {
        match names.of(line.pc) {
            Some(_) if line.symbol == "?" => unnamed += 1,
            Some(name) => {
                assert_eq!(line.symbol, name, "{line:?}");
                named += 1;
            }
            None => assert_eq!(line.symbol, "?", "{line:?}"),
        }
    }
    println!("{named} named, {unnamed} not");
    assert!(named > 20_000 && unnamed < 600, "{named} {unnamed}");
}

fn a_symbol_of_the_kernel_is_a_filter(host: &Host) {
    let (lines, kallsyms) =
        boot_linux(host, ":symbol=pci_conf1_*:symbol=io_serial_in:-0x2f8-0x2ff");
    let (mut serial, mut pci) = (0, 0);
    let mut names = Names::new(&kallsyms);
    for line in &lines {
        let name = names.of(line.pc).unwrap_or_else(|| panic!("{line:?}"));
        assert_eq!(line.symbol, name, "{line:?}");
        match name.starts_with("pci_conf1_") {
            true => pci += 1,
            false => {
                assert!(name.starts_with("io_serial_in+"), "{name}");
                // COM1, and COM3 and COM4, which are not there.
                assert!(matches!(line.port, 0x2e8..=0x2ef | 0x3e8..=0x3ef | 0x3f8..=0x3ff));
                serial += 1;
            }
        }
    }
    assert!(serial > 1000 && pci > 100, "{serial} {pci}");
}

/// The guest has switched itself off, and QEMU stays.
fn lines_appear_while_the_guest_runs(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let option = format!("access-log={}:0xcf8-0xcff:0x604", log.display());
    let machine = host.machine().plugin(&["summary=off", &option]);
    let machine = machine.bare_guest(&guest("poweroff.bin")).args(["-no-shutdown"]);
    let mut monitor = Monitor::start(machine);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut text = String::new();
    while !text.contains(" out 0x0604 ") {
        assert!(Instant::now() < deadline, "{text}");
        std::thread::sleep(Duration::from_millis(20));
        text = std::fs::read_to_string(&log).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    }
    assert_eq!(monitor.status(), RunState::shutdown);
    monitor.quit();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), text);
    assert_eq!(parse(&text).len(), 5);
}

fn a_wrong_filter_keeps_qemu_from_starting(host: &Host) {
    let refused = |options: &[&str]| {
        let machine = host.machine().plugin(options).bare_guest(&guest("poweroff.bin"));
        refusal(&machine.run().unwrap())
    };
    let line = refused(&["access-log=/dev/null:size=1"]);
    assert!(line.starts_with("pvio: option \"access-log\": \"size=1\" is not a filter"), "{line}");
    let line = refused(&["access-log=/dev/null:symbol=outb", "symbols=off"]);
    assert!(line.ends_with("which symbols=off turns off; remove one of the two"), "{line}");
}
