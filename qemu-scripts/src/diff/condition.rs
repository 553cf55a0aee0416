//! Conditions on changes, such as `accesses>+5%`, for scripts and CI.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use thousands::Separable;

use crate::diff::Total;
use crate::stats::Snapshot;

/// A condition: a total, an operator and a limit.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    total: Total,
    is_above: bool,
    /// True for `>=` and `<=`.
    or_equal: bool,
    limit: Limit,
}

/// The number with which a condition compares a total.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// A count in the second dump.
    Count(i128),
    /// A difference of the counts.
    Difference(i128),
    /// A difference in thousandths of a percent of the first count.
    Share(i128),
}

/// The result of a condition on two dumps.
#[derive(Clone, Debug)]
pub struct Verdict<'a> {
    /// The condition.
    pub condition: &'a Condition,
    /// True if the condition holds.
    pub holds: bool,
    /// The counts before and after.
    pub counts: [u64; 2],
}

/// A condition that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--fail-if {text:?}: {reason}")]
pub struct ConditionError {
    text: String,
    reason: String,
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Condition, ConditionError> {
        let wrong = |reason: String| ConditionError { text: text.to_owned(), reason };
        let start = text.find(['<', '>']).ok_or_else(|| {
            wrong(
                "there is no > or <; write a condition such as accesses>+5% or faults>0".to_owned(),
            )
        })?;
        let (name, rest) = (text[..start].trim(), &text[start..]);
        let total = Total::named(name).ok_or_else(|| {
            let names = Total::ALL.map(|total| total.name).join(", ");
            wrong(format!("{name:?} is not a total; the totals are {names}"))
        })?;
        let (or_equal, limit) = match rest[1..].strip_prefix('=') {
            Some(limit) => (true, limit.trim()),
            None => (false, rest[1..].trim()),
        };
        let limit = Limit::parse(limit).map_err(|reason| wrong(reason.to_owned()))?;
        Ok(Condition {
            text: text.to_owned(),
            total,
            is_above: rest.starts_with('>'),
            or_equal,
            limit,
        })
    }
}

impl Limit {
    fn parse(text: &str) -> Result<Limit, &'static str> {
        let unsigned = text.strip_prefix(['+', '-']);
        let sign = if text.starts_with('-') { -1 } else { 1 };
        let digits = unsigned.unwrap_or(text);
        if let Some(percent) = digits.strip_suffix('%') {
            if unsigned.is_none() {
                return Err("a change in percent needs a sign, such as +5% or -5%");
            }
            let percent = thousandths(percent.trim_end());
            return Ok(Limit::Share(
                sign * percent.ok_or("the percentage is not a number such as 5 or 0.5")?,
            ));
        }
        let count =
            whole(digits).ok_or("the limit is not a whole number, with or without % after it")?;
        Ok(if unsigned.is_some() { Limit::Difference(sign * count) } else { Limit::Count(count) })
    }
}

/// Reads a number of digits alone, without a sign or spaces.
fn whole(text: &str) -> Option<i128> {
    let count: u64 = text.parse().ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(count.into())
}

/// Reads a decimal with at most three places, in thousandths.
fn thousandths(text: &str) -> Option<i128> {
    let (units, places) = text.split_once('.').unwrap_or((text, "0"));
    let scale = match places.len() {
        1 => 100,
        2 => 10,
        3 => 1,
        _ => return None,
    };
    Some(whole(units)? * 1000 + whole(places)? * scale)
}

