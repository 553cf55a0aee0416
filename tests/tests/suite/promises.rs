//! The table of promises in `tests/README.md` names tests that exist, and every module.

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

/// The words in backquotes in the second column of the table of promises.
fn named_in_readme() -> Vec<String> {
    let readme = std::fs::read_to_string(paths::repository().join("tests/README.md")).unwrap();
    let (_, table) = readme.split_once("| promise | kept by |").expect("the table of promises");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let columns =
        rows.skip(1).map(|row| row.trim_matches('|').rsplit_once('|').expect("two columns").1);
    let quoted = columns.flat_map(|column| column.split('`').skip(1).step_by(2));
    quoted.map(str::to_owned).collect()
}

#[test]
fn every_test_named_in_the_readme_exists() {
    let (names, named) = (names(), named_in_readme());
    assert!(named.len() > 30, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !names.contains(*name)).collect();
    assert!(missing.is_empty(), "tests/README.md names tests that do not exist: {missing:?}");
}

#[test]
fn every_module_of_tests_is_named_in_the_readme() {
    let named = named_in_readme();
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
