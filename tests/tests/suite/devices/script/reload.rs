//! A script is read again while the machine runs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pvio_cli::live::Connection;
use pvio_tests::{Host, Monitor, guest, on_both_qemus, wait_until};
use serde_json::json;

use super::Scripts;
use crate::live::program;

on_both_qemus! {
    device_runs_the_new_script_from_its_reset
    mistake_leaves_the_old_script_running
    what_cannot_be_reloaded_is_refused
    daemon_finds_its_script
}

fn script(value: u8) -> String {
    format!(
        "fn reset() {{ this.reads = {value}; log(`reset {value}`); }}
         fn write(offset, size, value) {{ raise_irq(); after(50_000_000); }}
         fn read(offset, size) {{ this.reads += 1; this.reads }}
         fn timer(number) {{ this.reads = 77; }}"
    )
}

fn started(host: &Host, scripts: &Scripts, device: &str) -> (Monitor, Connection) {
    let socket = scripts.path("socket");
    let control = format!("control={}", socket.display());
    let machine = host.machine().plugin(&["summary=off", device, "device=latch@0x320", &control]);
    // SeaBIOS may reset the machine.
    let machine = machine.args(["-bios".as_ref(), guest("spin.bin").as_os_str()]);
    (Monitor::start_stopped(machine), Connection::open(&socket).unwrap())
}

fn reload(connection: &mut Connection, port: &str) -> Result<(), String> {
    let answer = connection.ask("reload", json!({ "port": port }));
    answer.map(drop).map_err(|error| error.to_string())
}

fn device_runs_the_new_script_from_its_reset(host: &Host) {
    let scripts = Scripts::new();
    let device = scripts.device("0x300-0x301", &script(1), ":irq=5");
    let (mut monitor, mut connection) = started(host, &scripts, &device);
    monitor.write(0x4d0, 1, 0x20);
    monitor.write(0x300, 1, 0);
    assert!(monitor.ask("info pic").contains("pic0: irr=20"));
    assert_eq!([(); 2].map(|()| monitor.read(0x300, 1)), [2, 3]);
    scripts.file("0x300-0x301.rhai", &script(40));
    assert_eq!(monitor.read(0x300, 1), 4, "a file that changed is read on request");
    assert_eq!(reload(&mut connection, "0x301"), Ok(()));
    assert!(monitor.ask("info pic").contains("pic0: irr=00"));
    assert_eq!([(); 2].map(|()| monitor.read(0x300, 1)), [41, 42]);
    // The command does the same.
    scripts.file("0x300-0x301.rhai", &script(60));
    assert_eq!(command(&scripts.path("socket"), "0x300"), (Some(0), String::new()));
    assert_eq!(monitor.read(0x300, 1), 61);
    // The old script's timer is gone.
    monitor.cont();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(monitor.read(0x300, 1), 62);
    let expected =
        [1, 40, 60].map(|value| format!("pvio: script at 0x0300-0x0301: reset {value}\n"));
    assert_eq!(monitor.quit().stderr, expected.concat());
}

/// Runs `pvio reload`. Returns its status and stderr.
fn command(socket: &Path, port: &str) -> (Option<i32>, String) {
    let mut command = Command::new(program());
    let output = command.arg("reload").arg(port).arg(socket).output().unwrap();
    assert_eq!(output.stdout, b"");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn mistake_leaves_the_old_script_running(host: &Host) {
    let scripts = Scripts::new();
    let device = scripts.device("0x300", &script(1), ":irq=5");
    let (mut monitor, mut connection) = started(host, &scripts, &device);
    assert_eq!(monitor.read(0x300, 1), 2);
    let path = scripts.path("0x300.rhai");
    let wrong = [
        ("fn read(offset, size) { 1 + }", ":1:29: "),
        ("fn read(offset, size) { 1 }", ":1:1: the script has no function write"),
        ("fn read(o, s) { 1 } fn write(o, s, v) {} fn reset() { nothing(); }", ":1:55: "),
    ];
    for (text, expected) in wrong {
        scripts.file("0x300.rhai", text);
        let error = reload(&mut connection, "0x300").unwrap_err();
        let begin = format!("script at 0x0300: {}", path.display());
        assert!(error.starts_with(&begin) && error.contains(expected), "{error}");
    }
    let (status, stderr) = command(&scripts.path("socket"), "0x300");
    assert_eq!(status, Some(2));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("0x300.rhai:1:55: "), "{stderr}");
    std::fs::remove_file(&path).unwrap();
    let error = reload(&mut connection, "0x300").unwrap_err();
    assert!(error.ends_with(": cannot read it: No such file or directory (os error 2)"), "{error}");
    std::fs::create_dir(&path).unwrap();
    let error = reload(&mut connection, "0x300").unwrap_err();
    assert!(error.ends_with(": cannot read it: it is not a regular file"), "{error}");
    // State, timers and log are still those of the old one.
    assert_eq!(monitor.read(0x300, 1), 3);
    monitor.write(0x300, 1, 0);
    monitor.cont();
    wait_until(|| monitor.read(0x300, 1) >= 77, || "no timer is due".to_owned());
    monitor.stop();
    monitor.reset();
    let line = "pvio: script at 0x0300: reset 1\n";
    assert_eq!(monitor.quit().stderr, line.repeat(2));
}

fn what_cannot_be_reloaded_is_refused(host: &Host) {
    let scripts = Scripts::new();
    let device = scripts.device("0x300", &script(1), ":irq=5");
    let (monitor, mut connection) = started(host, &scripts, &device);
    for (port, expected) in [
        ("0x301", "pvio has no device at port 0x0301; name a port of one"),
        ("0x320", "latch at 0x0320-0x0323: this kind of device has no file to read again"),
        ("0x10000", "0x10000"),
        ("", "port"),
    ] {
        let error = reload(&mut connection, port).unwrap_err();
        assert!(error.contains(expected), "{port}: {error}");
    }
    drop(monitor.quit());
}

/// A daemon has another directory. The script's path is relative.
fn daemon_finds_its_script(host: &Host) {
    let scripts = Scripts::new();
    scripts.file("relative.rhai", &script(1));
    let socket = scripts.path("socket");
    let device = "device=script@0x300:file=relative.rhai:irq=5";
    let options = format!("summary=off,{device},control={}", socket.display());
    let mut command = host.bare_guest_command(&options, "spin");
    let command = command.current_dir(scripts.path("")).args(["-S", "-daemonize"]);
    assert!(command.status().unwrap().success());
    let mut connection = Connection::open(&socket).unwrap();
    scripts.file("relative.rhai", "fn read(");
    let error = reload(&mut connection, "0x300").unwrap_err();
    let about = connection.ask("status", json!({})).unwrap();
    let id = about["pid"].as_i64().unwrap() as i32;
    // SAFETY: ends the process that the test has started.
    assert_eq!(unsafe { libc::kill(id, libc::SIGTERM) }, 0);
    assert!(error.starts_with("script at 0x0300: relative.rhai:1:"), "{error}");
}
