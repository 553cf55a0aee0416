//! Unusable QEMUs and wrong options: QEMU does not start, and one line says why and what to do instead.

use std::collections::HashSet;

use object::{Object, ObjectSymbol};
use pvio::qemu::{QemuVersion, Symbol, symbols};
use pvio_cli::machine::Machine;
use pvio_cli::paths;
use pvio_tests::{Host, assert_consistent, guest, leave_out, on_both_qemus, refusal};

on_both_qemus! {
    qemu_exports_the_symbols_in_the_table_for_its_version
    refused_start_leaves_files_unchanged
    wrong_option_keeps_qemu_from_starting
    wrong_device_keeps_qemu_from_starting
    qemu_without_exports_counts_and_has_no_devices
    option_with_commas_and_spaces_arrives_whole
    two_copies_of_the_plugin_count_independently
    help_lists_the_options_and_qemu_does_not_start
    summary_goes_to_qemus_log_if_that_has_the_output_of_plugins
    accelerator_without_plugins_is_refused_or_reported_at_the_end
}

fn private(folder: &str, program: &str) -> Machine {
    let qemu = paths::private_qemu(folder, program).unwrap_or_else(|error| panic!("{error}"));
    Machine::new(&qemu)
}

#[test]
fn old_plugin_api_is_refused() {
    let machine = private("bookworm", "qemu-system-x86_64").plugin(&[]);
    assert_eq!(
        refusal(&machine.args(["-machine", "pc", "-display", "none"]).run().unwrap()),
        "pvio: this QEMU's plugin API is version 1; pvio needs version 4 or newer: use QEMU 9.2 or newer"
    );
}

#[test]
fn target_other_than_x86_is_refused() {
    let machine = private("trixie-s390x", "qemu-system-s390x").plugin(&[]);
    assert_eq!(
        refusal(&machine.args(["-display", "none"]).run().unwrap()),
        "pvio: this QEMU emulates s390x, which pvio does not support; \
         load pvio into qemu-system-x86_64 or qemu-system-i386"
    );
}

#[test]
fn user_mode_emulation_is_refused() {
    let machine = private("bookworm-user", "qemu-x86_64").plugin(&[]);
    assert_eq!(
        refusal(&machine.args(["/bin/true"]).run().unwrap()),
        "pvio: user-mode emulation has no I/O ports to count; \
         load pvio into qemu-system-x86_64 or qemu-system-i386"
    );
}

/// Only QEMU 11 is tested: in QEMU 10.0 `qtest` is a module, which the private tree lacks.
#[test]
fn accelerator_other_than_tcg_is_refused() {
    let machine = Host::NEWEST.machine().plugin(&[]).bare_guest(&guest("poweroff.bin"));
    assert_eq!(
        refusal(&machine.args(["-accel", "qtest"]).run().unwrap()),
        "pvio: this QEMU runs the guest with the accelerator QTest, under which QEMU calls no plugins, \
         so nothing would be counted; start it with -accel tcg"
    );
}

/// Needs KVM. pvio refuses it at the start if QEMU says which accelerator it uses, else at the end.
fn accelerator_without_plugins_is_refused_or_reported_at_the_end(host: &Host) {
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        eprintln!("skipped: /dev/kvm cannot be opened");
        return;
    }
    if host.api == 5 {
        let test = "accelerator_without_plugins_is_refused_or_reported_at_the_end";
        return leave_out(module_path!(), test, "KVM");
    }
    let machine = |machine: Machine| {
        let machine = machine.plugin(&[]).bare_guest(&guest("poweroff.bin"));
        machine.args(["-accel", "kvm"]).run().unwrap()
    };
    let line = refusal(&machine(host.machine()));
    assert!(
        line.starts_with("pvio: this QEMU runs the guest with the accelerator KVM, under which"),
        "{line}"
    );
    let blind = machine(host.machine_without_exports());
    assert!(
        blind.stderr.contains("pvio: nothing was counted, because QEMU never called the plugin"),
        "{}",
        blind.stderr
    );
    assert!(blind.stats.is_none());
}

fn wrong_option_keeps_qemu_from_starting(host: &Host) {
    let cases = [
        ("stat=x", "unknown option \"stat\"; did you mean \"stats\"?"),
        ("frobnicate=x", "unknown option \"frobnicate\"; the options are stats=FILE"),
        ("stats=", "option \"stats\" needs a value"),
        ("summary=off,summary=on", "option \"summary\" is given twice"),
        ("stats=/nonexistent/x.json", "no file can be created in /nonexistent: No such file"),
        ("stats=/proc/x.json", "no file can be created in /proc: "),
        ("summary=/", "option \"summary\": / is a directory; name a file in it"),
        ("symbols=/nonexistent", "/nonexistent cannot be read: No such file"),
        ("symbols=/etc/passwd", "/etc/passwd is neither an ELF file nor a System.map"),
        ("hypercall=on", "option \"hypercall\" needs a value; write hypercall=kernel, any or off"),
        ("hypercall=root", "write hypercall=kernel for supervisor code, hypercall=any for code of"),
        ("hypercall=off,hypercall=off", "option \"hypercall\" is given twice"),
        ("hypercall=off,log=/dev/null", "option \"log=/dev/null\": no hypercall can write"),
    ];
    for (option, expected) in cases {
        let options: Vec<&str> = option.split(',').collect();
        let machine = host.machine().plugin(&options).bare_guest(&guest("poweroff.bin"));
        let line = refusal(&machine.run().unwrap());
        assert!(line.contains(expected), "{option}: {line}");
    }
}

