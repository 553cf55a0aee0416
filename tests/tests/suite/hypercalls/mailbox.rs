//! Guests of `tests/guests/calls` register a mailbox and make calls through it.
//!
//! They report the calls that were answered; the tests compare the reports with the counts.

use std::collections::BTreeMap;

use pvio::stats::{Call, Snapshot};
use pvio::x86::Port;
use pvio_cli::machine::Machine;
use pvio_guest::abi::{UNANSWERED, status};
use pvio_tests::{GuestRun, GuestTest, Host, on_both_qemus, run_guest, without_modules};

use super::RunFiles;

on_both_qemus! {
    mailbox_answers_every_permitted_caller
    mailbox_works_with_icount_and_one_instruction_per_block
    without_a_mailbox_calls_use_registers_or_instructions
    mailbox_works_in_real_mode
    random_words_are_executed_and_counted
    interrupt_handler_shares_the_mailbox_with_interrupted_code
    four_vcpus_have_a_mailbox_each
    mailbox_rewritten_by_another_vcpu_does_no_harm
    nested_guest_is_not_answered
    reset_removes_the_mailbox
}

without_modules! {
    ; needs "the guest's memory":
    mailbox_answers_every_permitted_caller
    mailbox_works_with_icount_and_one_instruction_per_block
    without_a_mailbox_calls_use_registers_or_instructions
    mailbox_works_in_real_mode
    random_words_are_executed_and_counted
    interrupt_handler_shares_the_mailbox_with_interrupted_code
    four_vcpus_have_a_mailbox_each
    mailbox_rewritten_by_another_vcpu_does_no_harm
    nested_guest_is_not_answered
    reset_removes_the_mailbox
}

/// Fails unless the counted calls and errors are those that the guest reports.
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

/// Runs a guest with pvio's devices.
fn run_with_devices(machine: Machine, name: &str) -> GuestRun {
    let files = RunFiles::new();
    let latches = ["", "1", "2", "3", "4"].map(|cpu| format!("device=latch@0x50{cpu:0<2}"));
    let devices = latches.iter().fold(machine, |machine, latch| machine.plugin(&[latch]));
    let run = run_guest_with_cpu_max(devices.plugin(&["summary=off", &files.stream()]), name);
    if !run.numbers("given").is_empty() {
        files.assert_given(&run);
    }
    run
}

/// Runs a guest on a CPU with all features.
fn run_guest_with_cpu_max(machine: Machine, name: &str) -> GuestRun {
    // For the other guests a reset is a failure.
    let action = if name.starts_with("mailbox-reset") { "reboot=reset" } else { "reboot=shutdown" };
    GuestTest::new(machine, &format!("calls-{name}")).args(["-action", action, "-cpu", "max"]).run()
}

fn mailbox_answers_every_permitted_caller(host: &Host) {
    for bits in [32, 64] {
        for options in [&[][..], &["hypercall=any"]] {
            // Plugin API 4 refuses hypercall=any.
            if host.api == 4 && !options.is_empty() {
                continue;
            }
            let run =
                |name| run_with_devices(host.machine().plugin(options), &format!("{name}{bits}"));
            let passed = run("mailbox");
            assert_eq!(passed.number("registered"), u64::from(status::OK));
            for passed in [passed, run("mailbox-places"), run("mailbox-large")] {
                assert_counted(&passed);
                assert!(passed.stats().hypercalls.iter().all(|row| row.declined == 0));
            }
        }
    }
}

fn mailbox_works_with_icount_and_one_instruction_per_block(host: &Host) {
    for arguments in [ICOUNT_0, ICOUNT_4, ONE_INSN] {
        for bits in [32, 64] {
            let run =
                |name| run_with_devices(host.machine().args(arguments), &format!("{name}{bits}"));
            let passed = run("mailbox");
            assert_eq!(passed.number("registered"), u64::from(status::OK));
            assert_counted(&passed);
            assert_counted(&run("mailbox-places"));
            assert_counted(&run("mailbox-large"));
        }
    }
}

const ICOUNT_0: [&str; 2] = ["-icount", "shift=0"];
const ICOUNT_4: [&str; 2] = ["-icount", "shift=4"];
const ONE_INSN: [&str; 2] = ["-accel", "tcg,one-insn-per-tb=on"];

