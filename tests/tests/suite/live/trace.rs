//! The trace while requests change it: what they did is in it, and statistics of it are still right.

use std::path::{Path, PathBuf};

use pvio_stats::Snapshot;
use pvio_stats::trace::{Event, InsnEvent, REQUESTS, Trace, What, WindowEvent, statistics};
use pvio_tests::{Host, assert_consistent, on_both_qemus, wait_until};
use serde_json::json;

use super::{Live, accesses};

on_both_qemus! {
    windows_and_resets_from_outside_are_in_the_trace
    filter_changes_and_pauses_are_in_the_trace
    wrong_change_of_the_filter_is_no_event
}

/// The file of a trace in a directory, and the option for it.
fn trace_in(directory: &Path) -> (PathBuf, String) {
    let path = directory.join("trace");
    let option = format!("trace={}", path.display());
    (path, option)
}

/// Waits until the guest has made more accesses.
fn let_run(live: &mut Live) {
    let (before, _) = live.snapshot();
    wait_until(
        || accesses(&live.snapshot().0) > accesses(&before) + 1000,
        || "the guest stands still".into(),
    );
}

/// Ends the machine, which runs. Returns its dump.
fn end(mut live: Live) -> Snapshot {
    // QEMU handles signals before its guest runs.
    wait_until(|| accesses(&live.snapshot().0) > 0, || "the guest stands still".into());
    live.running.signal(libc::SIGTERM).unwrap();
    live.running.wait().unwrap().stats().unwrap().clone()
}

fn windows_and_resets_from_outside_are_in_the_trace(host: &Host) {
    for options in [&["hypercall=off"][..], &["hypercall=off", "callers=on"]] {
        let directory = tempfile::tempdir().unwrap();
        let (path, option) = trace_in(directory.path());
        let machine = host.machine().args(["-smp", "2"]);
        let mut live = Live::guest(machine, "hammer", &[&[&*option], options].concat());
        for name in ["closed", "one"] {
            let_run(&mut live);
            assert_eq!(live.ask("begin", json!({ "name": name })), json!({ "exact": true }));
        }
        let_run(&mut live);
        live.ask("end", json!({ "name": "closed" }));
        assert_eq!(live.ask("reset", json!({})), json!({ "exact": true }));
        live.ask("begin", json!({ "name": "two" }));
        let_run(&mut live);
        live.ask("end", json!({ "name": "two" }));
        let_run(&mut live);
        let counted = end(live);
        let mut trace = Trace::open(&path).unwrap();
        let (of_trace, lines) = statistics(&mut trace);
        assert_eq!(lines, [""; 0]);
        assert_consistent(&of_trace);
        assert_eq!(of_trace.forms, counted.forms);
        assert_eq!(of_trace.hypercalls, counted.hypercalls);
        let names: Vec<&str> = counted.windows.iter().map(|window| &*window.name).collect();
        assert_eq!(names, ["one", "two"]);
        assert_eq!(of_trace.windows, counted.windows);
        assert_eq!(of_trace, counted, "all else");
    }
}

/// What a trace says in its order: the ports of accesses between requests, without repetitions.
fn story(trace: &mut Trace) -> Vec<String> {
    let mut story: Vec<String> = Vec::new();
    trace.read(|Event { what, .. }, (stream, _), _| {
        if matches!(what, What::Irq { .. }) {
            return true;
        }
        let line = match what {
            What::Insn(InsnEvent { port: Some(port), value, .. }) => {
                let value = value.filter(|_| port.0 == 0x5010);
                format!("{port}{}", value.map(|value| format!(" {value}")).unwrap_or_default())
            }
            What::Filter(filter) => format!("filter {filter}"),
            What::Off => "off".to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(
            stream == REQUESTS,
            matches!(what, What::Filter(_) | What::Off | What::Window(..))
        );
        if story.last() != Some(&line) {
            story.push(line);
        }
        true
    });
    story
}

fn filter_changes_and_pauses_are_in_the_trace(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let (path, option) = trace_in(directory.path());
    let machine = host.machine().args(["-device", "pc-testdev"]);
    let mut live = Live::guest(machine, "breaks", &[&format!("{option}:0x5000:out")]);
    let_run(&mut live);
    let trace = |live: &mut Live, arguments| live.ask("trace", arguments);
    let off = trace(&mut live, json!({ "enabled": false }));
    assert_eq!(off, json!({ "enabled": false, "exact": true }));
    assert_eq!(live.ask("status", json!({}))["trace"], json!({ "enabled": false }));
    let_run(&mut live);
    let filter = "0x5010-0x5020:value=3";
    let on = trace(&mut live, json!({ "enabled": true, "filter": filter }));
    assert_eq!(on, json!({ "enabled": true, "exact": true }));
    let_run(&mut live);
    trace(&mut live, json!({ "filter": "0x20" }));
    trace(&mut live, json!({ "enabled": false, "filter": "0x5020" }));
    trace(&mut live, json!({ "enabled": true }));
    let_run(&mut live);
    end(live);
    let mut story = story(&mut Trace::open(&path).unwrap());
    // A round of the guest may have begun or ended between two requests that follow each other.
    story.retain(|line| line != "0x0020");
    let mut parts = story.split(|line| line == "filter 0x20");
    let expected = ["0x5000", "off", "filter 0x5010-0x5020:value=3", "0x5010 3"];
    assert_eq!(parts.next().unwrap()[..4], expected);
    assert_eq!(parts.next().unwrap(), ["off", "filter 0x5020", "0x5020"]);
    let (_, lines) = statistics(&mut Trace::open(&path).unwrap());
    let filtered = |filter| {
        format!(
            "was filtered for a part of the run ({filter}): only accesses that the filter covers are counted there"
        )
    };
    let mut expected: Vec<String> = ["0x5000:out", filter, "0x20", "0x5020"].map(filtered).into();
    expected.push("was off for a part of the run: what the guest did there is not counted".into());
    assert_eq!(lines, expected);
}

fn wrong_change_of_the_filter_is_no_event(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let (path, option) = trace_in(directory.path());
    let mut live = Live::guest(host.machine(), "spin", &[&option, "symbols=off"]);
    for (filter, why) in [
        ("0x80:what", "\"what\" is not a filter"),
        ("process=init", "a filter process=NAME needs processes; start QEMU with processes=on"),
        ("symbol=outb", "a filter symbol=NAME needs names, and symbols=off turns them off"),
    ] {
        let arguments = json!({ "filter": filter, "enabled": false });
        let refused = live.refused("trace", arguments);
        assert!(refused.starts_with(why), "{refused}");
    }
    assert_eq!(live.ask("trace", json!({}))["enabled"], true);
    live.ask("begin", json!({ "name": "only this" }));
    end(live);
    let mut requests = Vec::new();
    Trace::open(&path).unwrap().read(|Event { what, .. }, (stream, _), _| {
        let is_request = stream == REQUESTS && !matches!(what, What::Irq { .. });
        requests.extend(is_request.then(|| what.clone()));
        true
    });
    assert_eq!(requests, [What::Window(WindowEvent::Began("only this".into()), None)]);
}
