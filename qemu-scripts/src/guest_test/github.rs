//! A report for GitHub's workflows: a line for each guest, and annotations of failures.

use std::io::{self, Write};

use super::lines::{Lines, details};
use super::quote::one_line;
use super::{Format, Report, Totals};

/// Writes lines, and workflow commands that become annotations.
#[derive(Debug)]
pub struct GitHub<W> {
    out: W,
}

impl<W: Write> GitHub<W> {
    /// Makes an empty report.
    pub fn new(out: W) -> GitHub<W> {
        GitHub { out }
    }
}

impl<W: Write> Format for GitHub<W> {
    fn begin(&mut self, _count: usize) -> io::Result<()> {
        Ok(())
    }

    fn result(&mut self, name: &str, report: &Report) -> io::Result<()> {
        Lines::new(&mut self.out, false).result(name, report)?;
        let title = property(&one_line(name));
        let command = match (&report.verdict.failure, report.flaky()) {
            (Some(failure), _) => {
                let mut text = one_line(failure);
                for line in details(report) {
                    text += &format!("\n{line}");
                }
                format!("::error title={title}::{}\n", data(&text))
            }
            (None, Some(flaky)) => {
                format!("::warning title={title}::{}\n", data(&one_line(&flaky)))
            }
            (None, None) => return Ok(()),
        };
        self.out.write_all(command.as_bytes())?;
        self.out.flush()
    }

    fn skipped(&mut self, name: &str, why: &str) -> io::Result<()> {
        Lines::new(&mut self.out, false).skipped(name, why)
    }

    fn end(&mut self, totals: &Totals) -> io::Result<()> {
        Lines::new(&mut self.out, false).end(totals)
    }

    fn bail_out(&mut self, why: &str) -> io::Result<()> {
        writeln!(self.out, "::error title=pvio test::{}", data(&one_line(why)))?;
        self.out.flush()
    }
}

/// Escapes the text of a workflow command.
pub(crate) fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a workflow command.
pub(crate) fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
