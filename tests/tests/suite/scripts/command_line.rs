//! The scripts: their error messages, and what setup repairs.

use std::path::Path;
use std::process::{Command, Output};

use pvio_cli::paths;
use pvio_tests::{Host, guest};

fn script(name: &str) -> Command {
    let mut command = Command::new(paths::repository().join("qemu-scripts").join(name));
    command.env_remove("PVIO_QEMU");
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Setup, with a QEMU that the user names.
fn setup_with(qemu: &Path) -> Output {
    script("setup").arg("--no-build").env("PVIO_QEMU", qemu).output().unwrap()
}

/// The line in which a script says what is wrong.
fn complaint(output: &Output, script: &str) -> String {
    assert!(!output.status.success(), "{}", stderr(output));
    let text = stderr(output);
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&format!("{script}: ")));
    let line = lines.next().unwrap_or_else(|| panic!("no complaint: {text}")).to_owned();
    assert_eq!(lines.next(), None, "{text}");
    line
}

#[test]
fn a_qemu_that_is_named_must_work() {
    let missing = complaint(&setup_with(Path::new("/nonexistent/qemu")), "setup");
    assert!(missing.contains("/nonexistent/qemu"), "{missing}");
    let no_qemu = complaint(&setup_with(Path::new("/bin/false")), "setup");
    let too_old = paths::private_qemu("bookworm", "qemu-system-x86_64").unwrap();
    let too_old = complaint(&setup_with(&too_old), "setup");
    assert!(too_old.contains("7.2") && too_old.contains("9.2"), "{too_old}");
    assert!(missing != no_qemu && no_qemu != too_old, "each has a line of its own");

    let qemu = Host::STABLE.program("qemu-system-x86_64");
    let output = script("qemu").env("PVIO_QEMU", &qemu).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("version 10.0"), "{output:?}");
}

/// The programs that the scripts run: none panics, or prints more than one line about an error.
#[test]
fn what_a_program_cannot_write_or_run_is_one_line() {
    use std::os::fd::OwnedFd;
    let qemu = Host::NEWEST.program("qemu-system-x86_64");
    let program = |name: &str, arguments: &[&str], qemu: &Path| {
        let mut command = script(name);
        command.args(arguments).env("PVIO_QEMU", qemu).env("RUST_BACKTRACE", "1");
        command
    };
    let programs: [(&str, &[&str]); 3] =
        [("demo", &[]), ("experiment", &["--quick"]), ("bench", &["--only", "ports"])];
    for (name, arguments) in programs {
        let missing = program(name, arguments, Path::new("/nonexistent/qemu")).output().unwrap();
        assert!(complaint(&missing, "setup").contains("/nonexistent/qemu"), "{name}");
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = program(name, arguments, &qemu).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        let line = complaint(&output, name);
        assert!(line.starts_with("stdout cannot be written: No space left"), "{line}");
        assert!(!stderr(&output).contains("backtrace"), "{name}: {}", stderr(&output));
        let closed = OwnedFd::from(std::os::unix::net::UnixStream::pair().unwrap().0);
        let output = program(name, arguments, &qemu).stdout(closed).output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{name}");
        assert!(!stderr(&output).contains(&format!("{name}: ")), "{name}: {}", stderr(&output));
    }
    for (name, arguments) in [("run", &["--"][..]), ("qemu", &["-version"])] {
        let output = program(name, arguments, Path::new("/nonexistent/qemu")).output().unwrap();
        assert!(complaint(&output, name).contains("/nonexistent/qemu"), "{name}");
    }
}

#[test]
fn output_through_a_link_of_another_user_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let option = format!("stats={}", path("stats.json").display());
    let machine = Host::NEWEST.machine().plugin(&["summary=off", &option]);
    assert!(machine.bare_guest(&guest("poweroff.bin")).run().unwrap().status.success());
    std::fs::write(path("victim"), "precious").unwrap();
    std::os::unix::fs::symlink("victim", path("link")).unwrap();
    // Only root can give a link to another user.
    if std::os::unix::fs::lchown(path("link"), Some(65534), None).is_err() {
        eprintln!("skipped: it needs root");
        return;
    }
    for arguments in [&["report"][..], &["merge"], &["export", "--format", "csv"]] {
        let mut command = Command::new(paths::repository().join("target/release/pvio"));
        command.args(arguments).arg(path("stats.json")).arg("--output").arg(path("link"));
        let output = command.output().unwrap();
        let why = "/link is a symbolic link of another user's; name the file itself";
        assert!(stderr(&output).contains(why), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1);
        assert!(!output.status.success());
        assert_eq!(std::fs::read_to_string(path("victim")).unwrap(), "precious");
    }
}

#[test]
fn run_needs_to_know_where_the_options_end() {
    let line = complaint(&script("run").args(["stats=x.json"]).output().unwrap(), "run");
    assert!(line.contains("--"), "{line}");
}

/// Runs the quickest subject on a QEMU that supports it and on one that does not. Checks the form of the output, not
/// the times.
#[test]
fn bench_measures_what_the_qemu_can_do() {
    let bench = |host: &Host| -> serde_json::Value {
        let qemu = host.program("qemu-system-x86_64");
        let output =
            script("bench").args(["--only", "calls", "--json"]).env("PVIO_QEMU", qemu).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let report = bench(&Host::NEWEST);
    assert_eq!(report["qemu"]["plugin_api"], 7);
    assert_eq!(report["left_out"], serde_json::Value::Null);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 8);
    for row in rows {
        let [min, median, max] =
            ["min", "median", "max"].map(|name| row["ratio"][name].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{row}");
        assert!(row["ratio"]["pairs"].as_u64().unwrap() >= 7, "{row}");
    }
    let report = bench(&Host::STABLE);
    assert_eq!(report["rows"], serde_json::json!([]));
    let why = report["left_out"].as_str().unwrap();
    assert!(why.contains("this QEMU has version 4"), "{why}");
}

/// Setup notices that the program in a private copy is truncated, and downloads the copy again.
#[test]
fn setup_repairs_a_broken_copy() {
    let directory = tempfile::tempdir().unwrap();
    let setup = || {
        let output = script("setup")
            .arg("--no-build")
            .env("PVIO_DIR", directory.path())
            .env("PATH", path_without_qemu())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = setup();
    assert!(first.contains("private copy"), "{first}");
    let chosen = std::fs::read_to_string(directory.path().join("qemu/chosen")).unwrap();
    let copy = Path::new(chosen.trim_end()).parent().unwrap();
    let program = copy.join("tree/usr/bin/qemu-system-x86_64");
    let size = program.metadata().unwrap().len();
    std::fs::File::options().write(true).open(&program).unwrap().set_len(size / 2).unwrap();

    assert_eq!(setup(), first);
    assert_eq!(program.metadata().unwrap().len(), size);
    let version = Command::new(chosen.trim_end()).arg("--version").output().unwrap();
    assert!(version.status.success());
}

/// The PATH without directories that have a QEMU, so that setup needs a private one.
fn path_without_qemu() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap();
    let has_none = |directory: &std::path::PathBuf| !directory.join("qemu-system-x86_64").exists();
    std::env::join_paths(std::env::split_paths(&path).filter(has_none)).unwrap()
}
