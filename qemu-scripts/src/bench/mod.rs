//! What pvio costs and saves, as ratios of two things measured in turn: each module measures the rows of
//! one subject, `bin/bench.rs` prints them.

pub mod callers;
pub mod calls;
pub mod compute;
pub mod dispatch;
pub mod linux;
pub mod mailbox;
mod plugins;
mod port_cost;
pub mod ports;
pub mod strings;
mod timed_guest;
pub mod unclaimed;
pub mod vcpus;

use serde::Serialize;

use crate::measure::{Ratio, median};

/// One ratio.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What.
    pub what: &'static str,
    /// Over what.
    pub over: &'static str,
    /// In what it is measured.
    pub unit: &'static str,
    /// The middle of what it is over, in that unit.
    pub base: f64,
    /// How much more the one is than the other.
    pub ratio: Ratio,
    /// What the ratio should be at most, where something is wanted of it.
    pub target: Option<f64>,
}

impl Row {
    /// Of pairs `(what, over)`, at least one.
    pub fn of(
        what: &'static str,
        over: &'static str,
        unit: &'static str,
        pairs: &[(f64, f64)],
    ) -> Row {
        let base = median(pairs.iter().map(|&(_, base)| base));
        Row { what, over, unit, base, ratio: Ratio::of(pairs), target: None }
    }

    /// The same, held against this.
    pub fn target(self, target: f64) -> Row {
        Row { target: Some(target), ..self }
    }
}

/// A ratio as a person reads it: `0.83`, and a small one as `1/340`.
pub fn readable(ratio: f64) -> String {
    match ratio < 0.05 {
        true => format!("1/{:.0}", 1.0 / ratio),
        false => format!("{ratio:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_ratios_are_fractions() {
        assert_eq!(readable(1.0345), "1.034");
        assert_eq!(readable(0.0512), "0.051");
        assert_eq!(readable(0.00294), "1/340");
    }
}
