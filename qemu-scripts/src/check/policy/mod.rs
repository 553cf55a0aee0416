//! A policy: rules about the accesses that a guest may make.

mod parse;
mod rule;
#[cfg(test)]
mod tests;

pub use rule::{Action, Rule};

use super::CheckedAccess;
use crate::stats::toml_file::Mistake;

/// The policies that need no file: their names and their text.
pub const BUILT_IN: [(&str, &str); 2] = [
    ("tdx", include_str!("../../../policies/tdx.toml")),
    ("snp", include_str!("../../../policies/snp.toml")),
];

/// The name of the rule that stands for [`Policy::default`].
const DEFAULT: &str = "default";

/// A policy: rules in their order, and an action for accesses that no rule matches.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The name of a built-in policy, or the file.
    pub name: String,
    /// One line about the policy.
    pub description: Option<String>,
    /// The rules. The first one that matches decides.
    pub rules: Vec<Rule>,
    /// What happens to accesses that no rule matches.
    pub default: Action,
    /// Why.
    pub default_reason: Option<String>,
}

/// What a policy says about an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether the access is allowed.
    pub action: Action,
    /// The name of the rule, or `default`.
    pub rule: &'a str,
    /// Why, if the policy says so.
    pub reason: Option<&'a str>,
}

impl Policy {
    /// Reads the text of a policy. `name` is that of its file, for messages.
    ///
    /// # Errors
    ///
    /// The first mistake, with its line and column.
    pub fn parse(name: &str, text: &str) -> Result<Policy, Mistake> {
        parse::policy(name, text)
    }

    /// The built-in policy with this name.
    pub fn built_in(name: &str) -> Option<Policy> {
        let &(name, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
        Some(Policy::parse(name, text).expect("a test parses each built-in policy"))
    }

    /// Decides about an access: by the first rule that matches, or else by the default.
    pub fn decide(&self, access: &CheckedAccess<'_>) -> Decision<'_> {
        match self.rules.iter().find(|rule| rule.matches(access)) {
            Some(rule) => {
                Decision { action: rule.action, rule: &rule.name, reason: rule.reason.as_deref() }
            }
            None => Decision {
                action: self.default,
                rule: DEFAULT,
                reason: self.default_reason.as_deref(),
            },
        }
    }
}
