//! Dumps of real runs fit the JSON Schema of `pvio.stats/1`, and can be read, merged and compared.

use std::path::Path;

use boon::{Compiler, Schemas};
use pvio_cli::machine::Machine;
use pvio_cli::paths;
use pvio_stats::{Diff, Snapshot, merge};
use pvio_tests::{Host, assert_consistent, guest, on_both_qemus};
use serde_json::{Value, json};

on_both_qemus! {
    dumps_of_all_forms_are_valid
    dumps_of_a_linux_boot_are_valid
    dumps_with_windows_and_hypercalls_are_valid
}

/// The schema as published, and a closed one that forbids unknown fields.
fn schemas() -> [Value; 2] {
    let path = paths::repository().join("plugin/stats/schema/pvio.stats-1.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut closed = schema.clone();
    close(&mut closed);
    [schema, closed]
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(close);
            if object.contains_key("properties") {
                object.insert("additionalProperties".into(), json!(false));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        _ => {}
    }
}

fn is_valid(schema: &Value, dump: &Value) -> Result<(), String> {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("pvio.json", schema.clone()).unwrap();
    let index = compiler.compile("pvio.json", &mut schemas).unwrap();
    schemas.validate(dump, index).map_err(|error| format!("{error:#}"))
}

/// Runs a machine with options for the plugin, and checks its dump.
fn valid_dump(machine: Machine, options: &[&str], file: &Path) -> Snapshot {
    let stats = format!("stats={}", file.display());
    let ended = machine.plugin(options).plugin(&[&stats]).run().unwrap();
    let json = std::fs::read(file).unwrap_or_else(|error| panic!("{error}: {}", ended.stderr));
    let mut dump: Value = serde_json::from_slice(&json).unwrap();
    for schema in schemas() {
        is_valid(&schema, &dump).unwrap();
    }
    // The published schema allows an unknown field; the closed one does not.
    dump["sites"][0]["novelty"] = json!(1);
    let [schema, closed] = schemas();
    is_valid(&schema, &dump).unwrap();
    is_valid(&closed, &dump).unwrap_err();
    dump["sites"][0]["accesses"] = json!(-1);
    is_valid(&schema, &dump).unwrap_err();

    let snapshot = Snapshot::load(file).unwrap();
    assert_eq!(snapshot.to_json(), json, "reading and writing changes nothing");
    assert_consistent(&snapshot);
    assert_eq!(merge(std::slice::from_ref(&snapshot)).unwrap(), snapshot);
    let twice = merge(&[snapshot.clone(), snapshot.clone()]).unwrap();
    let diff = Diff::new(&snapshot, &twice);
    assert!(Diff::new(&snapshot, &snapshot).is_empty());
    assert_eq!(diff.tables.accesses[1], 2 * diff.tables.accesses[0]);
    assert_eq!(diff.tables.sites.len(), snapshot.sites.len());
    snapshot
}

fn dumps_of_all_forms_are_valid(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let machine = host.machine().bare_guest(&guest("forms.bin"));
    let options = ["summary=off", "insns=on", "device=latch@0x300"];
    let snapshot = valid_dump(machine, &options, &directory.path().join("stats.json"));
    assert!(snapshot.forms.iter().all(|row| row.executions > 0));
    assert_eq!(snapshot.instructions.instructions.is_some(), host.reports_exceptions());
}

fn dumps_of_a_linux_boot_are_valid(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let machine = host.machine().args(paths::linux_arguments(&[]).unwrap());
    let file = directory.path().join("stats.json");
    let snapshot = valid_dump(machine, &["summary=off"], &file);
    assert!(snapshot.sites.len() > 100);
}

fn dumps_with_windows_and_hypercalls_are_valid(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    for threads in ["single", "multi"] {
        let machine = host.machine().bare_guest(&guest("window-smp.bin"));
        let accelerator = format!("tcg,thread={threads}");
        let machine = machine.args(["-accel", &accelerator, "-smp", "4"]);
        let snapshot = valid_dump(machine, &["summary=off"], &directory.path().join("stats.json"));
        assert_eq!(snapshot.vcpus_omitted.is_some(), threads == "single");
        // From plugin API 5 on, a plugin can answer hypercalls in registers.
        assert_eq!(snapshot.windows.is_empty(), host.api < 5);
        assert_eq!(snapshot.hypercalls.is_empty(), host.api < 5);
    }
}
