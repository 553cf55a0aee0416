//! `pvio-call` in Debian's kernels.

mod files;

use std::path::PathBuf;

use pvio::stats::Call;
use pvio_cli::machine::{Ended, Machine};
use pvio_cli::paths;
use pvio_tests::{Host, LinuxGuest, file_names, on_answering_qemus, on_both_qemus};
use tempfile::TempDir;

on_answering_qemus! {
    each_command_works_in_64_and_in_32_bit_code
    commands_work_on_an_i386_kernel
    without_hypercall_any_one_line_says_so
}

/// In a module of its own, because the macro above makes modules of the same names.
mod without_a_host {
    use super::{Host, on_both_qemus, without_a_host_one_line_says_so};

    on_both_qemus! {
        one_line_says_so
    }

    fn one_line_says_so(host: &Host) {
        without_a_host_one_line_says_so(host);
    }
}

/// Runs each line of the script, and prints the line, its outputs and its status.
const RUN: &str = "
mkdir /tmp
stty -onlcr
run() {
    while IFS= read -r line; do
        echo \"> $line\"
        sh -c \"$line\" 2>&1
        echo \"= $?\"
    done
}
run << 'END'
";

/// A command of the script, its status and its output.
type Ran = (String, i32, String);

/// What a guest's script has done.
struct Session {
    ended: Ended,
    commands: Vec<Ran>,
}

impl Session {
    /// Boots a kernel, and runs a script in it, with the 32-bit program as `call32`.
    fn run(machine: Machine, kernel: &[&str], script: &str) -> Session {
        let call32 = std::fs::read(program("i386")).unwrap();
        let script = [RUN, script, "\nEND\n"].concat();
        let files = [("bin/call32", &*call32)];
        let mut linux = LinuxGuest::with_files(kernel, &script, &files).unwrap();
        linux.argument("-append").push_str(" quiet loglevel=0");
        let ended = linux.on(machine.args(["-cpu", "max"])).run().unwrap();
        let mut commands: Vec<Ran> = Vec::new();
        for line in ended.stdout.lines() {
            let line = line.trim_end_matches('\r');
            if let Some(command) = line.strip_prefix("> ") {
                commands.push((command.to_owned(), -1, String::new()));
            } else if let Some((_, status, output)) = commands.last_mut() {
                match line.strip_prefix("= ") {
                    Some(number) => *status = number.parse().unwrap(),
                    None => output.push_str(&format!("{line}\n")),
                }
            }
        }
        Session { ended, commands }
    }

    /// Fails unless the command had this status. Returns its output.
    fn check(&self, command: &str, status: i32) -> &str {
        let found = self.commands.iter().find(|ran| ran.0 == command);
        let (_, was, output) = found.unwrap_or_else(|| panic!("{command}: {}", self.text()));
        assert_eq!(*was, status, "{command}: {output}{}", self.ended.stderr);
        output
    }

    fn text(&self) -> String {
        format!("{}{}", self.ended.stdout, self.ended.stderr)
    }
}

fn program(target: &str) -> PathBuf {
    let path = paths::repository().join("target/pvio-call").join(target).join("pvio-call");
    assert!(path.is_file(), "{}: run qemu-scripts/setup", path.display());
    path
}

/// The directory of a run, with the shared directory `share` in it.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        std::fs::create_dir(files.path("share")).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A machine with the plugin and a shared directory.
    fn machine(&self, host: &Host, settings: &str) -> Machine {
        let path = |name: &str| self.path(name).display().to_string();
        host.machine()
            .plugin(&["summary=off", "hypercall=any", "device=latch@0x5000"])
            .plugin(&[&format!("log={}", path("log")), &format!("stats={}", path("stats"))])
            .plugin(&[&format!("share={}{settings}", path("share"))])
    }

    /// The log's lines without their times.
    fn log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("log")).unwrap();
        log.lines().map(|line| line.split_once("] ").unwrap().1.to_owned()).collect()
    }

    /// The names in the shared directory.
    fn shared(&self) -> Vec<String> {
        file_names(&self.path("share"))
    }
}

/// Commands that work in both programs; CALL is the program.
const COMMANDS: &str = "CALL status
CALL outb 0x5000 0x5a
CALL inb 0x5000
CALL outw 0x5000 0x1234
CALL inw 20480
CALL outl 0x5000 0xdeadbeef
CALL inl 0x5000
CALL log -l warning a line of CALL
printf 'one\\ntwo' | CALL log -
CALL begin window-CALL
CALL begin window-CALL
CALL end window-CALL
CALL end window-CALL
CALL dump
CALL begin ''";

fn check_commands(session: &Session, call: &str) {
    let check = |command: &str, status| session.check(&command.replace("CALL", call), status);
    let status = check("CALL status", 0);
    assert!(
        status.starts_with("pvio answers: ABI 1, features every-port memory mailbox large-mailbox")
    );
    assert!(status.contains(" files"), "{status}");
    assert_eq!(check("CALL inb 0x5000", 0), "0x5a\n");
    assert_eq!(check("CALL inw 20480", 0), "0x1234\n");
    assert_eq!(check("CALL inl 0x5000", 0), "0xdeadbeef\n");
    for command in
        ["CALL log -l warning a line of CALL", "printf 'one\\ntwo' | CALL log -", "CALL dump"]
    {
        assert_eq!(check(command, 0), "");
    }
    let begins =
        session.commands.iter().filter(|ran| ran.0 == format!("{call} begin window-{call}"));
    let statuses: Vec<i32> = begins.map(|ran| ran.1).collect();
    assert_eq!(statuses, [0, 1]);
    let ends = session.commands.iter().filter(|ran| ran.0 == format!("{call} end window-{call}"));
    assert_eq!(ends.map(|ran| ran.1).collect::<Vec<_>>(), [0, 1]);
    assert!(check("CALL begin ''", 1).contains("a name is empty"));
}

