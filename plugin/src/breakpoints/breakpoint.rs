//! The condition of a breakpoint: `PORT[-PORT][:in|:out][:value=N][:site=PLACE][:count=N]`, with the filters of the access
//! log beside.

use crate::access_filter::{AccessFilter, FilterError, split_at_single_colons};
use crate::x86::PortRange;

use super::MAX_BREAKPOINTS;

/// Why a breakpoint cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum BreakError {
    /// It does not begin with a port.
    #[error(
        "{0:?} is not a port; write PORT[-PORT][:in|:out][:value=N][:site=ADDRESS|SYMBOL][:count=N]"
    )]
    Port(String),
    /// A condition is wrong.
    #[error("{0}")]
    Filter(#[from] FilterError),
    /// The count is wrong.
    #[error(
        "{:?} is not a positive number; write count=3 to stop at the third access and at each one after it",
        format!("count={0}", .0)
    )]
    Count(String),
    /// The count is given twice.
    #[error("\"count\" is given twice; give it once")]
    CountTwice,
    /// The site is empty.
    #[error("\"site=\" needs a place; write site=0x1234, site=SYMBOL or site=SYMBOL+0x12")]
    Site,
    /// It wants processes, which are not told.
    #[error("a condition process=NAME needs processes; start QEMU with processes=on")]
    NeedsProcesses,
    /// It wants names, and there are none.
    #[error("a condition on a symbol needs names, and symbols=off turns them off")]
    NeedsSymbols,
    /// There are too many.
    #[error("there are {MAX_BREAKPOINTS} breakpoints already")]
    TooMany,
}

/// A breakpoint.
#[derive(Clone, Debug)]
pub struct Breakpoint {
    text: String,
    filter: AccessFilter,
    /// The first access that stops the machine, of those that the filter wants.
    count: u64,
}

impl Breakpoint {
    /// Parses the text of an option.
    ///
    /// # Errors
    ///
    /// The first part that is wrong.
    pub fn parse(text: &str) -> Result<Breakpoint, BreakError> {
        let parts = split_at_single_colons(text);
        let (port, conditions) = parts.split_first().expect("a split has a part");
        if PortRange::parse(port, 1).is_err() {
            return Err(BreakError::Port(port.clone()));
        }
        let mut filters = vec![port.clone()];
        let mut count = None;
        for condition in conditions {
            if let Some(number) = condition.strip_prefix("count=") {
                let wrong = || BreakError::Count(number.to_owned());
                let number = number.parse().ok().filter(|&number: &u64| number > 0);
                if count.replace(number.ok_or_else(wrong)?).is_some() {
                    return Err(BreakError::CountTwice);
                }
            } else if let Some(place) = condition.strip_prefix("site=") {
                filters.push(match place.chars().next() {
                    None => return Err(BreakError::Site),
                    Some('0'..='9') => format!("pc={place}"),
                    Some(_) => format!("symbol={place}"),
                });
            } else {
                filters.push(condition.clone());
            }
        }
        let filter = AccessFilter::parse(filters.iter().map(String::as_str))?;
        Ok(Breakpoint { text: text.to_owned(), filter, count: count.unwrap_or(1) })
    }

    /// The text that it was made of.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn filter(&self) -> &AccessFilter {
        &self.filter
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Returns true if it has a condition on the process.
    pub fn needs_processes(&self) -> bool {
        self.filter.needs_processes()
    }

    /// Returns true if it has a condition on the name of code.
    pub fn needs_symbols(&self) -> bool {
        self.filter.needs_symbols()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::{Direction, Port};

    #[test]
    fn conditions_are_those_of_the_access_log_and_a_site_and_a_count() {
        let parse = |text: &str| Breakpoint::parse(text).unwrap();
        let breakpoint = parse("0x3f8-0x3ff:out:value=1:site=0x100:count=3");
        let filter = breakpoint.filter();
        assert!(filter.covers_port(Port(0x3f9), Direction::Out));
        assert!(!filter.covers_port(Port(0x3f9), Direction::In));
        assert!(filter.covers_value(Some(1)) && !filter.covers_value(Some(2)));
        let no_symbol = || None::<&str>;
        assert!(filter.covers_code(0x100, no_symbol) && !filter.covers_code(0x101, no_symbol));
        assert_eq!(breakpoint.count(), 3);
        let filter = parse("0x80:site=outb+0x4").filter().clone();
        assert!(
            filter.covers_code(0, || Some("outb+0x4"))
                && !filter.covers_code(0, || Some("outb+0x5"))
        );
        assert!(parse("0x80:site=outb").filter().covers_code(0, || Some("outb+0x5 [m]")));
        assert_eq!(parse("0x80").count(), 1);
    }

    #[test]
    fn wrong_breakpoints_are_refused_in_one_line() {
        let error = |text: &str| Breakpoint::parse(text).unwrap_err().to_string();
        for (text, why) in [
            ("", "\"\" is not a port; write PORT[-PORT]"),
            ("out", "\"out\" is not a port; write PORT[-PORT]"),
            ("0x10000", "\"0x10000\" is not a port; write PORT[-PORT]"),
            ("0x80:count=0", "\"count=0\" is not a positive number"),
            ("0x80:count=1:count=2", "\"count\" is given twice"),
            ("0x80:site=", "\"site=\" needs a place"),
            ("0x80:what=1", "\"what=1\" is not a filter"),
            ("0x80:value=x", "\"value=x\" is neither a number"),
        ] {
            let error = error(text);
            assert!(error.starts_with(why) && !error.contains('\n'), "{error}");
        }
    }
}
