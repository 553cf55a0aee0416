//! Licences of dependencies, checked with cargo-deny's lists in `.ci/deny`.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

/// A list of allowed licences.
struct AllowList(Vec<Licensee>);

impl AllowList {
    fn read(name: &str) -> AllowList {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/deny").join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        // Each licence has a line of its own.
        let names = text.lines().filter_map(|line| line.trim().strip_prefix('"'));
        let names: Vec<&str> = names.map(|rest| rest.strip_suffix("\",").unwrap()).collect();
        assert!(names.contains(&"MIT"), "{}: no list", path.display());
        AllowList(names.into_iter().map(|name| Licensee::parse(name).unwrap()).collect())
    }

    /// The list for crates in `libpvio.so`.
    fn plugin() -> AllowList {
        AllowList::read("plugin.toml")
    }

    /// The list for crates that programs of any licence may use.
    fn permissive() -> AllowList {
        AllowList::read("permissive.toml")
    }

    /// The list for the tests, which no QEMU loads.
    fn tests() -> AllowList {
        AllowList::read("tests.toml")
    }

    fn allows(&self, licence: &str) -> bool {
        let expression = Expression::parse_mode(licence, ParseMode::LAX);
        let expression = expression.unwrap_or_else(|error| panic!("{licence}: {error}"));
        expression.evaluate(|wanted| self.0.iter().any(|allowed| allowed.satisfies(wanted)))
    }
}

/// The required part of `cargo metadata`'s output.
///
/// The crate cargo_metadata would enable a feature of serde_json in tests only, and so build the plugin twice.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    license: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `None` for a normal dependency, or `build`, or `dev`.
    kind: Option<String>,
}

impl Metadata {
    fn read() -> Metadata {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked"])
            // Dependencies of other hosts are not downloaded for a build.
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Returns a crate and its dependencies without dev-dependencies.
    fn tree(&self, root: &Package) -> Vec<&Package> {
        let nodes = self.resolve.nodes.iter().map(|node| (node.id.as_str(), node));
        let nodes: HashMap<&str, &Node> = nodes.collect();
        let mut found = BTreeSet::new();
        let mut pending = vec![root.id.as_str()];
        while let Some(id) = pending.pop() {
            if found.insert(id) {
                let built_in = nodes[id].deps.iter().filter(|dependency| {
                    dependency.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev"))
                });
                pending.extend(built_in.map(|dependency| dependency.pkg.as_str()));
            }
        }
        self.packages.iter().filter(|package| found.contains(package.id.as_str())).collect()
    }
}

#[test]
fn licence_of_every_dependency_is_allowed() {
    let metadata = Metadata::read();
    for member in metadata.members() {
        let allowed = match member.license.as_deref() {
            Some("GPL-2.0-or-later") if member.name == "pvio-tests" => AllowList::tests(),
            Some("GPL-2.0-or-later") => AllowList::plugin(),
            Some("MIT OR Apache-2.0") => AllowList::permissive(),
            licence => panic!("{}: {licence:?} is not a licence of this repository", member.name),
        };
        let tree = metadata.tree(member);
        for package in &tree {
            let licence = package.license.as_deref().unwrap_or("none");
            assert!(allowed.allows(licence), "{} uses {}: {licence}", member.name, package.name);
        }
        println!("{}: {} crates", member.name, tree.len());
    }
}

/// The test above checks their dependencies.
#[test]
fn guest_shim_and_decoder_are_permissive() {
    let metadata = Metadata::read();
    for name in ["pvio-guest", "pvio-x86"] {
        let package = metadata.members().find(|package| package.name == name);
        assert_eq!(package.unwrap().license.as_deref(), Some("MIT OR Apache-2.0"), "{name}");
    }
}

#[test]
fn lists_refuse_incompatible_licences() {
    let lists = [AllowList::plugin(), AllowList::permissive(), AllowList::tests()];
    for (licence, allowed) in [
        ("MIT", [true; 3]),
        ("MIT/Apache-2.0", [true; 3]),
        ("Apache-2.0 WITH LLVM-exception OR MIT", [true; 3]),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", [true; 3]),
        ("Apache-2.0", [false, true, true]),
        ("MIT AND Apache-2.0", [false, true, true]),
        ("GPL-2.0-or-later", [true, false, true]),
        ("GPL-2.0-only", [false; 3]),
        ("GPL-3.0-or-later", [false; 3]),
        ("CDDL-1.0", [false; 3]),
    ] {
        assert_eq!(lists.each_ref().map(|list| list.allows(licence)), allowed, "{licence}");
    }
}
