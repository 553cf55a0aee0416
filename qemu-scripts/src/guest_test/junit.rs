//! Reports in JUnit's XML, which most CI systems show.
//!
//! The numbers of tests are at the beginning of the file, so test cases are collected in a temporary file, not in memory.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use quick_xml::events::{BytesDecl, BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer, XmlVersion};

use super::lines::details;
use super::quote::one_line;
use super::{Format, Report, Totals};
use crate::dumps;

/// The name of this program's class of test cases; the tests within a guest have the guest's name.
const CLASS: &str = "pvio test";

/// The attributes of a test suite that can be added up.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    tests: u64,
    failures: u64,
    errors: u64,
    skipped: u64,
    /// Seconds.
    time: f64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.tests += other.tests;
        self.failures += other.failures;
        self.errors += other.errors;
        self.skipped += other.skipped;
        self.time += other.time;
    }

    /// Makes the start tag of an element with these attributes.
    fn start(&self, element: &'static str) -> BytesStart<'static> {
        let mut start = BytesStart::new(element);
        for (name, value) in [
            ("tests", self.tests),
            ("failures", self.failures),
            ("errors", self.errors),
            ("skipped", self.skipped),
        ] {
            start.push_attribute((name, value.to_string().as_str()));
        }
        start.push_attribute(("time", format!("{:.3}", self.time).as_str()));
        start
    }

    /// Reads the attributes of a suite. An attribute that is absent is 0.
    fn read(start: &BytesStart<'_>) -> Result<Counts> {
        let value = |name: &str| -> Result<Option<String>> {
            let attribute = start.try_get_attribute(name)?;
            let text = attribute.map(|value| value.normalized_value(XmlVersion::Implicit1_0));
            Ok(text.transpose()?.map(Into::into))
        };
        let count = |name: &str| match value(name)? {
            None => Ok(0),
            Some(text) => text.parse().with_context(|| format!("{name}={text:?} is not a number")),
        };
        let time = value("time")?.unwrap_or_else(|| "0".into());
        Ok(Counts {
            tests: count("tests")?,
            failures: count("failures")?,
            errors: count("errors")?,
            skipped: count("skipped")?,
            time: time.parse().with_context(|| format!("time={time:?} is not a number"))?,
        })
    }
}

/// A report that becomes a file when it ends.
pub struct Junit {
    path: PathBuf,
    suite: String,
    counts: Counts,
    cases: Writer<BufWriter<File>>,
}

impl Junit {
    /// Begins a report. The name of the suite tells it from those of other shards.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot become an output.
    pub fn new(path: &Path, suite: String) -> Result<Junit> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        ensure!(
            directory.is_dir() && !path.is_dir(),
            "--junit {}: this is not a file in an existing directory",
            path.display()
        );
        let cases = Writer::new_with_indent(BufWriter::new(tempfile::tempfile()?), b' ', 2);
        Ok(Junit { path: path.to_owned(), suite, counts: Counts::default(), cases })
    }

    /// Adds a test case. `inner` is an element in it, with a message and a text.
    fn case(
        &mut self,
        class: &str,
        name: &str,
        time: Option<f64>,
        inner: Option<(&str, &str, String)>,
    ) -> io::Result<()> {
        self.counts.tests += 1;
        let (class, name) = (xml(class), xml(name));
        let mut case = self.cases.create_element("testcase");
        case = case.with_attribute(("classname", class.as_str()));
        case = case.with_attribute(("name", name.as_str()));
        if let Some(time) = time {
            self.counts.time += time;
            case = case.with_attribute(("time", format!("{time:.3}").as_str()));
        }
        let Some((element, message, text)) = inner else {
            case.write_empty()?;
            return Ok(());
        };
        let (message, text) = (xml(message), text);
        case.write_inner_content(|writer| {
            let inner = writer.create_element(element);
            let inner = inner.with_attribute(("message", message.as_str()));
            match text.is_empty() {
                true => inner.write_empty()?,
                false => inner.write_text_content(BytesText::new(&text))?,
            };
            Ok(())
        })?;
        Ok(())
    }

    /// Writes the file: what is known now, before the cases.
    fn write(&mut self) -> Result<()> {
        let Junit { path, suite, counts, cases } = self;
        let cases = cases.get_mut();
        cases.flush()?;
        let cases = cases.get_mut();
        cases.rewind()?;
        dumps::write_with(path, &[], |out| {
            begin(out, *counts)?;
            let mut start = counts.start("testsuite");
            start.push_attribute(("name", xml(suite).as_str()));
            Writer::new(&mut *out).write_event(Event::Start(start))?;
            out.write_all(b"\n")?;
            io::copy(cases, out)?;
            Ok(out.write_all(b"\n</testsuite>\n</testsuites>\n")?)
        })
    }
}

impl Format for Junit {
    fn begin(&mut self, _count: usize) -> io::Result<()> {
        Ok(())
    }

