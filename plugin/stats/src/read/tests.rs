use std::fs;

use fastrand::Rng;
use pvio_x86::Port;
use serde_json::{Value, json};

use super::*;
use crate::Call;
use crate::test_data::{random, smp_snapshot};

/// The message for an input that is not a dump; it must be one line.
fn message(json: &[u8]) -> String {
    let message = Snapshot::from_json(json).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// A dump with the value at a JSON pointer replaced.
fn changed(pointer: &str, value: Value) -> Vec<u8> {
    let mut dump = serde_json::to_value(smp_snapshot()).unwrap();
    *dump.pointer_mut(pointer).unwrap() = value;
    serde_json::to_vec(&dump).unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    let mut rng = Rng::with_seed(1);
    for _ in 0..200 {
        let snapshot = random(&mut rng);
        assert_eq!(Snapshot::from_json(&snapshot.to_json()).unwrap(), snapshot);
    }
}

/// Removes fields from all objects.
fn remove(value: &mut Value, fields: &[&str]) {
    match value {
        Value::Object(object) => {
            object.retain(|name, _| !fields.contains(&name.as_str()));
            object.values_mut().for_each(|value| remove(value, fields));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| remove(value, fields)),
        _ => {}
    }
}

#[test]
fn dumps_without_the_fields_that_were_added_later_are_read() {
    let mut dump = serde_json::to_value(smp_snapshot()).unwrap();
    let added = [
        "runs",
        "exits",
        "served",
        "first",
        "symbol_files",
        "sites_dropped_counts",
        "hypercalls",
        "instructions",
        "instructions_unverified",
        "sections",
        "values",
        "values_clock",
        "values_dropped",
        "windows",
    ];
    // A vCPU's hypercalls have the same name as the table, and have been there as long as it.
    let vcpus = dump["vcpus"].clone();
    remove(&mut dump, &added);
    dump["vcpus"] = vcpus;
    let read = Snapshot::from_json(dump.to_string().as_bytes()).unwrap();
    let mut expected = smp_snapshot();
    expected.tables.forms.iter_mut().for_each(|row| row.exits = None);
    expected.tables.ports[0].served = None;
    assert_eq!(read, expected);
}

/// Adds a field to all objects.
fn add_field(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(add_field);
            object.insert("novelty".into(), json!({ "of": ["any", "kind"] }));
        }
        Value::Array(values) => values.iter_mut().for_each(add_field),
        _ => {}
    }
}

#[test]
fn dumps_of_newer_versions_are_read_without_what_is_new() {
    let mut dump = serde_json::to_value(random(&mut Rng::with_seed(2))).unwrap();
    let expected = Snapshot::from_json(dump.to_string().as_bytes()).unwrap();
    add_field(&mut dump);
    assert_eq!(Snapshot::from_json(dump.to_string().as_bytes()).unwrap(), expected);

    let mut dump = serde_json::to_value(smp_snapshot()).unwrap();
    dump["ended"] = json!("evaporated");
    dump["hypercalls"] = json!([{ "call": "teleport", "count": 3, "bytes": 0, "declined": 0,
                                  "denied": 0, "errors": 0 }]);
    let read = Snapshot::from_json(dump.to_string().as_bytes()).unwrap();
    assert_eq!(read.ended, "evaporated");
    assert_eq!((read.hypercalls[0].call, read.hypercalls[0].count), (Call::Unknown, 3));
}

#[test]
fn a_dump_cut_anywhere_is_said_to_be_cut() {
    let json = smp_snapshot().to_json();
    let json = json.trim_ascii_end();
    for end in 1..json.len() {
        let message = message(&json[..end]);
        assert!(message.starts_with("is cut off: it ends within the dump, in line "), "{message}");
    }
    assert_eq!(message(b""), "is empty; pvio writes the dump when QEMU ends");
    assert_eq!(message(b" \n"), "is empty; pvio writes the dump when QEMU ends");
}

