//! Reads the list of tests of kvm-unit-tests: a `unittests.cfg`.
//!
//! The format is that of the project's own `scripts/common.bash`: a line `[NAME]` begins a test, lines `KEY = VALUE` are its
//! settings, and other lines are ignored. Here they are warned of, too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::quote::one_line;
use super::settings::TIMEOUTS;

/// Time limit of a test that states none, in seconds.
const DEFAULT_TIMEOUT: u64 = 90;

/// A test of the list. Empty texts are keys that are absent.
#[derive(Clone, Debug, Default)]
pub struct Unittest {
    /// The name in brackets.
    pub name: String,
    /// `file`: the guest, in the directory of the list.
    pub file: PathBuf,
    /// `groups`, separated by spaces.
    pub groups: String,
    /// `smp`: the number of processors, in the shell's syntax.
    pub smp: String,
    /// `test_args`: the guest's command line as one word of the shell; more words are arguments of QEMU.
    pub test_args: String,
    /// `qemu_params` or `extra_params`: arguments of QEMU, in the shell's syntax.
    pub parameters: String,
    /// `arch`: the only architecture that it is for.
    pub arch: String,
    /// `machine`: QEMU's machine.
    pub machine: String,
    /// `check`: files and the contents that they must have, as `PATH=CONTENTS`, separated by spaces.
    pub check: String,
    /// `accel`: the only accelerator that it is for.
    pub accel: String,
    /// `disabled_if`: a condition of the shell that disables it.
    pub disabled_if: String,
    /// `timeout`.
    pub timeout: Option<Duration>,
}

impl Unittest {
    /// Returns true if the test is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.split_whitespace().any(|name| name == group)
    }

    /// Returns the time limit in whole seconds. A limit of 0 is none.
    pub(super) fn seconds(&self) -> u64 {
        match self.timeout {
            None => DEFAULT_TIMEOUT,
            Some(Duration::ZERO) => *TIMEOUTS.end(),
            Some(limit) => (limit.as_secs_f64().ceil() as u64).min(*TIMEOUTS.end()),
        }
    }

    fn set(&mut self, key: &str, value: &str, directory: &Path) -> Result<bool> {
        let text = match key {
            "file" => {
                self.file = directory.join(value);
                return Ok(true);
            }
            "timeout" => {
                self.timeout = Some(timeout(value)?);
                return Ok(true);
            }
            // For another virtual machine monitor.
            "kvmtool_params" => return Ok(true),
            "groups" => &mut self.groups,
            "smp" => &mut self.smp,
            "test_args" => &mut self.test_args,
            "qemu_params" | "extra_params" => &mut self.parameters,
            "arch" => &mut self.arch,
            "machine" => &mut self.machine,
            "check" => &mut self.check,
            "accel" => &mut self.accel,
            "disabled_if" => &mut self.disabled_if,
            _ => return Ok(false),
        };
        value.clone_into(text);
        Ok(true)
    }
}

/// Parses a duration as `timeout` of coreutils does: `90`, `90s`, `1.5m`.
fn timeout(value: &str) -> Result<Duration> {
    let (number, unit) = match value.char_indices().next_back() {
        Some((at, 's')) => (&value[..at], 1.0),
        Some((at, 'm')) => (&value[..at], 60.0),
        Some((at, 'h')) => (&value[..at], 3600.0),
        Some((at, 'd')) => (&value[..at], 86400.0),
        _ => (value, 1.0),
    };
    let seconds: Option<f64> = number.parse().ok();
    let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds * unit).ok());
    limit
        .with_context(|| format!("timeout = {}: write seconds, such as 90 or 90s", one_line(value)))
}

/// A list of tests.
#[derive(Debug)]
pub struct Unittests {
    tests: Vec<Unittest>,
    /// One line for each line of the list that means nothing.
    warnings: Vec<String>,
    /// The configuration of kvm-unit-tests.
    build: Build,
}

/// What `config.mak`, in the parent directory of the list, says about how the tests were built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Build {
    /// `ARCH`: `x86_64` or `i386`.
    pub arch: String,
    /// `CONFIG_EFI`: the tests are EFI applications.
    pub is_efi: bool,
}

