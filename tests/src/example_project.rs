//! A copy of the example project of the guest shim, which a test may change and `cargo test` runs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pvio_cli::paths;
use tempfile::TempDir;

use crate::Host;

/// A project of kernels with tests of their own.
pub struct ExampleProject {
    directory: TempDir,
    qemu: PathBuf,
}

impl ExampleProject {
    /// Copies `guest-shim/examples`, for this QEMU.
    pub fn on(host: &Host) -> ExampleProject {
        let qemu = host.program("qemu-system-x86_64");
        let project = ExampleProject { directory: tempfile::tempdir().unwrap(), qemu };
        let original = paths::repository().join("guest-shim/examples");
        copy(&original, project.directory.path());
        let shim = paths::repository().join("guest-shim");
        let here = format!("path = {:?}", shim.to_str().unwrap());
        for manifest in ["harness", "kernel-tests", "uefi-tests"] {
            project.edit(&format!("{manifest}/Cargo.toml"), "path = \"../..\"", &here);
        }
        project
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces a part of a file.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        let changed = text.replace(from, to);
        assert!(changed != text, "{file} has no {from}");
        std::fs::write(self.path(file), changed).unwrap();
    }

    /// Runs cargo quietly, with a runner in place of the project's.
    pub fn cargo_with_runner(&self, runner: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", runner).output().unwrap()
    }

    /// Runs cargo quietly.
    pub fn cargo(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (subcommand, arguments) = arguments.split_first().unwrap();
        let mut command = Command::new(env!("CARGO"));
        // Of the cargo that runs the tests.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO") || name.contains("RUSTFLAGS") || name == "LD_LIBRARY_PATH"
            {
                command.env_remove(&*name);
            }
        }
        if let Some(home) = std::env::var_os("CARGO_HOME") {
            command.env("CARGO_HOME", home);
        }
        let mut path = OsString::from(paths::repository().join("target/release"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command
            .current_dir(&self.directory)
            .args([subcommand, "--quiet", "--offline", "--locked"])
            .args(arguments)
            .env("PATH", path)
            .env("PVIO_QEMU", &self.qemu);
        command
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            // What a user has built in place.
            true if entry.file_name() == "target" => {}
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}
