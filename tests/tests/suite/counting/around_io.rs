//! Events around port I/O: faults, interrupts, debugging, other vCPUs.
//!
//! The guests check them on QEMU's latch and on pvio's, and must see the same on both. The counts must be
//! those that the guest reports.

use std::collections::BTreeMap;

use pvio::stats::{FormRow, Snapshot};
use pvio::x86::PortForm;
use pvio_cli::machine::Machine;
use pvio_tests::{Host, on_both_qemus, run_guest, site_pc, without_modules};

on_both_qemus! {
    privilege_is_checked_before_the_device_is_accessed
    page_faults_are_the_same_on_pvios_latch
    single_steps_and_breakpoints_are_the_same_on_pvios_latch
    interrupts_are_the_same_on_pvios_latch
    interrupts_within_a_rep_come_where_qemu_pauses
    long_strings_are_the_same_on_pvios_latch
    hypervisor_intercepts_the_ports_in_its_map
    code_at_several_addresses_is_counted_at_each
    file_is_copied_exactly_despite_interrupts_and_faults
    four_vcpus_share_devices_without_losing_accesses
    four_vcpus_on_one_thread_share_devices_without_losing_accesses
}

without_modules! {
    ; needs "pvio's devices":
    page_faults_are_the_same_on_pvios_latch
    single_steps_and_breakpoints_are_the_same_on_pvios_latch
    interrupts_are_the_same_on_pvios_latch
    interrupts_within_a_rep_come_where_qemu_pauses
    long_strings_are_the_same_on_pvios_latch
    file_is_copied_exactly_despite_interrupts_and_faults
    four_vcpus_share_devices_without_losing_accesses
    four_vcpus_on_one_thread_share_devices_without_losing_accesses
    ; needs "the mode of all code":
    privilege_is_checked_before_the_device_is_accessed
    code_at_several_addresses_is_counted_at_each
    ; needs "the state of nested guests":
    hypervisor_intercepts_the_ports_in_its_map
}

/// The report of a guest of `tests/guests/around`.
#[derive(Debug, Default)]
struct Account {
    /// Numbers that may depend on QEMU, but not on which latch is there.
    observations: Vec<String>,
    /// Numbers that may differ from run to run.
    told: Vec<String>,
    /// For each form attempts, executions, accesses, faults; then the attempts, executions and accesses among
    /// them that QEMU 10 cannot verify; then exits.
    ledger: BTreeMap<usize, [u64; 8]>,
    /// Outside the guest's own code, by address and form: executions; executions that QEMU 10 can verify;
    /// attempts that it cannot.
    sites: BTreeMap<(u64, usize), [u64; 3]>,
    /// The length of the report. Each character is an `out imm8,al`.
    length: u64,
}

impl Account {
    fn parse(text: &str) -> Account {
        let mut account = Account { length: text.len() as u64, ..Account::default() };
        for line in text.lines() {
            if let Some(row) = line.strip_prefix("form ") {
                let numbers: Vec<u64> = row.split(' ').map(|n| n.parse().unwrap()).collect();
                let columns = numbers[1..].try_into().unwrap();
                account.ledger.insert(numbers[0] as usize, columns);
            } else if let Some(row) = line.strip_prefix("site ") {
                let numbers: Vec<u64> = row.split(' ').map(|n| n.parse().unwrap()).collect();
                let columns = numbers[2..].try_into().unwrap();
                account.sites.insert((numbers[0], numbers[1] as usize), columns);
            } else if line.starts_with("observed ") {
                account.observations.push(line.to_owned());
            } else if line.starts_with("told ") {
                account.told.push(line.to_owned());
            }
        }
        account
    }

    /// The columns that a form's row must have: attempts, executions, accesses, faults, exits,
    /// unverified.
    fn row(&self, form: PortForm, host: &Host) -> (u64, u64, u64, Option<u64>, Option<u64>, u64) {
        let [attempts, executions, accesses, faults, questioned, q_executions, q_accesses, exits] =
            self.ledger[&form.index()];
        let exits = Some(exits);
        // The report itself, and the exit.
        let own = if form == PortForm::OutImmAl { self.length + 1 } else { 0 };
        let [attempts, executions, accesses] = [attempts, executions, accesses].map(|n| n + own);
        match host.reports_exceptions() {
            true => (attempts, executions, accesses, Some(faults), exits, 0),
            false => {
                let (executions, accesses) = (executions - q_executions, accesses - q_accesses);
                (attempts, executions, accesses, None, exits, questioned)
            }
        }
    }
}

