//! The crate as a library: a plugin with a device of one's own, built and booted.

use std::path::PathBuf;
use std::process::Command;

use once_cell::sync::Lazy;
use pvio_scripts::places;
use pvio_tests::{Host, on_both_qemus};

on_both_qemus! {
    a_plugin_of_ones_own_serves_its_device_and_counts
}

/// A copy of the example, as a user would make one: outside the repository, with the path changed.
static LIBRARY: Lazy<PathBuf> = Lazy::new(|| {
    let repository = places::repository();
    let target = repository.join("target/own-device");
    let copy = target.join("copy");
    let example = repository.join("plugin/examples/own-device");
    std::fs::create_dir_all(copy.join("src")).unwrap();
    std::fs::copy(example.join("src/lib.rs"), copy.join("src/lib.rs")).unwrap();
    let manifest = std::fs::read_to_string(example.join("Cargo.toml")).unwrap();
    let there = format!("path = {:?}", repository.join("plugin"));
    let changed = manifest.replace("path = \"../..\"", &there);
    assert_ne!(changed, manifest);
    std::fs::write(copy.join("Cargo.toml"), changed).unwrap();
    // The versions that everything else is tested with, and a target directory of its own.
    std::fs::copy(repository.join("Cargo.lock"), copy.join("Cargo.lock")).unwrap();
    let built = Command::new(env!("CARGO"))
        .current_dir(&copy)
        .args(["build", "--offline", "--target-dir"])
        .arg(&target)
        .status()
        .unwrap();
    assert!(built.success());
    target.join("debug/libown_device.so")
});

fn a_plugin_of_ones_own_serves_its_device_and_counts(host: &Host) {
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
    for line in ["o /b 0x300 3", "i /b 0x300", "i /b 0x300", "o /b 0x304 0x5a", "i /b 0x304"] {
        running.say(line).unwrap();
    }
    running.wait_for("portb[0x0304] = 0x5a").unwrap();
    assert!(running.stdout().unwrap().contains("portb[0x0300] = 0x01"));
    running.say("quit").unwrap();
    assert!(running.wait().unwrap().status.success());
    let stats = pvio_scripts::machine::read_stats(&stats).unwrap();
    assert_eq!(stats.qemu.plugin_api, host.api);
    // Of the monitor's accesses nothing is counted: no instruction made them.
    assert!(stats.ports.iter().all(|row| row.device == 0));
}
