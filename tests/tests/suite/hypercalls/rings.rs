//! The rings and modes that may make hypercalls, for every policy, with and without QEMU's exports.
//!
//! A guest makes every call from every ring and mode, and reports the answers.

use std::collections::BTreeMap;

use pvio::stats::{Call, HypercallRow};
use pvio_cli::expected_forms;
use pvio_guest::abi::{UNANSWERED, call, status};
use pvio_tests::{GuestRun, GuestTest, Host, on_answering_qemus, without_modules};

on_answering_qemus! {
    hypercall_kernel_permits_supervisors_only
    hypercall_any_permits_users
    hypercall_off_answers_no_caller
    policy_holds_without_exports
}

without_modules! {
    policy_holds_without_exports
    ; needs "pvio's devices":
    hypercall_kernel_permits_supervisors_only
    hypercall_any_permits_users
    hypercall_off_answers_no_caller
}

/// The calls in the guest's order. Only callers that were denied the first make the last three.
const CALLS: [u8; 25] = [
    call::PROBE,
    call::INB,
    call::INW,
    call::INL,
    call::OUTB,
    call::OUTW,
    call::OUTL,
    call::INSB,
    call::INSW,
    call::INSL,
    call::OUTSB,
    call::OUTSW,
    call::OUTSL,
    call::BATCH,
    call::BATCH_COMPACT,
    14,
    call::LOG,
    call::BEGIN,
    call::END,
    call::FILE_READ,
    call::FILE_WRITE,
    call::FILE_FINISH,
    call::RESET,
    call::DUMP,
    call::EXIT,
];
/// The status that the guest reports for an unanswered call.
const NO_ANSWER: u8 = (UNANSWERED >> 24) as u8;
/// The exit status after the hypercall `exit`.
const BY_CALL: i32 = 33;
/// The exit status after isa-debug-exit, if calls are unanswered.
const BY_DEVICE: i32 = expected_forms::PASSED;

/// The statuses that each caller received. A caller appears once for each kind of paging.
struct Answers {
    run: GuestRun,
    callers: Vec<(String, Vec<u8>)>,
}

fn ask_from_everywhere(host: &Host, bits: u32, options: &[&str], exit_status: i32) -> Answers {
    let machine = host.machine().plugin(&["summary=off"]).plugin(options);
    let run = GuestTest::new(machine, &format!("calls-rings{bits}"))
        .args(["-cpu", "max"])
        .exit_status(exit_status)
        .run();
    let text = run.text();
    let callers = text.lines().map(|line| {
        let (name, statuses) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
        let statuses = statuses.split(' ').map(|status| status.parse().unwrap());
        (name.to_owned(), statuses.collect())
    });
    Answers { callers: callers.collect(), run }
}

fn is_user(caller: &str) -> bool {
    caller.starts_with("ring 3") || caller == "virtual-8086 mode"
}

impl Answers {
    /// Fails unless user callers and other callers received the given status for each call.
    fn assert_answers(&self, to_users: impl Fn(u8) -> u8, to_others: impl Fn(u8) -> u8) {
        let modes = ["real mode", "ring 0", "ring 1", "ring 2", "ring 3", "ring 0, 16-bit code"];
        for mode in modes.into_iter().chain(["ring 3, 16-bit code"]) {
            assert!(self.callers.iter().any(|(name, _)| name == mode), "no {mode}");
        }
        for (name, statuses) in &self.callers {
            let answers: Vec<u8> = CALLS
                .iter()
                .take(statuses.len())
                .map(|&call| if is_user(name) { to_users(call) } else { to_others(call) })
                .collect();
            assert_eq!(statuses, &answers, "{name}");
        }
    }

