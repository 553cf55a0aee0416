//! Reports in the Test Anything Protocol: version 13, which all its readers read.
//!
//! A guest's own tests are a subtest, indented by four, as version 14 defines and others skip.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::{LogLine, Report};

/// Most lines of one kind in a diagnostic block.
const LINES: usize = 20;

/// Writes results as they are found.
#[derive(Debug)]
pub struct Tap<W> {
    out: W,
    done: usize,
}

impl<W: Write> Tap<W> {
    /// Of so many guests.
    pub fn begin(mut out: W, count: usize) -> io::Result<Tap<W>> {
        writeln!(out, "TAP version 13\n1..{count}")?;
        out.flush()?;
        Ok(Tap { out, done: 0 })
    }

    /// The next guest's.
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
            let grave = log.iter().filter(|line| line.is_grave()).map(|line| line.0.as_str());
            block(&mut text, "log", grave.collect());
            block(&mut text, "serial", last(&ended.stdout));
            block(&mut text, "qemu", last(&ended.stderr));
            text.push_str("  ...\n");
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// There will be no more.
    pub fn bail_out(&mut self, why: &str) -> io::Result<()> {
        writeln!(self.out, "Bail out! {}", one_line(why))?;
        self.out.flush()
    }
}

/// The guest's lines, among which are the results of its own tests.
fn lines(name: &str, log: &[LogLine]) -> String {
    let mut text = String::new();
    let count = log.iter().filter(|line| line.result().is_some()).count();
    if count > 0 {
        let _ = writeln!(text, "# Subtest: {}", one_line(name));
    }
    let indent = if count > 0 { "    " } else { "" };
    let mut done = 0;
    for line in log {
        text.push_str(indent);
        match line.result() {
            Some((test, passed)) => {
                done += 1;
                result(&mut text, passed, done, test);
                text.push('\n');
            }
            None => {
                let _ = writeln!(text, "# {}", line.0);
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
    // A `#` would begin a directive, such as SKIP.
    let name = one_line(name).replace('\\', r"\\").replace('#', r"\#");
    let _ = write!(text, "{not}ok {number} - {name}");
}

fn block(text: &mut String, key: &str, lines: Vec<&str>) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "  {key}:");
    for line in lines.iter().take(LINES) {
        let _ = writeln!(text, "    - {}", quoted(line));
    }
    if lines.len() > LINES {
        let _ = writeln!(text, "    - {}", quoted(&format!("{} more", lines.len() - LINES)));
    }
}

/// What was said last is what matters, where nobody chose.
fn last(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

/// A string of JSON is one of YAML.
fn quoted(text: &str) -> String {
    serde_json::to_string(&one_line(text)).expect("text becomes JSON")
}

/// With control characters as escapes: one ends no line, and moves no cursor.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}
