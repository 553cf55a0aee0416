//! Files in options: what may be named, conflicts, and outputs after QEMU drops its rights.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use pvio_cli::machine::{Machine, read_stats};
use pvio_tests::{Host, Monitor, assert_consistent, guest, on_both_qemus, refusal};

on_both_qemus! {
    file_named_by_two_options_is_refused
    fifo_socket_and_directory_are_refused_by_every_option
    file_of_another_running_qemu_is_refused
    link_of_another_user_is_refused
    input_device_is_refused_with_record_replay
    dumps_are_written_after_a_change_of_user
    dumps_are_written_after_a_change_of_root
    daemonize_warns_that_the_tables_are_lost
    device_output_on_stdout_is_not_overwritten_by_qemu
}

fn machine(host: &Host, options: &[&str]) -> Machine {
    host.machine().plugin(options).bare_guest(&guest("poweroff.bin"))
}

fn fifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: makes a file; the path is a C string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

fn file_named_by_two_options_is_refused(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    std::fs::create_dir(directory.path().join("new")).unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::hard_link(&file, path("hard")).unwrap();
    std::os::unix::fs::symlink("file", path("soft")).unwrap();
    std::os::unix::fs::symlink("missing", path("dangling")).unwrap();
    let (hard, soft, dangling, missing) = (
        path("hard").display().to_string(),
        path("soft").display().to_string(),
        path("dangling").display().to_string(),
        path("missing").display().to_string(),
    );
    let name = file.display();
    let pairs = [
        [format!("stats={name}"), format!("summary={name}")],
        [format!("stats={name}"), format!("access-log={name}:0x80")],
        [format!("access-log={name}"), format!("device=console@0xe9:file={name}")],
        // The guest's own dumps are numbered files.
        [format!("access-log={name}.7"), format!("stats={name}")],
        [format!("summary={name}"), format!("device=console@0xe9:file={name}.100")],
        [
            format!("stats={name}.new"),
            format!("summary={}/new/../file.new", directory.path().display()),
        ],
        [format!("device=stream@0x300:in={name}:out={name}"), "summary=off".into()],
        // Files that are read, by name and through both kinds of links.
        [format!("symbols={name}"), format!("stats={name}")],
        [format!("stats={name}"), format!("symbols={name}")],
        [format!("symbols={soft}"), format!("summary={hard}")],
        [format!("symbols={name}"), format!("access-log={soft}")],
        [format!("insns={hard}"), format!("device=console@0xe9:file={soft}")],
        [format!("device=stream@0x300:in={name}"), format!("stats={hard}")],
        [format!("access-log={hard}"), format!("device=uart16550@0x2f8:file={name}")],
        // A link to a missing file.
        [format!("access-log={dangling}"), format!("summary={missing}")],
    ];
    for pair in pairs {
        let options = [&*pair[0], &*pair[1]];
        let machine = host.machine().plugin(&options).bare_guest(&guest("poweroff.bin"));
        let line = refusal(&machine.run().unwrap());
        assert!(line.contains("is named twice"), "{line}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }
}

/// Opening a FIFO without a partner would block QEMU silently.
fn fifo_socket_and_directory_are_refused_by_every_option(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    fifo(&directory.path().join("fifo"));
    let _listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    std::fs::create_dir(directory.path().join("directory")).unwrap();
    let options = [
        "stats=",
        "summary=",
        "access-log=",
        "log=",
        "insns=",
        "symbols=",
        "device=console@0xe9:file=",
        "device=stream@0x300:out=",
        "device=stream@0x300:in=",
        "device=uart16550@0x2f8:in=",
    ];
    for option in options {
        for kind in ["fifo", "socket", "directory"] {
            // It may name a directory of debug files.
            if (option, kind) == ("symbols=", "directory") {
                continue;
            }
            let option = format!("{option}{}", directory.path().join(kind).display());
            let machine = machine(host, &[&option]).time_limit(Duration::from_secs(20));
            let line = refusal(&machine.run().unwrap());
            let what = format!("/{kind} is a {kind}; name ").replace("a fifo", "a FIFO");
            assert!(line.contains(&what), "{option}: {line}");
        }
        let line = refusal(&machine(host, &[&format!("{option}-")]).run().unwrap());
        assert!(line.contains(" - is not a file name"), "{option}: {line}");
    }
}

fn file_of_another_running_qemu_is_refused(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let option = format!("access-log={}", log.display());
    let first = host.machine().plugin(&[&option]).bare_guest(&guest("spin.bin"));
    let first = Monitor::start(first);
    for option in [&*option, &format!("device=console@0xe9:file={}", log.display())] {
        let line = refusal(&machine(host, &[option]).run().unwrap());
        assert!(line.contains("cannot be written: another QEMU with pvio writes to it"), "{line}");
    }
    assert!(first.quit().status.success());
    assert!(machine(host, &[&option]).run().unwrap().status.success());
}

fn input_device_is_refused_with_record_replay(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("input");
    std::fs::write(&input, "input").unwrap();
    let run = |mode: &str, option: &str| {
        let icount =
            format!("shift=auto,rr={mode},rrfile={}", directory.path().join("replay").display());
        machine(host, &[option]).args(["-icount", &icount]).run().unwrap()
    };
    let output = format!("device=stream@0x300:out={}", directory.path().join("output").display());
    for mode in ["record", "replay"] {
        for device in ["stream@0x300", "uart16550@0x2f8"] {
            let line = refusal(&run(mode, &format!("device={device}:in={}", input.display())));
            assert!(
                line.contains("does not record what a device reads; remove in= or rr="),
                "{line}"
            );
        }
        // Output does not influence the guest.
        let ended = run(mode, &output);
        assert!(ended.status.success(), "{}", ended.stderr);
        assert_consistent(ended.stats().unwrap());
    }
}

/// Returns true if QEMU may change user and root. Prints that the test was skipped if not.
fn is_root() -> bool {
    // SAFETY: has no arguments and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root {
        eprintln!("skipped: it needs root");
    }
    is_root
}

/// In a directory like `/tmp`, anybody can make a link of the name that an output will have.
fn link_of_another_user_is_refused(host: &Host) {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("victim"), "precious").unwrap();
    symlink("victim", path("link")).unwrap();
    symlink("missing", path("dangling")).unwrap();
    symlink(".", path("directory")).unwrap();
    for link in ["link", "dangling", "directory"] {
        lchown(path(link), Some(65534), None).unwrap();
    }
    let keys = ["stats=", "summary=", "access-log=", "trace=", "log="];
    let devices = ["device=console@0xe9:file=", "device=stream@0x300:out="];
    for option in keys.iter().chain(&devices) {
        for (name, link) in [
            ("link", "link"),
            ("dangling", "dangling"),
            ("directory/victim", "directory"),
            ("directory/new", "directory"),
        ] {
            let option = format!("{option}{}", path(name).display());
            let line = refusal(&machine(host, &[&option]).run().unwrap());
            let why = format!("/{link} is a symbolic link of another user's; name the file itself");
            assert!(line.contains(&why), "{option}: {line}");
            assert_eq!(std::fs::read_to_string(path("victim")).unwrap(), "precious");
        }
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 4, "a file is left over");
    // A link of the user's own is followed.
    lchown(path("link"), Some(0), None).unwrap();
    let option = format!("stats={}", path("link").display());
    assert!(machine(host, &[&option]).run().unwrap().status.success());
    assert!(path("link").is_symlink());
    assert_consistent(&read_stats(&path("victim")).unwrap());
}

