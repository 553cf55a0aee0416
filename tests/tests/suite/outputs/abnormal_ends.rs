//! Resets, triple faults, panics, and QEMUs that end during accesses: no count is lost, and none is wrong.

use pvio::stats::{FormRow, Snapshot};
use pvio::x86::PortForm;
use pvio_cli::machine::Machine;
use pvio_tests::{GuestTest, Host, Monitor, assert_consistent, guest, on_both_qemus, start_busy};

on_both_qemus! {
    counts_continue_across_resets
    counts_continue_across_resets_on_one_thread
    triple_fault_is_a_reset_and_the_last_access_counts
    access_that_triple_faults_is_unverified
    panic_is_reported_and_the_last_access_counts
    sigterm_during_reps_leaves_at_most_one_open_attempt_per_vcpu
    quit_during_reps_leaves_at_most_one_open_attempt_per_vcpu
}

/// Attempts, executions, accesses, unverified.
fn counts(stats: &Snapshot, form: PortForm) -> [u64; 4] {
    let row = &stats.forms[form.index()];
    [row.attempts, row.executions, row.accesses, row.unverified]
}

/// Compares a run of the guest `reset` with the numbers at the top of `tests/guests/reset.S`.
fn check_resets(host: &Host, threads: &str) {
    let run = GuestTest::new(host.machine().plugin(&["summary=off"]), "reset")
        .args(["-action", "reboot=reset", "-smp", "2"])
        .args(["-accel", &format!("tcg,thread={threads}")])
        .run();
    let moved = u64::from(u32::from_le_bytes(run.console[..].try_into().expect("one number")));
    assert!(moved > 5 * 0x4_0000, "{moved}");

    let stats = run.stats();
    assert_eq!(stats.ended, "shutdown");
    for row in &stats.forms {
        let expected = match row.form {
            // One access triple-faults. QEMU does not say which instruction did.
            PortForm::OutDxAl => [10_012, 10_011, 10_011, 1],
            PortForm::OutImmAl => [6, 6, 6, 0],
            PortForm::OutDxAx => [18, 18, 18, 0],
            PortForm::InAlDx => [36, 36, 36, 0],
            PortForm::RepInsb => [5, 0, moved, 0],
            PortForm::RepOutsb => [1, 1, 4, 0],
            _ => [0; 4],
        };
        assert_eq!(counts(stats, row.form), expected, "{}", row.form);
    }
}

fn counts_continue_across_resets(host: &Host) {
    check_resets(host, "multi");
}

fn counts_continue_across_resets_on_one_thread(host: &Host) {
    check_resets(host, "single");
}

/// Runs the guest `reset` to its first reset, with a number of earlier boots in its memory.
fn first_reset(host: &Host, boots_before: u32) -> Snapshot {
    let word = |address: u32, value: u32| {
        ["-device".into(), format!("loader,addr={address:#x},data={value:#x},data-len=4")]
    };
    let ended = host
        .machine()
        .plugin(&[])
        .bare_guest(&guest("reset.bin"))
        .args(["-smp", "2"])
        .args([word(0x600, 0x6f69_7670), word(0x604, boots_before)].concat())
        .run()
        .unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.stderr.contains("ended by reset"), "{}", ended.stderr);
    let stats = ended.stats().unwrap().clone();
    assert_consistent(&stats);
    assert_eq!(stats.ended, "reset");
    assert_eq!(counts(&stats, PortForm::InAlDx), [2, 2, 2, 0]);
    stats
}

fn triple_fault_is_a_reset_and_the_last_access_counts(host: &Host) {
    assert_eq!(counts(&first_reset(host, 0), PortForm::OutDxAl), [1, 1, 1, 0]);
}

fn access_that_triple_faults_is_unverified(host: &Host) {
    assert_eq!(counts(&first_reset(host, 1), PortForm::OutDxAl), [1, 0, 0, 1]);
}

fn panic_is_reported_and_the_last_access_counts(host: &Host) {
    let machine = host.machine().plugin(&[]).bare_guest(&guest("panic.bin"));
    let ended = machine.args(["-device", "pvpanic"]).run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    assert_eq!(stats.ended, "panic");
    assert_eq!(counts(stats, PortForm::OutImmAl), [100, 100, 100, 0]);
    assert_eq!(counts(stats, PortForm::RepInsb), [1, 1, 100, 0]);
    assert_eq!(counts(stats, PortForm::OutDxAl), [1, 1, 1, 0]);
}

const VCPUS: u64 = 4;

/// Four vCPUs of `tests/guests/hammer.S`.
fn hammer(machine: Machine) -> Machine {
    machine.plugin(&["summary=off"]).bare_guest(&guest("hammer.bin")).args([
        "-accel",
        "tcg,thread=multi",
        "-smp",
        &VCPUS.to_string(),
    ])
}

/// Starts the guest `hammer` without its exit.
fn hammering(host: &Host) -> Monitor {
    let machine = hammer(host.machine().plugin(&["hypercall=off"]));
    start_busy(machine, VCPUS as usize)
}

/// Fails if more than one attempt per vCPU is neither an execution nor complete.
fn assert_whole(stats: &Snapshot, ended: &str) {
    assert_consistent(stats);
    assert_eq!(stats.ended, ended);
    let sum = |column: fn(&FormRow) -> u64| stats.forms.iter().map(column).sum::<u64>();
    let open = sum(|row| row.attempts) - sum(|row| row.executions);
    assert!(open <= VCPUS && sum(|row| row.executions) > 0, "{open}: {:?}", stats.forms);
    for form in [PortForm::RepInsb, PortForm::RepOutsb] {
        let [attempts, executions, accesses, unverified] = counts(stats, form);
        let in_flight = accesses - 200 * executions;
        assert!(in_flight <= 200 * (attempts - executions) && unverified == 0, "{form}");
    }
}

fn sigterm_during_reps_leaves_at_most_one_open_attempt_per_vcpu(host: &Host) {
    let monitor = hammering(host);
    monitor.running().signal(libc::SIGTERM).unwrap();
    assert_whole(monitor.wait().stats().unwrap(), "signal");
}

fn quit_during_reps_leaves_at_most_one_open_attempt_per_vcpu(host: &Host) {
    assert_whole(hammering(host).quit().stats().unwrap(), "quit");
}

/// Without QEMU's exports, `exit` ends the process itself: the other vCPUs run while the dump is made.
#[test]
fn exit_call_does_not_wait_for_running_vcpus() {
    for _ in 0..5 {
        let machine = Host::NEWEST.machine_without_exports();
        let ended = hammer(machine).run().unwrap();
        assert!(ended.status.success(), "{}", ended.stderr);
        assert_whole(ended.stats().unwrap(), "exit");
    }
}