/// Runs a guest, which must pass, and compares the counts with its report.
fn assert_account(host: &Host, name: &str, machine: Machine) -> Account {
    let run = run_guest(machine.plugin(&["summary=off"]), name);
    let stats = run.stats();
    assert_eq!(stats.qemu.plugin_api, host.api);
    let account = Account::parse(&run.text());
    assert_counts(host, name, stats, &account);
    if !account.sites.is_empty() {
        assert_sites(host, stats, &account);
    }
    account
}

fn assert_counts(host: &Host, name: &str, stats: &Snapshot, account: &Account) {
    let counted = |row: &FormRow| {
        (row.attempts, row.executions, row.accesses, row.faults, row.exits, row.unverified)
    };
    let differences: Vec<String> = stats
        .forms
        .iter()
        .filter(|row| counted(row) != account.row(row.form, host))
        .map(|row| format!("{row:?}, not {:?}", account.row(row.form, host)))
        .collect();
    assert!(differences.is_empty(), "{name}: {differences:#?}");
}

/// The guest's own code.
const ROM: std::ops::Range<u64> = 0xf_0000..0x10_0000;

/// Compares the counts by site with those that the guest reports.
fn assert_sites(host: &Host, stats: &Snapshot, account: &Account) {
    let mut counted: BTreeMap<(u64, usize), [u64; 2]> = BTreeMap::new();
    for site in &stats.sites {
        let pc = site_pc(site);
        if !ROM.contains(&pc) {
            let [executions, unverified] = counted.entry((pc, site.form.index())).or_default();
            *unverified += site.counts.unverified;
            *executions += site.counts.executions;
        }
    }
    counted.retain(|_, counts| *counts != [0, 0]);
    let told = account.sites.iter().map(|(&site, &[executions, sure, questioned])| {
        let counts = if host.reports_exceptions() { [executions, 0] } else { [sure, questioned] };
        (site, counts)
    });
    assert_eq!(counted, told.filter(|(_, counts)| *counts != [0, 0]).collect());
}

fn code_at_several_addresses_is_counted_at_each(host: &Host) {
    assert_same_on_both_latches(host, "around-aliases");
    let machine = host.machine().args(["-device", "pc-testdev"]);
    assert_account(host, "around-aliases", machine.args(["-accel", "tcg,one-insn-per-tb=on"]));
}

/// Fails unless a guest sees the same on QEMU's latch and on pvio's, with and without `-icount`.
fn assert_same_on_both_latches(host: &Host, name: &str) {
    for timing in [&[][..], &["-icount", "shift=0"]] {
        let native = host.machine().args(["-device", "pc-testdev"]).args(timing);
        let native = assert_account(host, name, native);
        let with_latch = host.machine().plugin(&["device=latch@0xe0-0xe3"]).args(timing);
        let with_latch = assert_account(host, name, with_latch);
        assert_eq!(with_latch.observations, native.observations, "{name} {timing:?}");
    }
    // pvio's latch at the ports of QEMU's, with two vCPUs on one thread.
    let shadowing = host.machine().plugin(&["device=latch@0xe0-0xe3"]).args([
        "-device",
        "pc-testdev",
        "-accel",
        "tcg,thread=single",
        "-smp",
        "2",
    ]);
    assert_account(host, name, shadowing);
}

fn privilege_is_checked_before_the_device_is_accessed(host: &Host) {
    assert_same_on_both_latches(host, "around-privilege");
}

fn page_faults_are_the_same_on_pvios_latch(host: &Host) {
    assert_same_on_both_latches(host, "around-pages");
}

fn single_steps_and_breakpoints_are_the_same_on_pvios_latch(host: &Host) {
    assert_same_on_both_latches(host, "around-debug");
}

fn interrupts_are_the_same_on_pvios_latch(host: &Host) {
    assert_same_on_both_latches(host, "around-interrupts");
}

/// QEMU pauses when the remaining count is a multiple of 65,536. pvio moves no element past that.
fn interrupts_within_a_rep_come_where_qemu_pauses(host: &Host) {
    let native = host.machine().args(["-device", "pc-testdev"]);
    for machine in [native, host.machine().plugin(&["device=latch@0xe0-0xe3"])] {
        let account = assert_account(host, "around-interrupts", machine);
        let left = |line: &String| {
            line.strip_prefix("told elements left at the last ")?.parse::<u32>().ok()
        };
        let left: Vec<u32> = account.told.iter().filter_map(left).collect();
        assert!(left.len() == 6 && left.iter().all(|left| left % 65_536 == 1), "{left:?}");
    }
}

