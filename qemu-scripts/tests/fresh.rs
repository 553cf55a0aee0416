//! The scripts in a fresh clone, before anything is built: help, missing tools, the record of long tests.

use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use pvio_cli::paths;
use tempfile::TempDir;

/// A copy of the scripts without the rest of the repository.
struct Clone(TempDir);

impl Clone {
    fn new() -> Clone {
        let directory = tempfile::tempdir().unwrap();
        for part in ["qemu-scripts", ".ci"] {
            copy(&paths::repository().join(part), &directory.path().join(part));
        }
        // Setup reads the minimum Rust version from it.
        std::fs::copy(paths::repository().join("Cargo.toml"), directory.path().join("Cargo.toml"))
            .unwrap();
        Clone(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.0).env("HOME", self.path("home"));
        for variable in ["PVIO_DIR", "PVIO_QEMU", "CARGO_TARGET_DIR", "CC"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs shell code after `lib.sh` and `long.sh`.
    fn long(&self, code: &str) -> Output {
        let code = format!("source qemu-scripts/lib.sh; source qemu-scripts/long.sh; {code}");
        self.command("bash").args(["-c", &code]).output().unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::copy(from, to).unwrap();
    }
}

/// Every path below a directory.
fn contents(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.push(path);
    }
    all.sort_unstable();
    all
}

fn programs(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_program = |path: &PathBuf| {
        path.is_file() && path.metadata().unwrap().permissions().mode() & 0o111 != 0
    };
    entries.filter(is_program).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_answers_at_once_and_writes_nothing() {
    let clone = Clone::new();
    let before = contents(clone.0.path());
    let scripts = [programs(&clone.path("qemu-scripts")), programs(&clone.path(".ci"))].concat();
    assert!(scripts.len() >= 10, "{scripts:?}");
    for (script, option) in scripts.iter().flat_map(|script| ["--help", "-h"].map(|o| (script, o)))
    {
        let name = script.strip_prefix(&clone.0).unwrap().display().to_string();
        // This script passes `-h` to QEMU.
        if (&*name, option) == ("qemu-scripts/qemu", "-h") {
            continue;
        }
        let started = Instant::now();
        let output = clone.command(script).arg(option).output().unwrap();
        let took = started.elapsed();
        assert!(output.status.success(), "{name} {option}: {}", stderr(&output));
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.to_lowercase().contains(&format!("usage: {name}")), "{name} {option}: {help}");
        assert!(took < Duration::from_secs(1), "{name} {option} took {took:?}");
    }
    assert_eq!(contents(clone.0.path()), before);
}

/// Help is for the script only up to `--`.
#[test]
fn arguments_for_qemu_are_not_read_as_options() {
    let clone = Clone::new();
    let output = clone.long("answer_help test guest.bin -- --help; echo went on");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "went on\n");
}

#[test]
fn all_missing_tools_are_listed_at_once() {
    let clone = Clone::new();
    let tools = clone.path("tools");
    std::fs::create_dir(&tools).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    for tool in ["bash", "cat", "dirname", "flock", "grep", "mkdir", "mktemp", "realpath", "rm"]
        .into_iter()
        .chain(["sed", "sort", "tail", "timeout", "uname", "find", "cmp", "awk"])
    {
        let there = std::env::split_paths(&path).map(|directory| directory.join(tool));
        symlink(there.into_iter().find(|path| path.exists()).expect(tool), tools.join(tool))
            .unwrap();
    }
    let setup = clone.path("qemu-scripts/setup");
    let output = clone.command(setup).env("PATH", &tools).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = stderr(&output);
    for missing in
        ["Rust is missing", "C compiler \"cc\" is missing", "ld is missing", "objcopy is missing"]
    {
        assert!(errors.contains(missing), "{missing}: {errors}");
    }
    assert!(errors.lines().all(|line| line.starts_with("setup: ")), "{errors}");
}

