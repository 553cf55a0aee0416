//! Comparison of two dumps: totals, conditions on them, text and JSON.

mod condition;
mod json;
mod text;
mod totals;

pub use condition::{Condition, Verdict};
pub use json::to_json;
pub use text::{Style, render};
pub use totals::Total;
