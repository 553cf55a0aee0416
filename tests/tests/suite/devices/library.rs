//! The crate as a library: a plugin with a device of its own, built and booted.

use std::path::PathBuf;

use once_cell::sync::Lazy;
use pvio::stats::Snapshot;
use pvio_cli::machine::{Ended, read_stats};
use pvio_tests::{Host, build_copy, on_both_qemus};

on_both_qemus! {
    plugin_with_its_own_device_serves_it_and_counts
    device_that_panics_does_not_stop_the_guest
    device_that_panics_in_reset_does_not_stop_other_resets
    device_that_panics_at_the_end_does_not_stop_the_dump
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

/// Sends monitor commands to a machine with the example's device, and waits for a text on stdout.
fn with_countdown(host: &Host, commands: &[&str], until: &str) -> (Ended, Snapshot) {
    let directory = tempfile::tempdir().unwrap();
    let stats = directory.path().join("stats.json");
    let options = format!(
        "{},summary=off,device=countdown@0x300:irq=5,device=latch@0x304,stats={}",
        LIBRARY.display(),
        stats.display()
    );
    let mut running = host
        .machine()
        .args(["-plugin", &options, "-machine", "pc", "-display", "none", "-nodefaults"])
        .args(["-monitor", "stdio"])
        .start()
        .unwrap();
    for command in commands {
        running.say(command).unwrap();
    }
    running.wait_for(until).unwrap();
    running.say("quit").unwrap();
    let ended = running.wait().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    (ended, read_stats(&stats).unwrap())
}

fn plugin_with_its_own_device_serves_it_and_counts(host: &Host) {
    let commands = ["o /b 0x300 3", "i /b 0x300", "i /b 0x300", "o /b 0x304 0x5a", "i /b 0x304"];
    let (ended, stats) = with_countdown(host, &commands, "portb[0x0304] = 0x5a");
    assert!(ended.stdout.contains("portb[0x0300] = 0x01"), "{}", ended.stdout);
    assert_eq!(ended.stderr, "");
    assert_eq!(stats.qemu.plugin_api, host.api);
    // The monitor's accesses are not counted: no instruction made them.
    assert!(stats.ports.iter().all(|row| row.device == 0));
}

fn device_that_panics_does_not_stop_the_guest(host: &Host) {
    let commands = [
        "o /b 0x300 14",
        "i /b 0x300",
        "i /b 0x300",
        "o /b 0x300 5",
        "i /b 0x300",
        "system_reset",
        "o /b 0x304 0x5a",
        "i /b 0x304",
    ];
    let (ended, _) = with_countdown(host, &commands, "portb[0x0304] = 0x5a");
    let reads = ended.stdout.matches("portb[0x0300] = ").count();
    assert_eq!((reads, ended.stdout.matches("portb[0x0300] = 0xff").count()), (3, 3));
    let said = ended.stderr.matches("countdown at 0x0300 panicked").count();
    assert_eq!(said, 1, "{}", ended.stderr);
}

/// The latch is reset after the device that panics.
fn device_that_panics_in_reset_does_not_stop_other_resets(host: &Host) {
    let commands = ["o /b 0x304 0x5a", "o /b 0x300 66", "system_reset", "i /b 0x300", "i /b 0x304"];
    let (ended, _) = with_countdown(host, &commands, "portb[0x0304] = 0x00");
    assert!(ended.stdout.contains("portb[0x0300] = 0xff"), "{}", ended.stdout);
    assert_eq!(ended.stderr.matches("countdown at 0x0300 panicked").count(), 1, "{}", ended.stderr);
}

fn device_that_panics_at_the_end_does_not_stop_the_dump(host: &Host) {
    let commands = ["o /b 0x300 77", "i /b 0x304"];
    let (ended, stats) = with_countdown(host, &commands, "portb[0x0304] = 0x00");
    assert_eq!(ended.stderr.matches("countdown at 0x0300 panicked").count(), 1, "{}", ended.stderr);
    assert_eq!(stats.ended, "quit");
}
