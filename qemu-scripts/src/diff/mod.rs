//! Comparison of two dumps: totals, conditions on them, text, JSON and HTML.

mod cells;
mod condition;
mod html;
mod json;
mod rows;
mod text;
mod totals;

pub use condition::{Condition, Verdict};
pub use html::to_html;
pub use json::to_json;
pub use text::{Style, render};
pub use totals::Total;