#[test]
fn foreign_files_are_said_to_be_foreign() {
    let foreign =
        "is not a dump of pvio: it has no field \"schema\" with the value \"pvio.stats/1\"";
    for json in ["{}", "[]", "7", "{\"schema\": 1}", "{\"forms\": []} trailing"] {
        assert_eq!(message(json.as_bytes()), foreign, "{json}");
    }
    for contents in [&b"\x7fELF\x02\x01"[..], b"pvio 0.1.0: QEMU", b"{'schema'}", b"\xff\xfe"] {
        assert_eq!(message(contents), "is not a dump of pvio: line 1 is not JSON");
    }
    for dump in [changed("/schema", json!("pvio.stats/2")), b"{\"schema\":\"pvio.stats/2\"}".into()]
    {
        let other = "has the schema \"pvio.stats/2\"; this version of pvio reads \"pvio.stats/1\"";
        assert_eq!(message(&dump), other);
    }
    let twice = smp_snapshot().to_json().repeat(2);
    let more = "has more data after the end of the dump; put each dump into a separate file";
    assert_eq!(message(&twice), more);
}

#[test]
fn a_damaged_field_is_named() {
    let cases = [
        ("/forms/3/executions", json!(-1), "forms[3]: invalid value: integer `-1`, expected u64"),
        ("/forms/3/bytes", json!("many"), "forms[3]: invalid type: string \"many\", expected u64"),
        ("/forms/3", json!({}), "forms[3]: missing field `form`"),
        ("/forms", json!([]), "forms: these are not the 24 forms in their order"),
        ("/ports/0/port", json!(65_536), "ports[0]: invalid value: integer `65536`, expected u16"),
        ("/ports/0/size", json!(3), "ports[0]: 3 is not the size of a port access (1, 2 or 4)"),
        ("/sites/0/pc", json!("0x+1"), "sites[0].pc: this is not a hexadecimal address after 0x"),
        ("/sites/0/pc", json!("0x"), "sites[0].pc: this is not a hexadecimal address after 0x"),
        ("/sites/0/bytes", json!("eee"), "sites[0].bytes: these are not hexadecimal bytes"),
        ("/vcpus/1", json!(null), "vcpus[1]: invalid type: null, expected struct VcpuRow"),
        (
            "/forms/3/executions",
            json!(u64::MAX),
            "forms: the sum of a column does not fit in 64 bits",
        ),
        ("/runs", json!(0), "runs: a dump has at least one run"),
        (
            "/qemu",
            json!("11.1"),
            "the dump: invalid type: string \"11.1\", expected struct QemuRow",
        ),
    ];
    for (pointer, value, expected) in cases {
        let found = message(&changed(pointer, value));
        assert_eq!(found, format!("is a damaged dump: {expected}"), "{pointer}");
    }
    let found = message(&changed("/accesses/0/site", json!(1)));
    assert_eq!(found, "is a damaged dump: accesses[0].site: there is no such row in sites");
    let mut window = serde_json::to_value(smp_snapshot().tables).unwrap();
    window["name"] = json!("boot");
    window["entries"] = json!(1);
    window["open"] = json!(false);
    let mut with_window = serde_json::from_slice::<Value>(&smp_snapshot().to_json()).unwrap();
    with_window["windows"] = json!([window]);
    assert!(Snapshot::from_json(with_window.to_string().as_bytes()).is_ok());
    with_window["windows"][0]["sites"][0]["form"] = json!("mov");
    let found = message(with_window.to_string().as_bytes());
    assert!(found.starts_with("is a damaged dump: windows[0].sites[0]: unknown variant `mov`"));
}

#[test]
fn no_damage_makes_reading_panic() {
    let mut rng = Rng::with_seed(3);
    let json = random(&mut rng).to_json();
    for _ in 0..600 {
        let mut damaged = json.clone();
        for _ in 0..rng.usize(1..4) {
            let index = rng.usize(..damaged.len());
            damaged[index] = *rng.choice(b"0123456789-\"{}[],:enx\n\0").unwrap();
        }
        match Snapshot::from_json(&damaged) {
            Ok(snapshot) => drop(snapshot.discrepancies()),
            Err(problem) => assert!(!problem.to_string().contains('\n'), "{problem}"),
        }
    }
}