/// Fails unless all outputs are whole, although QEMU cannot create files when it ends.
fn assert_dumps_are_there(host: &Host, confine: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("stats"), "old").unwrap();
    let options =
        ["stats", "summary", "access-log"].map(|key| format!("{key}={}", path(key).display()));
    let options = options.each_ref().map(|option| &**option);
    let ended = machine(host, &options).args(["-run-with", confine]).run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(!ended.stderr.contains("pvio"), "{}", ended.stderr);
    assert_consistent(&read_stats(&path("stats")).unwrap());
    assert!(std::fs::read_to_string(path("summary")).unwrap().contains("The 24 forms"));
    assert!(std::fs::read_to_string(path("access-log")).unwrap().lines().count() > 1);
}

fn dumps_are_written_after_a_change_of_user(host: &Host) {
    if is_root() {
        assert_dumps_are_there(host, "user=nobody");
    }
}

fn dumps_are_written_after_a_change_of_root(host: &Host) {
    let empty = tempfile::tempdir().unwrap();
    if is_root() {
        assert_dumps_are_there(host, &format!("chroot={}", empty.path().display()));
    }
}

fn daemonize_warns_that_the_tables_are_lost(host: &Host) {
    let run = |options: &[&str]| machine(host, options).args(["-daemonize"]).run().unwrap().stderr;
    let warning = "pvio: warning: -daemonize closes stderr, to which pvio writes the tables";
    assert!(run(&[]).starts_with(warning));
    assert_eq!(run(&["summary=off"]), "");
}

/// Stdout is a file that was not opened for appending.
fn device_output_on_stdout_is_not_overwritten_by_qemu(host: &Host) {
    let option = "device=console@0x80:file=/dev/stdout";
    let machine = host.machine().plugin(&["summary=off", option]);
    let mut running = machine
        .args(["-S", "-M", "pc", "-display", "none", "-nodefaults", "-monitor", "stdio"])
        .start()
        .unwrap();
    for byte in "in one piece\n".bytes() {
        running.say(&format!("o /1 0x80 {byte:#x}")).unwrap();
    }
    running.say("info status").unwrap();
    running.wait_for("paused").unwrap();
    running.say("quit").unwrap();
    let ended = running.wait().unwrap();
    assert!(ended.stdout.contains("in one piece\n"), "{}", ended.stdout);
}
