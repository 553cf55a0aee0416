//! Windows and hypercalls of four vCPUs, on four threads and on one (`tests/guests/window-smp.S`).

use std::collections::BTreeMap;

use pvio::stats::{Call, Snapshot, Tables};
use pvio::x86::PortForm;
use pvio_tests::{Host, on_both_qemus, run_guest, without_modules};

on_both_qemus! {
    window_counts_what_four_vcpus_do
    window_of_four_vcpus_on_one_thread_keeps_the_totals
    window_has_the_call_chains_of_its_own_accesses
}

without_modules! {
    ; needs "calls with memory while several vCPUs run":
    window_counts_what_four_vcpus_do
    window_of_four_vcpus_on_one_thread_keeps_the_totals
    ; needs "the guest's memory":
    window_has_the_call_chains_of_its_own_accesses
}

const VCPUS: u64 = 4;
const ROUNDS: u64 = 20_000;

fn run_windows(host: &Host, threads: &str) -> Snapshot {
    run_with(host, threads, &["summary=off"])
}

fn run_with(host: &Host, threads: &str, options: &[&str]) -> Snapshot {
    let accelerator = format!("tcg,thread={threads}");
    let machine = host.machine().plugin(options);
    let machine = machine.args(["-accel", &accelerator, "-smp", &VCPUS.to_string()]);
    run_guest(machine, "window-smp").stats().clone()
}

/// Fails unless tables have these counts.
///
/// `outs`: executions of `out dx,al`; `reps`: of `rep outsb`; `once`: of `out dx,ax`, `in al,dx` and
/// `out imm8,al`; `calls`: hypercalls `outb`, `begin` and `end`.
fn assert_tables(tables: &Tables, outs: u64, reps: u64, once: [u64; 3], calls: Option<[u64; 3]>) {
    for row in &tables.forms {
        let (executions, accesses) = match row.form {
            PortForm::OutDxAl => (outs, outs),
            PortForm::RepOutsb => (reps, 3 * reps),
            PortForm::OutDxAx => (once[0], once[0]),
            PortForm::InAlDx => (once[1], once[1]),
            PortForm::OutImmAl => (once[2], once[2]),
            _ => (0, 0),
        };
        let counted = (row.attempts, row.executions, row.accesses, row.unverified);
        assert_eq!(counted, (executions, executions, accesses, 0), "{}", row.form);
    }
    let [outb, begin, end] = calls.unwrap_or_default();
    let expected = [(Call::Outb, outb), (Call::Begin, begin), (Call::End, end)];
    let made: Vec<_> = tables.hypercalls.iter().map(|row| (row.call, row.count)).collect();
    assert_eq!(made, expected.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>());
    assert!(tables.hypercalls.iter().all(|row| row.declined + row.denied + row.errors == 0));
    let by_call: u64 = tables.ports.iter().map(|row| row.hypercall).sum();
    assert_eq!(by_call, outb, "by port");
}

fn assert_right(host: &Host, stats: &Snapshot) {
    let all = ROUNDS * VCPUS;
    let is_heard = host.api >= 5;
    let calls = |calls| is_heard.then_some(calls);
    assert_tables(stats, all + 11, all, [1, 2, 1], calls([all, 2, 1]));
    if !is_heard {
        assert!(stats.windows.is_empty());
        return;
    }
    let [window] = &stats.windows[..] else { panic!("{:?}", stats.windows) };
    assert_eq!((&*window.name, window.entries, window.open), ("all", 2, true));
    // The guest exits during the window's second entry, so it is open.
    assert_tables(window, all + 1, all, [0, 0, 1], calls([all, 0, 0]));
    assert_eq!(window.vcpus.len(), stats.vcpus.len());
}

fn window_counts_what_four_vcpus_do(host: &Host) {
    let stats = run_windows(host, "multi");
    assert_right(host, &stats);
    for tables in [&stats.tables].into_iter().chain(stats.windows.iter().map(|row| &row.tables)) {
        assert_eq!(tables.vcpus.len() as u64, VCPUS);
        let others = tables.vcpus.iter().filter(|row| row.executions == 2 * ROUNDS);
        assert_eq!(others.count() as u64, VCPUS - 1, "the boot CPU's are more");
        let made = |hypercalls: u64| u64::from(host.api >= 5) * hypercalls;
        assert!(tables.vcpus.iter().all(|row| row.accesses >= 4 * ROUNDS));
        assert!(tables.vcpus.iter().all(|row| row.hypercalls >= made(ROUNDS)));
    }
}

fn window_of_four_vcpus_on_one_thread_keeps_the_totals(host: &Host) {
    let stats = run_windows(host, "single");
    assert_right(host, &stats);
    assert!(stats.vcpus.is_empty() && stats.windows.iter().all(|row| row.vcpus.is_empty()));
    let why = stats.vcpus_omitted.as_deref().expect("a reason");
    assert!(why.contains("thread=single"), "{why}");
}

/// For each site, the accesses by call chain add up to the site's accesses, in the window and in the whole run.
fn window_has_the_call_chains_of_its_own_accesses(host: &Host) {
    let stats = run_with(host, "multi", &["summary=off", "callers=on"]);
    assert_right(host, &stats);
    let by_site = |tables: &Tables| {
        let mut accesses: BTreeMap<(String, String), u64> = BTreeMap::new();
        for row in &tables.callers {
            assert!(row.accesses > 0, "{row:?}");
            *accesses.entry((row.pc.clone(), row.bytes.clone())).or_default() += row.accesses;
        }
        accesses
    };
    for tables in [&stats.tables].into_iter().chain(stats.windows.iter().map(|row| &row.tables)) {
        let of_sites = tables.sites.iter().filter(|site| site.counts.accesses > 0);
        let of_sites = of_sites
            .map(|site| ((site.pc.clone(), site.bytes.clone()), site.counts.accesses))
            .collect::<BTreeMap<_, _>>();
        assert_eq!(by_site(tables), of_sites);
    }
    if let Some(window) = stats.windows.first() {
        let [inside, whole] =
            [&window.tables, &stats.tables].map(|it| by_site(it).values().sum::<u64>());
        assert!(0 < inside && inside < whole, "{inside} of {whole}");
    }
}
