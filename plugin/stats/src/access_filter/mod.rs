//! Filters of accesses, in the syntax of the options: `0x3f8-0x3ff:out:-value=0`.
//!
//! An access is covered if, for each kind of filter that is given, at least one filter of that kind matches. A `-` before a
//! filter excludes what it matches.
//!
//! | filter | matches |
//! | --- | --- |
//! | `PORT`, `PORT-PORT` | accesses that begin at these ports |
//! | `in`, `out` | one direction |
//! | `value=N`, `value=N-N` | the value that was read or written |
//! | `pc=ADDRESS`, `pc=ADDRESS-ADDRESS` | the linear address of the instruction |
//! | `symbol=NAME` | the symbol that the instruction is in; `*` stands for any characters |
//! | `process=NAME`, `process=PID`, `process=0xTABLE` | the process that makes the access, or its page table |

mod pattern;

use std::ops::RangeInclusive;

use pvio_x86::{Direction, Port, PortRange, PortRangeError};

pub use pattern::Pattern;

/// The process that makes an access, as filters see it.
pub trait FilteredProcess {
    /// The number of the process, if it is one.
    fn pid(&self) -> Option<u32>;
    /// The name of its thread, if it is a process.
    fn comm(&self) -> Option<String>;
    /// The page table, where no process is known.
    fn page_table(&self) -> Option<u64>;
}

/// Decides about accesses, one property at a time, because not all of an access is known at once.
#[derive(Clone, Debug, Default)]
pub struct AccessFilter {
    ports: Condition<PortRange>,
    directions: Condition<Direction>,
    values: Condition<RangeInclusive<u64>>,
    addresses: Condition<RangeInclusive<u64>>,
    symbols: Condition<Pattern>,
    processes: Condition<ProcessFilter>,
}

/// A condition on the process that makes an access.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ProcessFilter {
    Pid(u32),
    Comm(Pattern),
    AddressSpace(u64),
}

impl ProcessFilter {
    /// Parses a process's number, the address of a page table, or a name.
    fn parse(text: &str) -> ProcessFilter {
        match (text.parse(), number(text)) {
            (Ok(pid), _) => ProcessFilter::Pid(pid),
            (Err(_), Some(table)) => ProcessFilter::AddressSpace(table),
            (Err(_), None) => ProcessFilter::Comm(Pattern::new(text)),
        }
    }

    fn matches(&self, owner: &impl FilteredProcess) -> bool {
        match self {
            ProcessFilter::Pid(wanted) => owner.pid() == Some(*wanted),
            ProcessFilter::Comm(name) => owner.comm().is_some_and(|comm| name.matches(&comm)),
            ProcessFilter::AddressSpace(wanted) => owner.page_table() == Some(*wanted),
        }
    }
}

/// The reason why a text is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The filter is of no kind.
    #[error(
        "{0:?} is not a filter; write a port or a range (0x300 or 0x300-0x307), in, out, value=N, pc=ADDRESS, \
         symbol=NAME or process=NAME|PID, or one of these after a - to exclude it"
    )]
    Unknown(String),
    /// The ports are invalid.
    #[error("{0}")]
    Ports(#[from] PortRangeError),
    /// The number or range is invalid.
    #[error(
        "{:?} is neither a number of up to {bits} bits nor a range of them; write {key}=0x10 or {key}=0x10-0x1f",
        format!("{key}={text}")
    )]
    Number {
        /// The kind of filter.
        key: &'static str,
        /// Its value.
        text: String,
        /// The size of the largest number.
        bits: u32,
    },
    /// The range ends before it begins.
    #[error("{:?} ends before it begins", format!("{key}={text}"))]
    Backwards {
        /// The kind of filter.
        key: &'static str,
        /// Its value.
        text: String,
    },
    /// The value after the equals sign is empty.
    #[error("\"{0}=\" needs a name; write {0}=NAME, in which * stands for any characters")]
    Empty(&'static str),
}

