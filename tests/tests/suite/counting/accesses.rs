//! Accesses by site and port: against guests whose programs are known, and against the access log.

use std::collections::BTreeMap;

use pvio::stats::{AccessCounts, Tables};
use pvio::x86::{Direction, Port, PortForm, Width};
use pvio_cli::machine::Machine;
use pvio_tests::{
    Host, LinuxGuest, assert_consistent, guest, on_both_qemus, run_guest, run_seabios,
    without_modules,
};

on_both_qemus! {
    each_port_of_a_site_is_counted_on_one_vcpu
    each_port_of_a_site_is_counted_on_four_vcpus
    each_port_of_a_site_is_counted_on_one_thread
    each_port_of_a_site_is_counted_one_instruction_at_a_time
    the_forms_guest_accesses_what_its_log_says
    code_at_several_addresses_accesses_what_its_log_says
    seabios_accesses_what_its_log_says
    linux_accesses_what_its_log_says
}

without_modules! {
    each_port_of_a_site_is_counted_on_one_vcpu
    each_port_of_a_site_is_counted_on_four_vcpus
    each_port_of_a_site_is_counted_on_one_thread
    each_port_of_a_site_is_counted_one_instruction_at_a_time
    ; needs "the mode of all code":
    the_forms_guest_accesses_what_its_log_says
    code_at_several_addresses_accesses_what_its_log_says
    seabios_accesses_what_its_log_says
    linux_accesses_what_its_log_says
}

/// The ports that the site `probe` of the guest `site-ports` reads.
const PORTS: u64 = 300;

/// Returns the accesses of the site with this name by port, and checks their form.
fn by_port(tables: &Tables, site: &str, form: PortForm) -> BTreeMap<u16, u64> {
    let rows = tables.accesses.iter().filter(|row| {
        let symbol = tables.site_of(row).unwrap().symbol.as_deref();
        symbol == Some(site)
    });
    let rows = rows.map(|row| {
        assert_eq!((row.dir, row.size), (form.direction(), form.width().into()));
        assert_eq!((tables.sites[row.site].form, row.counts.unverified), (form.into(), 0));
        (row.port.0, row.counts.accesses)
    });
    rows.collect()
}

fn assert_site_ports(host: &Host, vcpus: u64, arguments: &[&str]) {
    let symbols = format!("symbols={}", guest("site-ports.elf").display());
    let machine = host.machine().plugin(&["summary=off", &symbols]);
    let run = run_guest(machine.args(["-smp", &vcpus.to_string()]).args(arguments), "site-ports");
    let stats = run.stats();
    assert_eq!(stats.accesses_dropped, AccessCounts::default());
    let mut expected: BTreeMap<u16, u64> = (0..PORTS)
        .map(|port| {
            let turn = |vcpu| (PORTS + port - 64 * vcpu) % PORTS;
            (0x5000 + port as u16, (0..vcpus).map(|vcpu| turn(vcpu) + 1).sum())
        })
        .collect();
    *expected.get_mut(&0x512b).unwrap() += 3;
    *expected.get_mut(&0x5000).unwrap() += 2;
    assert_eq!(by_port(stats, "probe", PortForm::InAlDx), expected);
    let strings = [(0x5200, 5 * vcpus), (0x5201, 7 * vcpus)].into();
    assert_eq!(by_port(stats, "string", PortForm::RepOutsb), strings);
    let sites = stats.accesses_to(Port(0x512b));
    let [only] = &sites[..] else { panic!("{sites:?}") };
    assert_eq!(only.site.symbol.as_deref(), Some("probe"));

    // Several vCPUs run. Without exports, the calls with the name of the window are declined.
    if host.api >= 5 && host.exports {
        let late = by_port(&stats.windows[0], "probe", PortForm::InAlDx);
        assert_eq!(late, [(0x5000, 2), (0x512b, 3)].into());
    }
}

fn each_port_of_a_site_is_counted_on_one_vcpu(host: &Host) {
    assert_site_ports(host, 1, &[]);
}

