//! The drivers of Debian's kernel for a parallel port and a printer, on the printer in `plugin/examples/scripts`.

use pvio_cli::paths;
use pvio_tests::{Host, LinuxGuest, on_both_qemus};

on_both_qemus! {
    linux_finds_the_printer_and_prints
}

const SCRIPT: &str = "
insmod /parport.ko
insmod /parport_pc.ko io=0x378 irq=none
insmod /lp.ko
for line in $(seq 12); do echo \"line $line of twelve\"; done >/dev/lp0
echo \"printed: status $?\"
dmesg | grep -E 'parport|lp0'
";

/// Only the kernel for i386 has these modules, of the two that the tests use.
fn linux_finds_the_printer_and_prints(host: &Host) {
    let linux =
        LinuxGuest::with_kernel(&["--suite", "bookworm", "--arch", "i386"], SCRIPT).unwrap();
    let script = paths::repository().join("plugin/examples/scripts/printer.rhai");
    let device = format!("device=script@0x378-0x37a:file={}", script.display());
    // QEMU's PC has a parallel port of its own.
    let run = |options: &[&str]| {
        linux.on(host.machine().plugin(options)).args(["-parallel", "none"]).run().unwrap()
    };
    let ended = run(&["summary=off", &device]);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.stdout.contains("parport0: PC-style at 0x378 [PCSPP]"), "{}", ended.stdout);
    assert!(ended.stdout.contains("lp0: using parport0 (polling)"), "{}", ended.stdout);
    assert!(ended.stdout.contains("printed: status 0"), "{}", ended.stdout);
    let expected: String = (1..=12)
        .map(|line| format!("pvio: script at 0x0378-0x037a: line {line} of twelve\n"))
        .collect();
    assert_eq!(ended.stderr, expected);
    // Without the device there is nothing.
    let ended = run(&["summary=off"]);
    assert!(ended.stdout.contains("there is probably no parallel port there"), "{}", ended.stdout);
}
