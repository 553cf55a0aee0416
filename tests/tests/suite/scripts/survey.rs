//! `qemu-scripts/survey` boots firmware and a boot loader, and prints what they would cost.

use std::process::Command;

use pvio_cli::machine::read_stats;
use pvio_cli::paths;
use pvio_tests::assert_consistent;

#[test]
fn firmware_and_a_boot_loader_have_rows_of_their_own_accesses() {
    let directory = tempfile::tempdir().unwrap();
    let script = paths::repository().join("qemu-scripts/survey");
    let mut command = Command::new(script);
    command.arg("--output").arg(directory.path()).args(["--markdown", "seabios-pc", "grub"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tables = String::from_utf8(output.stdout).unwrap();
    assert!(tables.contains(" kvm-intel exits "), "{tables}");
    for (guest, ended) in [("seabios-pc", "reset"), ("grub", "shutdown")] {
        let rows = tables.lines().filter(|line| line.starts_with(&format!("| {guest} |")));
        let rows: Vec<_> = rows.collect();
        assert_eq!(rows.len(), 3, "{tables}");
        let stats = read_stats(&directory.path().join(format!("{guest}.json"))).unwrap();
        assert_consistent(&stats);
        assert_eq!(stats.ended, ended);
        let accesses: u64 = stats.forms.iter().map(|row| row.accesses).sum();
        let shown = rows[0].split(" | ").nth(1).unwrap().replace(',', "");
        assert_eq!(shown.parse::<u64>().unwrap(), accesses);
    }
    // GRUB's own part is read from the disk by SeaBIOS, 16 bits at a time.
    assert!(tables.contains("in 0x01f0 IDE 1"), "{tables}");
}

#[test]
fn guests_that_are_not_known_are_refused_in_a_line() {
    let script = paths::repository().join("qemu-scripts/survey");
    let output = Command::new(script).arg("lilo").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "survey: \"lilo\" is not a guest of the survey: see --help\n");
}