impl Condition {
    /// Checks the condition on two dumps.
    ///
    /// # Errors
    ///
    /// Fails if one of the dumps does not have the total.
    pub fn check(&self, dumps: [&Snapshot; 2]) -> Result<Verdict<'_>, ConditionError> {
        let [before, after] = dumps.map(|dump| self.total.count(dump));
        let (Some(before), Some(after)) = (before, after) else {
            let which = if before.is_none() { "first" } else { "second" };
            let reason = format!("the {which} dump does not count {}", self.total.name);
            return Err(ConditionError { text: self.text.clone(), reason });
        };
        let [first, second] = [before, after].map(i128::from);
        let ordering = match self.limit {
            Limit::Count(limit) => second.cmp(&limit),
            Limit::Difference(limit) => (second - first).cmp(&limit),
            // Growth from 0 exceeds every percentage.
            Limit::Share(_) if first == 0 && second > 0 => Ordering::Greater,
            Limit::Share(limit) if first == 0 => 0.cmp(&limit),
            Limit::Share(limit) => ((second - first) * 100_000).cmp(&(first * limit)),
        };
        let wanted = if self.is_above { Ordering::Greater } else { Ordering::Less };
        let holds = ordering == wanted || self.or_equal && ordering == Ordering::Equal;
        Ok(Verdict { condition: self, holds, counts: [before, after] })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after] = self.counts.map(|count| count.separate_with_commas());
        let name = self.condition.total.name;
        let holds = if self.holds { "holds" } else { "does not hold" };
        write!(f, "{} {holds}: {before} {name} before, {after} after", self.condition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::test_data::snapshot;

    /// Returns true if a condition holds for these numbers of accesses.
    fn holds(condition: &str, before: u64, after: u64) -> bool {
        let dumps = [before, after].map(snapshot);
        let condition: Condition = condition.parse().unwrap();
        condition.check([&dumps[0], &dumps[1]]).unwrap().holds
    }

    #[test]
    fn percentages_are_exact_at_the_limit() {
        assert!(!holds("accesses>+5%", 1000, 1050));
        assert!(holds("accesses>+5%", 1000, 1051));
        assert!(holds("accesses>=+5%", 1000, 1050));
        assert!(holds("accesses > +0.125 %", 8000, 8011));
        assert!(!holds("accesses>+0.125%", 8000, 8010));
        assert!(holds("accesses<-5%", 1000, 949));
        assert!(!holds("accesses<-5%", 1000, 950));
        assert!(!holds("accesses>+5%", u64::MAX, u64::MAX));
        assert!(holds("accesses>-1%", 1000, 1000));
    }

    #[test]
    fn growth_from_0_exceeds_every_percentage() {
        assert!(holds("accesses>+100000%", 0, 1));
        assert!(!holds("accesses>+0%", 0, 0));
        assert!(holds("accesses>=+0%", 0, 0));
    }

    #[test]
    fn limits_may_be_counts_and_differences() {
        assert!(holds("accesses>+10", 100, 111));
        assert!(!holds("accesses>+10", 100, 110));
        assert!(holds("accesses<-10", 100, 89));
        assert!(holds("accesses>100", 0, 101));
        assert!(!holds("accesses>100", 500, 100));
        assert!(holds("executions<=7", 500, 7));
        assert!(holds("attempts<1", 500, 0));
    }

    #[test]
    fn bad_conditions_are_refused_with_the_right_form() {
        for (text, reason) in [
            ("accesses", "there is no > or <; write a condition such as accesses>+5% or faults>0"),
            ("accesses>5%", "a change in percent needs a sign, such as +5% or -5%"),
            ("accesses>+x%", "the percentage is not a number such as 5 or 0.5"),
            ("accesses>+.5%", "the percentage is not a number such as 5 or 0.5"),
            ("accesses>+0.1234%", "the percentage is not a number such as 5 or 0.5"),
            ("accesses>", "the limit is not a whole number, with or without % after it"),
            ("accesses>++5", "the limit is not a whole number, with or without % after it"),
            ("accesses>1e9", "the limit is not a whole number, with or without % after it"),
        ] {
            let error = text.parse::<Condition>().unwrap_err().to_string();
            assert_eq!(error, format!("--fail-if {text:?}: {reason}"));
        }
        let error = "acesses>+5%".parse::<Condition>().unwrap_err().to_string();
        assert!(error.contains("\"acesses\" is not a total; the totals are accesses, "), "{error}");
    }

    #[test]
    fn total_that_a_dump_lacks_is_an_error() {
        let (known, mut unknown) = (snapshot(5), snapshot(5));
        unknown.tables.forms[0].faults = None;
        let condition: Condition = "faults>+0".parse().unwrap();
        assert!(!condition.check([&known, &known]).unwrap().holds);
        let error = condition.check([&known, &unknown]).unwrap_err().to_string();
        assert_eq!(error, "--fail-if \"faults>+0\": the second dump does not count faults");
        assert!(condition.check([&unknown, &known]).unwrap_err().to_string().contains("first"));
    }
}