#[test]
fn an_error_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stats.json");
    let message = |path: &Path| Snapshot::load(path).unwrap_err().to_string();
    let missing = "stats.json: cannot be read: No such file or directory (os error 2)";
    assert!(message(&path).ends_with(missing));
    assert!(message(directory.path()).contains(": cannot be read: Is a directory"));
    fs::write(&path, "").unwrap();
    assert_eq!(
        message(&path),
        format!("{}: is empty; pvio writes the dump when QEMU ends", path.display())
    );
    fs::write(&path, smp_snapshot().to_json()).unwrap();
    assert_eq!(Snapshot::load(&path).unwrap(), smp_snapshot());
}

#[test]
fn numbers_that_do_not_add_up_are_said() {
    assert_eq!(smp_snapshot().discrepancies(), []);
    type Change = fn(&mut Snapshot);
    let changes: [(Change, &str); 11] = [
        (
            |dump| dump.tables.sites[0].counts.accesses -= 1,
            "70000 accesses by form, but 69999 accesses by site; \
             69999 accesses of the site at 0xffffffff81000051, but 70000 in its rows",
        ),
        (
            |dump| dump.tables.ports[0].qemu += 1,
            "70000 accesses by form, but 70001 accesses by port; \
             70001 accesses out port 0x03f8, 1 bytes, but 70000 in its rows",
        ),
        (
            |dump| dump.tables.accesses[0].counts.accesses = 1,
            "70000 accesses by form, but 1 accesses by site and port; \
             70000 accesses of the site at 0xffffffff81000051, but 1 in its rows; \
             70000 accesses out port 0x03f8, 1 bytes, but 1 in its rows",
        ),
        (
            |dump| dump.tables.accesses[0].port = Port(0x3f9),
            "70000 accesses out port 0x03f8, 1 bytes, but 0 in its rows",
        ),
        (
            |dump| dump.tables.accesses[0].counts.unverified = 1,
            "0 unverified accesses out port 0x03f8, 1 bytes, but 1 in its rows",
        ),
        (
            |dump| dump.tables.accesses_dropped.accesses = 1,
            "70000 accesses by form, but 70001 accesses by site and port",
        ),
        (
            |dump| dump.tables.ports[0].hypercall += 1,
            "0 elements moved by hypercalls, but 1 hypercall accesses by port; \
             1 hypercall accesses by port, but 0 accesses by call site; \
             1 hypercall accesses out port 0x03f8, but 0 in its rows",
        ),
        (
            |dump| dump.tables.vcpus[0].executions = 0,
            "70000 executions by form, but 35000 executions by vCPU",
        ),
        (
            |dump| dump.tables.forms[9].bytes = 1,
            "1 bytes of out dx,al, but 70000 by accesses of out dx,al",
        ),
        (
            |dump| dump.tables.forms[9].attempts = 0,
            "0 attempts at out dx,al, but 70002 ends of out dx,al",
        ),
        (
            |dump| dump.tables.sites_dropped_counts.unverified = 1,
            "0 unverified by form, but 1 unverified by site",
        ),
    ];
    for (change, expected) in changes {
        let mut dump = smp_snapshot();
        change(&mut dump);
        let found: Vec<_> = dump.discrepancies().iter().map(ToString::to_string).collect();
        let expected =
            expected.split("; ").map(|text| format!("the numbers do not add up: {text}"));
        assert_eq!(found, expected.collect::<Vec<_>>());
        // With two vCPUs counts go on while a snapshot is taken.
        dump.ended = "running".into();
        assert_eq!(dump.discrepancies(), []);
    }
}

#[test]
fn a_dump_without_accesses_by_site_and_port_has_dropped_all() {
    let mut old: Value = serde_json::from_slice(&smp_snapshot().to_json()).unwrap();
    let fields = old.as_object_mut().unwrap();
    fields.remove("accesses").unwrap();
    fields.remove("accesses_dropped").unwrap();
    let read = Snapshot::from_json(old.to_string().as_bytes()).unwrap();
    assert_eq!((read.accesses.len(), read.accesses_dropped.accesses), (0, 70_000));
    assert_eq!(read.discrepancies(), []);
}