impl Unittests {
    /// Reads a list.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read, has no test, or has a value that is wrong.
    pub fn read(path: &Path) -> Result<Unittests> {
        let named = || path.display().to_string();
        let text = std::fs::read(path).with_context(named)?;
        let text = String::from_utf8(text).ok();
        let text = text.with_context(|| format!("{}: this is not text", path.display()))?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let config = directory.join("..").join("config.mak");
        let build = Build::of(&std::fs::read_to_string(&config).unwrap_or_default());
        ensure!(
            matches!(&*build.arch, "x86_64" | "i386"),
            "{}: ARCH={}: only tests for x86_64 and i386 can run",
            config.display(),
            one_line(&build.arch)
        );
        let mut list = Unittests { tests: Vec::new(), warnings: Vec::new(), build };
        list.parse(&text, directory).with_context(named)?;
        list.warnings.iter_mut().for_each(|line| *line = format!("{}: {line}", path.display()));
        ensure!(
            !list.tests.is_empty(),
            "{}: this list has no test: name a unittests.cfg of kvm-unit-tests",
            path.display()
        );
        Ok(list)
    }

    fn parse(&mut self, text: &str, directory: &Path) -> Result<()> {
        let mut lines = (1..).zip(text.lines());
        while let Some((number, line)) = lines.next() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let name = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            if let Some(name) = name {
                ensure!(!name.is_empty(), "line {number}: a test needs a name: [NAME]");
                let smp = "1".into();
                self.tests.push(Unittest { name: name.into(), smp, ..Unittest::default() });
                continue;
            }
            let mut warn = |what: &str| {
                self.warnings.push(format!("line {number}: {what}; the line is ignored"));
            };
            let Some((key, value)) = line.split_once('=') else {
                warn("this is neither [NAME] nor KEY = VALUE");
                continue;
            };
            let (key, value) = (key.trim_end(), value.trim_start());
            let value = match value.strip_prefix("\"\"\"") {
                Some(first) => {
                    block(first, lines.by_ref().map(|(_, line)| line)).with_context(|| {
                        format!("line {number}: {}: \"\"\" has no end", one_line(key))
                    })?
                }
                None => value.to_owned(),
            };
            let Some(test) = self.tests.last_mut() else {
                warn("no test begins before it");
                continue;
            };
            let known = test.set(key, &value, directory);
            if !known.with_context(|| format!("line {number}"))? {
                warn(&format!("unknown key {key:?}"));
            }
        }
        if self.build.is_efi {
            for test in &mut self.tests {
                test.file.set_extension("efi");
            }
        }
        Ok(())
    }

    /// Returns the tests, in the order of the list.
    pub(super) fn tests(&self) -> &[Unittest] {
        &self.tests
    }

    /// Returns the lines that mean nothing, one warning for each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns how the tests were built.
    pub(super) fn build(&self) -> &Build {
        &self.build
    }

    /// Checks that there is a group.
    ///
    /// # Errors
    ///
    /// Fails if no test is in it.
    pub fn check_group(&self, group: &str) -> Result<()> {
        if self.tests.iter().any(|test| test.is_in(group)) {
            return Ok(());
        }
        let mut groups: Vec<&str> =
            self.tests.iter().flat_map(|test| test.groups.split_whitespace()).collect();
        groups.sort_unstable();
        groups.dedup();
        let groups = one_line(&groups.join(" "));
        bail!("--group {group}: no test is in this group; the list has: {groups}")
    }
}

/// Returns a value of several lines, which ends with three quotes.
fn block<'a>(first: &'a str, lines: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut value = String::new();
    for line in std::iter::once(first).chain(lines) {
        if let Some(last) = line.trim_end().strip_suffix("\"\"\"") {
            value.push_str(last);
            return Some(value);
        }
        value.push_str(line);
        value.push('\n');
    }
    None
}

