//! The settings of a guest: from options, and from `guest.toml` beside it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;

use super::expectation::Expectation;
use super::{BootKind, Pattern, cargo};

/// The name of the file beside guests.
const FILE: &str = "guest.toml";

/// The time limits that a guest may have, in seconds.
pub const TIMEOUTS: RangeInclusive<u64> = 1..=86_400;

/// Settings of a guest. A setting that is absent is that of the file, or else the default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// How to boot the guest; found by its content if it is `None`.
    pub boot: Option<BootKind>,
    /// The exit status of QEMU that means success.
    pub success_status: Option<u8>,
    /// The line of the guest's output that means success.
    pub success: Option<Pattern>,
    /// The line of the guest's output that means failure.
    pub failure: Option<Pattern>,
    /// True if a power-off means success.
    pub success_power_off: Option<bool>,
    /// Time limit, in seconds.
    pub timeout: Option<u64>,
    /// Options of the plugin.
    pub options: Vec<String>,
    /// Arguments of QEMU.
    pub arguments: Vec<String>,
    /// In a file: the settings of single guests, by file name.
    pub guest: BTreeMap<String, Settings>,
}

impl Settings {
    /// Returns these settings, with those of `base` where these have none. Lists are joined, the base first.
    pub(super) fn over(&self, base: &Settings) -> Settings {
        let join = |base: &[String], own: &[String]| [base, own].concat();
        Settings {
            boot: self.boot.or(base.boot),
            success_status: self.success_status.or(base.success_status),
            success: self.success.clone().or_else(|| base.success.clone()),
            failure: self.failure.clone().or_else(|| base.failure.clone()),
            success_power_off: self.success_power_off.or(base.success_power_off),
            timeout: self.timeout.or(base.timeout),
            options: join(&base.options, &self.options),
            arguments: join(&base.arguments, &self.arguments),
            guest: BTreeMap::new(),
        }
    }

    /// Returns what counts as success.
    pub(super) fn expectation(&self) -> Expectation {
        Expectation {
            status: self.success_status,
            success: self.success.clone(),
            failure: self.failure.clone(),
            power_off: self.success_power_off.unwrap_or(false),
        }
    }
}

/// A `guest.toml`: settings of all guests in its directory, and of single ones by file name.
#[derive(Debug)]
struct GuestFile {
    all: Settings,
    single: BTreeMap<String, Settings>,
}

impl GuestFile {
    /// Reads the file of a directory, which may have the guests or be Cargo's package.
    ///
    /// A directory without one has no settings.
    fn read(directory: &Path, has_guests: bool) -> Result<GuestFile> {
        let path = directory.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let file = GuestFile::parse(&text).with_context(|| path.display().to_string())?;
        for name in file.single.keys() {
            ensure!(
                !has_guests || directory.join(name).exists(),
                "{}: guest {name:?}: there is no such file beside it; name a guest in this directory",
                path.display()
            );
        }
        Ok(file)
    }

    fn parse(text: &str) -> Result<GuestFile> {
        let mut all: Settings = toml::from_str(text).map_err(|error| one_line(text, &error))?;
        let single = std::mem::take(&mut all.guest);
        for settings in single.values().chain([&all]) {
            ensure!(settings.guest.is_empty(), "a table guest.NAME cannot contain another guest");
            if let Some(seconds) = settings.timeout {
                ensure!(
                    TIMEOUTS.contains(&seconds),
                    "timeout = {seconds}: it is from {} to {} seconds",
                    TIMEOUTS.start(),
                    TIMEOUTS.end()
                );
            }
        }
        Ok(GuestFile { all, single })
    }

    /// Returns the settings of a guest in the directory.
    fn of(&self, name: &str) -> Settings {
        let single = self.single.get(name);
        single.map_or_else(|| self.all.clone(), |single| single.over(&self.all))
    }
}

/// Makes one line of a TOML error, with the number of the line in the file.
fn one_line(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
    let message = error.message().lines().collect::<Vec<_>>().join("; ");
    match line {
        Some(line) => anyhow!("line {line}: {message}"),
        None => anyhow!(message),
    }
}

/// Reads the settings of guests. Keeps the file that it read last, since guests of one directory follow each other.
#[derive(Debug, Default)]
pub(super) struct GuestFiles {
    /// The package of guests that Cargo built. Its file is that of all guests.
    package: Option<PathBuf>,
    last: Mutex<Option<(PathBuf, Arc<GuestFile>)>>,
}

impl GuestFiles {
    /// Reads the file of a package, not those beside guests.
    pub(super) fn of_package(package: Option<PathBuf>) -> GuestFiles {
        GuestFiles { package, last: Mutex::default() }
    }

    /// Returns the settings of a guest: the options, and for what they leave open, those of the file beside it.
    ///
    /// In the file of a package, a guest's name has no hash.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or is wrong.
    pub(super) fn settings(&self, guest: &Path, options: &Settings) -> Result<Settings> {
        let directory = match (&self.package, guest.parent()) {
            (Some(package), _) => package,
            (None, Some(parent)) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut last = self.last.lock().expect("no thread panics with the lock");
        let file = match &*last {
            Some((path, file)) if path == directory => Arc::clone(file),
            _ => {
                let file = Arc::new(GuestFile::read(directory, self.package.is_none())?);
                *last = Some((directory.to_owned(), Arc::clone(&file)));
                file
            }
        };
        let name = guest.file_name().unwrap_or_default().to_string_lossy();
        let name = match self.package {
            Some(_) => cargo::without_hash(&name),
            None => name.clone(),
        };
        Ok(options.over(&file.of(&name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let error = GuestFile::parse(text).unwrap_err();
        let line = format!("{error:#}");
        assert!(!line.contains('\n'), "{line}");
        line
    }

    #[test]
    fn settings_of_one_guest_come_before_those_of_all() {
        let file = GuestFile::parse(
            "success-status = 33\ntimeout = 5\narguments = [\"-m\", \"64\"]\n\
             [guest.\"a.bin\"]\nsuccess-status = 35\narguments = [\"-S\"]\n",
        );
        let file = file.unwrap();
        let a = file.of("a.bin");
        assert_eq!((a.success_status, a.timeout), (Some(35), Some(5)));
        assert_eq!(a.arguments, ["-m", "64", "-S"]);
        assert_eq!(file.of("b.bin").success_status, Some(33));
        let options = Settings { success_status: Some(1), ..Settings::default() };
        assert_eq!(options.over(&a).success_status, Some(1));
    }

    #[test]
    fn wrong_file_is_explained_in_one_line() {
        let line = refused("timeout = 3\nsucess = \"ok\"\n");
        assert!(
            line.starts_with("line 2: unknown field `sucess`, expected one of `boot`"),
            "{line}"
        );
        let line = refused("success = \"a(\"\n");
        assert!(line.starts_with("line 1: pattern \"a(\": unclosed group"), "{line}");
        let line = refused("boot = \"floppy\"\n");
        assert!(line.contains("unknown variant `floppy`, expected one of `bios`"), "{line}");
        assert!(refused("success-status = 256").starts_with("line 1: "));
        assert_eq!(refused("timeout = 0"), "timeout = 0: it is from 1 to 86400 seconds");
        assert!(refused("[guest.a.guest.b]").contains("cannot contain another guest"));
    }
}
