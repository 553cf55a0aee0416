//! The table of promises in `tests/README.md` names tests that exist, and every module. So do those of `docs/security.md`.
//! Documents name every fuzz target.

use std::collections::BTreeSet;
use std::process::Command;

use pvio_cli::paths;

/// The names of all tests and modules, without the QEMU and the kernel that a test runs on.
pub(crate) fn names() -> BTreeSet<String> {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this).args(["--list", "--format=terse"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut names = BTreeSet::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let Some(test) = line.strip_suffix(": test") else { continue };
        let is_own = |part: &&str| !part.starts_with("on_api_") && !part.starts_with("on_linux_");
        let parts: Vec<&str> = test.split("::").filter(is_own).collect();
        names.extend((1..=parts.len()).map(|count| parts[..count].join("::")));
    }
    names
}

/// The words in backquotes in the last column of a document's tables whose last column is `kept by`.
fn named_in(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(paths::repository().join(document)).unwrap();
    let mut named = Vec::new();
    for table in text.split(" | kept by |").skip(1) {
        let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
        for row in rows.skip(1) {
            let (_, column) = row.trim_matches('|').rsplit_once('|').expect("two columns");
            assert!(column.contains('`'), "{document}: no test keeps this: {row}");
            named.extend(column.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    named
}

#[test]
fn every_test_named_in_a_table_exists() {
    let names = names();
    for document in ["tests/README.md", "docs/security.md"] {
        let named = named_in(document);
        assert!(named.len() > 30, "{document}: {named:?}");
        let missing: Vec<_> = named.iter().filter(|name| !names.contains(*name)).collect();
        assert!(missing.is_empty(), "{document} names tests that do not exist: {missing:?}");
    }
}

#[test]
fn every_module_of_tests_is_named_in_the_readme() {
    let named = named_in("tests/README.md");
    let is_named = |module: &str| {
        let within = format!("{module}::");
        named.iter().any(|name| name == module || name.starts_with(&within))
    };
    let modules: BTreeSet<String> = names()
        .into_iter()
        .filter(|name| name.matches("::").count() == 1 && !name.starts_with("promises::"))
        .collect();
    let unnamed: Vec<_> = modules.iter().filter(|module| !is_named(module)).collect();
    assert!(unnamed.is_empty(), "tests/README.md names no test of {unnamed:?}");
}

#[test]
fn every_fuzz_target_is_built_and_named_in_the_documents() {
    let fuzz = paths::repository().join("tests/fuzz");
    let targets: BTreeSet<String> = std::fs::read_dir(fuzz.join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert!(targets.len() > 20, "{targets:?}");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for target in &targets {
        assert!(manifest.contains(&format!("\"fuzz_targets/{target}.rs\"")), "{target}: no binary");
        let corpus = fuzz.join("corpus").join(target);
        assert!(
            corpus.read_dir().is_ok_and(|mut files| files.next().is_some()),
            "{target}: no corpus"
        );
    }
    for (document, head, column) in [
        ("docs/fuzzing.md", "| target | arbitrary | and must |", 1),
        ("docs/security.md", "| input | comes from | fuzz targets |", 3),
    ] {
        let text = std::fs::read_to_string(paths::repository().join(document)).unwrap();
        let (_, table) = text.split_once(head).expect("the table of targets");
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let cells = rows.map(|row| row.split('|').nth(column).unwrap());
        let named: BTreeSet<String> =
            cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
        assert_eq!(named, targets, "{document}");
    }
}
