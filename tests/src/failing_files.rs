//! Runs QEMU with files of which one system call fails.

use std::path::{Path, PathBuf};

use pvio_cli::machine::Machine;
use pvio_cli::paths;
use tempfile::TempDir;

use crate::compiler::{Compiler, path_str};

/// The way in which a system call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No space is left on the device.
    Full,
    /// The device has an error.
    Broken,
    /// A signal interrupted it; it must be tried again.
    Interrupted,
    /// It writes half of its bytes.
    Short,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 4] = [Fault::Full, Fault::Broken, Fault::Interrupted, Fault::Short];

    /// Returns true if nobody must notice it.
    pub fn is_transparent(self) -> bool {
        matches!(self, Fault::Interrupted | Fault::Short)
    }

    fn name(self) -> &'static str {
        match self {
            Fault::Full => "ENOSPC",
            Fault::Broken => "EIO",
            Fault::Interrupted => "EINTR",
            Fault::Short => "SHORT",
        }
    }
}

/// A library that counts system calls on files below a directory, and makes one of them fail.
///
/// It sees `open`, `openat`, `write`, `writev`, `ftruncate`, `fsync`, `fdatasync`, `rename`, `renameat`, `renameat2` and
/// `linkat` of the C library.
#[derive(Debug)]
pub struct FailingFiles {
    directory: TempDir,
}

impl FailingFiles {
    /// Compiles the library.
    pub fn new() -> FailingFiles {
        let files = FailingFiles { directory: tempfile::tempdir().unwrap() };
        let source = paths::repository().join("tests/tools/failing-files.c");
        let arguments = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o"];
        let names = [path_str(&files.library()), path_str(&source)];
        let names = names.each_ref().map(|name| &**name);
        Compiler::gcc().compile(&[&arguments[..], &names].concat());
        files
    }

    /// Has call number `at`, from 1, on files below a directory fail; none if it is 0.
    pub fn in_directory(&self, machine: Machine, below: &Path, at: u64, fault: Fault) -> Machine {
        let variables = self.environment(below, at, fault);
        variables.iter().fold(machine, |machine, (name, value)| machine.env(name, value))
    }

    /// The environment of a program of which call number `at` fails, like [`FailingFiles::in_directory`].
    pub fn environment(&self, below: &Path, at: u64, fault: Fault) -> [(&'static str, String); 5] {
        std::fs::write(self.count(), [0; 8]).unwrap();
        [
            ("LD_PRELOAD", path_str(&self.library())),
            ("PVIO_FAULT_COUNT", path_str(&self.count())),
            ("PVIO_FAULT_DIRECTORY", path_str(&below.canonicalize().unwrap())),
            ("PVIO_FAULT_AT", at.to_string()),
            ("PVIO_FAULT", fault.name().to_owned()),
        ]
    }

    /// The number of calls of the last run.
    pub fn calls(&self) -> u64 {
        u64::from_ne_bytes(std::fs::read(self.count()).unwrap().try_into().unwrap())
    }

    fn library(&self) -> PathBuf {
        self.directory.path().join("failing-files.so")
    }

    fn count(&self) -> PathBuf {
        self.directory.path().join("count")
    }
}

impl Default for FailingFiles {
    fn default() -> FailingFiles {
        FailingFiles::new()
    }
}
