//! The calls for files, one at a time (`tests/guests/calls/files.c`), on every QEMU through the mailbox.

use pvio::stats::Call;
use pvio_tests::{
    GuestTest, Host, assert_consistent, file_names, on_answering_qemus, on_both_qemus,
};

use super::stream_sequence;

on_both_qemus! {
    files_are_whole_and_requests_are_checked_by_mailbox
}

/// In a module of its own, because the macro above makes modules of the same names.
mod by_registers {
    use super::{Host, on_answering_qemus, run};

    on_answering_qemus! {
        files_are_whole_and_requests_are_checked
    }

    fn files_are_whole_and_requests_are_checked(host: &Host) {
        for bits in [32, 64] {
            run(host, &format!("calls-files{bits}"), true);
        }
    }
}

/// The size of the file that the guest reads.
const IN_SIZE: u32 = 100_000;

fn run(host: &Host, name: &str, by_registers: bool) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("share")).unwrap();
    std::fs::write(path("share/in"), stream_sequence(IN_SIZE)).unwrap();
    let machine = host
        .machine()
        .plugin(&["summary=off", &format!("share={}", path("share").display())])
        .plugin(&[&format!("stats={}", path("stats").display())]);
    let run = GuestTest::new(machine, name).args(["-action", "reboot=reset", "-cpu", "max"]).run();
    assert_eq!(run.number("boots"), 2);

    // What was unfinished at the reset or at the end has left nothing.
    let is_answered = run.number("registers") == 1;
    assert_eq!(is_answered, by_registers || host.api >= 5);
    let mut expected = vec!["in", "out", "second"];
    if is_answered {
        expected.insert(0, "copy");
    }
    let names = file_names(&path("share"));
    assert_eq!(names, expected);
    let read = |name: &str| std::fs::read(path("share").join(name)).unwrap();
    for name in names.iter().filter(|name| *name != "second") {
        assert!(read(name) == stream_sequence(IN_SIZE), "{name}");
    }
    assert_eq!(read("second").len(), 1);

    let stats = pvio_cli::machine::read_stats(&path("stats")).unwrap();
    assert_consistent(&stats);
    // The guest reads the file, and 8096 bytes of it again; it writes it, and 120 bytes that stay unfinished. The
    // functions of pvio.h copy it.
    let copied = if is_answered { u64::from(IN_SIZE) } else { 0 };
    let bytes = |call| stats.hypercalls.iter().find(|row| row.call == call).map(|row| row.bytes);
    assert_eq!(bytes(Call::FileRead), Some(u64::from(IN_SIZE) + 8096 + copied));
    assert_eq!(bytes(Call::FileWrite), Some(u64::from(IN_SIZE) + 120 + copied));
}

fn files_are_whole_and_requests_are_checked_by_mailbox(host: &Host) {
    for bits in [32, 64] {
        run(host, &format!("calls-by-mailbox-files{bits}"), false);
    }
}
