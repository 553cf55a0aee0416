//! `qemu-scripts/survey` boots firmware and a boot loader, and prints what they would cost.

use std::process::Command;

use pvio_cli::machine::read_stats;
use pvio_cli::paths;
use pvio_tests::assert_consistent;

#[test]
fn firmware_and_a_boot_loader_have_rows_and_the_same_accesses_each_time() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let tables = directories.each_ref().map(|directory| {
        let script = paths::repository().join("qemu-scripts/survey");
        let mut command = Command::new(script);
        command.arg("--output").arg(directory.path()).args(["--markdown", "seabios-pc", "grub"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    });
    assert_eq!(tables[0], tables[1], "the guest's clock is that of its instructions");
    for (guest, ended) in [("seabios-pc", "reset"), ("grub", "shutdown")] {
        let rows = tables[0].lines().filter(|line| line.starts_with(&format!("| {guest} |")));
        assert_eq!(rows.count(), 3, "{}", tables[0]);
        let stats = read_stats(&directories[0].path().join(format!("{guest}.json"))).unwrap();
        assert_consistent(&stats);
        assert_eq!(stats.ended, ended);
        assert!(tables[0].contains(" kvm-intel exits "), "{}", tables[0]);
    }
    // GRUB's own part is read from the disk by SeaBIOS, 16 bits at a time.
    assert!(tables[0].contains("in 0x01f0 IDE 1"), "{}", tables[0]);
}

#[test]
fn guests_that_are_not_known_are_refused_in_a_line() {
    let script = paths::repository().join("qemu-scripts/survey");
    let output = Command::new(script).arg("lilo").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "survey: \"lilo\" is not a guest of the survey: see --help\n");
}
