//! Runs a test of kvm-unit-tests as the project's own `run_tests.sh` does.
//!
//! What the list has in the shell's syntax is expanded by bash, as there: backticks run commands.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use super::Settings;
use super::unittests::{Build, Unittest};
use super::verdict::End;

/// QEMU's exit status of a test that passed: isa-debug-exit makes 2n + 1 of the guest's exit code 0.
const PASSED: u8 = 1;

/// QEMU's exit status of a test that skipped everything. The project's `exit` writes 38 for it.
const SKIPPED: i32 = 77;

/// QEMU's devices for every test, as in the project's `x86/run`.
const DEVICES: [&str; 6] = [
    "-device",
    "pc-testdev",
    "-device",
    "isa-debug-exit,iobase=0xf4,iosize=0x4",
    "-device",
    "pci-testdev",
];

/// The guest's environment, which it reads from an initial RAM disk.
const ENVIRONMENT: &str = "TARGET=qemu\nQEMU_ACCEL=tcg\nERRATA_FORCE=y\n";

/// Time limit of a command of the shell, in seconds.
const SHELL_TIMEOUT: &str = "10";

/// Returns the settings that the list gives to a test.
pub(super) fn settings(test: &Unittest) -> Settings {
    Settings { success_status: Some(PASSED), timeout: Some(test.seconds()), ..Settings::default() }
}

/// Returns QEMU's arguments of a test, or else the reason why it does not run here.
///
/// `by_group` is true if the tests were selected by a group. The guest's environment is a file in a directory of this run.
///
/// # Errors
///
/// Fails if bash cannot read what the list has, or if the file cannot be written.
pub(super) fn prepare(
    test: &Unittest,
    build: &Build,
    by_group: bool,
    directory: &Path,
) -> Result<Result<Vec<OsString>, String>> {
    match skipped(test, build, by_group)? {
        Some(why) => Ok(Err(why)),
        None => Ok(Ok(arguments(test, build, directory)?)),
    }
}

/// Returns the reason why a test does not run here, in the order of the project's own runner.
fn skipped(test: &Unittest, build: &Build, by_group: bool) -> Result<Option<String>> {
    if test.is_in("pv-host") {
        return Ok(Some("no gen-se-header available for pv-host test".into()));
    }
    if test.is_in("nodefault") && !by_group {
        return Ok(Some("test marked as manual run only: choose a group of it by --group".into()));
    }
    if !test.arch.is_empty() && test.arch != build.arch {
        return Ok(Some(format!("{} only", test.arch)));
    }
    if !matches!(&*test.accel, "" | "tcg") {
        return Ok(Some(format!("{} only, and pvio runs guests by tcg", test.accel)));
    }
    if test.parameters.split_whitespace().any(|word| word == "-enable-kvm") {
        return Ok(Some("kvm only (-enable-kvm), and pvio runs guests by tcg".into()));
    }
    if !test.disabled_if.is_empty() && is_true(&test.disabled_if, build).context("disabled_if")? {
        return Ok(Some(format!("disabled because: {}", test.disabled_if)));
    }
    for condition in test.check.split_whitespace() {
        let (path, expected) = condition.split_once('=').unwrap_or((condition, condition));
        let contents = std::fs::read_to_string(path);
        if !contents.is_ok_and(|contents| contents.trim_end_matches('\n') == expected) {
            return Ok(Some(format!("{path} not equal to {expected}")));
        }
    }
    if test.file.as_os_str().is_empty() {
        return Ok(Some("the list names no file for it".into()));
    }
    if !test.file.is_file() {
        return Ok(Some(format!("test file {:?} not found", test.file)));
    }
    for (group, need) in [("migration", "migrates its machine"), ("panic", "must panic")] {
        if test.is_in(group) {
            return Ok(Some(format!("the test {need}, which pvio test does not support")));
        }
    }
    Ok(None)
}

/// Returns QEMU's arguments of a test, and writes the guest's environment.
fn arguments(test: &Unittest, build: &Build, directory: &Path) -> Result<Vec<OsString>> {
    let mut all: Vec<OsString> = DEVICES.iter().map(OsString::from).collect();
    if !build.is_efi {
        let environment = directory.join("environment");
        std::fs::write(&environment, ENVIRONMENT)?;
        all.extend(["-initrd".into(), environment.into()]);
    }
    if !test.machine.is_empty() {
        all.extend(["-machine".into(), test.machine.clone().into()]);
    }
    let mut line = format!("-smp {}", test.smp);
    if !test.test_args.is_empty() {
        line += &format!(" -append {}", test.test_args);
    }
    line += &format!(" {}", test.parameters);
    all.extend(words(&line, build)?);
    Ok(all)
}

