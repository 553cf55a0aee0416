//! Checks that dependencies go one way: a module uses only modules below it in the table of `lib.rs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The rows of the table from top to bottom, each with its modules.
fn rows() -> Vec<Vec<String>> {
    let rows = include_str!("lib.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let modules = |row: &str| {
        let cell = row.split('|').next().unwrap_or_default();
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    rows.map(modules).filter(|modules| !modules.is_empty()).collect()
}

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|extension| extension == "rs") => {
                found.push(path);
            }
            false => {}
        }
    }
}

/// The modules that code names as `crate::MODULE`.
fn used_modules(code: &str) -> BTreeSet<String> {
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = code.match_indices("crate::").filter_map(|(at, prefix)| {
        let name = &code[at + prefix.len()..];
        let end = name.find(|c| !is_name(c)).unwrap_or(name.len());
        (!code[..at].ends_with('$')).then(|| name[..end].to_owned())
    });
    names.collect()
}

#[test]
fn a_module_uses_only_modules_below_it() {
    let rows = rows();
    let row_of = |module: &str| rows.iter().position(|row| row.iter().any(|name| name == module));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut seen = BTreeSet::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        // Entry points for fuzzing call any module.
        let is_for_fuzzing = file.file_name().is_some_and(|name| name == "fuzzing.rs");
        if ["lib", "entry", "layers"].contains(&module) || is_for_fuzzing {
            continue;
        }
        let row =
            row_of(module).unwrap_or_else(|| panic!("{module} is not in the table of lib.rs"));
        seen.insert(row);
        for used in used_modules(&std::fs::read_to_string(&file).unwrap()) {
            if used != module {
                let below = row_of(&used).is_some_and(|used| used > row);
                assert!(below, "{} uses {used}, which is not below {module}", file.display());
            }
        }
    }
    // The other rows are crates.
    let crates = rows.iter().enumerate().filter(|(row, _)| !seen.contains(row));
    for module in crates.flat_map(|(_, modules)| modules) {
        assert!(
            include_str!("lib.rs").contains(&format!(" as {module};")),
            "{module} does not exist"
        );
    }
}
