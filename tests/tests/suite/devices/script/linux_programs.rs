//! Programs for Linux, and the kernel itself, on devices in Rhai.

use std::path::PathBuf;

use pvio_cli::paths;
use pvio_tests::{Host, LinuxGuest, guest, on_both_qemus, refusal};

use super::{Scripts, documented_script, stopped};

on_both_qemus! {
    program_finds_its_dongle
    vmwares_backdoor_answers_a_program_and_the_kernel
    registers_are_refused_outside_of_an_instruction
}

fn example(name: &str) -> PathBuf {
    paths::repository().join("plugin/examples/scripts").join(name)
}

fn program_finds_its_dongle(host: &Host) {
    let program = std::fs::read(guest("lpt-key")).unwrap();
    let script = "/lpt-key; echo \"status $?\"";
    let linux = LinuxGuest::new(script, &[("lpt-key", &program)]).unwrap();
    let scripts = Scripts::new();
    let device = scripts.device("0x378-0x37a", &documented_script(), "");
    let run = |options: &[&str]| linux.on(host.machine().plugin(options)).run().unwrap();
    let console = run(&["summary=off", &device]).stdout;
    assert!(console.contains("key found") && console.contains("status 0"), "{console}");
    let console = run(&["summary=off"]).stdout;
    assert!(console.contains("no key") && console.contains("status 1"), "{console}");
}

/// Linux asks the backdoor only if no hypervisor shows in CPUID, and the BIOS names VMware.
fn vmwares_backdoor_answers_a_program_and_the_kernel(host: &Host) {
    let program = std::fs::read(guest("backdoor")).unwrap();
    let script = "/backdoor; echo \"status $?\"; dmesg | grep -i 'hypervisor detected'";
    let linux = LinuxGuest::new(script, &[("backdoor", &program)]).unwrap();
    let device = format!(
        "device=script@0x5658-0x565b:file={}:registers=on",
        example("vmware.rhai").display()
    );
    let run = |options: &[&str]| {
        let machine = linux.on(host.machine().plugin(&["summary=off"]).plugin(options));
        let machine = machine.args(["-machine", "pc,vmport=off", "-cpu", "max,-hypervisor"]);
        machine.args(["-smbios", "type=1,serial=VMware-56 4d"]).run().unwrap()
    };
    let ended = run(&[&device]);
    assert_eq!(ended.stderr, "");
    assert!(ended.stdout.contains("VMware, version 6"), "{}", ended.stdout);
    assert!(ended.stdout.contains("status 0"), "{}", ended.stdout);
    assert!(ended.stdout.contains("Hypervisor detected: VMware"), "{}", ended.stdout);
    let ended = run(&[]);
    assert!(ended.stdout.contains("not VMware"), "{}", ended.stdout);
    assert!(ended.stdout.contains("status 1"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("Hypervisor detected"), "{}", ended.stdout);
}

fn registers_are_refused_outside_of_an_instruction(host: &Host) {
    let scripts = Scripts::new();
    let text = "
        fn write(offset, size, value) { set_register(\"ebx\", 1); }
        fn read(offset, size) { register(\"eax\") }
    ";
    let cases = [
        (
            "0x300",
            text,
            ":registers=on",
            "registers can be used only in read and write, for an access",
        ),
        ("0x304", text, "", "the device does not see registers; add registers=on to its option"),
        (
            "0x308",
            "fn write(o, s, v) {} fn read(o, s) { register(\"ah\") }",
            ":registers=on",
            "there is no register \"ah\"; name eax, ecx, edx",
        ),
    ];
    let devices: Vec<String> = cases
        .iter()
        .map(|(ports, text, settings, _)| scripts.device(ports, text, settings))
        .collect();
    let mut monitor = stopped(host, &devices);
    // The monitor's accesses are no instructions.
    for port in [0x300, 0x304, 0x308] {
        assert_eq!(monitor.read(port, 1), 0xff);
    }
    let ended = monitor.quit();
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), cases.len(), "{}", ended.stderr);
    for (line, (.., expected)) in lines.iter().zip(cases) {
        assert!(line.contains(expected), "{line}");
    }
    let option = scripts.device("0x300", text, ":registers=yes");
    let machine = host.machine().plugin(&[&option]).bare_guest(&guest("poweroff.bin"));
    let line = refusal(&machine.run().unwrap());
    assert!(line.contains("registers=yes: write registers=on or registers=off"), "{line}");
}
