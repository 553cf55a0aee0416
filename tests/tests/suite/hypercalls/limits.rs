//! The limits of texts, windows and dumps, and how texts are shown.

use pvio_guest::abi::{DUMPS_MAX, LOG_MAX, NAME_MAX, WINDOWS_MAX};
use pvio_tests::{Host, assert_consistent, on_answering_qemus, run_guest, without_modules};

on_answering_qemus! {
    texts_windows_and_dumps_have_the_limits_of_the_abi
}

without_modules! {
    ; needs "the guest's memory":
    texts_windows_and_dumps_have_the_limits_of_the_abi
}

/// The lines of the guest's log, as they must be shown.
fn lines() -> Vec<String> {
    let longest = "x".repeat(LOG_MAX);
    let lines = [
        "error: plain",
        "warning: a\\nb\\r\\t\\u{1b}[2J\\u{0}\\u{7f}",
        "info: gr\u{fc}\u{df}e \\u{202e}",
        "debug: \\xff\\xc3(",
        "info: ",
        &format!("info: {longest}"),
    ];
    lines.map(str::to_owned).to_vec()
}

fn texts_windows_and_dumps_have_the_limits_of_the_abi(host: &Host) {
    for bits in [32, 64] {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let stats = path("stats");
        let machine = host
            .machine()
            .plugin(&["summary=off", &format!("log={}", path("log").display())])
            .plugin(&[&format!("stats={}", stats.display())]);
        run_guest(machine, &format!("calls-limits{bits}"));
        let log = std::fs::read_to_string(path("log")).unwrap();
        let shown = log.lines().map(|line| line.split_once("] ").unwrap().1);
        assert_eq!(shown.collect::<Vec<_>>(), lines());

        let dump = pvio_cli::machine::read_stats(&stats).unwrap();
        assert_consistent(&dump);
        assert_eq!(dump.windows.len(), WINDOWS_MAX);
        assert!(dump.windows.iter().any(|window| window.name.len() == NAME_MAX));
        let number = |number| path(&format!("stats.{number}"));
        assert!(number(DUMPS_MAX).exists() && !number(DUMPS_MAX + 1).exists());
    }
}
