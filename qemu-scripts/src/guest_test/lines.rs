//! A report for people: a line for each guest, and more about those that failed.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::quote::one_line;
use super::{Format, Report, Totals};

/// Writes a line for each guest.
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
    /// True if the terminal shows colours.
    colour: bool,
}

impl<W: Write> Lines<W> {
    /// Makes an empty report.
    pub fn new(out: W, colour: bool) -> Lines<W> {
        Lines { out, colour }
    }

    /// Returns a word in a column of its own, in colour if there are colours.
    fn mark(&self, word: &str, colour: u8) -> String {
        match self.colour {
            true => format!("\x1b[{colour}m{word:5}\x1b[m"),
            false => format!("{word:5}"),
        }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

impl<W: Write> Format for Lines<W> {
    fn begin(&mut self, _count: usize) -> io::Result<()> {
        Ok(())
    }

    fn result(&mut self, name: &str, report: &Report) -> io::Result<()> {
        let flaky = report.flaky();
        let mark = match (&report.verdict.failure, &flaky) {
            (Some(_), _) => self.mark("FAIL", RED),
            (None, Some(_)) => self.mark("flaky", YELLOW),
            (None, None) => self.mark("ok", GREEN),
        };
        let mut text = format!("{mark} {} ({:.1} s)", one_line(name), report.wall.as_secs_f64());
        if let Some(message) = report.verdict.failure.as_ref().or(flaky.as_ref()) {
            let _ = write!(text, ": {}", one_line(message));
        }
        text.push('\n');
        for line in details(report) {
            let _ = writeln!(text, "      {line}");
        }
        self.write(&text)
    }

    fn skipped(&mut self, name: &str, why: &str) -> io::Result<()> {
        let mark = self.mark("skip", YELLOW);
        self.write(&format!("{mark} {}: {}\n", one_line(name), one_line(why)))
    }

    fn end(&mut self, totals: &Totals) -> io::Result<()> {
        self.write(&format!("{}\n", totals.line()))
    }

    fn bail_out(&mut self, why: &str) -> io::Result<()> {
        self.write(&format!("stopped: {}\n", one_line(why)))
    }
}

/// Returns the lines about a guest that failed: failed tests, grave lines of the log, and the ends of its outputs.
pub(super) fn details(report: &Report) -> Vec<String> {
    if report.verdict.passed() {
        return Vec::new();
    }
    let tests = report.log.iter().filter_map(|line| line.result());
    let failed = tests.filter(|&(_, passed)| !passed).map(|(test, _)| ("test", one_line(test)));
    let grave = report.grave().map(|line| ("log", one_line(line)));
    let attempts = report.earlier.iter().map(|failure| ("earlier attempt", one_line(failure)));
    let outputs = report.outputs().into_iter();
    let outputs = outputs.flat_map(|(name, lines)| lines.iter().map(move |l| (name, l.clone())));
    let bounded = |lines: &mut dyn Iterator<Item = (&'static str, String)>| {
        let lines = lines.take(super::report::MAX_LINES);
        lines.map(|(name, line)| format!("{name}: {line}")).collect::<Vec<_>>()
    };
    let mut all = bounded(&mut { failed });
    all.extend(bounded(&mut { grave }));
    all.extend(bounded(&mut { attempts }));
    all.extend(outputs.map(|(name, line)| format!("{name}: {line}")));
    all
}
