//! pvio's costs and savings, as ratios of two things that are measured alternately.
//!
//! Each module measures the rows of one subject. The command `pvio bench` prints them.

pub mod callers;
pub mod calls;
pub mod compute;
pub mod dispatch;
pub mod insns;
pub mod linux;
pub mod mailbox;
pub mod paravirt;
mod plugins;
mod port_cost;
pub mod ports;
pub mod processes;
pub mod strings;
mod timed_guest;
pub mod trace;
pub mod unclaimed;
pub mod vcpus;

use serde::Serialize;

use crate::measure::{Ratio, median};

/// One measured ratio.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The measured thing.
    pub what: &'static str,
    /// The baseline: the thing with which it is compared.
    pub over: &'static str,
    /// Unit of `base`.
    pub unit: &'static str,
    /// Median of the baseline, in that unit.
    pub base: f64,
    /// The measured thing divided by the baseline.
    pub ratio: Ratio,
    /// Upper limit of the ratio; `None` if there is none. Exceeding it is not an error.
    pub target: Option<f64>,
}

impl Row {
    /// Makes a row of pairs `(what, over)`.
    ///
    /// # Panics
    ///
    /// Panics if there is no pair.
    pub fn of(
        what: &'static str,
        over: &'static str,
        unit: &'static str,
        pairs: &[(f64, f64)],
    ) -> Row {
        let base = median(pairs.iter().map(|&(_, base)| base));
        Row { what, over, unit, base, ratio: Ratio::of(pairs), target: None }
    }

    /// Sets the upper limit.
    pub fn target(self, target: f64) -> Row {
        Row { target: Some(target), ..self }
    }
}

/// Formats a ratio as `0.830`, and a small one as `1/340`.
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
    fn ratio_below_one_twentieth_is_a_fraction() {
        assert_eq!(readable(1.0345), "1.034");
        assert_eq!(readable(0.0512), "0.051");
        assert_eq!(readable(0.00294), "1/340");
    }
}