fn without_a_mailbox_calls_use_registers_or_instructions(host: &Host) {
    const NO_ANSWER: u64 = (UNANSWERED >> 24) as u64;
    for bits in [32, 64] {
        let name = format!("mailbox{bits}");
        let off = run_with_devices(host.machine().plugin(&["hypercall=off"]), &name);
        assert_eq!(off.number("registered"), NO_ANSWER);
        assert!(off.stats().hypercalls.is_empty());

        // The plugin cannot tell vCPUs apart on one thread.
        for arguments in [["-accel", "tcg,thread=single"], ICOUNT_0] {
            let shared =
                run_with_devices(host.machine().args(["-smp", "2"]).args(arguments), &name);
            assert_eq!(shared.number("registered"), u64::from(status::DECLINED));
            assert_counted(&shared);
        }

        // Without exports the plugin cannot map guest memory.
        let bare = run_without_exports(host, &name);
        assert_eq!(bare.number("registered"), NO_ANSWER);
        assert_counted(&bare);

        let alone = run_guest_with_cpu_max(host.machine(), &name);
        assert_eq!(alone.number("registered"), NO_ANSWER);
        assert_eq!(alone.number("taken"), 0);
    }
}

fn run_without_exports(host: &Host, name: &str) -> GuestRun {
    let machine = host.machine_without_exports().plugin(&["summary=off"]);
    run_guest_with_cpu_max(machine, name)
}

/// `tests/guests/mailbox-16.S`.
fn mailbox_works_in_real_mode(host: &Host) {
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

fn random_words_are_executed_and_counted(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let log = format!("access-log={}:0x5010-0x5013", directory.path().join("log").display());
    for options in [&[][..], &[log.as_str()]] {
        for bits in [32, 64] {
            let machine = host.machine().plugin(options);
            let passed = run_with_devices(machine, &format!("mailbox-random{bits}"));
            assert_counted(&passed);
            // Windows need register calls, which plugin API 4 lacks.
            for window in &passed.stats().windows {
                let calls = window.hypercalls.iter().map(|row| row.count).sum::<u64>();
                assert_eq!(calls, passed.number("in the window"));
            }
            assert_eq!(passed.stats().windows.len(), usize::from(host.api > 4));
        }
    }
}

/// Accesses to a latch by hypercall, and their bytes.
fn by_call(stats: &Snapshot, latch: u16) -> (u64, u64) {
    let rows = stats.ports.iter().filter(|row| (latch..latch + 4).contains(&row.port.0));
    rows.fold((0, 0), |(accesses, bytes), row| {
        (accesses + row.hypercall, bytes + row.hypercall * u64::from(row.size.bytes().unwrap()))
    })
}

fn interrupt_handler_shares_the_mailbox_with_interrupted_code(host: &Host) {
    for arguments in [&[][..], &ICOUNT_0, &ONE_INSN] {
        for bits in [32, 64] {
            let name = format!("mailbox-interrupts{bits}");
            let passed = run_with_devices(host.machine().args(arguments), &name);
            assert_counted(&passed);
            let stats = passed.stats();
            assert!(stats.hypercalls.iter().all(|row| row.declined == 0), "{name}");
            // Each round makes six scalar calls for 14 bytes, and two strings for 2 and 3 elements of 4 bytes.
            for (latch, times) in [(0x5000, "rounds"), (0x5010, "interrupts")] {
                let times = passed.number(times);
                assert_eq!(by_call(stats, latch), (11 * times, 34 * times), "{name}");
            }
            // With one instruction per block, QEMU takes interrupts between any two instructions.
            if arguments == ONE_INSN {
                let [before, after] = ["before", "after"].map(|when| passed.number(when));
                assert!(before > 0 && after > 0, "{name}: {before}, {after}");
            }
        }
    }
}

fn four_vcpus_have_a_mailbox_each(host: &Host) {
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
        // The boot CPU also makes a probe in real mode.
        let mut calls: Vec<u64> = stats.vcpus.iter().map(|row| row.hypercalls).collect();
        calls.sort_unstable();
        let own = 6 * rounds + 2;
        let probes =
            passed.numbers("call").into_iter().find(|call| call[0] == 0).map_or(0, |call| call[1]);
        assert_eq!(calls, [own, own, own, own + probes], "{name}");
    }
}

fn mailbox_rewritten_by_another_vcpu_does_no_harm(host: &Host) {
    for bits in [32, 64] {
        let name = format!("mailbox-rewritten{bits}");
        let passed = run_with_devices(
            host.machine().args(["-smp", "2", "-accel", "tcg,thread=multi"]),
            &name,
        );
        assert!(!passed.ended.stderr.contains("panicked"), "{name}: {}", passed.ended.stderr);
        assert!(passed.number("writes") > 0);
        // The guest makes 200,000 attempts and does not know how many are calls.
        let calls = passed.stats().hypercalls.iter().map(|row| row.count).sum::<u64>();
        assert!((1_000..=200_010).contains(&calls), "{name}: {calls}");
        let moved = passed.stats().hypercalls.iter().filter(|row| row.bytes > 0).count();
        assert_eq!(moved, 12, "{name}");
    }
}

fn nested_guest_is_not_answered(host: &Host) {
    let passed = run_with_devices(host.machine(), "mailbox-nested64");
    assert_counted(&passed);
    assert!(passed.stats().ports.iter().all(|row| row.hypercall == 0));
}

fn reset_removes_the_mailbox(host: &Host) {
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
