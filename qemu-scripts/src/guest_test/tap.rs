//! Reports in the Test Anything Protocol, version 13, which all consumers understand.
//!
//! A guest's own tests are a subtest, indented by four. Version 14 defines subtests; older consumers skip them.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::quote::one_line;
use super::{LogLine, Report};

/// Maximum number of lines under one key of a diagnostic block.
const MAX_LINES: usize = 20;

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
    /// Writes the header for `count` guests.
    ///
    /// # Errors
    ///
    /// Fails if `out` cannot be written.
    pub fn begin(mut out: W, count: usize) -> io::Result<Tap<W>> {
        writeln!(out, "TAP version 13\n1..{count}")?;
        out.flush()?;
        Ok(Tap { out, done: 0 })
    }

    /// Writes the next guest's result.
    ///
    /// # Errors
    ///
    /// Fails if `out` cannot be written.
    pub fn result(&mut self, name: &str, report: &Report) -> io::Result<()> {
        let Report { verdict, log, ended } = report;
        self.done += 1;
        let mut text = lines(name, log);
        result(&mut text, verdict.passed(), self.done, name);
        let _ = writeln!(text, " # time={}ms", ended.wall.as_millis());
        if let Some(failure) = &verdict.failure {
            let _ = writeln!(text, "  ---\n  message: {}", quoted(failure));
            if let Some(code) = verdict.code {
                let _ = writeln!(text, "  exit_code: {code}");
            }
            let grave =
                log.iter().filter(|line| line.is_error_or_warning()).map(|line| line.0.as_str());
            block(&mut text, "log", grave.collect());
            block(&mut text, "serial", last(&ended.stdout));
            block(&mut text, "qemu", last(&ended.stderr));
            text.push_str("  ...\n");
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Ends the report early and states the reason.
    ///
    /// # Errors
    ///
    /// Fails if `out` cannot be written.
    pub fn bail_out(&mut self, why: &str) -> io::Result<()> {
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

fn block(text: &mut String, key: &str, lines: Vec<&str>) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "  {key}:");
    for line in lines.iter().take(MAX_LINES) {
        let _ = writeln!(text, "    - {}", quoted(line));
    }
    if lines.len() > MAX_LINES {
        let _ = writeln!(text, "    - {}", quoted(&format!("{} more", lines.len() - MAX_LINES)));
    }
}

/// Returns the last lines, which are closest to the failure.
fn last(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(MAX_LINES)..].to_vec()
}

/// Quotes text for YAML. Every JSON string is a YAML string.
fn quoted(text: &str) -> String {
    serde_json::to_string(&one_line(text)).expect("text becomes JSON")
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
