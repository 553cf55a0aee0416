//! Exact decimals for costs: figures with up to three decimals, and their sums.

use std::fmt;

use thousands::Separable;

/// The parts of one unit: amounts have three decimals.
const THOUSANDTHS: u128 = 1000;

/// A figure, exact to a thousandth: nanoseconds, cycles or megahertz.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(u64);

/// A text that is not a [`Decimal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// It is not a number above 0.
    #[error("is not a number above 0")]
    Invalid,
    /// It has more than three decimals.
    #[error("has more than three decimals")]
    TooPrecise,
    /// It exceeds a million.
    #[error("exceeds 1,000,000,000")]
    TooLarge,
}

impl Decimal {
    /// The largest figure in whole units. It keeps products of figures and counts within 128 bits.
    const MAX: u64 = 1_000_000_000;

    /// Makes a figure of whole units.
    pub fn whole(units: u32) -> Decimal {
        Decimal(u64::from(units) * THOUSANDTHS as u64)
    }

    /// Parses digits, with an optional decimal point.
    ///
    /// # Errors
    ///
    /// The text is not a number above 0 with at most three decimals.
    pub fn parse(text: &str) -> Result<Decimal, DecimalError> {
        let text = text.replace('_', "");
        let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
        let decimals = decimals.trim_end_matches('0');
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) {
            return Err(DecimalError::Invalid);
        }
        if decimals.len() > 3 {
            return Err(DecimalError::TooPrecise);
        }
        let units: u64 = whole.parse().map_err(|_| DecimalError::TooLarge)?;
        if units > Decimal::MAX {
            return Err(DecimalError::TooLarge);
        }
        let part: u64 = format!("{decimals:0<3}").parse().map_err(|_| DecimalError::Invalid)?;
        match units * THOUSANDTHS as u64 + part {
            0 => Err(DecimalError::Invalid),
            amount => Ok(Decimal(amount)),
        }
    }

    /// The figure in thousandths of its unit.
    pub fn thousandths(self) -> u64 {
        self.0
    }

    /// The figure times a count, in thousandths.
    pub fn times(self, count: u64) -> u128 {
        u128::from(self.0) * u128::from(count)
    }
}

/// Prints as few decimals as are exact, with commas between thousands.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, part) = (self.0 / THOUSANDTHS as u64, self.0 % THOUSANDTHS as u64);
        let part = format!("{part:03}");
        match part.trim_end_matches('0') {
            "" => f.pad(&units.separate_with_commas()),
            part => f.pad(&format!("{}.{part}", units.separate_with_commas())),
        }
    }
}

/// The unit of a model's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Cycles of a processor whose frequency is not known.
    Cycles,
    /// Cycles of a processor with this frequency in MHz.
    CyclesAt(Decimal),
}

impl Unit {
    /// The unit's name in a model and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Nanoseconds => "ns",
            Unit::Cycles | Unit::CyclesAt(_) => "cycles",
        }
    }

    /// The unit that sums are printed in: a million of nanoseconds or of cycles.
    pub fn of_sums(self) -> &'static str {
        match self {
            Unit::Nanoseconds | Unit::CyclesAt(_) => "ms",
            Unit::Cycles => "Mcycles",
        }
    }

    /// A sum in millions, rounded half up to three decimals.
    ///
    /// `amount` is in thousandths of the model's unit.
    pub fn sum(self, amount: u128) -> String {
        // Thousandths of a millionth are 10^-9; three decimals stay.
        let (amount, per_decimal) = match self {
            Unit::Nanoseconds | Unit::Cycles => (amount, 1_000_000),
            // Cycles / MHz are microseconds: both are in thousandths.
            Unit::CyclesAt(mhz) => (amount, u128::from(mhz.0)),
        };
        let decimals = (amount + per_decimal / 2) / per_decimal;
        let (units, part) = (decimals / THOUSANDTHS, decimals % THOUSANDTHS);
        format!("{}.{part:03}", units.separate_with_commas())
    }
}

/// Divides a total among shares, so that the parts add up to it.
///
/// Each part is the total times its weight over all weights, rounded down; what is left goes, one by one, to the parts
/// that lost most, the first of equal ones first. All parts are 0 if all weights are.
pub fn apportion(total: u128, weights: &[u64]) -> Vec<u128> {
    let sum = |weights: &[u64]| weights.iter().map(|&weight| u128::from(weight)).sum::<u128>();
    // Weights of damaged dumps may add up to more than 64 bits, and their products to more than 128.
    let excess = (u128::BITS - sum(weights).leading_zeros()).saturating_sub(u64::BITS);
    let weights: Vec<u64> = weights.iter().map(|&weight| weight >> excess).collect();
    let all = sum(&weights);
    if all == 0 {
        return vec![0; weights.len()];
    }
    // Split before the product: total * weight may exceed 128 bits.
    let (whole, rest) = (total / all, total % all);
    let exact = |&weight: &u64| {
        let weight = u128::from(weight);
        (whole * weight + rest * weight / all, rest * weight % all)
    };
    let (mut parts, lost): (Vec<u128>, Vec<u128>) = weights.iter().map(exact).unzip();
    let left = total - parts.iter().sum::<u128>();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(lost[index]));
    for &index in order.iter().take(left as usize) {
        parts[index] += 1;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_exact_to_a_thousandth() {
        for (text, shown) in
            [("3885", "3,885"), ("2.5", "2.5"), ("0.125", "0.125"), ("1_000.50", "1,000.5")]
        {
            assert_eq!(Decimal::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", "0", "0.000", "-1", "1e3", "nan", ".5", "0x10", "1.2.3"] {
            assert_eq!(Decimal::parse(text), Err(DecimalError::Invalid), "{text}");
        }
        assert_eq!(Decimal::parse("1.2345"), Err(DecimalError::TooPrecise));
        assert_eq!(Decimal::parse("1000000001"), Err(DecimalError::TooLarge));
        assert_eq!(Decimal::parse("99999999999999999999"), Err(DecimalError::TooLarge));
        assert_eq!(Decimal::whole(7).times(3), 21_000);
    }

    #[test]
    fn sums_are_in_millions_rounded_half_up() {
        let amount = Decimal::whole(1_234_567_500).times(1000);
        assert_eq!(Unit::Nanoseconds.sum(amount), "1,234,567.500");
        assert_eq!(Unit::Cycles.sum(499_999), "0.000");
        assert_eq!(Unit::Cycles.sum(500_000), "0.001");
        // 2,400,000 cycles at 2,400 MHz are a millisecond.
        let unit = Unit::CyclesAt(Decimal::whole(2400));
        assert_eq!(unit.sum(Decimal::whole(2_400_000).times(1)), "1.000");
        assert_eq!(
            (unit.name(), unit.of_sums(), Unit::Cycles.of_sums()),
            ("cycles", "ms", "Mcycles")
        );
    }

    #[test]
    fn parts_add_up_to_the_total() {
        assert_eq!(apportion(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(apportion(7, &[0, 2, 5]), [0, 2, 5]);
        assert_eq!(apportion(5, &[0, 0]), [0, 0]);
        assert_eq!(apportion(0, &[]), [0; 0]);
        let weights = [u64::MAX, u64::MAX - 1, 3];
        let total = u128::MAX >> 2;
        assert_eq!(apportion(total, &weights).iter().sum::<u128>(), total);
    }
}
