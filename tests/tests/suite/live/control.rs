//! Requests over the control socket.

use std::time::{Duration, Instant};

use pvio_tests::{Host, assert_consistent, on_both_qemus, wait_until};
use serde_json::json;

use super::{Live, accesses};

on_both_qemus! {
    snapshots_agree_with_themselves_while_four_vcpus_hammer
    snapshot_of_a_hung_guest_is_quick_and_does_not_end_it
    snapshot_without_exports_says_that_it_may_not_agree
    reset_counts_from_zero
    windows_from_outside_are_as_those_of_the_guest
    wrong_requests_change_nothing
    access_log_is_turned_off_and_filtered_anew
    rates_are_those_of_the_snapshots
}

fn snapshots_agree_with_themselves_while_four_vcpus_hammer(host: &Host) {
    for threads in ["multi", "single"] {
        let threads = format!("tcg,thread={threads}");
        let machine = host.machine().args(["-smp", "4", "-accel", &threads]);
        let mut live = Live::guest(machine, "spin", &[]);
        let (mut before, mut grown) = (0, 0);
        wait_until(
            || {
                let (snapshot, is_exact) = live.snapshot();
                assert!(is_exact);
                assert_consistent(&snapshot);
                let sites = snapshot.tables.sites.iter();
                let executions: u64 = sites.map(|row| row.counts.executions).sum();
                assert_eq!(executions, accesses(&snapshot));
                assert!(executions >= before);
                grown += u32::from(executions > before);
                before = executions;
                grown >= 20
            },
            || "the guest stands still".into(),
        );
    }
    // Strings and faults have more tables to disagree.
    let mut live =
        Live::guest(host.machine().args(["-smp", "4"]), "hammer", &["callers=on", "hypercall=off"]);
    for _ in 0..30 {
        let (snapshot, is_exact) = live.snapshot();
        assert!(is_exact);
        assert_consistent(&snapshot);
    }
}

/// A guest that does the same instructions for ever.
fn hung(directory: &std::path::Path, code: &[u8]) -> std::path::PathBuf {
    let mut image = vec![0; 0x1_0000];
    image[0xfff0..0xfff0 + code.len()].copy_from_slice(code);
    let path = directory.join("hung.bin");
    std::fs::write(&path, image).unwrap();
    path
}

fn snapshot_of_a_hung_guest_is_quick_and_does_not_end_it(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    // `jmp .`, and `cli; hlt; jmp hlt`.
    for code in [&[0xeb, 0xfe][..], &[0xfa, 0xf4, 0xeb, 0xfd]] {
        let image = hung(directory.path(), code);
        let mut live = Live::start(host.machine(), &image, &[]);
        let mut times: Vec<Duration> = (0..9)
            .map(|_| {
                let started = Instant::now();
                let (snapshot, is_exact) = live.snapshot();
                assert!(is_exact && accesses(&snapshot) == 0);
                started.elapsed()
            })
            .collect();
        times.sort();
        // The computer may be busy with other tests, so not each counts.
        assert!(times[2] < Duration::from_millis(100), "{times:?}");
        assert!(live.running.poll().unwrap().is_none(), "the machine has ended");
    }
}

fn snapshot_without_exports_says_that_it_may_not_agree(host: &Host) {
    let mut live = Live::guest(host.machine_without_exports().args(["-smp", "2"]), "spin", &[]);
    wait_until(|| accesses(&live.snapshot().0) > 1_000_000, || "the guest stands still".into());
    assert_eq!(live.ask("status", json!({}))["exact"], false);
    // On a busy computer the guest may stand still for a moment.
    wait_until(
        || {
            let (snapshot, is_exact) = live.snapshot();
            if is_exact {
                assert_consistent(&snapshot);
            }
            !is_exact
        },
        || "all snapshots agree".into(),
    );
    assert_eq!(
        live.refused("break", json!({ "at": "0x5000" })),
        "this QEMU does not let plugins stop after an instruction"
    );
}

fn reset_counts_from_zero(host: &Host) {
    let mut live = Live::guest(host.machine().args(["-monitor", "stdio"]), "spin", &[]);
    live.running.wait_for("(qemu)").unwrap();
    wait_until(|| accesses(&live.snapshot().0) > 100_000, || "the guest stands still".into());
    live.running.say("stop").unwrap();
    wait_until(
        || accesses(&live.snapshot().0) == accesses(&live.snapshot().0),
        || "the guest runs".into(),
    );
    assert_eq!(live.ask("reset", json!({})), json!({ "exact": true }));
    assert_eq!(accesses(&live.snapshot().0), 0);
    live.running.say("cont").unwrap();
    wait_until(|| accesses(&live.snapshot().0) > 0, || "the guest stands still".into());
    assert_consistent(&live.snapshot().0);
}