/// Adds a long part that passes if the file `verdict` says yes.
fn add_part(clone: &Clone) {
    let part = clone.path("qemu-scripts/long/probe");
    std::fs::write(&part, "#!/bin/sh\n# A probe.\n# inputs: data\nexec grep -q yes verdict\n")
        .unwrap();
    std::fs::set_permissions(&part, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir(clone.path("data")).unwrap();
    std::fs::write(clone.path("data/input"), "one").unwrap();
}

#[test]
fn long_part_is_due_again_after_an_input_changes() {
    let clone = Clone::new();
    add_part(&clone);
    let is_due = || clone.long("is_due probe").status.success();
    let run = |verdict: &str| {
        std::fs::write(clone.path("verdict"), verdict).unwrap();
        clone.long("run_part probe 60").status.success()
    };
    assert!(is_due());
    assert!(!run("no") && is_due(), "a failure is not recorded");
    assert!(run("yes") && !is_due());
    std::fs::write(clone.path("data/input"), "two").unwrap();
    assert!(is_due(), "an input has changed");
    assert!(run("yes") && !is_due());
    std::fs::write(clone.path("data/new"), "").unwrap();
    assert!(is_due(), "an input has been added");
    assert!(run("yes") && !is_due());
    let part = clone.path("qemu-scripts/long/probe");
    let text = std::fs::read_to_string(&part).unwrap();
    std::fs::write(&part, text + "# changed\n").unwrap();
    assert!(is_due(), "the part itself has changed");
}

#[test]
fn long_part_fails_at_its_time_limit() {
    let clone = Clone::new();
    add_part(&clone);
    std::fs::write(
        clone.path("qemu-scripts/long/probe"),
        "#!/bin/sh\n#\n# inputs: data\nsleep 60\n",
    )
    .unwrap();
    let output = clone.long("run_part probe 1");
    assert_eq!(output.status.code(), Some(124));
    assert!(stderr(&output).contains("long part probe did not end within"), "{}", stderr(&output));
    assert!(!clone.path(".ci/passed/probe").exists());
}

#[test]
fn wrong_long_part_or_option_is_refused_with_the_right_ones() {
    let clone = Clone::new();
    let test = clone.path("qemu-scripts/test");
    let parts = std::fs::read_dir(clone.path("qemu-scripts/long")).unwrap();
    let mut parts: Vec<_> =
        parts.map(|part| part.unwrap().file_name().into_string().unwrap()).collect();
    parts.sort();
    let no_part =
        format!("--long fuz: this part does not exist; the parts are: {}", parts.join(" "));
    for (arguments, wanted) in [
        (&["--long", "fuz"][..], no_part.as_str()),
        (&["--long"], "--long needs the name of a part: see --help"),
        (&["--lnog"], "\"--lnog\" is not an option of test: see --help"),
        (&["--long=fuzz", "ports"], "--long fuzz: a part takes no filter; remove \"ports\""),
    ] {
        let output = clone.command(&test).args(arguments).output().unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(1), format!("test: {wanted}\n")));
    }
}

#[test]
fn every_long_part_has_a_description_and_inputs_that_exist() {
    let parts = programs(&paths::repository().join("qemu-scripts/long"));
    assert!(!parts.is_empty());
    for part in parts {
        let text = std::fs::read_to_string(&part).unwrap();
        let mut lines = text.lines().skip(1);
        assert!(lines.next().unwrap().starts_with("# "), "{}", part.display());
        let inputs = lines.find_map(|line| line.strip_prefix("# inputs: ")).unwrap();
        for input in inputs.split(' ') {
            assert!(paths::repository().join(input).exists(), "{}: {input}", part.display());
        }
        let minutes = lines.find_map(|line| line.strip_prefix("# minutes: ")).unwrap();
        // `test --long` gives a part half an hour.
        assert!((1..=30).contains(&minutes.parse().unwrap()), "{}: {minutes}", part.display());
    }
}
