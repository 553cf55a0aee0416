//! Filters and names of the access log, and that it can be read while it grows.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use object::{Object, ObjectSymbol};
use pvio_cli::machine::Machine;
use pvio_tests::{Host, LinuxGuest, Monitor, guest, on_both_qemus, refusal};

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
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}

fn parse(log: &str) -> Vec<Line> {
    let mut lines = log.lines();
    assert_eq!(lines.next(), Some("# seconds vcpu pc direction port size value\tsymbol"));
    let line = |line: &str| {
        let (access, symbol) = line.split_once('\t').unwrap_or_else(|| panic!("{line}"));
        let words: Vec<&str> = access.split_whitespace().collect();
        let [_time, _vcpu, pc, direction, port, size, value] = words[..] else { panic!("{line}") };
        Line {
            pc: hex(pc),
            is_out: direction == "out",
            port: hex(port),
            size: size.parse().unwrap(),
            value: hex(value.trim_end_matches('?')),
            symbol: symbol.to_owned(),
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

/// Each filter alone and some together: the log that is filtered by pvio against the whole log, filtered here.
fn each_filter_leaves_of_the_log_what_it_says(host: &Host) {
    let run = |filters| logged(host.machine().bare_guest(&guest("forms.bin")), filters, &[]);
    let all = run("");
    let pc = all[all.len() / 2].pc;
    let at = format!(":pc={pc:#x}-{:#x}", pc + 0x20);
    let is_at = |line: &Line| (pc..=pc + 0x20).contains(&line.pc);
    let is_port = |line: &Line| (0x5000..=0x5020).contains(&line.port);
    type Wanted<'a> = &'a dyn Fn(&Line) -> bool;
    let cases: [(&str, Wanted<'_>); 8] = [
        (":0x5000-0x5020", &is_port),
        (":-0x5000-0x5020:-0x511", &|line| !is_port(line) && line.port != 0x511),
        (":in", &|line| !line.is_out),
        (":-in", &|line| line.is_out),
        (":value=0xff:value=0x100-0xffff", &|line| (0xff..=0xffff).contains(&line.value)),
        (":-value=0xffffffff", &|line| line.value != 0xffff_ffff),
        (&at, &is_at),
        (":out:0x5000-0x5020:-value=0", &|line| line.is_out && is_port(line) && line.value != 0),
    ];
    for (filters, wanted) in cases {
        let expected: Vec<Line> = all.iter().filter(|line| wanted(line)).cloned().collect();
        assert!(!expected.is_empty() && expected.len() < all.len(), "{filters} is no test");
        assert!(run(filters) == expected, "{filters}");
    }
}

/// Against the bus's own record: QEMU's trace of what reached the regions.
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
fn symbols(path: &Path) -> BTreeMap<u64, (u64, String)> {
    let elf = std::fs::read(path).unwrap();
    let file = object::File::parse(&*elf).unwrap();
    let sized = file.symbols().filter(|symbol| symbol.size() > 0);
    sized
        .map(|symbol| {
            let name = symbol.name().unwrap().to_owned();
            (symbol.address(), (symbol.address() + symbol.size(), name))
        })
        .collect()
}

fn code_has_the_name_of_its_symbol_in_the_file(host: &Host) {
    let elf = guest("forms.elf");
    let symbols_option = format!("symbols={}", elf.display());
    let run = |filters| {
        logged(host.machine().bare_guest(&guest("forms.bin")), filters, &[&symbols_option])
    };
    let symbols = symbols(&elf);
    let name = |pc: u64| {
        let (&start, (end, name)) = symbols.range(..=pc).next_back()?;
        (pc < *end).then(|| (name.clone(), pc - start))
    };
    let all = run("");
    let mut named = 0;
    for line in &all {
        // What has no size ends where the next symbol begins, which is not told here.
        let Some((name, offset)) = name(line.pc) else { continue };
        assert_eq!(line.symbol, format!("{name}+{offset:#x}"), "{line:?}");
        named += 1;
    }
    assert!(named > 100, "{named} of {}", all.len());
    let is_in_32 = |line: &&Line| name(line.pc).is_some_and(|(name, _)| name == "forms_32");
    let expected: Vec<Line> = all.iter().filter(is_in_32).cloned().collect();
    assert!(!expected.is_empty() && expected.len() < all.len());
    assert!(run(":symbol=forms_32") == expected);
    assert!(run(":symbol=forms_*:-symbol=*16:-symbol=forms_64") == expected);
    let others: Vec<Line> = all.iter().filter(|line| !is_in_32(line)).cloned().collect();
    assert!(run(":-symbol=forms_32") == others);
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

fn code_of_a_relocated_kernel_has_its_name_or_none(host: &Host) {
    let (lines, kallsyms) = boot_linux(host, ":-0x61:-0x42");
    let (mut named, mut unnamed, mut of_modules) = (0, 0, 0);
    let mut first = None;
    for (number, line) in lines.iter().enumerate() {
        let Some(name) = kallsyms.name(line.pc) else {
            assert_eq!(line.symbol, "?", "{line:?}");
            continue;
        };
        if line.symbol == "?" {
            unnamed += 1;
            continue;
        }
        assert_eq!(line.symbol, name, "{line:?}");
        named += 1;
        of_modules += u32::from(name.ends_with(']'));
        first.get_or_insert(number);
    }
    println!("{named} named, {of_modules} of modules; {unnamed} not; the first is line {first:?}");
    assert!(named > 20 * unnamed, "{named} {unnamed}");
    assert!(of_modules > 0);
}

fn a_symbol_of_the_kernel_is_a_filter(host: &Host) {
    let (lines, kallsyms) = boot_linux(host, ":symbol=io_serial_*:symbol=*[libata]");
    let (mut serial, mut module) = (0, 0);
    for line in &lines {
        let name = kallsyms.name(line.pc).unwrap_or_else(|| panic!("{line:?}"));
        assert_eq!(line.symbol, name, "{line:?}");
        match name.starts_with("io_serial_") {
            true => serial += 1,
            false => {
                assert!(name.ends_with("[libata]"), "{name}");
                module += 1;
            }
        }
    }
    assert!(serial > 1000 && module > 0, "{serial} {module}");
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
    assert!(monitor.ask("info status").contains("shutdown"));
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
    assert!(line.ends_with("symbols=off turns them off; leave one of them out"), "{line}");
}
