//! Reports in the Test Anything Protocol, version 13, which all consumers understand.
//!
//! A guest's own tests are a subtest, indented by four. Version 14 defines subtests; older consumers skip them.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::quote::one_line;
use super::report::MAX_LINES;
use super::{Format, LogLine, Report, Totals};

/// Maximum number of log lines that are shown, apart from test results.
///
/// Half of them are from the beginning of the log, half from its end.
const MAX_COMMENTS: usize = 1000;

/// Writes each result as soon as it is known.
#[derive(Debug)]
pub struct Tap<W> {
    out: W,
    done: usize,
}

impl<W: Write> Tap<W> {
    /// Makes a report without its header.
    pub fn new(out: W) -> Tap<W> {
        Tap { out, done: 0 }
    }
}

impl<W: Write> Format for Tap<W> {
    fn begin(&mut self, count: usize) -> io::Result<()> {
        let why = if count == 0 { " # SKIP no guest is selected" } else { "" };
        writeln!(self.out, "TAP version 13\n1..{count}{why}")?;
        self.out.flush()
    }

    fn result(&mut self, name: &str, report: &Report) -> io::Result<()> {
        let Report { verdict, log, wall, .. } = report;
        self.done += 1;
        let mut text = lines(name, log);
        result(&mut text, verdict.passed(), self.done, name);
        let _ = writeln!(text, " # time={}ms", wall.as_millis());
        let message = verdict.failure.clone().or_else(|| report.flaky());
        if let Some(message) = &message {
            let _ = writeln!(text, "  ---\n  message: {}", quoted(message));
        }
        if verdict.failure.is_some() {
            if let Some(code) = verdict.code {
                let _ = writeln!(text, "  exit_code: {code}");
            }
            block(&mut text, "attempts", &report.earlier);
            block(&mut text, "log", &report.grave().map(one_line).collect::<Vec<_>>());
            for (name, lines) in report.outputs() {
                block(&mut text, name, lines);
            }
        }
        if message.is_some() {
            text.push_str("  ...\n");
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn skipped(&mut self, name: &str, why: &str) -> io::Result<()> {
        self.done += 1;
        let mut text = String::new();
        result(&mut text, true, self.done, name);
        writeln!(self.out, "{text} # SKIP {}", one_line(why))
    }

    fn end(&mut self, totals: &Totals) -> io::Result<()> {
        // A consumer counts the rest itself.
        if totals.flaky > 0 {
            writeln!(self.out, "# {}", totals.line())?;
        }
        self.out.flush()
    }

    fn bail_out(&mut self, why: &str) -> io::Result<()> {
        writeln!(self.out, "Bail out! {}", one_line(why))?;
        self.out.flush()
    }
}

/// Formats the guest's log: test results as a subtest, other lines as comments.
fn lines(name: &str, log: &[LogLine]) -> String {
    let mut text = String::new();
    let count = log.iter().filter(|line| line.result().is_some()).count();
    if count > 0 {
        let _ = writeln!(text, "# Subtest: {}", one_line(name));
    }
    let indent = if count > 0 { "    " } else { "" };
    let comments = log.len() - count;
    let left_out = comments.saturating_sub(MAX_COMMENTS);
    let hidden = MAX_COMMENTS / 2..MAX_COMMENTS / 2 + left_out;
    let (mut done, mut comment) = (0, 0);
    for line in log {
        match line.result() {
            Some((test, passed)) => {
                done += 1;
                text.push_str(indent);
                result(&mut text, passed, done, test);
                text.push('\n');
            }
            None => {
                if comment == hidden.start && left_out > 0 {
                    let lines = if left_out == 1 { "line" } else { "lines" };
                    let _ = writeln!(text, "{indent}# [{left_out} {lines} left out]");
                }
                if !hidden.contains(&comment) {
                    let _ = writeln!(text, "{indent}# {}", one_line(&line.0));
                }
                comment += 1;
            }
        }
    }
    if count > 0 {
        let _ = writeln!(text, "{indent}1..{count}");
    }
    text
}

fn result(text: &mut String, passed: bool, number: usize, name: &str) {
    let not = if passed { "" } else { "not " };
    // An unescaped `#` starts a directive, such as SKIP.
    let name = one_line(name).replace('\\', r"\\").replace('#', r"\#");
    let _ = write!(text, "{not}ok {number} - {name}");
}

/// Writes lines that are quoted already.
fn block(text: &mut String, key: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "  {key}:");
    for line in lines.iter().take(MAX_LINES) {
        let _ = writeln!(text, "    - {}", json(line));
    }
    if lines.len() > MAX_LINES {
        let _ = writeln!(text, "    - {}", json(&format!("{} more", lines.len() - MAX_LINES)));
    }
}

/// Quotes text for YAML. Every JSON string is a YAML string.
fn quoted(text: &str) -> String {
    json(&one_line(text))
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("text becomes JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middle_of_a_long_log_is_left_out_but_no_result() {
        let line = |text: String| LogLine(format!("[    0.004211] info: {text}"));
        let log =
            (0..3000).flat_map(|n| [line(format!("line {n}")), line(format!("test {n}: ok"))]);
        let text = lines("a", &log.collect::<Vec<_>>());
        assert_eq!(text.lines().filter(|line| line.starts_with("    ok ")).count(), 3000);
        let comments: Vec<&str> = text.lines().filter(|line| line.starts_with("    # ")).collect();
        assert_eq!(comments.len(), MAX_COMMENTS + 1);
        assert!(comments[499].ends_with("line 499") && comments[501].ends_with("line 2500"));
        assert_eq!(comments[500], "    # [2000 lines left out]");
    }
}
