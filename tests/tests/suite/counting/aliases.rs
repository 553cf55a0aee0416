//! Code in pages with several linear addresses is counted at the address where it ran.

use std::collections::BTreeMap;
use std::ops::Range;

use object::{Object, ObjectSymbol};
use pvio::stats::{Counts, Instructions, SiteRow, Snapshot};
use pvio::x86::{Mode, PortForm, PortSource};
use pvio_cli::expected_forms;
use pvio_cli::machine::Machine;
use pvio_tests::{Host, guest, on_both_qemus, parse_hex, run_guest, site_pc, without_modules};

on_both_qemus! {
    every_form_is_counted_where_it_runs
    every_form_is_counted_where_it_runs_on_four_vcpus
    every_form_is_counted_where_it_runs_on_one_thread
    every_form_is_counted_where_it_runs_with_icount
    every_form_is_counted_where_it_runs_with_one_instruction_in_a_block
    every_form_is_counted_where_it_runs_on_a_32_bit_target
    accesses_are_logged_at_the_address_where_they_run
    calls_are_logged_at_the_callers_address
}

without_modules! {
    ; needs "pvio's devices":
    calls_are_logged_at_the_callers_address
    ; needs "the mode of all code":
    every_form_is_counted_where_it_runs
    every_form_is_counted_where_it_runs_on_four_vcpus
    every_form_is_counted_where_it_runs_on_one_thread
    every_form_is_counted_where_it_runs_with_icount
    every_form_is_counted_where_it_runs_with_one_instruction_in_a_block
    every_form_is_counted_where_it_runs_on_a_32_bit_target
    accesses_are_logged_at_the_address_where_they_run
    ; needs "a disassembler":
    every_form_is_counted_where_it_runs_without_exports
}

// ---- The guest `forms-aliases` ----

/// An address at which `tests/guests/forms-aliases.S` runs a loop.
struct Alias {
    mode: Mode,
    /// The distance of its pages from the ROM below 1 MiB.
    distance: u64,
    /// The number of times that each vCPU runs the loop there.
    runs: u64,
    /// True for virtual-8086 mode, in which QEMU 10 does not report whether an access was permitted.
    in_question: bool,
}

/// All addresses. A row sums up the rings and segments that use the same address.
const ALIASES: [Alias; 15] = {
    const ROM: u64 = 0xf_0000;
    const fn alias(mode: Mode, distance: u64, runs: u64) -> Alias {
        Alias { mode, distance, runs, in_question: false }
    }
    const fn v86(at: u64, runs: u64) -> Alias {
        Alias { in_question: true, ..alias(Mode::Bits16, at.wrapping_sub(ROM), runs) }
    }
    const fn protected_16(at: u64, runs: u64) -> Alias {
        alias(Mode::Bits16, at - ROM, runs)
    }
    [
        alias(Mode::Bits16, 0, 1),
        protected_16(0x4000_0000, 1),
        protected_16(0x4000_4000, 2),
        protected_16(0x4000_8000, 1),
        v86(0xa_0000, 1),
        v86(0xa_4000, 2),
        v86(0xb_0000, 1),
        v86(0xb_4000, 1),
        alias(Mode::Bits32, 0, 2),
        alias(Mode::Bits32, 0x8000_0000, 6),
        alias(Mode::Bits32, 0xc000_0000, 3),
        alias(Mode::Bits64, 0, 1),
        alias(Mode::Bits64, 0x1_0000_0000, 2),
        alias(Mode::Bits64, 0x5555_0000_0000, 1),
        alias(Mode::Bits64, 0xffff_ffff_8000_0000, 2),
    ]
};

/// The addresses at which the loop of a mode is linked.
fn loop_of(mode: Mode) -> Range<u64> {
    let elf = std::fs::read(guest("forms-aliases.elf")).unwrap();
    let file = object::File::parse(&*elf).unwrap();
    let name = format!("forms_{}", mode.bits());
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(&name)).unwrap();
    symbol.address()..symbol.address() + symbol.size()
}

/// Returns true if an instruction is in the ROM, but not in a loop.
fn is_once(pc: u64) -> bool {
    (0xf_0000..0x10_0000).contains(&pc)
        && !Mode::ALL.iter().any(|&mode| loop_of(mode).contains(&pc))
}

fn run_forms(host: &Host, machine: Machine, vcpus: u64, modes: &[Mode]) -> Snapshot {
    let stats = run_guest(machine.plugin(&["summary=off"]), "forms-aliases").stats().clone();
    assert_eq!(stats.qemu.plugin_api, host.api);
    assert_eq!(stats.sites_dropped, 0);
    assert_forms(host, &stats, vcpus, modes);
    stats
}

