//! The crate as a library: a plugin with a device of its own, built and booted.

use std::path::PathBuf;

use once_cell::sync::Lazy;
use pvio::stats::Snapshot;
use pvio_cli::expected_forms;
use pvio_cli::machine::{Ended, read_stats};
use pvio_tests::{Host, Monitor, build_copy, guest, on_both_qemus, parse_hex};

on_both_qemus! {
    plugin_with_its_own_device_serves_it_and_counts
    device_that_panics_does_not_stop_the_guest
    device_that_panics_in_reset_does_not_stop_other_resets
    device_that_panics_at_the_end_does_not_stop_the_dump
    plugin_with_its_own_observer_sees_what_the_access_log_has
}

/// A copy of the example plugin, changed so that its device panics at certain values.
static LIBRARY: Lazy<PathBuf> = Lazy::new(|| {
    build_copy("plugin/examples/own-device", "../..", |source| {
        let panics = "assert!(self.left != 13, \"unlucky\");\n        data.fill(self.left);";
        let changed = source.replace("data.fill(self.left);", panics);
        assert_ne!(changed, source);
        let source = changed;
        let panics = "fn finish(&mut self) -> std::io::Result<()> {\n        \
                      assert!(self.left != 77, \"unlucky at the end\");\n        Ok(())\n    }\n\n    \
                      fn reset(&mut self) {\n        assert!(self.left != 66, \"unlucky reset\");";
        let changed = source.replace("fn reset(&mut self) {", panics);
        assert_ne!(changed, source);
        changed
    })
});

/// Accesses a machine with the example's device at 0x300 and a latch at 0x304, and then ends it.
fn with_countdown(host: &Host, access: impl FnOnce(&mut Monitor)) -> (Ended, Snapshot) {
    let directory = tempfile::tempdir().unwrap();
    let stats = directory.path().join("stats.json");
    let options = format!(
        "{},summary=off,device=countdown@0x300:irq=5,device=latch@0x304,stats={}",
        LIBRARY.display(),
        stats.display()
    );
    let machine = host.machine().args(["-plugin", &options]);
    let machine = machine.args(["-machine", "pc", "-display", "none", "-nodefaults"]);
    let mut monitor = Monitor::start(machine);
    access(&mut monitor);
    let ended = monitor.quit();
    assert!(ended.status.success(), "{}", ended.stderr);
    (ended, read_stats(&stats).unwrap())
}

fn plugin_with_its_own_device_serves_it_and_counts(host: &Host) {
    let (ended, stats) = with_countdown(host, |monitor| {
        monitor.write(0x300, 1, 3);
        assert_eq!([2, 1].map(|_| monitor.read(0x300, 1)), [2, 1]);
        monitor.write(0x304, 1, 0x5a);
        assert_eq!(monitor.read(0x304, 1), 0x5a);
    });
    assert_eq!(ended.stderr, "");
    assert_eq!(stats.qemu.plugin_api, host.api);
    // The monitor's accesses are not counted: no instruction made them.
    assert!(stats.ports.iter().all(|row| row.device == 0));
}

fn device_that_panics_does_not_stop_the_guest(host: &Host) {
    let (ended, _) = with_countdown(host, |monitor| {
        monitor.write(0x300, 1, 14);
        assert_eq!([(); 2].map(|()| monitor.read(0x300, 1)), [0xff; 2]);
        monitor.write(0x300, 1, 5);
        assert_eq!(monitor.read(0x300, 1), 0xff);
        monitor.reset();
        monitor.write(0x304, 1, 0x5a);
        assert_eq!(monitor.read(0x304, 1), 0x5a);
    });
    let said = ended.stderr.matches("countdown at 0x0300 panicked").count();
    assert_eq!(said, 1, "{}", ended.stderr);
}

/// The latch is reset after the device that panics.
fn device_that_panics_in_reset_does_not_stop_other_resets(host: &Host) {
    let (ended, _) = with_countdown(host, |monitor| {
        monitor.write(0x304, 1, 0x5a);
        monitor.write(0x300, 1, 66);
        monitor.reset();
        assert_eq!((monitor.read(0x300, 1), monitor.read(0x304, 1)), (0xff, 0));
    });
    assert_eq!(ended.stderr.matches("countdown at 0x0300 panicked").count(), 1, "{}", ended.stderr);
}

fn device_that_panics_at_the_end_does_not_stop_the_dump(host: &Host) {
    let (ended, stats) = with_countdown(host, |monitor| monitor.write(0x300, 1, 77));
    assert_eq!(ended.stderr.matches("countdown at 0x0300 panicked").count(), 1, "{}", ended.stderr);
    assert_eq!(stats.ended, "quit");
}

/// The example plugin with an observer.
static OBSERVER: Lazy<PathBuf> =
    Lazy::new(|| build_copy("plugin/examples/own-observer", "../..", |source| source));

fn plugin_with_its_own_observer_sees_what_the_access_log_has(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let options = format!(
        "{},summary=off,device=transcript@0-0xffff:out={},access-log={}",
        OBSERVER.display(),
        path("transcript"),
        path("log")
    );
    let machine = host.machine().args(["-plugin", &options]).bare_guest(&guest("forms.bin"));
    let ended = machine.run().unwrap();
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(expected_forms::PASSED), ""));
    let log = std::fs::read_to_string(path("log")).unwrap();
    let logged = log.lines().skip(1).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_time, _vcpu, _pc, direction, port, size, value, ..] = words[..] else {
            panic!("{line}")
        };
        let (port, value) = (parse_hex(port), parse_hex(value));
        format!("{direction} {port} {size} {value:#x}")
    });
    let logged: Vec<String> = logged.collect();
    let transcript = std::fs::read_to_string(path("transcript")).unwrap();
    assert!(transcript.lines().eq(&logged), "{transcript}");
    assert!(logged.len() > 100);
}
