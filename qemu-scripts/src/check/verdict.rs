//! The accesses that a policy or a baseline does not allow.

use std::cmp::Reverse;

use super::access::{CheckedAccess, accesses};
use super::{Action, Baseline, Origin, Origins, Policy};
use crate::stats::{AccessCounts, Tables};

/// What a run is checked against.
///
/// With both, an access is an offence if the policy denies it and the baseline does not have it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Against<'a> {
    /// The policy.
    pub policy: Option<&'a Policy>,
    /// The accesses of an earlier run.
    pub baseline: Option<&'a Baseline>,
}

/// An access that is not allowed.
#[derive(Clone, Debug)]
pub struct Offence<'a> {
    /// The access.
    pub access: CheckedAccess<'a>,
    /// The rule that denies it: one of the policy's, or `baseline`.
    pub rule: &'a str,
    /// Why, if the rule says so.
    pub reason: Option<&'a str>,
    /// Who made the accesses.
    pub origin: Origin,
}

/// Kinds of access, and the accesses of these kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Kinds of access: code, port, direction and size.
    pub kinds: u64,
    /// Those that are inputs.
    pub input_kinds: u64,
    /// Accesses.
    pub accesses: u64,
    /// Accesses that were made or faulted.
    pub unverified: u64,
}

impl Total {
    /// Adds a kind of access.
    pub fn add(&mut self, access: &CheckedAccess<'_>) {
        self.kinds += 1;
        self.input_kinds += u64::from(access.is_input());
        self.accesses = self.accesses.saturating_add(access.counts.accesses);
        self.unverified = self.unverified.saturating_add(access.counts.unverified);
    }

    /// All accesses, also those that may have faulted.
    pub fn all(&self) -> u64 {
        self.accesses.saturating_add(self.unverified)
    }
}

/// The result of a check.
#[derive(Clone, Debug)]
pub struct Verdict<'a> {
    /// What the run was checked against.
    pub against: Against<'a>,
    /// All accesses that were checked.
    pub checked: Total,
    /// Those that are offences.
    pub denied: Total,
    /// The offences of the policy that the baseline has, too.
    pub known: Total,
    /// The offences, the most accesses first.
    pub offences: Vec<Offence<'a>>,
    /// The offences by rule, in the order of their largest.
    pub by_rule: Vec<(&'a str, Option<&'a str>, Total)>,
    /// Accesses whose code or port is not in the dump, so nobody can check them.
    pub unknown: u64,
}

/// The name of the rule that stands for the baseline.
const BASELINE: &str = "baseline";

impl<'a> Verdict<'a> {
    /// Checks the accesses of a dump or window.
    pub fn new(tables: &'a Tables, against: Against<'a>, origins: &Origins) -> Verdict<'a> {
        let AccessCounts { accesses: dropped, unverified } = tables.accesses_dropped;
        let mut verdict = Verdict {
            against,
            checked: Total::default(),
            denied: Total::default(),
            known: Total::default(),
            offences: Vec::new(),
            by_rule: Vec::new(),
            unknown: dropped
                .saturating_add(unverified)
                .saturating_add(tables.call_accesses_dropped),
        };
        for access in accesses(tables) {
            verdict.checked.add(&access);
            let (rule, reason) = match against.policy.map(|policy| policy.decide(&access)) {
                Some(decision) if decision.action == Action::Allow => continue,
                Some(decision) => (decision.rule, decision.reason),
                None => (BASELINE, Some("the earlier run did not make it")),
            };
            if against.baseline.is_some_and(|baseline| baseline.has(&access)) {
                verdict.known.add(&access);
                continue;
            }
            verdict.denied.add(&access);
            let origin = origins.of(&access);
            verdict.offences.push(Offence { access, rule, reason, origin });
        }
        verdict.offences.sort_by_key(|offence| {
            let access = &offence.access;
            (Reverse(access.all()), access.port, access.dir, access.code.pc())
        });
        for offence in &verdict.offences {
            let rules = &mut verdict.by_rule;
            let index = rules.iter().position(|(rule, ..)| *rule == offence.rule);
            let index = index.unwrap_or_else(|| {
                rules.push((offence.rule, offence.reason, Total::default()));
                rules.len() - 1
            });
            rules[index].2.add(&offence.access);
        }
        verdict
    }

    /// Returns true if there is no offence.
    pub fn is_clean(&self) -> bool {
        self.offences.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::By;
    use crate::check::test_accesses::linux;
    use crate::stats::Snapshot;

    fn rules_of(dump: &Snapshot, against: Against<'_>) -> Vec<(u16, String)> {
        let verdict = Verdict::new(dump, against, &Origins::of_tables(dump));
        let offences = verdict.offences.iter();
        offences.map(|offence| (offence.access.port.0, offence.rule.to_owned())).collect()
    }

    #[test]
    fn a_policy_denies_what_its_rules_deny() {
        let dump = linux();
        let tdx = Policy::built_in("tdx").unwrap();
        let against = Against { policy: Some(&tdx), baseline: None };
        let expected = [
            (0x40, "default"),
            (0x3f8, "serial"),
            (0x300, "user code"),
            (0x1f0, "strings"),
            (0x80, "only in the filter"),
            (0x20, "default"),
            (0x3f8, "strings"),
        ];
        let expected = expected.map(|(port, rule)| (port, rule.to_owned()));
        assert_eq!(rules_of(&dump, against), expected);
        let snp = Policy::built_in("snp").unwrap();
        let against = Against { policy: Some(&snp), baseline: None };
        let expected =
            [(0x402, "16 and 32-bit code"), (0x300, "user code"), (0x20, "16 and 32-bit code")];
        let expected = expected.map(|(port, rule)| (port, rule.to_owned()));
        assert_eq!(rules_of(&dump, against), expected);
    }

    #[test]
    fn a_baseline_denies_what_the_earlier_run_did_not_do() {
        let old = linux();
        let mut new = linux();
        let baseline = Baseline::new(&old, By::Symbol);
        let against = Against { policy: None, baseline: Some(&baseline) };
        assert_eq!(rules_of(&new, against), []);
        new.tables.accesses[0].port = pvio_x86::Port(0x42);
        assert_eq!(rules_of(&new, against), [(0x42, "baseline".to_owned())]);
        let tdx = Policy::built_in("tdx").unwrap();
        let against = Against { policy: Some(&tdx), baseline: Some(&baseline) };
        assert_eq!(rules_of(&new, against), [(0x42, "default".to_owned())]);
        let verdict = Verdict::new(&new, against, &Origins::default());
        assert_eq!(verdict.known.kinds, 6);
    }

    #[test]
    fn accesses_without_a_row_are_counted() {
        let mut dump = linux();
        dump.tables.accesses_dropped = AccessCounts { accesses: 3, unverified: 2 };
        dump.tables.call_accesses_dropped = 1;
        assert_eq!(Verdict::new(&dump, Against::default(), &Origins::default()).unknown, 6);
    }
}
