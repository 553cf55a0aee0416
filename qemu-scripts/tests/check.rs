//! `pvio check` on the command line: exit statuses and messages.

use std::process::Command;

use pvio_cli::stats::Snapshot;
use pvio_cli::stats::test_data::snapshot;
use tempfile::TempDir;

/// A directory with a dump `a.json`, which writes to COM1, and one that lacks the code of its accesses.
struct Dumps(TempDir);

impl Dumps {
    fn new() -> Dumps {
        let dumps = Dumps(tempfile::tempdir().unwrap());
        let dump = snapshot(1000);
        dumps.save("a.json", &dump.to_json());
        let mut dropped: Snapshot = dump;
        dropped.tables.accesses_dropped.accesses =
            dropped.tables.accesses.remove(0).counts.accesses;
        dumps.save("dropped.json", &dropped.to_json());
        dumps.save("open.toml", b"default = \"allow\"\n");
        dumps.save("shut.toml", b"default = \"deny\"\n");
        dumps.save("bad.toml", b"default = \"deny\"\n\n[[rule]]\nname = \"x\"\nacton = \"deny\"\n");
        dumps
    }

    fn save(&self, name: &str, contents: &[u8]) {
        std::fs::write(self.0.path().join(name), contents).unwrap();
    }

    /// Returns status, stdout and stderr.
    fn check(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pvio"));
        let output = command.current_dir(&self.0).arg("check").args(arguments).output().unwrap();
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code().unwrap(), stdout, stderr)
    }

    /// Returns the line of an error.
    fn complaint(&self, arguments: &[&str]) -> String {
        let (status, stdout, stderr) = self.check(arguments);
        assert_eq!((status, &*stdout), (2, ""), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        stderr.trim_end().to_owned()
    }
}

#[test]
fn exit_status_says_whether_there_are_offences() {
    let dumps = Dumps::new();
    let (status, stdout, stderr) = dumps.check(&["a.json", "--policy", "open.toml"]);
    assert_eq!((status, &*stderr), (0, ""));
    let clean = "Policy open.toml\nNone of 1 kinds of access is an offence: 1,000 accesses\n";
    assert_eq!(stdout, clean);
    let (status, stdout, stderr) = dumps.check(&["a.json", "--policy", "tdx"]);
    assert_eq!((status, &*stderr), (1, ""));
    assert!(
        stdout.contains("\n  serial         1      0     1,000  100.0  allowed only"),
        "{stdout}"
    );
    assert!(stdout.contains("  io_serial_out+0x1\n"), "{stdout}");
    for format in ["--json", "--github"] {
        assert_eq!(dumps.check(&["a.json", "--policy", "shut.toml", format]).0, 1);
        assert_eq!(dumps.check(&["a.json", "--policy", "open.toml", format]).0, 0);
    }
    assert_eq!(dumps.check(&["a.json", "a.json", "--policy", "tdx"]).0, 1);
    assert_eq!(dumps.check(&["a.json", "--baseline", "a.json"]).0, 0);
    assert_eq!(dumps.check(&["a.json", "--baseline", "a.json", "--policy", "tdx"]).0, 0);
}

#[test]
fn accesses_that_cannot_be_checked_are_no_success() {
    let dumps = Dumps::new();
    let (status, stdout, stderr) = dumps.check(&["dropped.json", "--policy", "shut.toml"]);
    let expected = "check: 1000 accesses cannot be checked, because their code did not fit into the tables of the dump\n";
    assert_eq!((status, &*stderr), (2, expected), "{stdout}");
}

#[test]
fn each_error_is_one_line() {
    let dumps = Dumps::new();
    assert_eq!(
        dumps.complaint(&["a.json", "--policy", "bad.toml"]),
        "check: bad.toml:5:1: a rule has no key \"acton\"; did you mean \"action\"?"
    );
    assert_eq!(
        dumps.complaint(&["a.json", "--policy", "sgx"]),
        "check: --policy sgx: cannot be read as a TOML file (tdx and snp are built in): No such file or directory (os error 2)"
    );
    assert_eq!(
        dumps.complaint(&["a.json", "--policy", "tdx", "--window", "boot"]),
        "check: --window boot: the run has no windows"
    );
    assert!(dumps.complaint(&["none.json", "--policy", "tdx"]).contains("none.json"));
    let (status, _, stderr) = dumps.check(&["a.json"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("--policy <FILE|tdx|snp>"), "{stderr}");
    let (status, _, stderr) = dumps.check(&["a.json", "--policy", "tdx", "--by", "port"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("--baseline <STATS>"), "{stderr}");
}
