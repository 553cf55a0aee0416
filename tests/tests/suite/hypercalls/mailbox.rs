//! The mailbox: guests of `tests/guests/calls` register one and make calls through it, by pvio.h and by hand.
//! What they were answered they say; here it is held against what was counted.

use std::collections::BTreeMap;

use pvio::stats::{Call, Snapshot};
use pvio::x86::Port;
use pvio_cli::machine::Machine;
use pvio_guest::abi::{UNHEARD, status};
use pvio_tests::{GuestRun, GuestTest, Host, on_both_qemus, run_guest};

use super::{STREAM_SIZE, stream_sequence};

on_both_qemus! {
    it_is_heard_by_whom_and_where_it_may_be
    with_icount_and_one_instruction_at_a_time_it_is_the_same
    elsewhere_it_is_registers_and_instructions
    real_mode_has_it_too
    random_words_do_what_they_say_and_are_counted
    handlers_of_interrupts_have_calls_of_their_own
    four_cpus_have_one_each
    what_others_write_into_it_harms_nobody
    a_guest_of_the_guests_is_not_heard
    a_reset_takes_it_away
}

/// Fails unless just those calls are counted that the guest was answered, with as many errors.
fn assert_counted(run: &GuestRun) {
    let mut expected: BTreeMap<Call, (u64, u64)> = BTreeMap::new();
    for numbers in run.numbers("call") {
        let [call, count, errors] = numbers[..] else { panic!("{}", run.text()) };
        let row = expected.entry(Call::from_number(call as u8)).or_default();
        *row = (row.0 + count, row.1 + errors);
    }
    let rows = run.stats().hypercalls.iter();
    let counted: BTreeMap<_, _> = rows.map(|row| (row.call, (row.count, row.errors))).collect();
    assert_eq!(counted, expected, "{}", run.name);
    assert!(run.stats().hypercalls.iter().all(|row| row.denied == 0), "{}", run.name);
}

/// Boots a guest with pvio's devices; it must pass.
fn run_with_devices(machine: Machine, name: &str) -> GuestRun {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("in"), stream_sequence(STREAM_SIZE)).unwrap();
    let stream = format!("device=stream@0x300:in={}:out={}", path("in"), path("out"));
    let latches = ["", "1", "2", "3", "4"].map(|cpu| format!("device=latch@0x50{cpu:0<2}"));
    let devices = latches.iter().fold(machine, |machine, latch| machine.plugin(&[latch]));
    let run = boot(devices.plugin(&["summary=off", &stream]), name);
    if let Some(given) = run.numbers("given").first() {
        let written = std::fs::read(path("out")).unwrap();
        let expected = stream_sequence(given[0] as u32);
        assert!(written == expected, "{name}: other bytes than it has written");
    }
    run
}

fn boot(machine: Machine, name: &str) -> GuestRun {
    // Others do not reset it but by mistake.
    let action = if name.starts_with("mailbox-reset") { "reboot=reset" } else { "reboot=shutdown" };
    GuestTest::new(machine, &format!("calls-{name}")).args(["-action", action, "-cpu", "max"]).run()
}

fn it_is_heard_by_whom_and_where_it_may_be(host: &Host) {
    for bits in [32, 64] {
        for options in [&[][..], &["hypercall=any"]] {
            // There it is refused: nobody could be answered.
            if host.api == 4 && !options.is_empty() {
                continue;
            }
            let run =
                |name| run_with_devices(host.machine().plugin(options), &format!("{name}{bits}"));
            let passed = run("mailbox");
            assert_eq!(passed.number("registered"), u64::from(status::OK));
            for passed in [passed, run("mailbox-places")] {
                assert_counted(&passed);
                assert!(passed.stats().hypercalls.iter().all(|row| row.declined == 0));
            }
        }
    }
}

