//! Four vCPUs do everything at once, while requests, snapshots and new vCPUs come from outside.
//!
//! The long part `sanitizers` runs this test with a plugin that is built with a sanitizer.

use std::time::{Duration, Instant};

use pvio_tests::{Host, assert_consistent, on_both_qemus, wait_until};
use serde_json::{Value, json};

use super::{Live, accesses};

on_both_qemus! {
    requests_and_new_vcpus_meet_vcpus_that_do_everything
}

/// The time that requests come, in seconds, unless `PVIO_TEST_SECONDS` says otherwise.
const SECONDS: u64 = 4;

fn seconds() -> u64 {
    let given = std::env::var("PVIO_TEST_SECONDS").ok();
    given.map_or(SECONDS, |text| text.parse().expect("PVIO_TEST_SECONDS is a number"))
}

fn requests_and_new_vcpus_meet_vcpus_that_do_everything(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let options = [
        "device=latch@0x5010-0x5013".to_owned(),
        format!("device=stream@0x5000:out={}", file("stream")),
        format!("stats={}", file("stats.json")),
        format!("trace={}:0x5010-0x5013", file("trace")),
        format!("access-log={}:0x5010:value=0x33", file("log")),
        "values=0x5011".to_owned(),
        "callers=on".to_owned(),
        format!("log={}", file("guest-log")),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let machine = host.machine().args(["-smp", "4,sockets=6,maxcpus=6", "-monitor", "stdio"]);
    let mut live = Live::guest(machine, "all-at-once", &options);
    live.running.wait_for("(qemu)").unwrap();
    wait_until(|| accesses(&live.snapshot().0) > 10_000, || "the guest stands still".into());

    let started = Instant::now();
    let limit = Duration::from_secs(seconds());
    let mut round = 0;
    while started.elapsed() < limit || round < 6 {
        if [2, 4].contains(&round) {
            let socket = 3 + round / 2;
            live.running
                .say(&format!(
                    "device_add qemu64-x86_64-cpu,id=cpu{socket},socket-id={socket},core-id=0,thread-id=0"
                ))
                .unwrap();
        }
        requests(&mut live, round);
        let (snapshot, is_exact) = live.snapshot();
        assert!(is_exact);
        assert_consistent(&snapshot);
        round += 1;
    }
    let vcpus =
        |live: &mut Live| live.snapshot().0.vcpus.iter().filter(|row| row.executions > 0).count();
    wait_until(|| vcpus(&mut live) == 6, || "a vCPU that was plugged in does not run".into());
    live.running.say("quit").unwrap();
    let ended = live.running.wait().unwrap();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    let stats = std::fs::read(file("stats.json")).unwrap();
    assert_consistent(&pvio::stats::Snapshot::from_json(&stats).unwrap());
    let mut trace = pvio_cli::stats::trace::Trace::open(file("trace").as_ref()).unwrap();
    let (_, lines) = pvio_cli::stats::trace::statistics(&mut trace);
    assert!(lines.iter().all(|line| !line.contains("damaged")), "{lines:?}");
}

/// Requests of every kind. Each must be answered.
fn requests(live: &mut Live, round: u64) {
    let window = format!("outside {}", round % 3);
    let filter = ["0x5010", "", "0x5010-0x5013:out"][round as usize % 3];
    let all: [(&str, Value); 7] = [
        ("status", json!({})),
        ("begin", json!({ "name": window })),
        ("trace", json!({ "filter": filter })),
        ("access-log", json!({ "enabled": round.is_multiple_of(2) })),
        ("access-log", json!({ "filter": format!("0x5010:value={round}") })),
        ("end", json!({ "name": window })),
        ("status", json!({})),
    ];
    for (command, arguments) in all {
        live.ask(command, arguments);
    }
    if round % 7 == 6 {
        live.ask("reset", json!({}));
    }
}
