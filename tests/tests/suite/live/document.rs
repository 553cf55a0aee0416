//! What `docs/control.md` shows: its commands work, and its answers and events are those of a machine.

use std::path::Path;
use std::process::{Command, Stdio};

use pvio_cli::machine::BARE_PC;
use pvio_cli::paths;
use pvio_tests::{Host, guest, on_both_qemus, wait_until};
use serde_json::{Map, Value, json};

use super::{Live, connect, program};

on_both_qemus! {
    commands_of_the_document_work
    answers_of_the_document_are_those_of_a_machine
    python_of_the_document_works
    events_of_the_document_have_the_fields_of_a_machine
}

fn document() -> String {
    std::fs::read_to_string(paths::repository().join("docs/control.md")).unwrap()
}

/// The blocks of code of a language.
fn blocks(language: &str) -> Vec<String> {
    let document = document();
    let parts = document.split("```").skip(1).step_by(2);
    let blocks = parts.filter_map(|part| part.strip_prefix(language)?.strip_prefix('\n'));
    blocks.map(str::to_owned).collect()
}

/// A shell that runs commands of the document in a directory.
fn shell(host: &Host, directory: &Path, commands: &str) -> Command {
    let programs = program().parent().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &commands.replace("/tmp/", &format!("{}/", directory.display()))]);
    shell
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    shell.env("PATH", format!("{}:{path}", programs.display()));
    shell.env("PVIO_QEMU", host.program("qemu-system-x86_64")).env_remove("PVIO_CONTROL");
    shell
}

/// A command of the document that runs a guest, with the guest `breaks` in place of the document's.
fn run_of_guest(command: &str) -> String {
    let scripts = paths::repository().join("qemu-scripts/run");
    let image = guest("breaks.bin");
    let arguments = format!("{} -device pc-testdev -bios {}", BARE_PC.join(" "), image.display());
    let command = command.trim().replace("-m 1G disk.img", &arguments);
    format!("exec {}", command.replace("qemu-scripts/run", &scripts.display().to_string()))
}

fn commands_of_the_document_work(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let blocks = blocks("sh");
    let [run, others, stops] = &blocks[..] else { panic!("{blocks:#?}") };
    let mut machine = shell(host, directory.path(), &run_of_guest(run)).spawn().unwrap();
    connect(&directory.path().join("pvio.sock"));
    let output = shell(host, directory.path(), others).output().unwrap();
    // SAFETY: ends the process that the test has started.
    assert_eq!(unsafe { libc::kill(machine.id().try_into().unwrap(), libc::SIGTERM) }, 0);
    machine.wait().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("The 24 forms") && text.contains("accesses, "), "{text}");
    assert!(directory.path().join("now.json").exists());
    // A condition on a process needs a kernel. The guest writes each value to port 0x5020.
    let stops = run_of_guest(stops).replace("0x3f8:", "0x5020:").replace(":process=init", "");
    let mut machine = shell(host, directory.path(), &stops).spawn().unwrap();
    let mut line = String::new();
    let mut stderr = std::io::BufReader::new(machine.stderr.take().unwrap());
    while !line.contains("break 1") {
        line.clear();
        let len = std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
        assert!(len > 0, "QEMU has ended");
    }
    std::io::Write::write_all(&mut machine.stdin.take().unwrap(), b"quit\n").unwrap();
    machine.wait().unwrap();
    assert!(line.starts_with("pvio: break 1: out 0x5020 1 0x0a at 0x"), "{line}");
}

/// Fields without the version, which the document has from another time.
fn comparable(line: &str) -> Value {
    let mut value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    if let Some(version) = value.pointer_mut("/pvio/version") {
        *version = Value::Null;
    }
    value
}

fn answers_of_the_document_are_those_of_a_machine(host: &Host) {
    use std::io::{BufRead, BufReader, Write};
    let mut live = Live::guest(host.machine(), "spin", &[]);
    live.ask("status", json!({}));
    let blocks = blocks("json");
    let conversation = blocks.iter().find(|block| block.contains("\"execute\"")).unwrap();
    let stream = std::os::unix::net::UnixStream::connect(live.socket()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut compared = 0;
    for line in conversation.lines() {
        if line.contains("\"execute\"") {
            writeln!(reader.get_mut(), "{line}").unwrap();
            continue;
        }
        let mut answer = String::new();
        reader.read_line(&mut answer).unwrap();
        assert_eq!(comparable(&answer), comparable(line));
        compared += 1;
    }
    assert!(compared >= 4);
}

fn python_of_the_document_works(host: &Host) {
    let live = Live::guest(host.machine(), "spin", &[]);
    let blocks = blocks("python");
    let script = blocks[0].replace("/tmp/pvio.sock", &live.socket().display().to_string());
    let output = Command::new("python3").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let version = text.lines().last().unwrap();
    assert!(version.split('.').count() == 3, "{text}");
}

/// The names of the fields of an object, and of those in its lists.
fn fields(value: &Value) -> Map<String, Value> {
    let object = value.as_object().unwrap_or_else(|| panic!("{value}"));
    let field = |(name, value): (&String, &Value)| {
        let within = value.as_array().and_then(|rows| rows.first());
        let within = within.map_or(Value::Null, |row| Value::Object(fields(row)));
        (name.clone(), within)
    };
    object.iter().map(field).collect()
}

fn events_of_the_document_have_the_fields_of_a_machine(host: &Host) {
    let blocks = blocks("json");
    let event = blocks.iter().find(|block| block.contains("\"event\"")).unwrap();
    let documented: Value = serde_json::from_str(event).unwrap();
    let mut live = Live::guest(host.machine().args(["-serial", "null"]), "spin", &["processes=on"]);
    live.ask("subscribe", json!({ "interval-ms": 100, "rows": 1 }));
    let mut data = Value::Null;
    wait_until(
        || {
            data = live.connection.next_event().unwrap().1;
            data["change"].as_u64() > Some(0)
        },
        || "the guest stands still".into(),
    );
    let (mut expected, mut found) = (fields(&documented["data"]), fields(&data));
    // The guest is no Linux, and has no name for its port.
    for fields in [&mut expected, &mut found] {
        fields["ports"].as_object_mut().unwrap().remove("name");
        let process = fields["processes"].as_object_mut().unwrap();
        process.retain(|name, _| !["pid", "comm"].contains(&&**name));
    }
    assert_eq!(found, expected);
}