impl AccessFilter {
    /// Parses filters. Without any, it covers every access.
    ///
    /// # Errors
    ///
    /// The first text that is not a filter.
    pub fn parse<'a>(
        filters: impl IntoIterator<Item = &'a str>,
    ) -> Result<AccessFilter, FilterError> {
        let mut all = AccessFilter::default();
        for text in filters {
            all.add(text)?;
        }
        Ok(all)
    }

    fn add(&mut self, text: &str) -> Result<(), FilterError> {
        let (filter, is_left_out) = match text.strip_prefix('-') {
            Some(filter) => (filter, true),
            None => (text, false),
        };
        match filter.split_once('=') {
            Some(("value", numbers)) => {
                self.values.add(range("value", numbers, u32::BITS)?, is_left_out);
            }
            Some(("pc", addresses)) => {
                self.addresses.add(range("pc", addresses, u64::BITS)?, is_left_out);
            }
            Some(("symbol", "")) => return Err(FilterError::Empty("symbol")),
            Some(("symbol", name)) => self.symbols.add(Pattern::new(name), is_left_out),
            Some(("process", "")) => return Err(FilterError::Empty("process")),
            Some(("process", process)) => {
                self.processes.add(ProcessFilter::parse(process), is_left_out);
            }
            Some(_) => return Err(FilterError::Unknown(text.to_owned())),
            None => match filter {
                "in" => self.directions.add(Direction::In, is_left_out),
                "out" => self.directions.add(Direction::Out, is_left_out),
                _ if filter.starts_with(|first: char| first.is_ascii_digit()) => {
                    self.ports.add(PortRange::parse(filter, 1)?, is_left_out);
                }
                _ => return Err(FilterError::Unknown(text.to_owned())),
            },
        }
        Ok(())
    }

    /// Returns true if it covers every access.
    pub fn covers_all(&self) -> bool {
        self.ports.is_empty()
            && self.directions.is_empty()
            && self.values.is_empty()
            && self.addresses.is_empty()
            && self.symbols.is_empty()
            && self.processes.is_empty()
    }

    /// Returns true if accesses to a port in a direction may be covered.
    pub fn covers_port(&self, port: Port, direction: Direction) -> bool {
        self.ports.admits(|range| range.contains(port))
            && self.directions.admits(|&wanted| wanted == direction)
    }

    /// Returns true if accesses by an instruction may be covered. `symbol` is its name, if known.
    pub fn covers_code<S: AsRef<str>>(&self, pc: u64, symbol: impl FnOnce() -> Option<S>) -> bool {
        self.addresses.admits(|range| range.contains(&pc))
            && (self.symbols.is_empty() || {
                let symbol = symbol();
                let is_in = |pattern: &Pattern| {
                    symbol.as_ref().is_some_and(|symbol| pattern.matches_symbol(symbol.as_ref()))
                };
                self.symbols.admits(is_in)
            })
    }

    /// Returns true if accesses with a value are covered. `None` is an unknown value.
    pub fn covers_value(&self, value: Option<u32>) -> bool {
        self.values.admits(|range| value.is_some_and(|value| range.contains(&value.into())))
    }

    /// Returns true if accesses by a process are covered. `None` is an unknown process.
    pub fn covers_process(&self, owner: Option<&impl FilteredProcess>) -> bool {
        self.processes.admits(|process| owner.is_some_and(|owner| process.matches(owner)))
    }

    /// Returns true if a condition needs the process.
    pub fn needs_processes(&self) -> bool {
        !self.processes.is_empty()
    }

    /// Returns true if a condition needs the name of the code.
    pub fn needs_symbols(&self) -> bool {
        !self.symbols.is_empty()
    }
}

/// The filters of one kind.
#[derive(Clone, Debug)]
struct Condition<T> {
    /// One of these must match, if there are any.
    wanted: Vec<T>,
    /// None of these may match.
    left_out: Vec<T>,
}

impl<T> Default for Condition<T> {
    fn default() -> Self {
        Condition { wanted: Vec::new(), left_out: Vec::new() }
    }
}

impl<T> Condition<T> {
    fn add(&mut self, filter: T, is_left_out: bool) {
        let list = if is_left_out { &mut self.left_out } else { &mut self.wanted };
        list.push(filter);
    }

    fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.left_out.is_empty()
    }

    fn admits(&self, matches: impl Fn(&T) -> bool) -> bool {
        (self.wanted.is_empty() || self.wanted.iter().any(&matches))
            && !self.left_out.iter().any(&matches)
    }
}

/// Parses `N` or `N-N`.
fn range(key: &'static str, text: &str, bits: u32) -> Result<RangeInclusive<u64>, FilterError> {
    let wrong = || FilterError::Number { key, text: text.to_owned(), bits };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text| {
        number(text).filter(|&number| number <= u64::MAX >> (u64::BITS - bits)).ok_or_else(wrong)
    };
    let (first, last) = (number(first)?, number(last)?);
    match first <= last {
        true => Ok(first..=last),
        false => Err(FilterError::Backwards { key, text: text.to_owned() }),
    }
}

/// Parses a decimal number, or a hexadecimal one after `0x`.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(digits, radix).ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests;
