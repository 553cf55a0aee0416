//! Ratios of two things that are measured in turn, so that a machine whose speed drifts does not
//! decide.

use anyhow::Result;
use serde::Serialize;

/// Several ratios of the same two things.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The one in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many.
    pub pairs: usize,
}

impl Ratio {
    /// Of at least one pair `(a, b)`, what `a / b` is.
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

/// The middle of some numbers, of which there is at least one.
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

/// Measures `a` and `b` in turn, `count` times, after once each that is not counted. Which of the
/// two is first changes from pair to pair.
pub fn pairs<T>(
    count: usize,
    mut a: impl FnMut() -> Result<T>,
    mut b: impl FnMut() -> Result<T>,
    mut done: impl FnMut(usize),
) -> Result<Vec<(T, T)>> {
    a()?;
    b()?;
    (0..count)
        .map(|pair| {
            done(pair);
            Ok(match pair % 2 {
                0 => (a()?, b()?),
                _ => {
                    let b = b()?;
                    (a()?, b)
                }
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let ratio = Ratio::of(&[(3.0, 1.0), (1.0, 1.0), (2.0, 1.0)]);
        assert_eq!(ratio, Ratio { median: 2.0, min: 1.0, max: 3.0, pairs: 3 });
        assert_eq!(median([1.0, 4.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn the_first_of_each_is_for_warming_up() {
        let (mut a, mut b) = (0, 100);
        let next = |n: &mut i32| {
            *n += 1;
            Ok(*n)
        };
        let measured = pairs(
            2,
            || next(&mut a),
            || {
                b += 1;
                Ok(b)
            },
            |_| (),
        );
        assert_eq!(measured.unwrap(), [(2, 102), (3, 103)]);
    }
}
