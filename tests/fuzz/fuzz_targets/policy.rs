#![no_main]
//! Policies of `pvio check`: one that is accepted decides about every access, and the result can be shown.

use std::sync::LazyLock;

use fuzz::{PORTS, assert_message, assert_text, dumps};
use libfuzzer_sys::fuzz_target;
use pvio_cli::check::{
    Action, Against, Baseline, By, CheckedAccess, Origins, Phase, Policy, Style, Verdict, accesses,
    render, to_github, to_json,
};
use pvio_stats::Snapshot;
use pvio_x86::{AccessSize, Direction, Port, Width};

static DUMPS: LazyLock<Vec<Snapshot>> = LazyLock::new(dumps);

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let policy = match Policy::parse("fuzzed.toml", text) {
        Ok(policy) => policy,
        Err(mistake) => return assert_message(&mistake),
    };
    for dump in &*DUMPS {
        for access in accesses(&dump.tables) {
            variants(&access, |access| decide(&policy, access));
        }
        check(&policy, dump);
    }
});

/// Calls a function with accesses of the same code to other ports, in both directions, of every size and phase.
fn variants(access: &CheckedAccess<'_>, mut each: impl FnMut(&CheckedAccess<'_>)) {
    each(access);
    for port in PORTS.map(Port) {
        for dir in [Direction::In, Direction::Out] {
            for (width, phase) in Width::ALL.into_iter().zip(Phase::ALL) {
                each(&CheckedAccess { port, dir, size: width.into(), phase, ..*access });
            }
        }
    }
    each(&CheckedAccess { size: AccessSize::UNKNOWN, name: None, ..*access });
}

/// Checks that the first rule that matches decides, and otherwise the default.
fn decide(policy: &Policy, access: &CheckedAccess<'_>) {
    let decision = policy.decide(access);
    let mut rules = policy.rules.iter().filter(|rule| rule.matches(access));
    let expected = match rules.next() {
        Some(rule) => (rule.action, &*rule.name, rule.reason.as_deref()),
        None => (policy.default, "default", policy.default_reason.as_deref()),
    };
    assert_eq!((decision.action, decision.rule, decision.reason), expected);
}

/// Checks a dump, alone and with itself as the baseline, and shows the result.
fn check(policy: &Policy, dump: &Snapshot) {
    let origins = Origins::of_tables(&dump.tables);
    let against = Against { policy: Some(policy), baseline: None };
    let verdict = Verdict::new(&dump.tables, against, &origins);
    let offences = verdict.offences.iter();
    assert!(offences.clone().all(|offence| policy.decide(&offence.access).action == Action::Deny));
    assert_eq!(verdict.denied.kinds, offences.len() as u64);
    for all in [false, true] {
        assert_text(&render(&verdict, Style { colour: false, all }));
    }
    assert_text(&to_github(&verdict));
    serde_json::from_str::<serde_json::Value>(&to_json(&verdict)).expect("the result is JSON");
    let baseline = Baseline::new(&dump.tables, By::Symbol);
    let against = Against { baseline: Some(&baseline), ..against };
    assert!(Verdict::new(&dump.tables, against, &origins).is_clean(), "a run is like itself");
}
