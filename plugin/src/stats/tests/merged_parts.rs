//! Statistics of the parts of a run, merged, against those of the whole run.

use super::*;

/// Does what a guest may do in one part of a run. Windows are closed at its end.
fn part(rng: &mut Rng, statistics: &Statistics, all_counters: &[Arc<VcpuCounters>]) {
    let mut open = Vec::new();
    for _ in 0..rng.usize(1..80) {
        let counters = &all_counters[rng.usize(0..all_counters.len())];
        let form = PortForm::ALL[rng.usize(0..24)];
        let (port, pc) = (Port(rng.u16(..4)), rng.u64(0..8));
        // A site is of one form.
        let bytes = [form.index() as u8].into_iter().collect();
        let key = SiteKey { pc, mode: Some(Mode::Bits32), bytes };
        let site = rng.bool().then(|| statistics.sites.enter(key, None, form).unwrap());
        match rng.u8(0..6) {
            0 => {
                counters.attempt(form);
                counters.fault(form);
            }
            1 => {
                let call = [Call::Outb, Call::Inl][rng.usize(0..2)];
                let origin = origin(statistics, rng.bool().then_some(pc));
                counters.hypercall_moved(&origin, call, port, 2, false);
                let outcome = [Outcome::Ok, Outcome::Denied][rng.usize(0..2)];
                counters.hypercalls(origin.site, call, outcome, 1);
            }
            2 => {
                let name = ["a", "b", "c"][rng.usize(0..3)];
                match open.iter().position(|&open| open == name) {
                    Some(index) => statistics.end(open.swap_remove(index)).unwrap(),
                    None => {
                        open.push(name);
                        statistics.begin(name, counters).unwrap();
                        counters.hypercalls(CallSiteId::DROPPED, Call::Begin, Outcome::Ok, 1);
                    }
                }
            }
            3 => counters.unverified(form, site, Some(port)),
            _ => {
                counters.attempt(form);
                counters.executed(form, site);
                counters.accessed_often(form, site, port, 3);
            }
        }
    }
    open.into_iter().for_each(|name| statistics.end(name).unwrap());
}

/// Statistics with a counter for each of three vCPUs.
fn with_counters() -> (Statistics, Vec<Arc<VcpuCounters>>) {
    let statistics = Statistics::default();
    let counters = (0..VCPUS).map(|vcpu| statistics.counters(VcpuIndex(vcpu))).collect();
    (statistics, counters)
}

#[test]
fn merged_parts_of_a_run_equal_the_whole() {
    for seed in 0..40 {
        let (whole, whole_counters) = with_counters();
        let parts: Vec<Snapshot> = (0..4)
            .map(|number| {
                let (statistics, counters) = with_counters();
                let seed = seed * 4 + number;
                part(&mut Rng::with_seed(seed), &whole, &whole_counters);
                part(&mut Rng::with_seed(seed), &statistics, &counters);
                snapshot(&statistics)
            })
            .collect();
        let merged = pvio_stats::merge(&parts).unwrap();
        let mut expected = Snapshot { runs: 4, ..snapshot(&whole) };
        // The order of accesses in several runs is not known.
        expected.tables.ports.iter_mut().for_each(|row| row.first = None);
        assert!(merged == expected, "seed {seed}");
    }
}