fn assert_forms(host: &Host, stats: &Snapshot, vcpus: u64, modes: &[Mode]) {
    let mut others: Vec<&SiteRow> = stats.sites.iter().collect();
    let mut attempts: BTreeMap<PortForm, u64> = BTreeMap::new();
    for &mode in modes {
        let linked = loop_of(mode);
        // The executions of one run on one vCPU, by offset.
        let mut of_one_run: Option<BTreeMap<u64, u64>> = None;
        for alias in ALIASES.iter().filter(|alias| alias.mode == mode) {
            let start = linked.start.wrapping_add(alias.distance);
            let is_there = |site: &&SiteRow| {
                site_pc(site).wrapping_sub(start) < linked.end - linked.start
                    && site.mode.is_none_or(|told| told == mode)
            };
            let (here, elsewhere) = others.into_iter().partition(is_there);
            others = elsewhere;
            let times = alias.runs * vcpus;
            let by_offset = assert_alias(host, alias, &here, start, times);
            let first = of_one_run.get_or_insert_with(|| by_offset.clone());
            assert_eq!(first, &by_offset, "{mode:?} at {start:#x}");
            for form in PortForm::ALL {
                *attempts.entry(form).or_default() +=
                    times * expected_forms::executions(form, mode);
            }
        }
    }
    // The boot CPU's accesses outside the loops.
    let others: u64 = others.iter().map(|site| site.counts.executions).sum();
    assert_eq!(others, 4);
    for (form, once) in [(PortForm::OutDxAx, 1), (PortForm::InAlDx, 2), (PortForm::OutImmAl, 1)] {
        *attempts.entry(form).or_default() += once;
    }
    for row in &stats.forms {
        assert_eq!(row.attempts, attempts[&row.form], "{}", row.form);
        assert_eq!(row.attempts, row.executions + row.unverified, "{}", row.form);
    }
    for row in &stats.vcpus {
        let first = &stats.vcpus[1.min(stats.vcpus.len() - 1)];
        let once = if row.vcpu == 0 && vcpus > 1 { 4 } else { 0 };
        assert_eq!(row.executions, first.executions + once, "vCPU {}", row.vcpu);
    }
}

/// Checks the rows at one address, by form. Returns the executions of one run, by offset.
fn assert_alias(
    host: &Host,
    alias: &Alias,
    sites: &[&SiteRow],
    start: u64,
    times: u64,
) -> BTreeMap<u64, u64> {
    let in_question = alias.in_question && !host.reports_exceptions();
    let mut by_form = [Counts::default(); PortForm::ALL.len()];
    let mut by_offset = BTreeMap::new();
    for site in sites {
        let counts = site.counts;
        let sum = &mut by_form[site.form.index()];
        sum.executions += counts.executions + counts.unverified;
        sum.accesses += counts.accesses;
        assert!(in_question || counts.unverified == 0, "{site:?}");
        let begun = counts.executions + counts.unverified;
        assert_eq!(begun % times, 0, "{site:?}");
        by_offset.insert(site_pc(site).wrapping_sub(start), begun / times);
    }
    for form in PortForm::ALL {
        let counted = by_form[form.index()];
        let (executions, accesses) = (
            expected_forms::executions(form, alias.mode),
            expected_forms::accesses(form, alias.mode),
        );
        assert_eq!(counted.executions, times * executions, "{form} at {start:#x}");
        if !in_question {
            assert_eq!(counted.accesses, times * accesses, "{form} at {start:#x}");
        }
    }
    by_offset
}

fn every_form_is_counted_where_it_runs(host: &Host) {
    run_forms(host, host.machine(), 1, &Mode::ALL);
}

fn every_form_is_counted_where_it_runs_on_four_vcpus(host: &Host) {
    let machine = host.machine().args(["-accel", "tcg,thread=multi", "-smp", "4"]);
    run_forms(host, machine, 4, &Mode::ALL);
}

fn every_form_is_counted_where_it_runs_on_one_thread(host: &Host) {
    let machine = host.machine().args(["-accel", "tcg,thread=single", "-smp", "4"]);
    run_forms(host, machine, 4, &Mode::ALL);
}

fn every_form_is_counted_where_it_runs_with_icount(host: &Host) {
    run_forms(host, host.machine().args(["-icount", "shift=0"]), 1, &Mode::ALL);
}

fn every_form_is_counted_where_it_runs_with_one_instruction_in_a_block(host: &Host) {
    let machine = host.machine().args(["-accel", "tcg,one-insn-per-tb=on"]);
    run_forms(host, machine, 1, &Mode::ALL);
}

fn every_form_is_counted_where_it_runs_on_a_32_bit_target(host: &Host) {
    let machine = Machine::new(&host.program("qemu-system-i386")).args(["-smp", "2"]);
    run_forms(host, machine, 2, &[Mode::Bits16, Mode::Bits32]);
}

/// QEMU 10.2, as the tests have it, is built without a disassembler.
#[test]
fn every_form_is_counted_where_it_runs_without_exports_with_a_disassembler() {
    [Host::STABLE, Host::NEWEST]
        .iter()
        .for_each(every_form_is_counted_where_it_runs_without_exports);
}