fn wrong_device_keeps_qemu_from_starting(host: &Host) {
    let cases = [
        ("device=", "option \"device\" needs a value"),
        ("device=latch", "write KIND@PORT or KIND@PORT-PORT, then :KEY=VALUE"),
        ("device=latch@0x300:", "write KIND@PORT or KIND@PORT-PORT, then :KEY=VALUE"),
        (
            "device=lamp@0x300",
            "there is no kind \"lamp\"; the kinds are latch, console, debug-exit, stream, uart16550, \
             script, socket, replay, filter, null, ones, observe, post",
        ),
        ("device=latch@com1", "\"com1\" is neither a port nor a range of ports; write 0x300"),
        ("device=latch@0xfffe", "0xfffe with 4 ports exceeds 0xffff, the last port"),
        ("device=latch@0xfff0-0x10000", "exceeds 0xffff, the last port"),
        ("device=latch@0x307-0x300", "0x307-0x300 ends before it begins"),
        (
            "device=latch@0x300,device=null@0x303",
            "null at 0x0303 overlaps latch at 0x0300-0x0303; give each port to one device",
        ),
        (
            "device=latch@0x300:depth=2",
            "latch at 0x0300-0x0303: this kind has no setting \"depth\"",
        ),
        ("device=uart16550@0x2f8:irq=16", "irq=16 is not an interrupt line of the ISA bus"),
        (
            "device=uart16550@0x2f8:irq=three",
            "irq=three is not an interrupt line of the ISA bus; write 0 to 15",
        ),
        ("device=uart16550@0x2f8-0x2fb", "this kind always has 8 ports; name only the first"),
        ("device=uart16550@0x2f8:in=/nonexistent", "in=/nonexistent cannot be read: No such file"),
        ("device=stream@0x300:in=/nonexistent", "in=/nonexistent cannot be read: No such file"),
        ("device=stream@0x300:in=/", "\"in\" of \"stream@0x300\": / is a directory; name a file"),
        ("device=stream@0x300:out=/proc/x", "out=/proc/x cannot be written: No such file"),
        ("device=console@0xe9:file=/", "\"file\" of \"console@0xe9\": / is a directory"),
        ("device=stream@0x300:in=a:in=b", "\"in\" is given twice; give it once"),
    ];
    for (option, expected) in cases {
        let options: Vec<&str> = option.split(',').collect();
        let machine = host.machine().plugin(&options).bare_guest(&guest("poweroff.bin"));
        let line = refusal(&machine.run().unwrap());
        assert!(line.contains(expected), "{option}: {line}");
    }
}

/// Before plugin API 5 a plugin cannot write registers, and only supervisor code has a mailbox.
#[test]
fn plugin_api_4_has_the_mailbox_only() {
    let machine = |options: &[&str]| {
        Host::STABLE.machine().plugin(options).bare_guest(&guest("poweroff.bin"))
    };
    assert_eq!(
        refusal(&machine(&["hypercall=any"]).run().unwrap()),
        "pvio: option \"hypercall=any\": this QEMU's plugin API is version 4, with which plugins \
         cannot answer hypercalls from user code; use QEMU 10.1 or newer, or hypercall=kernel"
    );
    for options in [&[][..], &["hypercall=kernel"], &["hypercall=off"], &["log=/dev/null"]] {
        let ended = machine(options).run().unwrap();
        assert!(ended.status.success(), "{}", ended.stderr);
        assert_eq!(ended.stats().unwrap().hypercalls, []);
    }
}

fn qemu_without_exports_counts_and_has_no_devices(host: &Host) {
    let machine = |options: &[&str]| {
        let machine = host.machine_without_exports();
        machine.plugin(options).bare_guest(&guest("poweroff.bin"))
    };
    let line = refusal(&machine(&["device=latch@0x300"]).run().unwrap());
    assert!(line.starts_with("pvio: option \"device\": this QEMU does not export "), "{line}");
    assert!(
        line.ends_with("use a QEMU that was built with modules, as distributions build it"),
        "{line}"
    );

    let ended = machine(&[]).run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    assert_eq!(stats.forms.iter().map(|row| row.executions).sum::<u64>(), 18);
    let version = stats.qemu.version.as_deref().unwrap();
    let banner = std::process::Command::new(host.program("qemu-system-x86_64"));
    let banner = { banner }.arg("--version").output().unwrap();
    let banner = String::from_utf8(banner.stdout).unwrap();
    assert!(banner.starts_with(&format!("QEMU emulator version {version}")), "{banner}");
    assert_eq!(stats.ended, "unknown");
}

