//! `pvio show`, `diff`, `merge` and `report` on the command line: files, exit statuses, messages.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use pvio_cli::stats::test_data::snapshot;
use pvio_cli::stats::trace::{End, Head};
use pvio_cli::stats::{self, Snapshot};
use tempfile::TempDir;

/// A directory with dumps: `a.json` of 1,000 accesses, `b.json` of 1,100.
struct Dumps(TempDir);

impl Dumps {
    fn new() -> Dumps {
        let dumps = Dumps(tempfile::tempdir().unwrap());
        dumps.save("a.json", &snapshot(1000));
        dumps.save("b.json", &snapshot(1100));
        dumps
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn save(&self, name: &str, dump: &Snapshot) {
        std::fs::write(self.path(name), dump.to_json()).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pvio"));
        command.current_dir(&self.0).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        text(&self.command(arguments).output().unwrap())
    }

    /// Returns the error line of a command that fails.
    fn complaint(&self, arguments: &[&str]) -> String {
        let (status, stdout, stderr) = self.run(arguments);
        assert_eq!((status, &*stdout), (2, ""), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        stderr.trim_end().to_owned()
    }
}

fn text(output: &Output) -> (i32, String, String) {
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8(bytes.clone()).unwrap());
    (output.status.code().unwrap(), stdout, stderr)
}

const NOTHING: &str = "";

#[test]
fn diff_exits_with_1_if_a_condition_holds() {
    let dumps = Dumps::new();
    let (status, stdout, stderr) = dumps.run(&["diff", "a.json", "b.json"]);
    assert_eq!((status, &*stderr), (0, NOTHING));
    assert!(
        stdout.contains("  0x03f8  out     1  COM1   1,000  1,100    +100  +10.0\n"),
        "{stdout}"
    );
    assert!(!stdout.contains('\x1b'), "{stdout:?}");

    let condition =
        ["--fail-if", "accesses>+10%", "--fail-if", "executions>+5%", "--fail-if", "faults>0"];
    let arguments = [&["diff", "a.json", "b.json"], &condition[..]].concat();
    let (status, _, stderr) = dumps.run(&arguments);
    let holds = "diff: executions>+5% holds: 1,000 executions before, 1,100 after\n";
    assert_eq!((status, &*stderr), (1, holds));
    let (status, ..) = dumps.run(&[&["diff", "a.json", "a.json"], &condition[..]].concat());
    assert_eq!(status, 0);

    let (status, stdout, _) = dumps.run(&[&arguments[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, json["schema"].as_str()), (1, Some("pvio.diff/1")));
    assert_eq!(json["accesses"], serde_json::json!({ "before": 1000, "after": 1100 }));
    assert_eq!(json["ports"][0]["after"]["qemu"], 1100);
    let held =
        json["conditions"].as_array().unwrap().iter().map(|verdict| verdict["holds"] == true);
    assert_eq!(held.collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn bad_file_or_condition_gives_one_line_and_status_2() {
    let dumps = Dumps::new();
    let whole = std::fs::read(dumps.path("a.json")).unwrap();
    std::fs::write(dumps.path("cut.json"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(dumps.path("foreign.json"), "{\"name\": 1}").unwrap();
    std::fs::write(dumps.path("empty.json"), "").unwrap();
    let bad = [
        ("cut.json", "is cut off"),
        ("foreign.json", "is not a dump of pvio"),
        ("empty.json", "is empty"),
        ("missing.json", "cannot be read"),
    ];
    for (file, problem) in bad {
        for command in ["diff", "merge", "report", "show"] {
            let complaint = dumps.complaint(&[command, "a.json", file]);
            let start = format!("{command}: {file}: {problem}");
            assert!(complaint.starts_with(&start), "{complaint}");
            assert_eq!(complaint.matches(problem).count(), 1, "{complaint}");
        }
    }
    let complaint = dumps.complaint(&["diff", "a.json", "b.json", "--fail-if", "accesses>5%"]);
    assert!(
        complaint.ends_with("a change in percent needs a sign, such as +5% or -5%"),
        "{complaint}"
    );
}

#[test]
fn merge_adds_dumps_up_and_never_replaces_an_input() {
    let dumps = Dumps::new();
    let (status, sum, stderr) = dumps.run(&["merge", "a.json", "b.json"]);
    assert_eq!((status, &*stderr), (0, NOTHING));
    let expected = stats::merge(&[snapshot(1000), snapshot(1100)]).unwrap();
    assert_eq!(Snapshot::from_json(sum.as_bytes()).unwrap(), expected);

    let (status, stdout, _) = dumps.run(&["merge", "a.json", "b.json", "-o", "sum.json"]);
    assert_eq!((status, &*stdout), (0, NOTHING));
    assert_eq!(std::fs::read_to_string(dumps.path("sum.json")).unwrap(), sum);

    let complaint = dumps.complaint(&["merge", "a.json", "b.json", "-o", "./b.json"]);
    assert_eq!(
        complaint,
        "merge: ./b.json: this file is also an input; name another file for the output"
    );
    assert_eq!(Snapshot::load(&dumps.path("b.json")).unwrap(), snapshot(1100));
}

#[test]
fn show_prints_the_summary_of_the_plugin() {
    let dumps = Dumps::new();
    let (status, stdout, stderr) = dumps.run(&["show", "a.json"]);
    assert_eq!((status, &*stderr), (0, NOTHING));
    assert_eq!(stdout, stats::render(&snapshot(1000), false));
    let (_, stdout, _) = dumps.run(&["show", "a.json", "b.json"]);
    assert!(stdout.contains("2,100 port accesses"), "{stdout}");
}

#[test]
fn report_writes_a_page_of_the_sum() {
    let dumps = Dumps::new();
    let (status, page, stderr) = dumps.run(&["report", "a.json", "b.json"]);
    assert_eq!((status, &*stderr), (0, NOTHING));
    assert!(page.contains("<h1>2,100 port accesses: "), "{page}");
    assert!(page.contains("a.json, b.json: pvio 1.2.3"), "{page}");
    let (status, stdout, _) = dumps.run(&["report", "a.json", "b.json", "-o", "report.html"]);
    assert_eq!((status, &*stdout), (0, NOTHING));
    assert_eq!(std::fs::read_to_string(dumps.path("report.html")).unwrap(), page);
    let complaint = dumps.complaint(&["report", "a.json", "-o", "a.json"]);
    assert!(complaint.contains("is also an input"), "{complaint}");
}

#[test]
fn experiment_refuses_a_bad_workload_before_it_starts_qemu() {
    let dumps = Dumps::new();
    std::fs::write(dumps.path("empty.json"), "").unwrap();
    let mut command = dumps.command(&["experiment", "--workload", "empty.json"]);
    let output = command.env("PVIO_QEMU", "/nonexistent/qemu").output().unwrap();
    let refusal = "experiment: empty.json: is empty; pvio writes the dump when QEMU ends\n";
    assert_eq!(text(&output), (1, String::new(), refusal.to_owned()));
}

#[test]
fn numbers_that_do_not_add_up_give_warnings() {
    let dumps = Dumps::new();
    let mut dump = snapshot(1000);
    dump.tables.sites[0].counts.accesses = 7;
    dumps.save("edited.json", &dump);
    for arguments in [&["show", "edited.json"][..], &["diff", "a.json", "edited.json"]] {
        let (status, _, stderr) = dumps.run(arguments);
        let warnings = [
            "1000 accesses by form, but 7 accesses by site",
            "7 accesses of the site at 0xffffffff81000051, but 1000 in its rows",
        ];
        let command = arguments[0];
        let warnings = warnings.map(|warning| {
            format!("{command}: warning: edited.json: the numbers do not add up: {warning}\n")
        });
        assert_eq!((status, stderr), (0, warnings.concat()));
    }
}

#[test]
fn full_disk_gives_one_line_and_closed_pipe_is_silent() {
    let dumps = Dumps::new();
    let commands = [
        &["show", "a.json"][..],
        &["merge", "a.json"],
        &["report", "a.json"],
        &["diff", "a.json", "b.json"],
    ];
    for arguments in commands {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = dumps.command(arguments).stdout(full).output().unwrap();
        let (status, _, stderr) = text(&output);
        assert_eq!(status, 2, "{arguments:?}");
        let complaint = format!("{}: stdout cannot be written: ", arguments[0]);
        assert!(stderr.starts_with(&complaint) && stderr.lines().count() == 1, "{stderr}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = dumps.command(arguments).stdout(writer).stderr(Stdio::piped()).output();
        let (status, _, stderr) = text(&output.unwrap());
        assert_eq!((status, &*stderr), (141, NOTHING), "{arguments:?}");
    }
}

/// The file of a trace without events.
fn trace() -> Vec<u8> {
    let dump = snapshot(0);
    let head = Head {
        pvio: dump.pvio,
        qemu: dump.qemu,
        began: 0,
        reports_exceptions: true,
        reads_memory: true,
        callers: false,
        processes: false,
        filter: String::new(),
        irqs: false,
        devices: Vec::new(),
    };
    let end = End { ended: "quit".into(), ..End::default() };
    [head.to_chunk(), end.to_chunk()].concat()
}

#[test]
fn a_trace_is_accepted_like_a_dump() {
    let dumps = Dumps::new();
    std::fs::write(dumps.path("run"), trace()).unwrap();
    for command in ["show", "merge", "report"] {
        let (status, stdout, stderr) = dumps.run(&[command, "run", "a.json"]);
        assert_eq!((status, &*stderr), (0, NOTHING), "{command}");
        assert!(stdout.contains("quit, shutdown"), "{command}: {stdout}");
    }
    let (status, stdout, stderr) = dumps.run(&["diff", "run", "a.json"]);
    assert_eq!((status, &*stderr), (0, NOTHING));
    assert!(stdout.contains("  accesses         0  1,000  +1,000  -\n"), "{stdout}");
}

#[test]
fn a_damaged_trace_gives_one_line() {
    let dumps = Dumps::new();
    let whole = trace();
    std::fs::write(dumps.path("head"), &whole[..20]).unwrap();
    std::fs::write(dumps.path("cut"), &whole[..whole.len() - 1]).unwrap();
    for command in ["show", "merge", "report", "diff"] {
        let complaint = dumps.complaint(&[command, "a.json", "head"]);
        let start = format!("{command}: head: is damaged or cut off in its first chunk: ");
        assert!(complaint.starts_with(&start), "{complaint}");
        let (status, _, stderr) = dumps.run(&[command, "a.json", "cut"]);
        let start = format!("{command}: warning: cut: is damaged or cut off at byte ");
        assert!(status == 0 && stderr.starts_with(&start), "{status}: {stderr}");
    }
}

/// What is read from a pipe to find out whether it is a trace would be missing from the dump.
#[test]
fn a_dump_may_come_from_a_pipe() {
    let dumps = Dumps::new();
    for code in [
        "cat a.json | \"$1\" show /dev/stdin",
        // What the file is, is not found by reading it twice.
        "cat a.json | \"$1\" merge /dev/stdin -o sum.json && \"$1\" show sum.json",
    ] {
        let mut command = Command::new("sh");
        command.args(["-c", code, "sh", env!("CARGO_BIN_EXE_pvio")]).current_dir(&dumps.0);
        let (status, stdout, stderr) = text(&command.output().unwrap());
        assert_eq!((status, &*stderr), (0, NOTHING));
        assert_eq!(stdout, stats::render(&snapshot(1000), false), "{code}");
    }
}

#[test]
fn diff_writes_a_page() {
    let dumps = Dumps::new();
    let condition = "accesses>+5%";
    let arguments =
        ["diff", "a.json", "b.json", "--html", "--fail-if", condition, "-o", "diff.html"];
    let (status, stdout, _) = dumps.run(&arguments);
    assert_eq!((status, &*stdout), (1, NOTHING));
    let page = std::fs::read_to_string(dumps.path("diff.html")).unwrap();
    for part in [
        "<h1>1,100 port accesses instead of 1,000 (+100, +10.0 %).</h1>",
        "a.json to b.json",
        "<li>accesses&gt;+5% holds: 1,000 accesses before, 1,100 after</li>",
        "aria-label=\"Accesses by port. COM1: before 1,000, after 1,100\"",
        "<td>io_serial_out+0x1</td>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let complaint = dumps.complaint(&["diff", "a.json", "b.json", "-o", "b.json"]);
    assert!(complaint.contains("is also an input"), "{complaint}");
}
