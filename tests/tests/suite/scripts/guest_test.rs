//! `qemu-scripts/guest-test`: its exact output for guests of every kind.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pvio_guest::abi::{CallWord, MAGIC_16, MAGIC_32, call, level};
use pvio_tests::Host;
use pvio_tests::boot_images::{elf32, multiboot_1};
use pvio_tests::guests::{Guests, text, without_times};
use pvio_tests::verdict::Step::{self, *};
use pvio_tests::verdict::image;

#[test]
fn each_end_is_told_from_the_others() {
    let guests = Guests::new();
    guests
        .add("pass.bin", image(&[Log(level::INFO, b"all is well"), Exit(0)]))
        .add("fail.bin", image(&[Log(level::WARNING, b"hm"), Log(level::ERROR, b"no"), Exit(7)]))
        .add("fault.bin", image(&[TripleFault]))
        .add("off.bin", image(&[Serial("so long\r\n"), PowerOff]))
        .add("device.bin", image(&[DebugExit(0)]))
        .add("hang.bin", image(&[Log(level::DEBUG, b"waiting"), Halt]))
        .add("bad.elf", [&[0; 0x202][..], b"HdrS"].concat());
    let names =
        ["pass.bin", "fail.bin", "fault.bin", "off.bin", "device.bin", "hang.bin", "bad.elf"];
    let options = ["--timeout", "10", "--jobs", "3"];
    let device = ["--", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"];
    let report = guests.test(&[&options[..], &names, &device].concat(), false);
    assert_eq!(
        report,
        r#"TAP version 13
1..7
# [T] info: all is well
ok 1 - pass.bin # time=T
# [T] warning: hm
# [T] error: no
not ok 2 - fail.bin # time=T
  ---
  message: "exit code 7"
  exit_code: 7
  log:
    - "[T] warning: hm"
    - "[T] error: no"
  ...
not ok 3 - fault.bin # time=T
  ---
  message: "no verdict: the guest reset the machine (triple fault?)"
  ...
not ok 4 - off.bin # time=T
  ---
  message: "no verdict: the guest powered off; if that is success, add --success-power-off"
  serial:
    - "so long"
  ...
not ok 5 - device.bin # time=T
  ---
  message: "no verdict: a device ended QEMU with status 1; isa-debug-exit makes 2n + 1 of n, and the guest wrote 0 (0x0); if that is success, add --success-status 1"
  ...
# [T] debug: waiting
not ok 6 - hang.bin # time=T
  ---
  message: "no verdict: still running after 10 s"
  ...
not ok 7 - bad.elf # time=T
  ---
  message: "QEMU did not run the guest: exit status 1"
  qemu:
    - "qemu: invalid kernel header"
  ...
"#
    );
}

#[test]
fn text_that_looks_like_a_report_is_none() {
    let guests = Guests::new();
    let lines: [&[u8]; 5] = [
        b"ok 1 - x\nnot ok 2",
        b"# SKIP \\ \"quoted\"",
        b"\x1b[2J \xff",
        "grüße\u{2028}".as_bytes(),
        b"",
    ];
    let mut steps: Vec<Step<'_>> = lines.iter().map(|line| Log(level::ERROR, line)).collect();
    steps.push(Exit(255));
    guests.add("a # SKIP \\ \n.bin", image(&steps));
    assert_eq!(
        guests.test(&["a # SKIP \\ \n.bin"], false),
        r##"TAP version 13
1..1
# [T] error: ok 1 - x\nnot ok 2
# [T] error: # SKIP \ "quoted"
# [T] error: \u{1b}[2J \xff
# [T] error: grüße\u{2028}
# [T] error: 
not ok 1 - a \# SKIP \\ \\n.bin # time=T
  ---
  message: "exit code 255"
  exit_code: 255
  log:
    - "[T] error: ok 1 - x\\nnot ok 2"
    - "[T] error: # SKIP \\ \"quoted\""
    - "[T] error: \\u{1b}[2J \\xff"
    - "[T] error: grüße\\u{2028}"
    - "[T] error: "
  ...
"##
    );
}

#[test]
fn tests_within_a_guest_are_subtests() {
    let guests = Guests::new();
    let of = |results: &[&'static str]| {
        let log = results.iter().map(|line| Log(level::INFO, line.as_bytes()));
        image(&log.chain([Exit(0)]).collect::<Vec<_>>())
    };
    guests
        .add("good.bin", of(&["begin", "test a: b: ok", "test # TODO: ok"]))
        .add("bad.bin", of(&["test a: ok", "why", "test b: FAILED"]));
    assert_eq!(
        guests.test(&["good.bin", "bad.bin"], false),
        r#"TAP version 13
1..2
# Subtest: good.bin
    # [T] info: begin
    ok 1 - a: b
    ok 2 - \# TODO
    1..2
ok 1 - good.bin # time=T
# Subtest: bad.bin
    ok 1 - a
    # [T] info: why
    not ok 2 - b
    1..2
not ok 2 - bad.bin # time=T
  ---
  message: "exit code 0, but 1 of 2 tests failed"
  exit_code: 0
  ...
"#
    );
}

/// `exit` with code 0, and then nothing more.
fn passing_code(magic: &[u8], word_prefix: &[u8]) -> Vec<u8> {
    let word = CallWord::new(call::EXIT, 0, 0).0.to_le_bytes();
    // mov $word, %eax; the call; cli; hlt; jmp .-1
    [word_prefix, b"\xb8", &word, magic, b"\xfa\xf4\xeb\xfd"].concat()
}

#[test]
fn kernels_and_disks_are_booted_too() {
    let mut sector = passing_code(&MAGIC_16, b"\x66");
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    let guests = Guests::new();
    guests
        .add("kernel", elf32(&multiboot_1(0), &passing_code(&MAGIC_32, b"")))
        .add("disk, raw.img", &sector);
    assert_eq!(
        guests.test(&["kernel", "disk, raw.img"], true),
        "TAP version 13\n1..2\nok 1 - kernel # time=T\nok 2 - disk, raw.img # time=T\n"
    );
    assert_eq!(std::fs::read(guests.path("disk, raw.img")).unwrap(), sector);
}

#[test]
fn the_verdict_of_user_code_counts_where_it_is_asked_for() {
    let guests = Guests::new();
    guests.add("user.bin", image(&[User, Exit(0)]));
    assert_eq!(
        guests.test(&["user.bin"], false),
        r#"TAP version 13
1..1
not ok 1 - user.bin # time=T
  ---
  message: "no verdict: the guest reset the machine (triple fault?); its exit call came from user code and was denied: allow it with --option hypercall=any"
  ...
"#
    );
    // Its actions after the verdict change nothing.
    let report = guests.test(&["--option", "hypercall=any", "user.bin"], true);
    assert_eq!(report, "TAP version 13\n1..1\nok 1 - user.bin # time=T\n");
}

/// A variable makes pvio treat this QEMU as if it had been built without loadable modules.
#[test]
fn a_qemu_without_exports_gives_verdicts_after_one_warning() {
    let guests = Guests::new();
    guests.add("fail.bin", image(&[Log(level::INFO, b"unheard"), Exit(3)]));
    let mut command = guests.command(&["fail.bin"]);
    let output = command.env("PVIO_TEST_WITHOUT_EXPORTS", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(stdout.contains("\n  exit_code: 3\n"), "{stdout}");
    // Nothing proves that the line's page is memory. QEMU's messages say why.
    assert!(!stdout.contains("unheard"), "{stdout}");
    assert!(stdout.contains("- \"pvio: warning: this QEMU exports none"), "{stdout}");
    assert!(stderr.starts_with("guest-test: warning: this QEMU exports none"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn an_old_qemu_warns_that_guests_need_a_large_mailbox() {
    let guests = Guests::new();
    guests.add("pass.bin", image(&[Exit(0)]));
    let old = Host::STABLE.program("qemu-system-x86_64");
    let mut command = guests.command(&["--timeout", "1", "pass.bin"]);
    let output = command.env("PVIO_QEMU", &old).output().unwrap();
    // It makes its call by registers.
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("no verdict: still running after 1 s"));
    let warning = text(&output.stderr);
    let expected = "guest-test: warning: this QEMU answers no hypercalls by registers: ";
    assert!(warning.starts_with(expected), "{warning}");
    assert_eq!(warning.lines().count(), 1, "{warning}");
}

#[test]
fn what_a_guest_left_is_kept_where_it_is_asked_for() {
    let guests = Guests::new();
    guests.add("pass.bin", image(&[Log(level::INFO, b"one"), Serial("two"), Exit(0)]));
    guests.test(&["--keep", "kept", "pass.bin"], true);
    let kept = guests.path("kept/1-pass.bin");
    let read = |name| std::fs::read_to_string(kept.join(name)).unwrap();
    assert_eq!(without_times(&read("log.txt")), "[T] info: one\n");
    assert_eq!((read("serial.txt"), read("qemu.txt")), ("two".into(), String::new()));
    let stats = pvio_cli::machine::read_stats(&kept.join("stats.json")).unwrap();
    let calls: Vec<_> = stats.hypercalls.iter().map(|row| (row.call.name(), row.count)).collect();
    assert_eq!(calls, [("exit", 1), ("log", 1)]);
}

/// The one line that is said before anything runs.
fn refusal(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let line = text(&stderr);
    assert_eq!((status.code(), text(&stdout).as_str()), (Some(2), ""), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    line.strip_prefix("guest-test: ").unwrap().trim_end().to_owned()
}

#[test]
fn what_cannot_run_is_said_first() {
    let guests = Guests::new();
    guests.add("pass.bin", image(&[Exit(0)])).add("empty.bin", b"");
    let refused = |arguments: &[&str]| refusal(&mut guests.command(arguments));
    assert_eq!(
        refused(&["pass.bin", "missing.bin"]),
        "missing.bin: No such file or directory (os error 2)"
    );
    assert_eq!(refused(&["empty.bin"]), "empty.bin: this file is empty; name a guest's file");
    assert_eq!(
        refused(&["--option", "stats=x", "pass.bin"]),
        "option \"stats\" is set by guest-test; use --keep to keep its output"
    );
    assert_eq!(
        refused(&["--option", "hypercall=off", "pass.bin"]),
        "option \"hypercall=off\": guests report their verdict with a hypercall; use kernel or any"
    );
    let wrong = refused(&["--option", "device=lamp@1", "pass.bin"]);
    assert!(wrong.contains("option \"device=lamp@1\": there is no kind \"lamp\""), "{wrong}");

    let line = refusal(guests.command(&["pass.bin"]).env("PVIO_QEMU", "/bin/false"));
    assert!(line.starts_with("/bin/false does not start with the plugin"), "{line}");
}

/// `guest-test` while its guest spins, and the guest's QEMU.
fn spinning(guests: &Guests) -> (Child, u32) {
    guests.add("spin.bin", image(&[Spin])).add("next.bin", image(&[Exit(0)]));
    let child = guests
        .command(&["spin.bin", "next.bin", "--", "-pidfile", "pid"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let read = || std::fs::read_to_string(guests.path("pid")).ok();
    let mut pid = None;
    wait_until(|| {
        pid = read().and_then(|pid| pid.trim().parse().ok());
        pid.is_some()
    });
    (child, pid.unwrap())
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(20), "it does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(child: &Child, signal: libc::c_int) {
    // SAFETY: sends a signal to a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn an_interrupt_leaves_no_qemu_behind() {
    for polite in [libc::SIGINT, libc::SIGTERM] {
        let guests = Guests::new();
        let (child, qemu) = spinning(&guests);
        assert!(runs(qemu));
        signal(&child, polite);
        let output = child.wait_with_output().unwrap();
        assert!(!runs(qemu));
        assert_eq!(output.status.code(), Some(130));
        assert_eq!(text(&output.stdout), "TAP version 13\n1..2\nBail out! interrupted\n");
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn nor_does_a_kill() {
    let guests = Guests::new();
    let (mut child, qemu) = spinning(&guests);
    signal(&child, libc::SIGKILL);
    child.wait().unwrap();
    wait_until(|| !runs(qemu));
}