fn each_port_of_a_site_is_counted_on_four_vcpus(host: &Host) {
    assert_site_ports(host, 4, &["-accel", "tcg,thread=multi"]);
}

fn each_port_of_a_site_is_counted_on_one_thread(host: &Host) {
    assert_site_ports(host, 4, &["-accel", "tcg,thread=single"]);
}

fn each_port_of_a_site_is_counted_one_instruction_at_a_time(host: &Host) {
    assert_site_ports(host, 1, &["-accel", "tcg,one-insn-per-tb=on", "-icount", "shift=0"]);
}

/// Accesses by address of the instruction, port, direction and size: verified and unverified.
type Accesses = BTreeMap<(u64, u16, Direction, Width), [u64; 2]>;

/// Compares the table with the log of the same run.
fn assert_as_logged(stats: &Tables, log: &str) {
    let mut counted = Accesses::new();
    for row in &stats.accesses {
        let pc = stats.site_of(row).and_then(|site| site.address()).unwrap();
        let sum = counted.entry((pc, row.port.0, row.dir, row.size.0.unwrap())).or_default();
        *sum = [sum[0] + row.counts.accesses, sum[1] + row.counts.unverified];
    }
    let mut logged = Accesses::new();
    let hex = |text: &str| u64::from_str_radix(&text[2..], 16).unwrap();
    for line in log.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_time, _vcpu, pc, dir, port, size, value, ..] = words[..] else { panic!("{line}") };
        let dir = if dir == "in" { Direction::In } else { Direction::Out };
        let size = size.parse::<u8>().unwrap().try_into().expect("1, 2 or 4");
        let sum = logged.entry((hex(pc), hex(port) as u16, dir, size)).or_default();
        sum[usize::from(value.ends_with('?'))] += 1;
    }
    assert!(logged.len() > 20, "{logged:?}");
    let differences: Vec<_> =
        logged.iter().filter(|(key, counts)| counted.get(key) != Some(counts)).collect();
    assert!(differences.is_empty(), "logged, but counted otherwise: {differences:x?}");
    assert_eq!(counted.len(), logged.len(), "counted, but not logged");
}

/// Runs a machine with an access log, by `run`, which gives the tables. Returns the log.
fn logged(machine: Machine, run: impl FnOnce(Machine) -> Tables) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let option = format!("access-log={}", path.display());
    let tables = run(machine.plugin(&["summary=off", "symbols=off", &option]));
    let log = std::fs::read_to_string(path).unwrap();
    assert_as_logged(&tables, &log);
    log
}

/// With a log pvio handles each access by another code path. The second run has no log, and counts the same.
fn the_forms_guest_accesses_what_its_log_says(host: &Host) {
    let run = |machine| run_guest(machine, "forms").stats().tables.clone();
    let machine = || host.machine().args(["-smp", "4"]);
    let log = logged(machine(), run);
    assert_as_logged(&run(machine().plugin(&["summary=off", "symbols=off"])), &log);
}

fn code_at_several_addresses_accesses_what_its_log_says(host: &Host) {
    logged(host.machine(), |machine| run_guest(machine, "forms-aliases").stats().tables.clone());
}

fn seabios_accesses_what_its_log_says(host: &Host) {
    logged(host.machine().args(["-machine", "q35", "-m", "64"]), |machine| {
        let ended = run_seabios(machine);
        let stats = ended.stats().unwrap();
        assert_consistent(stats);
        assert_eq!(stats.accesses_dropped, AccessCounts::default());
        stats.tables.clone()
    });
}

fn linux_accesses_what_its_log_says(host: &Host) {
    let linux = LinuxGuest::new("cat /proc/ioports", &[]).unwrap();
    logged(linux.on(host.machine()).args(["-smp", "2"]), |machine| {
        let ended = machine.run().unwrap();
        let stats = ended.stats().unwrap();
        assert_consistent(stats);
        assert_eq!(stats.accesses_dropped, AccessCounts::default());
        stats.tables.clone()
    });
}