fn long_strings_are_the_same_on_pvios_latch(host: &Host) {
    assert_same_on_both_latches(host, "around-strings");
}

fn hypervisor_intercepts_the_ports_in_its_map(host: &Host) {
    let cpu = ["-cpu", "max,+svm"];
    let own = |host: &Host| host.machine().plugin(&["device=latch@0xe0-0xe3"]).args(cpu);
    let native = host.machine().args(["-device", "pc-testdev"]).args(cpu);
    let native = assert_account(host, "around-svm", native);
    for timing in [&[][..], &["-icount", "shift=0"], &["-accel", "tcg,one-insn-per-tb=on"]] {
        let with_latch = assert_account(host, "around-svm", own(host).args(timing));
        assert_eq!(with_latch.observations, native.observations, "{timing:?}");
    }
}

fn file_is_copied_exactly_despite_interrupts_and_faults(host: &Host) {
    for timing in [&[][..], &["-icount", "shift=0"], &["-accel", "tcg,one-insn-per-tb=on"]] {
        let directory = tempfile::tempdir().unwrap();
        let [input, output] = ["in", "out"].map(|name| directory.path().join(name));
        // The numbers do not repeat, so a missing element makes all that follow wrong.
        let content: Vec<u8> =
            (0..1u32 << 18).flat_map(|n| (n ^ 0x5a5a_a5a5).to_le_bytes()).collect();
        std::fs::write(&input, &content).unwrap();
        let device = format!("device=stream@0x300:in={}:out={}", input.display(), output.display());
        assert_account(host, "around-stream", host.machine().plugin(&[&device]).args(timing));
        assert!(std::fs::read(&output).unwrap() == content, "{timing:?}: the files differ");
    }
}

const VCPUS: u64 = 4;

fn share_devices(host: &Host, threads: &str) -> Snapshot {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out");
    let stream = format!("device=stream@0x5000:out={}", output.display());
    let mut devices = vec![stream, "device=latch@0x5010-0x5013".to_owned()];
    devices.extend((0..VCPUS).map(|i| format!("device=latch@{:#x}", 0x5100 + 0x10 * i)));
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    let machine = host.machine().plugin(&["summary=off"]).plugin(&devices).args([
        "-accel",
        &format!("tcg,thread={threads}"),
        "-smp",
        &VCPUS.to_string(),
    ]);
    let run = run_guest(machine, "shared-io");

    let mut letters = BTreeMap::new();
    for letter in std::fs::read(&output).unwrap() {
        *letters.entry(char::from(letter)).or_insert(0) += 1;
    }
    let expected = [('A', 5000), ('B', 5000), ('C', 5000), ('D', 5000)].into_iter().chain([
        ('a', 40000),
        ('b', 40000),
        ('c', 40000),
        ('d', 40000),
    ]);
    assert_eq!(letters, expected.collect());

    let stats = run.stats().clone();
    // Executions in each of 5000 rounds, elements, and executions of smp.inc and the exit.
    let expected = [
        (PortForm::OutDxAl, 2, 1, 0),
        (PortForm::InAlDx, 1, 1, 2),
        (PortForm::OutDxEax, 1, 1, 0),
        (PortForm::InEaxDx, 1, 1, 0),
        (PortForm::RepOutsb, 1, 8, 0),
        (PortForm::OutDxAx, 0, 1, 1),
        (PortForm::OutImmAl, 0, 1, 1),
    ];
    for (form, each_round, elements, besides) in expected {
        let row = &stats.forms[form.index()];
        let executions = 5000 * VCPUS * each_round + besides;
        let counted = (row.attempts, row.executions, row.accesses);
        assert_eq!(counted, (executions, executions, executions * elements), "{form}");
    }
    stats
}

fn four_vcpus_share_devices_without_losing_accesses(host: &Host) {
    let stats = share_devices(host, "multi");
    let mut executions: Vec<u64> = stats.vcpus.iter().map(|row| row.executions).collect();
    executions.sort_unstable();
    // The boot CPU also accesses fw_cfg and the exit.
    assert_eq!(executions, [30_000, 30_000, 30_000, 30_004]);
}

fn four_vcpus_on_one_thread_share_devices_without_losing_accesses(host: &Host) {
    let stats = share_devices(host, "single");
    assert!(stats.vcpus.is_empty() && stats.vcpus_omitted.is_some());
}
