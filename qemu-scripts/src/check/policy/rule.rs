//! One rule of a policy: its conditions, and what happens to accesses that meet all of them.

use pvio_x86::{Direction, Mode, PortForm, PortRange, Width};

use crate::check::{CheckedAccess, Code, Phase};
use crate::stats::Privilege;
use crate::stats::access_filter::Pattern;

/// What happens to an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is allowed.
    Allow,
    /// It is an offence.
    Deny,
}

/// A rule. An access matches if it meets every condition. What is not known meets no condition.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The name, for the result.
    pub name: String,
    /// What happens to accesses that match.
    pub action: Action,
    /// Why.
    pub reason: Option<String>,
    pub(super) ports: Condition<PortRange>,
    pub(super) directions: Condition<Direction>,
    pub(super) sizes: Condition<Width>,
    pub(super) forms: Condition<FormCondition>,
    pub(super) modes: Condition<Mode>,
    pub(super) phases: Condition<Phase>,
    pub(super) privileges: Condition<Privilege>,
    pub(super) symbols: Condition<Pattern>,
    pub(super) devices: Condition<Pattern>,
    pub(super) by: Condition<By>,
}

/// Values of which one must match, if there are any.
#[derive(Clone, Debug)]
pub(super) struct Condition<T>(pub Vec<T>);

impl<T> Default for Condition<T> {
    fn default() -> Self {
        Condition(Vec::new())
    }
}

impl<T> Condition<T> {
    fn is_met(&self, matches: impl Fn(&T) -> bool) -> bool {
        self.0.is_empty() || self.0.iter().any(matches)
    }
}

/// A condition on the form of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormCondition {
    /// `in` and `out`.
    Scalar,
    /// `ins` and `outs`, with `rep` or without.
    String,
    /// One of the 24 forms.
    Form(PortForm),
}

/// A condition on how an access is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Instruction,
    Hypercall,
}

impl FormCondition {
    fn is_met_by(self, code: Code<'_>) -> bool {
        match (self, code) {
            (FormCondition::Scalar, _) => !code.is_string(),
            (FormCondition::String, _) => code.is_string(),
            (FormCondition::Form(form), Code::Site(site)) => site.form.decided() == Some(form),
            (FormCondition::Form(_), Code::CallSite(_)) => false,
        }
    }
}

impl Rule {
    /// Makes a rule that matches every access.
    pub(super) fn new(name: String, action: Action) -> Rule {
        Rule {
            name,
            action,
            reason: None,
            ports: Condition::default(),
            directions: Condition::default(),
            sizes: Condition::default(),
            forms: Condition::default(),
            modes: Condition::default(),
            phases: Condition::default(),
            privileges: Condition::default(),
            symbols: Condition::default(),
            devices: Condition::default(),
            by: Condition::default(),
        }
    }

    /// Returns true if an access meets every condition.
    pub fn matches(&self, access: &CheckedAccess<'_>) -> bool {
        let code = access.code;
        let symbol = code.label();
        self.ports.is_met(|range| range.contains(access.port))
            && self.directions.is_met(|&direction| direction == access.dir)
            && self.sizes.is_met(|&width| access.size.0 == Some(width))
            && self.forms.is_met(|form| form.is_met_by(code))
            && self.modes.is_met(|&mode| code.mode() == Some(mode))
            && self.phases.is_met(|&phase| access.phase == phase)
            && self.privileges.is_met(|&wanted| has(code.privilege(), wanted))
            && self.symbols.is_met(|pattern| {
                symbol.as_deref().is_some_and(|symbol| pattern.matches_symbol(symbol))
            })
            && self.devices.is_met(|pattern| access.name.is_some_and(|name| pattern.matches(name)))
            && self.by.is_met(|by| match code {
                Code::Site(_) => *by == By::Instruction,
                Code::CallSite(_) => *by == By::Hypercall,
            })
    }
}

/// Returns true if code ran with a privilege, also if it ran with the other one, too.
fn has(privilege: Option<Privilege>, wanted: Privilege) -> bool {
    privilege.is_some_and(|privilege| privilege == wanted || privilege == Privilege::Both)
}
