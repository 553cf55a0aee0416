//! `pvio snapshot` and `pvio top`, as a user runs them.

use std::path::Path;
use std::process::{Command, Output};

use pvio_tests::{Host, Terminal, assert_consistent, on_both_qemus, wait_until};

use super::{Live, program};

on_both_qemus! {
    snapshot_command_writes_a_dump
    batch_prints_rates
    screen_shows_sorts_filters_pauses_and_quits
    screen_is_restored_when_the_program_is_ended
    program_ends_with_its_terminal
}

fn pvio() -> Command {
    let mut command = Command::new(program());
    command.env_remove("PVIO_CONTROL");
    command
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn snapshot_command_writes_a_dump(host: &Host) {
    let live = Live::guest(host.machine(), "spin", &[]);
    let output = pvio().arg("snapshot").arg(live.socket()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_consistent(&pvio::stats::Snapshot::from_json(&output.stdout).unwrap());
    let tables = pvio().args(["snapshot", "--tables"]).env("PVIO_CONTROL", live.socket()).output();
    assert!(text(&tables.unwrap()).starts_with("pvio "));
    let why = "No such file or directory (os error 2); the option control=PATH makes the socket";
    for (command, options) in [("snapshot", &[][..]), ("top", &["--batch"])] {
        let missing = pvio().arg(command).args(options).arg("/nonexistent").output().unwrap();
        assert_eq!(missing.status.code(), Some(2));
        let error = String::from_utf8(missing.stderr).unwrap();
        assert_eq!(error, format!("{command}: /nonexistent: {why}\n"));
    }
}

fn batch_prints_rates(host: &Host) {
    let live = Live::guest(host.machine(), "spin", &[]);
    let mut command = pvio();
    command
        .args(["top", "--batch", "-n", "2", "--delay", "0.2", "--by", "site"])
        .arg(live.socket());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = text(&output);
    assert_eq!(text.matches("accesses, ").count(), 2, "{text}");
    assert!(text.contains("out dx,al"), "{text}");
    // Without a terminal there is no screen.
    let output = pvio().arg("top").arg(live.socket()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("stdout is not a terminal; write --batch")
    );
}

/// Starts `pvio top`, and then prints its exit status.
fn start_top(terminal: &Terminal, socket: &Path) {
    let line =
        format!("{} top --delay 0.2 {}; echo status=$?", program().display(), socket.display());
    terminal.type_(&["clear", "Enter"]);
    terminal.type_(&[&line, "Enter"]);
}

fn screen_shows_sorts_filters_pauses_and_quits(host: &Host) {
    let mut live = Live::guest(host.machine().args(["-device", "pc-testdev"]), "breaks", &[]);
    let terminal = Terminal::start();
    start_top(&terminal, &live.socket());
    let screen = terminal.wait_for("0x2005 out 1");
    assert!(screen.lines().count() <= 24 && screen.contains("q quit"), "{screen}");
    assert!(screen.contains("RATE/s▼"), "{screen}");
    // 5 elements of a string in each round: that port has most.
    let first_row = |screen: &str| screen.lines().nth(3).unwrap_or_default().to_owned();
    wait_until(|| first_row(&terminal.screen()).contains("0x5010"), || terminal.screen());
    terminal.type_(&["s"]);
    terminal.wait_for("TOTAL▼");
    terminal.type_(&["s", "r"]);
    terminal.wait_for("PORT▲");
    terminal.type_(&["/"]);
    terminal.type_(&["5", "0", "2", "Enter"]);
    let screen = terminal.wait_for("filter: 502");
    assert!(screen.contains("0x5020") && !screen.contains("0x5010"), "{screen}");
    terminal.type_(&["Escape"]);
    terminal.wait_for("0x5010");
    terminal.type_(&["p"]);
    let paused = terminal.wait_for("PAUSED");
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert_eq!(terminal.screen(), paused);
    terminal.type_(&["p", "Tab"]);
    terminal.wait_for("SITE");
    terminal.wait_for("out dx,al");
    terminal.tmux(&["resize-window", "-x", "40", "-y", "10"]);
    wait_until(|| terminal.screen().trim_end().lines().count() == 10, || terminal.screen());
    terminal.tmux(&["resize-window", "-x", "80", "-y", "24"]);
    terminal.type_(&["q"]);
    let screen = terminal.wait_for("status=0");
    assert!(!screen.contains("RATE"), "the screen of before is back: {screen}");
    // The machine has not noticed.
    live.snapshot();
}

fn screen_is_restored_when_the_program_is_ended(host: &Host) {
    let live = Live::guest(host.machine(), "spin", &[]);
    let terminal = Terminal::start();
    start_top(&terminal, &live.socket());
    terminal.wait_for("0x5000");
    terminal.type_(&["C-c"]);
    terminal.wait_for("status=0");
    start_top(&terminal, &live.socket());
    terminal.wait_for("0x5000");
    live.running.signal(libc::SIGTERM).unwrap();
    terminal.wait_for("the machine has ended");
    terminal.type_(&["q"]);
    terminal.wait_for("status=0");
    // The shell has its echo back.
    terminal.type_(&["echo back", "Enter"]);
    terminal.wait_for("echo back");
}

fn program_ends_with_its_terminal(host: &Host) {
    let live = Live::guest(host.machine(), "spin", &[]);
    let terminal = Terminal::start();
    start_top(&terminal, &live.socket());
    terminal.wait_for("0x5000");
    let shell = terminal.tmux(&["list-panes", "-F", "#{pane_pid}"]);
    let shell = shell.trim();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let program = Path::new("/proc").join(children.trim());
    let arguments = format!("top\0--delay\00.2\0{}\0", live.socket().display());
    assert!(std::fs::read(program.join("cmdline")).unwrap().ends_with(arguments.as_bytes()));
    terminal.tmux(&["kill-session"]);
    wait_until(|| !program.exists(), || format!("{} runs on", program.display()));
    // Its server ends with the last session; another one is for the end of the test.
    terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "sh"]);
}