impl Build {
    /// Reads the text of a `config.mak`. Without one, the tests are for x86-64.
    fn of(config: &str) -> Build {
        let value = |key: &str| {
            let lines = config.lines().filter_map(|line| line.split_once('='));
            lines.filter(|(name, _)| *name == key).map(|(_, value)| value).next_back()
        };
        let arch = value("ARCH").filter(|arch| !arch.is_empty()).unwrap_or("x86_64");
        Build { arch: arch.into(), is_efi: value("CONFIG_EFI") == Some("y") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<Unittests> {
        let build = Build::of("");
        let mut list = Unittests { tests: Vec::new(), warnings: Vec::new(), build };
        list.parse(text, Path::new("x86")).map(|()| list)
    }

    #[test]
    fn every_key_is_read() {
        let list = list(
            "# comment\n\n[a b]\nfile = a.flat\n  smp=2\ntest_args = 'x = y'\nqemu_params = -m 1\n\
             groups = one two\narch = i386\nmachine = q35\ncheck = /a=1 /b=2\naccel = kvm\n\
             timeout = 2m\ndisabled_if = [[ $A = 1 ]]\nkvmtool_params = --mem 1\n[b]\n\
             extra_params = \"\"\"-a \\\n-b\n-c\"\"\"\ntimeout = 0\n",
        );
        let list = list.unwrap();
        let [a, b] = list.tests() else { panic!("{list:?}") };
        let texts = [&a.name, &a.smp, &a.test_args, &a.parameters, &a.arch, &a.machine];
        assert_eq!(texts, ["a b", "2", "'x = y'", "-m 1", "i386", "q35"]);
        let texts = [&a.check, &a.accel, &a.disabled_if];
        assert_eq!(texts, ["/a=1 /b=2", "kvm", "[[ $A = 1 ]]"]);
        assert_eq!((a.file.to_str(), a.seconds()), (Some("x86/a.flat"), 120));
        assert!(a.is_in("one") && a.is_in("two") && !a.is_in("on"));
        assert_eq!((&*b.smp, &*b.parameters), ("1", "-a \\\n-b\n-c"));
        assert_eq!(b.seconds(), *TIMEOUTS.end());
        assert!(list.warnings().is_empty());
        assert!(list.check_group("two").is_ok());
        let error = list.check_group("three").unwrap_err().to_string();
        assert!(error.ends_with("the list has: one two"), "{error}");
    }

    #[test]
    fn line_without_meaning_is_warned_of() {
        let list = list("file = a\n[a]\ntiemout = 3\nfile a.flat\n").unwrap();
        assert_eq!(
            list.warnings(),
            [
                "line 1: no test begins before it; the line is ignored",
                "line 3: unknown key \"tiemout\"; the line is ignored",
                "line 4: this is neither [NAME] nor KEY = VALUE; the line is ignored"
            ]
        );
    }

    #[test]
    fn wrong_value_is_refused() {
        for (text, why) in [
            ("[a]\ntimeout = soon\n", "line 2: timeout = soon: write seconds, such as 90 or 90s"),
            ("[a]\ntimeout = -1\n", "line 2: timeout = -1: write seconds, such as 90 or 90s"),
            (
                "[a]\ntimeout = \x1b[2J\n",
                "line 2: timeout = \\u{1b}[2J: write seconds, such as 90 or 90s",
            ),
            ("[a]\n\0 = \"\"\"-m 1\n", "line 2: \\0: \"\"\" has no end"),
            ("[]\n", "line 1: a test needs a name: [NAME]"),
            ("[a]\nqemu_params = \"\"\"-m 1\n", "line 2: qemu_params: \"\"\" has no end"),
        ] {
            assert_eq!(format!("{:#}", list(text).unwrap_err()), why);
        }
    }

    #[test]
    fn build_is_that_of_the_configuration() {
        let build = Build::of("A=1\nARCH=i386\nCONFIG_EFI=y\n");
        assert_eq!(build, Build { arch: "i386".into(), is_efi: true });
        assert_eq!(Build::of(""), Build { arch: "x86_64".into(), is_efi: false });
    }
}
