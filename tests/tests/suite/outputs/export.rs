//! Other programs can read what `pvio export` writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use pvio_cli::export::{Format, Request, TABLES, export};
use pvio_cli::paths;
use pvio_stats::Snapshot;
use pvio_tests::{Host, boot_linux, guest, on_both_qemus};
use serde_json::Value;

on_both_qemus! {
    perfetto_finds_a_track_for_each_vcpu_device_process_and_window
    duckdb_answers_the_queries_of_the_documentation
    duckdb_reads_every_row_of_every_table_from_parquet
    folded_stacks_have_all_accesses
}

/// Runs a program of Python with the private packages of the tests.
fn python(arguments: &[&str]) -> String {
    let output = Command::new(paths::python().unwrap()).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn exported(input: &Path, format: Format, table: Option<&str>) -> PathBuf {
    let request = Request { format, table: table.map(str::to_owned), window: None };
    let mut out = Vec::new();
    export(input, &request, &mut out).unwrap();
    let name = format!("{}.{format:?}", table.unwrap_or("all"));
    let path = input.with_file_name(name.to_lowercase());
    std::fs::write(&path, out).unwrap();
    path
}

fn perfetto_finds_a_track_for_each_vcpu_device_process_and_window(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let option = format!("trace={}", trace.display());
    let machine = host.machine().plugin(&["summary=off", &option, "processes=on"]);
    let ended = boot_linux(machine);
    let stats = ended.stats().unwrap();
    let tool = paths::repository().join("tests/tools/perfetto-tracks.py");
    let file = exported(&trace, Format::Perfetto, None);
    let text = python(&[tool.to_str().unwrap(), file.to_str().unwrap()]);
    // Parent, name, instants, begins, ends.
    let tracks: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let instants = |parent: &str, name: &str| -> u64 {
        let track = tracks.iter().find(|track| track[..2] == [parent, name]);
        track.map_or(0, |track| track[2].parse().unwrap())
    };
    assert!(instants("vCPUs", "vCPU 0") >= stats.vcpus[0].accesses);
    let com1 = stats.ports.iter().filter(|row| row.name.as_deref() == Some("COM1"));
    assert_eq!(instants("devices", "COM1"), com1.map(|row| row.accesses()).sum::<u64>());
    for row in &stats.processes {
        if let (Some(pid), Some(comm), 0) = (row.pid, &row.comm, row.boot) {
            let name = format!("{pid}/{comm}");
            assert!(instants("processes", &name) >= row.counts.accesses, "{name}: {text}");
        }
    }
    // Interned strings: an event's name and its values are those of the accesses.
    let uses = |kind: &str, text: &str| -> u64 {
        let line = tracks.iter().find(|line| line[..2] == [kind, text]);
        line.map_or(0, |line| line[2].parse().unwrap())
    };
    let accesses = stats.ports.iter().map(|row| row.accesses()).sum::<u64>();
    assert!(uses("= annotation", "value") >= 2 * accesses, "by vCPU and by device: {accesses}");
    let written = stats
        .ports
        .iter()
        .filter(|row| row.port.0 == 0x3f8 && row.dir == pvio::x86::Direction::Out);
    let written = written.map(|row| row.accesses()).sum::<u64>();
    assert!(written > 0 && uses("= name", "out 0x03f8") >= 2 * written, "{written}");
    if host.reports_exceptions() {
        let machine = host.machine().plugin(&["summary=off", &option]);
        let ended = machine.bare_guest(&guest("calls-limits64.bin")).run().unwrap();
        let windows = &ended.stats().unwrap().windows;
        let file = exported(&trace, Format::Perfetto, None);
        let text = python(&[tool.to_str().unwrap(), file.to_str().unwrap()]);
        let slices = text.lines().filter(|line| line.starts_with("windows\t"));
        let mut begins = 0;
        for line in slices {
            let [_, name, _, begun, done] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            assert_eq!(begun, done, "{name}");
            begins += begun.parse::<u64>().unwrap();
        }
        let entries: u64 = windows.iter().map(|window| window.entries).sum();
        assert!(entries > 0 && begins >= entries, "{begins} of {entries}");
    }
}

fn duckdb_answers_the_queries_of_the_documentation(host: &Host) {
    let text = std::fs::read_to_string(paths::repository().join("docs/trace.md")).unwrap();
    let queries: Vec<&str> =
        text.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(queries.len(), 3);
    let directory = tempfile::tempdir().unwrap();
    let (trace, dump) = (directory.path().join("trace"), directory.path().join("dump"));
    let option = format!("trace={}", trace.display());
    let ended = boot_linux(host.machine().plugin(&["summary=off", &option]));
    let stats = ended.stats().unwrap();
    std::fs::write(&dump, stats.to_json()).unwrap();
    let events = exported(&trace, Format::Csv, None);
    let ports = exported(&dump, Format::Jsonl, Some("ports"));
    let first = queries[0].replace("events.csv", events.to_str().unwrap());
    let second = queries[1].replace("ports.jsonl", ports.to_str().unwrap());
    // The code that reads most, by the sites of the dump: that of the BIOS, which has no name, if it waits long. Two
    // instructions of a loop may read equally often.
    let found = answer(&first);
    let (name, count) = (found[0][0].as_str().unwrap_or_default(), found[0][1].as_u64().unwrap());
    let reads = reads_by_symbol(stats);
    assert_eq!(reads.get(name), Some(&count), "{name}");
    assert_eq!(reads.values().max(), Some(&count), "{name}");
    // The process and the port with the most reads, counted here from the same events.
    let parquet = exported(&trace, Format::Parquet, None);
    let third = answer(&queries[2].replace("events.parquet", parquet.to_str().unwrap()));
    let lines = std::fs::read_to_string(exported(&trace, Format::Jsonl, None)).unwrap();
    let reads = reads_by_process_and_port(&lines);
    assert_eq!(third.len(), reads.len().min(10), "{third:?}");
    for row in &third {
        let key = (row[0].as_str().map(str::to_owned), row[1].as_u64().unwrap());
        let values = &reads[&key];
        assert_eq!(row[2].as_u64(), Some(values.len() as u64), "{row:?}");
        let distinct: BTreeSet<u64> = values.iter().copied().collect();
        assert_eq!(row[3].as_u64(), Some(distinct.len() as u64), "{row:?}");
    }
    let most = reads.values().map(Vec::len).max().unwrap() as u64;
    assert_eq!(third[0][2].as_u64(), Some(most), "{third:?}");
    let one_way = |port| stats.ports.iter().filter(move |row| row.port == port).map(|row| row.dir);
    let expected = stats.ports.iter().filter(|row| {
        let mut directions: Vec<_> = one_way(row.port).collect();
        directions.dedup();
        directions.len() == 1
    });
    let mut expected: Vec<u64> = expected.map(|row| row.port.0.into()).collect();
    expected.dedup();
    let mut found: Vec<u64> = answer(&second).iter().map(|row| row[0].as_u64().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
}

/// The rows that DuckDB answers.
fn answer(query: &str) -> Vec<Vec<Value>> {
    let program = "import duckdb, json, sys; print(json.dumps(duckdb.sql(sys.argv[1]).fetchall(), default=int))";
    serde_json::from_str(&python(&["-c", program, query])).unwrap()
}

/// Compares with the rows as JSON Lines, in which fields that are null may be missing.
fn duckdb_reads_every_row_of_every_table_from_parquet(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let (trace, dump) = (directory.path().join("trace"), directory.path().join("dump"));
    let option = format!("trace={}", trace.display());
    let options = ["summary=off", &option, "callers=on", "values=0x2f8"];
    let machine = host.machine().plugin(&options);
    // The driver ends by hypercall in registers, which an older QEMU does not hear.
    let image = if host.reports_exceptions() { "driver.bin" } else { "forms.bin" };
    let ended = machine.bare_guest(&guest(image)).run().unwrap();
    std::fs::write(&dump, ended.stats().unwrap().to_json()).unwrap();
    let mut rows = 0;
    for (input, table) in TABLES.map(|table| (&dump, table)).into_iter().chain([(&trace, "events")])
    {
        let [parquet, lines] =
            [Format::Parquet, Format::Jsonl].map(|format| exported(input, format, Some(table)));
        let query = format!("SELECT to_json(t)::VARCHAR FROM '{}' t", parquet.display());
        let parse = |text: &str| without_nulls(serde_json::from_str(text).unwrap());
        let found: Vec<Value> =
            answer(&query).iter().map(|row| parse(row[0].as_str().unwrap())).collect();
        let lines = std::fs::read_to_string(lines).unwrap();
        let expected: Vec<Value> = lines.lines().map(parse).collect();
        assert!(found == expected, "{table}: {:?} {:?}", found.first(), expected.first());
        rows += expected.len();
    }
    assert!(rows > 65_536 || !host.reports_exceptions(), "{rows}: more than one group of rows");
}

/// Removes fields that are null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            fields.map(|(name, value)| (name, without_nulls(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// Returns the values that were read, by process and port.
fn reads_by_process_and_port(lines: &str) -> BTreeMap<(Option<String>, u64), Vec<u64>> {
    let mut reads = BTreeMap::<_, Vec<u64>>::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["event"] == "in" {
            let process = event["process"].as_str().map(str::to_owned);
            let key = (process, event["port"].as_u64().unwrap());
            reads.entry(key).or_default().push(event["value"].as_u64().unwrap());
        }
    }
    reads
}

fn reads_by_symbol(stats: &Snapshot) -> BTreeMap<&str, u64> {
    let mut sums = BTreeMap::<&str, u64>::new();
    let reads = |row: &&pvio_stats::SiteRow| row.form.direction() == pvio::x86::Direction::In;
    for row in stats.sites.iter().filter(reads) {
        *sums.entry(row.symbol.as_deref().unwrap_or("")).or_default() += row.counts.accesses;
    }
    sums
}

fn folded_stacks_have_all_accesses(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let option = format!("trace={}", trace.display());
    let machine = host.machine().plugin(&["summary=off", &option, "callers=on"]);
    let ended = machine.bare_guest(&guest("callers.bin")).run().unwrap();
    let folded = std::fs::read_to_string(exported(&trace, Format::Folded, None)).unwrap();
    let count = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    let callers = &ended.stats().unwrap().callers;
    let all: u64 = callers.iter().map(|row| row.accesses).sum();
    assert!(all > 0);
    assert_eq!(folded.lines().map(count).sum::<u64>(), all);
    let picture = std::fs::read_to_string(exported(&trace, Format::Flamegraph, None)).unwrap();
    assert!(picture.starts_with("<svg ") && picture.contains(&format!("{all} accesses, 100.0 %")));
}