fn with_icount_and_one_instruction_at_a_time_it_is_the_same(host: &Host) {
    for arguments in [ICOUNT_0, ICOUNT_4, ONE_INSN] {
        for bits in [32, 64] {
            let run =
                |name| run_with_devices(host.machine().args(arguments), &format!("{name}{bits}"));
            let passed = run("mailbox");
            assert_eq!(passed.number("registered"), u64::from(status::OK));
            assert_counted(&passed);
            assert_counted(&run("mailbox-places"));
        }
    }
}

const ICOUNT_0: [&str; 2] = ["-icount", "shift=0"];
const ICOUNT_4: [&str; 2] = ["-icount", "shift=4"];
const ONE_INSN: [&str; 2] = ["-accel", "tcg,one-insn-per-tb=on"];

fn elsewhere_it_is_registers_and_instructions(host: &Host) {
    const NOBODY: u64 = (UNHEARD >> 24) as u64;
    for bits in [32, 64] {
        let name = format!("mailbox{bits}");
        let off = run_with_devices(host.machine().plugin(&["hypercall=off"]), &name);
        assert_eq!(off.number("registered"), NOBODY);
        assert!(off.stats().hypercalls.is_empty());

        // Which vCPU it is, is not known there.
        for arguments in [["-accel", "tcg,thread=single"], ICOUNT_0] {
            let shared =
                run_with_devices(host.machine().args(["-smp", "2"]).args(arguments), &name);
            assert_eq!(shared.number("registered"), u64::from(status::DECLINED));
            assert_counted(&shared);
        }

        // There is no memory that can be held.
        let bare = run_without_exports(host, &name);
        assert_eq!(bare.number("registered"), NOBODY);
        assert_counted(&bare);

        let alone = boot(host.machine(), &name);
        assert_eq!(alone.number("registered"), NOBODY);
        assert_eq!(alone.number("taken"), 0);
    }
}

fn run_without_exports(host: &Host, name: &str) -> GuestRun {
    let machine = host.machine().env("PVIO_TEST_WITHOUT_EXPORTS", "1").plugin(&["summary=off"]);
    boot(machine, name)
}

/// `tests/guests/mailbox-16.S`.
fn real_mode_has_it_too(host: &Host) {
    let run = |options: &[&str]| {
        let machine =
            host.machine().plugin(&["summary=off", "device=latch@0x5000"]).plugin(options);
        run_guest(machine, "mailbox-16").stats().clone()
    };
    let calls = |stats: &Snapshot| -> Vec<_> {
        let rows = stats.hypercalls.iter();
        rows.map(|row| (row.call.name(), row.count, row.bytes, row.errors)).collect()
    };
    let expected = [
        ("inb", 1, 1, 0),
        ("inw", 1, 2, 0),
        ("inl", 1, 4, 0),
        ("outb", 1, 1, 0),
        ("outw", 1, 2, 0),
        ("outl", 1, 4, 0),
        ("register", 1, 0, 0),
        ("release", 1, 0, 0),
    ];
    assert_eq!(calls(&run(&[])), expected);
    assert!(calls(&run(&["hypercall=off"])).is_empty());
}

fn random_words_do_what_they_say_and_are_counted(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let log = format!("access-log={}:0x5010-0x5013", directory.path().join("log").display());
    for options in [&[][..], &[log.as_str()]] {
        for bits in [32, 64] {
            let machine = host.machine().plugin(options);
            let passed = run_with_devices(machine, &format!("mailbox-random{bits}"));
            assert_counted(&passed);
            // Windows are begun by registers.
            for window in &passed.stats().windows {
                let calls = window.hypercalls.iter().map(|row| row.count).sum::<u64>();
                assert_eq!(calls, passed.number("in the window"));
            }
            assert_eq!(passed.stats().windows.len(), usize::from(host.api > 4));
        }
    }
}

/// How often ports of a latch were accessed by hypercall, and the bytes.
fn by_call(stats: &Snapshot, latch: u16) -> (u64, u64) {
    let rows = stats.ports.iter().filter(|row| (latch..latch + 4).contains(&row.port.0));
    rows.fold((0, 0), |(accesses, bytes), row| {
        (accesses + row.hypercall, bytes + row.hypercall * u64::from(row.size.bytes()))
    })
}