fn windows_from_outside_are_as_those_of_the_guest(host: &Host) {
    let mut live = Live::guest(host.machine().args(["-smp", "4"]), "spin", &[]);
    wait_until(|| accesses(&live.snapshot().0) > 0, || "the guest stands still".into());
    let before = accesses(&live.snapshot().0);
    live.ask("begin", json!({ "name": "one" }));
    let (inside, _) = live.snapshot();
    wait_until(|| accesses(&live.snapshot().0) > accesses(&inside), || "it stands still".into());
    assert_eq!(live.ask("status", json!({}))["windows"], json!(["one"]));
    live.ask("end", json!({ "name": "one" }));
    live.ask("begin", json!({ "name": "one" }));
    live.ask("end", json!({ "name": "one" }));
    let (after, _) = live.snapshot();
    assert_consistent(&after);
    let window = &after.windows[0];
    assert_eq!((&*window.name, window.entries, window.open), ("one", 2, false));
    let counted: u64 = window.tables.forms.iter().map(|row| row.accesses).sum();
    assert!(counted > 0 && counted <= accesses(&after) - before, "{counted}");
    // An open window has what was counted so far, also in the dump at the end.
    live.ask("begin", json!({ "name": "two" }));
    let (snapshot, _) = live.snapshot();
    assert!(snapshot.windows[1].open);
}

fn wrong_requests_change_nothing(host: &Host) {
    let mut live = Live::guest(host.machine(), "spin", &[]);
    live.ask("begin", json!({ "name": "one" }));
    for (command, arguments, why) in [
        ("begin", json!({ "name": "one" }), "window \"one\": the window is open already"),
        ("end", json!({ "name": "two" }), "window \"two\": the window is not open"),
        (
            "begin",
            json!({ "name": "" }),
            "a window's name has 1 to 64 bytes, and no control characters",
        ),
        (
            "begin",
            json!({ "name": "a\nb" }),
            "a window's name has 1 to 64 bytes, and no control characters",
        ),
        ("begin", json!({}), "the arguments of \"begin\": missing field `name`"),
        (
            "access-log",
            json!({ "enabled": true }),
            "there is no access log; start QEMU with access-log=FILE",
        ),
        ("trace", json!({}), "there is no trace; start QEMU with trace=FILE"),
        ("subscribe", json!({ "interval-ms": 1 }), "interval-ms is 50 to 3600000"),
        ("delete", json!({ "break": 7 }), "there is no breakpoint 7; status lists them"),
    ] {
        assert_eq!(live.refused(command, arguments), why);
    }
    let unknown = live.refused("quit", json!({}));
    assert!(unknown.starts_with("there is no command \"quit\"; there are "), "{unknown}");
    assert!(live.refused("reset", json!({ "all": true })).contains("unknown field `all`"));
    let (snapshot, _) = live.snapshot();
    assert_eq!(snapshot.windows.len(), 1);
    assert_eq!(snapshot.windows[0].entries, 1);
}

fn access_log_is_turned_off_and_filtered_anew(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let option = format!("access-log={}:0x5000", log.display());
    let machine = host.machine().args(["-device", "pc-testdev"]);
    let mut live = Live::guest(machine, "breaks", &[&option]);
    let size = || std::fs::metadata(&log).unwrap().len();
    wait_until(|| size() > 10_000, || "nothing is logged".into());
    assert_eq!(live.ask("access-log", json!({ "enabled": false })), json!({ "enabled": false }));
    // What vCPUs have recorded is still written.
    let mut last = size();
    wait_until(
        || {
            std::thread::sleep(Duration::from_millis(300));
            std::mem::replace(&mut last, size()) == size()
        },
        || "it is logged on".into(),
    );
    let old = std::fs::read_to_string(&log).unwrap();
    assert!(old.lines().skip(1).all(|line| line.contains(" 0x5000 1 ")));
    live.ask("access-log", json!({ "enabled": true, "filter": "0x5010-0x5020:value=3" }));
    wait_until(|| size() > last + 10_000, || "nothing is logged".into());
    live.ask("access-log", json!({ "enabled": false }));
    let refused = live.refused("access-log", json!({ "filter": "0x5010:what" }));
    assert!(refused.starts_with("\"what\" is not a filter"), "{refused}");
    let refused = live.refused("access-log", json!({ "filter": "process=init" }));
    assert!(refused.contains("start QEMU with processes=on"), "{refused}");
    wait_until(|| accesses(&live.snapshot().0) > 0, || "the guest stands still".into());
    live.running.signal(libc::SIGTERM).unwrap();
    live.running.wait().unwrap();
    let all = std::fs::read_to_string(&log).unwrap();
    let new: Vec<&str> = all[old.len()..].lines().collect();
    assert!(
        new.iter().all(|line| line.contains(" 0x5010 1 0x03") || line.contains(" 0x5020 1 0x03"))
    );
}

fn rates_are_those_of_the_snapshots(host: &Host) {
    let mut live = Live::guest(host.machine().args(["-smp", "2"]), "spin", &[]);
    let (before, _) = live.snapshot();
    live.ask("subscribe", json!({ "interval-ms": 100 }));
    let mut total = 0;
    let mut changes = 0;
    for number in 0..5 {
        let (name, data) = live.connection.next_event().unwrap();
        assert_eq!(name, "rates");
        let change = data["change"].as_u64().unwrap();
        let now = data["accesses"].as_u64().unwrap();
        match number {
            0 => assert!(now >= accesses(&before) && change == 0),
            _ => assert_eq!(now, total + change, "rates are the differences of the totals"),
        }
        let rows = data["ports"].as_array().unwrap();
        assert_eq!(rows.iter().map(|row| row["accesses"].as_u64().unwrap()).sum::<u64>(), now);
        total = now;
        changes += change;
    }
    assert!(changes > 0);
    live.ask("unsubscribe", json!({}));
    let (after, _) = live.snapshot();
    assert!(accesses(&after) >= total);
}