    /// Fails unless the dump counts the calls that were answered, and the `exit` that ended the machine.
    fn assert_counted(&self) {
        let mut expected: BTreeMap<Call, [u64; 4]> = BTreeMap::new();
        let mut count = |call: u8, answer: u8| {
            let row = expected.entry(Call::from_number(call)).or_default();
            row[0] += 1;
            match answer {
                status::OK | status::PAGE => {}
                status::DECLINED => row[1] += 1,
                status::DENIED => row[2] += 1,
                _ => row[3] += 1,
            }
        };
        for (_, statuses) in &self.callers {
            for (&call, &answer) in CALLS.iter().zip(statuses) {
                count(call, answer);
                if matches!(call, call::BATCH | call::BATCH_COMPACT) && answer == status::OK {
                    // A batch has two records.
                    count(call::OUTB, status::OK);
                    count(call::OUTB, status::OK);
                }
            }
        }
        count(call::EXIT, status::OK);
        let rows = &self.run.stats().hypercalls;
        let columns =
            |row: &HypercallRow| (row.call, [row.count, row.declined, row.denied, row.errors]);
        assert_eq!(rows.iter().map(columns).collect::<BTreeMap<_, _>>(), expected);
    }
}

/// The status of each call for a permitted caller, if the host shares no directory.
fn served(call: u8) -> u8 {
    match call {
        14 => status::UNKNOWN,
        call::FILE_READ..=call::FILE_FINISH => status::DECLINED,
        _ => status::OK,
    }
}

/// The same, if the host shares an empty directory: each caller begins one file.
fn served_with_files(call: u8) -> u8 {
    match call {
        call::FILE_READ => status::MISSING,
        call::FILE_WRITE => status::OK,
        call::FILE_FINISH => status::STALE,
        _ => served(call),
    }
}

fn denied(_: u8) -> u8 {
    status::DENIED
}

fn hypercall_kernel_permits_supervisors_only(host: &Host) {
    for options in [&["device=latch@0x5000"][..], &["device=latch@0x5000", "hypercall=kernel"]] {
        for bits in [32, 64] {
            let answers = ask_from_everywhere(host, bits, options, BY_CALL);
            answers.assert_answers(denied, served);
            answers.assert_counted();
            // Denied calls made no access.
            let users = answers.callers.iter().filter(|(name, _)| is_user(name)).count();
            let all = answers.callers.len() - 1;
            let ports = &answers.run.stats().ports;
            let calls = ports.iter().filter(|row| row.hypercall > 0);
            // Six scalars, six strings of two elements, two batches of two records.
            let moved: u64 = calls.map(|row| row.hypercall).sum();
            assert_eq!(moved, (all - users) as u64 * (6 + 12 + 2 + 2));
            assert!(users > 0 && users < all);
        }
    }
}

fn hypercall_any_permits_users(host: &Host) {
    for bits in [32, 64] {
        let directory = tempfile::tempdir().unwrap();
        let share = format!("share={}", directory.path().display());
        let options = ["device=latch@0x5000", "hypercall=any", &share];
        let answers = ask_from_everywhere(host, bits, &options, BY_CALL);
        answers.assert_answers(served_with_files, served_with_files);
        // Unfinished files are deleted at the end.
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
        answers.assert_counted();
    }
}

fn hypercall_off_answers_no_caller(host: &Host) {
    for bits in [32, 64] {
        let answers =
            ask_from_everywhere(host, bits, &["device=latch@0x5000", "hypercall=off"], BY_DEVICE);
        answers.assert_answers(|_| NO_ANSWER, |_| NO_ANSWER);
        assert!(answers.run.stats().hypercalls.is_empty());
        assert!(answers.run.stats().ports.iter().all(|row| row.hypercall == 0));
    }
}

/// Without exports, the caller's ring comes from registers; ports and memory cannot be accessed.
fn policy_holds_without_exports(host: &Host) {
    let declined = |call| match call {
        call::PROBE => status::OK,
        14 => status::UNKNOWN,
        _ => status::DECLINED,
    };
    let host = host.without_exports();
    for bits in [32, 64] {
        let run_kernel = ask_from_everywhere(&host, bits, &["hypercall=kernel"], BY_CALL);
        run_kernel.assert_answers(denied, declined);
        run_kernel.assert_counted();
        let run_any = ask_from_everywhere(&host, bits, &["hypercall=any"], BY_CALL);
        run_any.assert_answers(declined, declined);
        run_any.assert_counted();
    }
}
