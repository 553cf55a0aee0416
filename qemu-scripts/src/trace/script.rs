//! Prints the events of a trace as lines of text, in the style of `perf script`.

use std::fmt::{self, Write as _};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;

use super::line::{Access, Line, Names, describe};
use super::warn;
use crate::pager;
use crate::stats::access_filter::AccessFilter;
use crate::stats::trace::{Event, Trace};

/// The header line.
const HEADER: &str =
    "# process [vcpu] guest-seconds host-seconds: event: port size value by address symbol\n";

/// Prints the events that match a filter.
///
/// # Errors
///
/// Fails if stdout cannot be written.
pub fn print(program: &str, path: &Path, mut trace: Trace, filter: &AccessFilter) -> Result<()> {
    let (head, end) = (trace.head().clone(), trace.end().cloned());
    let said = trace.problems().len();
    let names = Names::new(&head, end.as_ref());
    pager::page(|out| {
        let mut out = BufWriter::with_capacity(1 << 16, out);
        let mut result = out.write_all(HEADER.as_bytes());
        let mut text = String::new();
        if result.is_ok() {
            trace.read(|event, vcpu, definitions| {
                let line = describe(event, vcpu, definitions, &names);
                if covers(filter, &line) {
                    text.clear();
                    put(&mut text, event, &line, names.mixes_vcpus());
                    result = out.write_all(text.as_bytes());
                }
                result.is_ok()
            });
        }
        result.and_then(|()| out.flush())
    })?;
    warn(program, path, &trace.problems()[said..]);
    Ok(())
}

/// Returns true if an event matches a filter. An event without an access matches only the empty filter.
fn covers(filter: &AccessFilter, line: &Line<'_>) -> bool {
    filter.covers_all()
        || line.access.zip(line.pc).is_some_and(|(access, pc)| {
            access.port.is_some_and(|port| filter.covers_port(port, access.direction))
                && filter.covers_value(access.value)
                && filter.covers_code(pc, || line.symbol)
                && filter.covers_process(line.process)
        })
}

/// Writes an event, followed by its callers.
fn put(text: &mut String, event: &Event, line: &Line<'_>, mixes_vcpus: bool) {
    match line.process {
        Some(owner) => drop(write!(text, "{}", Harmless(&owner.to_string()))),
        None => text.push('-'),
    }
    text.extend(std::iter::repeat_n(' ', 16usize.saturating_sub(text.len())));
    match line.vcpu.filter(|_| !mixes_vcpus) {
        None => text.push_str(" [---]"),
        Some(vcpu) => drop(write!(text, " [{vcpu:03}]")),
    }
    for time in [event.guest, Some(event.host)] {
        match time {
            None => text.push_str("               -"),
            Some(time) => {
                let (seconds, nanos) = (time / 1_000_000_000, time % 1_000_000_000);
                let _ = write!(text, " {seconds:>5}.{nanos:09}");
            }
        }
    }
    let _ = write!(text, ": {}:", line.event);
    if let Some(access) = &line.access {
        put_access(text, access, line);
    }
    if let Some(more) = &line.text {
        let _ = write!(text, " {}", Harmless(more));
    }
    text.push('\n');
    for caller in &line.stack {
        let mark = if caller.interrupted { " (interrupted)" } else { "" };
        let symbol = Harmless(caller.symbol.unwrap_or("?"));
        let _ = writeln!(text, "\t{:#18x} {symbol}{mark}", caller.pc);
    }
}

fn put_access(text: &mut String, access: &Access, line: &Line<'_>) {
    match access.port {
        Some(port) => drop(write!(text, " {port}")),
        None => text.push_str(" -"),
    }
    let _ = write!(text, " {} ", access.size);
    match access.value {
        Some(value) => {
            let digits = 2 + 2 * usize::from(access.size.bytes().unwrap_or(4));
            let _ = write!(text, "{value:#0digits$x}");
        }
        None => text.push('-'),
    }
    let _ = write!(text, " {}", Harmless(line.by.unwrap_or("-")));
    match line.pc {
        Some(pc) => drop(write!(text, " {pc:#x}")),
        None => text.push_str(" -"),
    }
    let _ = write!(text, " {}", Harmless(line.symbol.unwrap_or("?")));
}

/// Text from a file, in which characters that control a terminal are escaped.
struct Harmless<'a>(&'a str);

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.contains(is_harmful) {
            return f.write_str(self.0);
        }
        for c in self.0.chars() {
            match is_harmful(c) {
                true => write!(f, "{}", c.escape_default())?,
                false => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_file_cannot_control_the_terminal() {
        assert_eq!(Harmless("a\x1b[2J\u{202e}b").to_string(), "a\\u{1b}[2J\\u{202e}b");
    }
}