    fn result(&mut self, name: &str, report: &Report) -> io::Result<()> {
        for (test, passed) in report.log.iter().filter_map(|line| line.result()) {
            self.counts.failures += u64::from(!passed);
            let failure = (!passed).then(|| ("failure", "FAILED", String::new()));
            self.case(name, test, None, failure)?;
        }
        let text = details(report).iter().map(|line| format!("{}\n", xml(line))).collect();
        let flaky = report.flaky();
        let inner = match (&report.verdict.failure, &flaky) {
            (Some(failure), _) => {
                self.counts.failures += 1;
                Some(("failure", failure.as_str(), text))
            }
            // The name that Maven gives to it.
            (None, Some(flaky)) => Some(("flakyFailure", flaky.as_str(), String::new())),
            (None, None) => None,
        };
        self.case(CLASS, name, Some(report.wall.as_secs_f64()), inner)
    }

    fn skipped(&mut self, name: &str, why: &str) -> io::Result<()> {
        self.counts.skipped += 1;
        self.case(CLASS, name, None, Some(("skipped", why, String::new())))
    }

    fn end(&mut self, _totals: &Totals) -> io::Result<()> {
        self.write().map_err(io::Error::other)
    }

    fn bail_out(&mut self, why: &str) -> io::Result<()> {
        self.counts.errors += 1;
        self.case(CLASS, "the run", None, Some(("error", why, String::new())))?;
        self.write().map_err(io::Error::other)
    }
}

fn begin(out: &mut dyn Write, counts: Counts) -> Result<()> {
    let mut writer = Writer::new(&mut *out);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    writer.get_mut().write_all(b"\n")?;
    writer.write_event(Event::Start(counts.start("testsuites")))?;
    Ok(writer.get_mut().write_all(b"\n")?)
}

/// Quotes text in one line, without the characters that XML cannot have.
fn xml(text: &str) -> String {
    one_line(text).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

/// Returns true if a regular file begins like XML. A pipe can be read only once, so it is not looked at.
pub fn is_xml(path: &Path) -> bool {
    let mut start = Vec::new();
    if !path.metadata().is_ok_and(|file| file.is_file()) {
        return false;
    }
    let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
    read.is_ok() && start.trim_ascii_start().starts_with(b"<")
}

/// Puts the test suites of several reports into one, and adds up their numbers.
///
/// # Errors
///
/// Fails if a file cannot be read, or is not such a report.
pub fn merge(paths: &[PathBuf]) -> Result<Vec<u8>> {
    let mut suites = String::new();
    let mut counts = Counts::default();
    for path in paths {
        let named = || path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(named)?;
        counts.add(copy_suites(&text, &mut suites).with_context(named)?);
    }
    let mut merged = Vec::new();
    begin(&mut merged, counts)?;
    merged.extend(suites.as_bytes());
    merged.extend(b"</testsuites>\n");
    Ok(merged)
}

/// Copies the test suites of a report as they are. Returns the sum of their numbers.
fn copy_suites(text: &str, suites: &mut String) -> Result<Counts> {
    let mut reader = Reader::from_str(text);
    let mut counts = Counts::default();
    let mut is_report = false;
    let mut is_open = false;
    loop {
        let before = reader.buffer_position() as usize;
        match reader.read_event()? {
            Event::Start(start) if start.name().as_ref() == "testsuites" && !is_open => {
                (is_report, is_open) = (true, true);
            }
            Event::End(_) => is_open = false,
            Event::Start(start) if start.name().as_ref() == "testsuite" => {
                is_report = true;
                counts.add(Counts::read(&start)?);
                reader.read_to_end(start.name())?;
                suites.push_str(text[before..reader.buffer_position() as usize].trim());
                suites.push('\n');
            }
            Event::Empty(start) if start.name().as_ref() == "testsuite" => {
                is_report = true;
                counts.add(Counts::read(&start)?);
                suites.push_str(text[before..reader.buffer_position() as usize].trim());
                suites.push('\n');
            }
            Event::Empty(start) if start.name().as_ref() == "testsuites" => is_report = true,
            Event::Start(start) | Event::Empty(start) => bail!(
                "this is not a JUnit report: it has <{}> in place of <testsuite>",
                start.name().as_ref()
            ),
            Event::Eof => break,
            _ => {}
        }
    }
    ensure!(is_report, "this is not a JUnit report: it has no <testsuite>");
    ensure!(!is_open, "this JUnit report is incomplete: it does not end with </testsuites>");
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_programs_reports_are_merged_too() {
        let mut suites = String::new();
        let text = "<?xml version=\"1.0\"?>\n<testsuite name='a' tests='2' failures='1' time='0.5'>\n\
                    <testcase name='x &lt; y'><failure/></testcase></testsuite>\n";
        let counts = copy_suites(text, &mut suites).unwrap();
        assert_eq!((counts.tests, counts.failures, counts.errors), (2, 1, 0));
        assert!(suites.contains("x &lt; y") && suites.ends_with("</testsuite>\n"));
    }

    #[test]
    fn file_that_is_no_report_is_refused() {
        for (text, part) in [
            ("<html><body/></html>", "it has <html>"),
            ("<testsuites>", "incomplete"),
            ("<testsuites><testsuite tests='1'>", ""),
            ("<testsuites><testsuite tests='one'/></testsuites>", "not a number"),
            ("<!-- -->", "no <testsuite>"),
        ] {
            let error = format!("{:#}", copy_suites(text, &mut String::new()).unwrap_err());
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
    }
}