fn handlers_of_interrupts_have_calls_of_their_own(host: &Host) {
    for arguments in [&[][..], &ICOUNT_0, &ONE_INSN] {
        for bits in [32, 64] {
            let name = format!("mailbox-interrupts{bits}");
            let passed = run_with_devices(host.machine().args(arguments), &name);
            assert_counted(&passed);
            let stats = passed.stats();
            assert!(stats.hypercalls.iter().all(|row| row.declined == 0), "{name}");
            // Six calls of 14 bytes, each time.
            for (latch, times) in [(0x5000, "rounds"), (0x5010, "interrupts")] {
                let times = passed.number(times);
                assert_eq!(by_call(stats, latch), (6 * times, 14 * times), "{name}");
            }
            // Where QEMU lets an interrupt in between any two instructions, the timer was there.
            if arguments == ONE_INSN {
                let [before, after] = ["before", "after"].map(|when| passed.number(when));
                assert!(before > 0 && after > 0, "{name}: {before}, {after}");
            }
        }
    }
}

fn four_cpus_have_one_each(host: &Host) {
    for bits in [32, 64] {
        let name = format!("mailbox-smp{bits}");
        let passed = run_with_devices(
            host.machine().args(["-smp", "4", "-accel", "tcg,thread=multi"]),
            &name,
        );
        assert_counted(&passed);
        let stats = passed.stats();
        let rounds = passed.number("rounds");
        for cpu in 0..4 {
            assert_eq!(by_call(stats, 0x5010 + 0x10 * cpu), (4 * rounds, 12 * rounds), "{name}");
        }
        assert_eq!(by_call(stats, 0x5000), (4 * 2 * rounds, 4 * 2 * rounds), "{name}");
        // The boot CPU has made the probe in real mode, if that was heard.
        let mut calls: Vec<u64> = stats.vcpus.iter().map(|row| row.hypercalls).collect();
        calls.sort_unstable();
        let own = 6 * rounds + 2;
        let probes =
            passed.numbers("call").into_iter().find(|call| call[0] == 0).map_or(0, |call| call[1]);
        assert_eq!(calls, [own, own, own, own + probes], "{name}");
    }
}

fn what_others_write_into_it_harms_nobody(host: &Host) {
    for bits in [32, 64] {
        let name = format!("mailbox-rewritten{bits}");
        let passed = run_with_devices(
            host.machine().args(["-smp", "2", "-accel", "tcg,thread=multi"]),
            &name,
        );
        assert!(!passed.ended.stderr.contains("panicked"), "{name}: {}", passed.ended.stderr);
        assert!(passed.number("writes") > 0);
        // The guest cannot know how many; it made 200,000 attempts.
        let calls = passed.stats().hypercalls.iter().map(|row| row.count).sum::<u64>();
        assert!((1_000..=200_010).contains(&calls), "{name}: {calls}");
        let moved = passed.stats().hypercalls.iter().filter(|row| row.bytes > 0).count();
        assert_eq!(moved, 6, "{name}");
    }
}

fn a_guest_of_the_guests_is_not_heard(host: &Host) {
    let passed = run_with_devices(host.machine(), "mailbox-nested64");
    assert_counted(&passed);
    assert!(passed.stats().ports.iter().all(|row| row.hypercall == 0));
}

fn a_reset_takes_it_away(host: &Host) {
    for bits in [32, 64] {
        let name = format!("mailbox-reset{bits}");
        let passed = run_with_devices(host.machine(), &name);
        assert_eq!(passed.number("boots"), 4);
        assert_counted(&passed);
        let reset = passed.stats().ports.iter().filter(|row| row.port == Port(0xcf9));
        let reset: Vec<_> = reset.map(|row| (row.device + row.qemu, row.hypercall)).collect();
        assert_eq!(reset, [(1, 1)]);
    }
}
