//! Ratios of two things that are measured alternately.
//!
//! Alternating cancels a drift of the host's speed.

use anyhow::Result;
use serde::Serialize;

/// Distribution of a ratio that was measured several times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The median.
    pub median: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
    /// Number of pairs.
    pub pairs: usize,
}

impl Ratio {
    /// Computes the ratios `a / b` of pairs `(a, b)`.
    ///
    /// # Panics
    ///
    /// Panics if there is no pair.
    pub fn of(pairs: &[(f64, f64)]) -> Ratio {
        let mut ratios: Vec<f64> = pairs.iter().map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        Ratio {
            median: median_of_sorted(&ratios),
            min: ratios[0],
            max: ratios[ratios.len() - 1],
            pairs: ratios.len(),
        }
    }
}

/// Returns the median.
///
/// # Panics
///
/// Panics if there is no number.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    median_of_sorted(&numbers)
}

fn median_of_sorted(numbers: &[f64]) -> f64 {
    let middle = numbers.len() / 2;
    match numbers.len() % 2 {
        1 => numbers[middle],
        _ => (numbers[middle - 1] + numbers[middle]) / 2.0,
    }
}

/// Measures several things alternately, for `rounds` rounds. Discards a first run of each.
///
/// The order changes from round to round, so that no thing always follows the same other thing. `begins` is called
/// at the start of each round, with its number from 0.
///
/// # Errors
///
/// Returns the first error of a measurement.
pub fn in_turn<T, const THINGS: usize>(
    rounds: usize,
    mut measure: [&mut dyn FnMut() -> Result<T>; THINGS],
    mut begins: impl FnMut(usize),
) -> Result<Vec<[T; THINGS]>> {
    for thing in &mut measure {
        thing()?;
    }
    (0..rounds)
        .map(|round| {
            begins(round);
            let mut order: [usize; THINGS] = std::array::from_fn(|n| (n + round / 2) % THINGS);
            if round % 2 == 1 {
                order.reverse();
            }
            let mut measured = [const { None }; THINGS];
            for thing in order {
                measured[thing] = Some(measure[thing]()?);
            }
            Ok(measured.map(|thing| thing.expect("the order has each of them")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_has_median_minimum_and_maximum() {
        let ratio = Ratio::of(&[(3.0, 1.0), (1.0, 1.0), (2.0, 1.0)]);
        assert_eq!(ratio, Ratio { median: 2.0, min: 1.0, max: 3.0, pairs: 3 });
        assert_eq!(median([1.0, 4.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn each_thing_is_measured_once_in_a_round_after_a_discarded_run() {
        let order = std::cell::RefCell::new(String::new());
        let thing = |name: char| {
            let mut times = 0;
            let order = &order;
            move || {
                order.borrow_mut().push(name);
                times += 1;
                Ok((name, times))
            }
        };
        let (mut a, mut b) = (thing('a'), thing('b'));
        let measured = in_turn(3, [&mut a, &mut b], |_| order.borrow_mut().push(' ')).unwrap();
        assert_eq!(measured, [2, 3, 4].map(|n| [('a', n), ('b', n)]));
        assert_eq!(*order.borrow(), "ab ab ba ba");

        order.borrow_mut().clear();
        let (mut a, mut b, mut c) = (thing('a'), thing('b'), thing('c'));
        in_turn(6, [&mut a, &mut b, &mut c], |_| order.borrow_mut().push(' ')).unwrap();
        assert_eq!(*order.borrow(), "abc abc cba bca acb cab bac");
    }
}