/// Without exports, the plugin reads RIP through the plugin API.
fn every_form_is_counted_where_it_runs_without_exports(host: &Host) {
    for (threads, vcpus) in [("multi", 1), ("multi", 4), ("single", 4)] {
        let machine = host.machine_without_exports().args([
            "-accel",
            &format!("tcg,thread={threads}"),
            "-smp",
            &vcpus.to_string(),
        ]);
        run_forms(host, machine, vcpus, &Mode::ALL);
    }
}

fn accesses_are_logged_at_the_address_where_they_run(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let option = format!("access-log={}:0x5000-0x5170", log.display());
    let stats = run_forms(host, host.machine().plugin(&[&option]), 1, &Mode::ALL);
    // Accesses, and accesses that may have faulted, by address and direction.
    let mut logged: BTreeMap<(u64, String), [u64; 2]> = BTreeMap::new();
    for line in std::fs::read_to_string(&log).unwrap().lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let pc = parse_hex(columns[2]);
        let in_question = usize::from(columns[6].ends_with('?'));
        logged.entry((pc, columns[3].to_owned())).or_default()[in_question] += 1;
    }
    let mut counted: BTreeMap<(u64, String), [u64; 2]> = BTreeMap::new();
    let has_port = |site: &&SiteRow| site.form.source() != PortSource::Immediate;
    for site in stats.sites.iter().filter(has_port) {
        // An attempt with count 0 makes no access.
        let scalar = site.form.source() == PortSource::Dx;
        let in_question = if scalar { site.counts.unverified } else { 0 };
        let sum = counted.entry((site_pc(site), site.form.direction().to_string())).or_default();
        *sum = [sum[0] + site.counts.accesses, sum[1] + in_question];
    }
    // Accesses to fw_cfg are at ports that the log leaves out.
    counted.retain(|(pc, _), counts| *counts != [0, 0] && !is_once(*pc));
    assert_eq!(logged, counted);
}

// ---- Guests of `tests/guests/around` ----

/// Runs a guest, and reads its lines `told NAME NUMBER`.
fn run_told(machine: Machine, name: &str) -> (Snapshot, BTreeMap<String, u64>) {
    let run = run_guest(machine.plugin(&["summary=off", "device=latch@0xe0-0xe3"]), name);
    let text = run.text();
    let numbers = text.lines().filter_map(|line| {
        let (name, number) = line.strip_prefix("told ")?.rsplit_once(' ')?;
        Some((name.to_owned(), number.parse().unwrap()))
    });
    (run.stats().clone(), numbers.collect())
}

fn calls_are_logged_at_the_callers_address(host: &Host) {
    for arguments in [
        &[][..],
        &["-icount", "shift=0"],
        &["-accel", "tcg,one-insn-per-tb=on"],
        &["-accel", "tcg,thread=single", "-smp", "2"],
    ] {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let option = format!("access-log={}:0xe0", log.display());
        let machine = host.machine().plugin(&[&option]).args(arguments);
        let (_, told) = run_told(machine, "around-callers");
        let mut expected = BTreeMap::new();
        // There is no mailbox if several vCPUs share a thread.
        let has_mailbox = !arguments.contains(&"tcg,thread=single");
        for (way, is_heard) in [("by registers", host.api >= 5), ("by doorbell", has_mailbox)] {
            assert_eq!(told[&format!("heard {way}")], if is_heard { 8 } else { 0 });
            for (distance, calls) in [(0, 3), (0x8000_0000, 5)] {
                expected.extend(is_heard.then_some((told[way] + distance, calls)));
            }
        }
        let mut logged = BTreeMap::new();
        for line in std::fs::read_to_string(&log).unwrap().lines().skip(1) {
            let [_, _, pc, direction, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let pc = parse_hex(pc);
            if direction == "out" {
                *logged.entry(pc).or_insert(0) += 1;
            }
        }
        assert_eq!(logged, expected, "{arguments:?}");
    }
}

#[test]
fn instructions_are_counted_in_the_section_where_they_run() {
    let elf = guest("around-instructions.elf");
    for arguments in [&[][..], &["-icount", "shift=0"], &["-accel", "tcg,one-insn-per-tb=on"]] {
        for insns in ["on", elf.to_str().unwrap()] {
            let machine = Host::NEWEST.machine().plugin(&[&format!("insns={insns}")]);
            let (stats, told) = run_told(machine.args(arguments), "around-instructions");
            let window = |name: &str| {
                let window = stats.windows.iter().find(|window| window.name == name).unwrap();
                let in_text = window.sections.first().map(|section| section.instructions);
                (window.instructions.instructions.unwrap(), in_text)
            };
            let ((home, home_in_text), (above, above_in_text)) = (window("h"), window("a"));
            assert_eq!(above, home, "{arguments:?}, insns={insns}");
            if insns == "on" {
                continue;
            }
            let in_text = |of: Option<Instructions>| of.unwrap().instructions.unwrap();
            assert_eq!(in_text(home_in_text), home, "{arguments:?}");
            assert_eq!(in_text(above_in_text), above - told["retired"], "{arguments:?}");
        }
    }
}
