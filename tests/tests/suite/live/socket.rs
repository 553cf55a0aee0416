//! The socket as a file: who may connect, what is replaced, when it goes away.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};

use pvio_tests::{Host, guest, leave_out, on_both_qemus, refusal, wait_until};
use serde_json::json;

use super::{Live, accesses, connect, control};

on_both_qemus! {
    socket_is_the_owners_and_is_removed_at_the_end
    socket_of_a_killed_qemu_is_replaced
    path_that_cannot_be_used_is_refused_in_one_line
    socket_is_served_in_a_sandbox
    daemon_serves_the_socket
}

fn socket_is_the_owners_and_is_removed_at_the_end(host: &Host) {
    let mut live = Live::guest(host.machine(), "spin", &[]);
    let there = std::fs::symlink_metadata(live.socket()).unwrap();
    assert!(there.file_type().is_socket());
    assert_eq!(there.permissions().mode() & 0o7777, 0o600);
    // The socket is there before QEMU handles signals.
    wait_until(|| accesses(&live.snapshot().0) > 0, || "the guest stands still".into());
    live.running.signal(libc::SIGTERM).unwrap();
    let path = live.socket();
    assert!(live.running.wait().unwrap().status.success());
    assert!(!path.exists());
}

fn socket_of_a_killed_qemu_is_replaced(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let (option, path) = control(directory.path());
    let start = || {
        let machine = host.machine().plugin(&["summary=off", &option]);
        machine.bare_guest(&guest("spin.bin")).start().unwrap()
    };
    let first = start();
    connect(&path);
    first.signal(libc::SIGKILL).unwrap();
    let _ = first.wait();
    assert!(path.exists() && UnixStream::connect(&path).is_err());
    let second = start();
    connect(&path).ask("status", json!({})).unwrap();
    drop(second);
}

fn path_that_cannot_be_used_is_refused_in_one_line(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("file"), "kept").unwrap();
    let _alive = UnixListener::bind(path("alive")).unwrap();
    let long = path(&"x".repeat(100));
    for (name, why) in [
        (path("file"), "exists and is not a socket; name a path that is free"),
        (path("alive"), "another program listens on "),
        (path("missing/socket"), "cannot be made: No such file or directory"),
        (long, "and a socket's has 107 at most; name a shorter one"),
    ] {
        let option = format!("control={}", name.display());
        let machine = host.machine().plugin(&["summary=off", &option]);
        let line = refusal(&machine.bare_guest(&guest("spin.bin")).run().unwrap());
        assert!(line.starts_with("pvio: option \"control=") && line.contains(why), "{line}");
    }
    assert_eq!(std::fs::read(path("file")).unwrap(), b"kept");
    // Another option is wrong: no socket is left.
    let option = format!("control={}", path("new").display());
    let machine = host.machine().plugin(&["summary=off", &option, "device=latch@0x300:what=1"]);
    refusal(&machine.bare_guest(&guest("spin.bin")).run().unwrap());
    assert!(!path("new").exists());
    // And so if another option names the same file.
    let options = [&*option, &format!("log={}", path("new").display())];
    let machine = host.machine().plugin(&options);
    let line = refusal(&machine.bare_guest(&guest("spin.bin")).run().unwrap());
    assert!(host.api < 5 || line.contains("is named twice"), "{line}");
}

/// Says that a test cannot run on QEMU 10.2, which `qemu-scripts/build-qemu.sh` builds without sandboxes.
fn lacks_sandbox(host: &Host, test: &str) -> bool {
    let lacks = host.api == 5;
    if lacks {
        leave_out(module_path!(), test, "sandboxes (seccomp)");
    }
    lacks
}

fn socket_is_served_in_a_sandbox(host: &Host) {
    if lacks_sandbox(host, "socket_is_served_in_a_sandbox") {
        return;
    }
    let denied = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
    let mut live = Live::guest(host.machine().args(["-sandbox", denied]), "spin", &[]);
    wait_until(|| accesses(&live.snapshot().0) > 0, || "the guest stands still".into());
    assert!(live.snapshot().1);
}

fn daemon_serves_the_socket(host: &Host) {
    if lacks_sandbox(host, "daemon_serves_the_socket") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (option, path) = control(directory.path());
    let pid = directory.path().join("pid");
    let mut command = host.bare_guest_command(&format!("summary=off,{option}"), "spin");
    // With more denied, QEMU cannot become a daemon.
    command.args(["-sandbox", "on", "-daemonize", "-pidfile"]).arg(&pid);
    assert!(command.status().unwrap().success());
    let mut connection = connect(&path);
    let about = connection.ask("status", json!({})).unwrap();
    let id = std::fs::read_to_string(&pid).unwrap().trim().parse::<i32>().unwrap();
    assert_eq!(about["pid"], id);
    let answer = connection.ask("snapshot", json!({})).unwrap();
    // SAFETY: ends the process that the test has started.
    assert_eq!(unsafe { libc::kill(id, libc::SIGTERM) }, 0);
    assert_eq!(answer["exact"], true);
    wait_until(|| !path.exists(), || "the socket stays".into());
}