/// What the end of a test means, if it means something else than the guest's exit status.
pub(super) enum Meaning {
    Skipped(String),
    Failed(String),
}

/// Returns the meaning of an end.
///
/// QEMU that does not start, for want of KVM for instance, skips the test. QEMU that prints an error makes it fail.
pub(super) fn meaning(end: &End) -> Option<Meaning> {
    if end.stopped.is_some() {
        return None;
    }
    let ended = &end.ended;
    let mut errors = ended.stderr.lines().filter(|line| !line.trim().is_empty());
    if ended.stats.is_none() {
        let why = errors.next_back().unwrap_or("it printed no reason");
        return Some(Meaning::Skipped(format!("QEMU does not start: {why}")));
    }
    match ended.status.code() {
        Some(SKIPPED) => {
            let summary = ended.stdout.lines().rev().take(5).find_map(|line| {
                line.trim_end().strip_prefix("SUMMARY: ").map(|summary| format!(": {summary}"))
            });
            Some(Meaning::Skipped(format!("it skipped itself{}", summary.unwrap_or_default())))
        }
        Some(status) if status == i32::from(PASSED) => {
            let error = errors.find(|line| !line.to_ascii_lowercase().contains("warning"))?;
            Some(Meaning::Failed(format!("exit status {PASSED}, but QEMU printed: {error}")))
        }
        _ => None,
    }
}

/// Splits a text into words, as bash does.
fn words(text: &str, build: &Build) -> Result<Vec<OsString>> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " \t,.=+/:@%_-".contains(c);
    if text.chars().all(is_plain) {
        return Ok(text.split_whitespace().map(OsString::from).collect());
    }
    let script =
        format!("words=(\n{text}\n) && ((${{#words[@]}})) && printf '%s\\0' \"${{words[@]}}\"");
    let output = bash(&script, build)?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        let why = why.lines().next().unwrap_or("it printed no reason");
        bail!("bash cannot expand {text:?}: {why}");
    }
    let words = output.stdout.split_inclusive(|&byte| byte == 0);
    Ok(words.map(|word| OsString::from_vec(word[..word.len() - 1].to_vec())).collect())
}

fn is_true(condition: &str, build: &Build) -> Result<bool> {
    Ok(bash(condition, build)?.status.success())
}

/// Runs a script, with the variables that lists use.
fn bash(script: &str, build: &Build) -> Result<Output> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let output = Command::new("timeout")
        .args([SHELL_TIMEOUT, "bash", "-c", script])
        .env("MAX_SMP", processors.to_string())
        .env("TARGET", "qemu")
        .env("ACCEL", "tcg")
        .env("ARCH", &build.arch)
        .env("CONFIG_EFI", if build.is_efi { "y" } else { "" })
        .stdin(Stdio::null())
        .output()
        .context("bash cannot be run")?;
    match output.status.code() {
        Some(124) => bail!("bash took more than {SHELL_TIMEOUT} seconds"),
        Some(125..=127) => {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("bash cannot run {script:?}: {}", why.lines().next().unwrap_or_default())
        }
        _ => Ok(output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build() -> Build {
        Build { arch: "x86_64".into(), is_efi: false }
    }

    #[test]
    fn words_are_those_of_bash() {
        let all = |text: &str| words(text, &build()).unwrap();
        assert_eq!(all("-smp 1 -cpu max,+x2apic"), ["-smp", "1", "-cpu", "max,+x2apic"]);
        assert_eq!(
            all("-append \"a `echo b c` $TARGET\" 'd e' \\\n f\n-g"),
            ["-append", "a b c qemu", "d e", "f", "-g"]
        );
        assert_eq!(all("''"), [""]);
        let error = format!("{:#}", words("-append \"a", &build()).unwrap_err());
        assert!(error.starts_with("bash cannot expand") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn condition_is_that_of_bash() {
        assert!(is_true("[[ \"$TARGET\" = qemu ]] && [[ $ACCEL != kvm ]]", &build()).unwrap());
        assert!(!is_true("[[ \"$CONFIG_EFI\" = y ]]", &build()).unwrap());
    }
}
