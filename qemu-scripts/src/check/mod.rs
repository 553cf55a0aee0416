//! Checks which code accesses which ports, against a policy or an earlier run.
//!
//! | module | contents |
//! | --- | --- |
//! | `access` | one kind of access: code, port, direction, size |
//! | `phase` | the phase of a boot that code belongs to |
//! | `policy` | rules, and the file that they are read from |
//! | `baseline` | the kinds of access of an earlier run |
//! | `origins` | who made the accesses: call chains and processes |
//! | `verdict` | the accesses that a policy or a baseline does not allow |
//! | `text`, `json`, `github` | the result for people, programs and GitHub's workflows |

mod access;
mod baseline;
mod github;
mod json;
mod origins;
mod phase;
mod policy;
#[cfg(test)]
mod test_accesses;
mod text;
mod verdict;

pub use access::{CheckedAccess, Code, accesses};
pub use baseline::{Baseline, By};
pub use github::to_github;
pub use json::to_json;
pub use origins::{Chain, Origin, Origins};
pub(crate) use origins::{CodeKey, TracedOrigin, TracedOrigins};
pub use phase::Phase;
pub use policy::{Action, BUILT_IN, Decision, Policy, Rule};
pub use text::{Style, render};
pub use verdict::{Against, Offence, Total, Verdict};