fn option_with_commas_and_spaces_arrives_whole(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("with, a comma.json");
    let machine = host.machine().plugin(&["summary=off", &format!("stats={}", path.display())]);
    let ended = machine.bare_guest(&guest("poweroff.bin")).run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
    assert!(path.exists());
}

fn help_lists_the_options_and_qemu_does_not_start(host: &Host) {
    let plugin = format!("{},help", paths::plugin().unwrap().display());
    let machine = host.machine().args(["-plugin", &plugin]).bare_guest(&guest("poweroff.bin"));
    let ended = machine.run().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("libpvio.so options:\n  stats=FILE "), "{}", ended.stdout);
    assert!(ended.stdout.contains("kinds of devices: "), "{}", ended.stdout);
}

fn summary_goes_to_qemus_log_if_that_has_the_output_of_plugins(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let log = log.to_str().unwrap();
    let run = |items: &str, options: &[&str]| {
        let _ = std::fs::remove_file(log);
        let machine = host.machine().plugin(options).args(["-d", items, "-D", log]);
        let ended = machine.bare_guest(&guest("poweroff.bin")).run().unwrap();
        assert!(ended.status.success(), "{}", ended.stderr);
        (std::fs::read_to_string(log).unwrap_or_default(), ended.stderr)
    };
    let has_tables = |text: &str| text.contains("The 24 forms\n");
    let (logged, stderr) = run("plugin", &[]);
    assert!(has_tables(&logged) && stderr.is_empty(), "{logged}{stderr}");
    // Asked for otherwise, in either way.
    for (items, options) in [("guest_errors", &[][..]), ("plugin", &["summary=on"])] {
        let (logged, stderr) = run(items, options);
        assert!(!has_tables(&logged) && has_tables(&stderr), "{items}: {logged}{stderr}");
    }
}

/// Each copy has its own counters.
fn two_copies_of_the_plugin_count_independently(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("libpvio-2.so");
    std::fs::copy(paths::plugin().unwrap(), &copy).unwrap();
    let second = directory.path().join("second.json");
    let argument = format!("{},summary=off,stats={}", copy.display(), second.display());
    let machine = host.machine().plugin(&[]).args(["-plugin"]);
    let ended = machine.args([argument]).bare_guest(&guest("poweroff.bin")).run().unwrap();
    let first = ended.stats().unwrap();
    let second = pvio_cli::machine::read_stats(&second).unwrap();
    assert_eq!(first.forms, second.forms);
    assert_eq!(first.ports, second.ports);
}

fn refused_start_leaves_files_unchanged(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "of another run").unwrap();
    let file_option = format!("device=console@0xe9:file={}", file.display());
    let log = format!("access-log={}", file.display());
    let (twice, unknown) = ("device=latch@0xe9", format!("{file_option}:foo=1"));
    for options in [&[&*file_option, twice][..], &[&*unknown], &[&*log, twice, twice]] {
        let machine = host.machine().plugin(options).bare_guest(&guest("poweroff.bin"));
        refusal(&machine.run().unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "of another run", "{options:?}");
    }
}

fn qemu_exports_the_symbols_in_the_table_for_its_version(host: &Host) {
    let (major, minor, folder) = match host.api {
        4 => (10, 0, "tree/usr/bin"),
        5 => (10, 2, "bin"),
        _ => (11, 1, "tree/usr/bin"),
    };
    let version = QemuVersion { major, minor, micro: 0 };
    let wrapper = host.program("qemu-system-x86_64");
    let binary = wrapper.parent().unwrap().join(folder).join("qemu-system-x86_64");
    let binary = std::fs::read(binary).unwrap();
    let file = object::File::parse(&*binary).unwrap();
    let exported: HashSet<&[u8]> = file
        .dynamic_symbols()
        .filter(|symbol| !symbol.is_undefined())
        .map(|symbol| symbol.name_bytes().unwrap())
        .collect();
    let of_qemu: Vec<Symbol> = symbols().filter(|symbol| symbol.header != "glib.h").collect();
    assert!(of_qemu.len() > 50);
    for Symbol { name, header, .. } in &of_qemu {
        let expected = of_qemu.iter().any(|row| row.name == *name && row.is_in(version));
        let is_exported = exported.contains(name.to_bytes());
        assert_eq!(is_exported, expected, "{name:?} of {header} in {version}");
    }
}