/// The lines that the commands log.
fn logged(call: &str) -> [String; 3] {
    [format!("warning: a line of {call}"), "info: one".into(), "info: two".into()]
}

/// Commands that are used in a wrong way.
const WRONG: [&str; 9] = [
    "pvio-call",
    "pvio-call frobnicate",
    "pvio-call inb",
    "pvio-call inb 0x10000",
    "pvio-call outb 0x5000 256",
    "pvio-call outb 0x5000 -1",
    "pvio-call log -l loud text",
    "pvio-call exit 256",
    "pvio-call put -",
];

fn each_command_works_in_64_and_in_32_bit_code(host: &Host) {
    let files = Files::new();
    let script = [
        "grep -c ospke /proc/cpuinfo",
        &COMMANDS.replace("CALL", "pvio-call"),
        &COMMANDS.replace("CALL", "call32"),
        &WRONG.join("\n"),
        "pvio-call --help",
        "pvio-call reset",
        "pvio-call inb 0x5000",
        "pvio-call exit 33",
    ]
    .join("\n");
    let session = Session::run(files.machine(host, ""), &[], &script);
    // Linux has turned protection keys on: the plugin knows PKRU.
    assert_eq!(session.check("grep -c ospke /proc/cpuinfo", 0), "1\n");
    check_commands(&session, "pvio-call");
    check_commands(&session, "call32");
    assert_eq!(files.log(), [logged("pvio-call"), logged("call32")].concat());
    for command in WRONG {
        assert_eq!(session.check(command, 2).lines().count(), 1, "{command}");
    }
    assert!(session.check("pvio-call --help", 0).starts_with("usage: pvio-call"));
    assert_eq!(session.ended.status.code(), Some(33), "{}", session.text());

    // The numbered dump has the windows; the last one comes after a reset.
    let dump = pvio_cli::machine::read_stats(&files.path("stats.2")).unwrap();
    let mut windows: Vec<&str> = dump.windows.iter().map(|window| &*window.name).collect();
    windows.sort_unstable();
    assert_eq!(windows, ["window-call32", "window-pvio-call"]);
    let stats = pvio_cli::machine::read_stats(&files.path("stats")).unwrap();
    let calls: Vec<(Call, u64)> =
        stats.hypercalls.iter().map(|row| (row.call, row.count)).collect();
    // The reset counts itself or not; `inb` and `exit` come after it.
    assert!(calls.contains(&(Call::Inb, 1)) && calls.contains(&(Call::Exit, 1)), "{calls:?}");
    assert!(!calls.iter().any(|(call, _)| *call == Call::Log), "{calls:?}");
}

fn commands_work_on_an_i386_kernel(host: &Host) {
    let files = Files::new();
    std::fs::write(files.path("share/in"), vec![7; 5000]).unwrap();
    let script = [
        &*COMMANDS.replace("CALL", "pvio-call"),
        "pvio-call get in /tmp/in",
        "pvio-call put /tmp/in out",
        "pvio-call exit 34",
    ];
    let session = Session::run(files.machine(host, ""), &["--arch", "i386"], &script.join("\n"));
    check_commands(&session, "pvio-call");
    assert_eq!(files.log(), logged("pvio-call"));
    session.check("pvio-call put /tmp/in out", 0);
    assert_eq!(std::fs::read(files.path("share/out")).unwrap(), [7; 5000]);
    assert_eq!(session.ended.status.code(), Some(34), "{}", session.text());
}

/// Commands that make a call, none of which may succeed, or end the program by #GP.
const CALLS: [&str; 16] = [
    "status",
    "exit 3",
    "log text",
    "log -l error text",
    "begin name",
    "end name",
    "reset",
    "dump",
    "inb 0x378",
    "inw 0x378",
    "inl 0x378",
    "outb 0x378 1",
    "outw 0x378 1",
    "outl 0x378 1",
    "get name",
    "put /init name",
];

fn assert_refused(session: &Session, status: i32, why: &str) {
    for call in CALLS {
        for program in ["pvio-call", "call32"] {
            let output = session.check(&format!("{program} {call}"), status);
            assert!(output.contains(why) && output.lines().count() == 1, "{call}: {output}");
        }
    }
}

fn refused_calls() -> String {
    CALLS.map(|call| format!("pvio-call {call}\ncall32 {call}")).join("\n")
}

fn without_hypercall_any_one_line_says_so(host: &Host) {
    let machine = host.machine().plugin(&["summary=off"]);
    let session = Session::run(machine, &[], &refused_calls());
    assert_refused(&session, 4, "add hypercall=any");
}

fn without_a_host_one_line_says_so(host: &Host) {
    // QEMU 10.0 with the plugin answers no registers, so it is no host for programs either.
    let without = host.machine();
    let with = host.machine().plugin(&["summary=off"]);
    let machines = if host.api < 5 { vec![without, with] } else { vec![without] };
    for machine in machines {
        let session = Session::run(machine, &[], &refused_calls());
        assert_refused(&session, 3, "no pvio answers");
    }
}
