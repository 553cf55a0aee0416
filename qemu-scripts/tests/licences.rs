//! Every crate depends only on what its own licence allows. The lists are cargo-deny's, in `.ci/deny`.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

/// The licences of one list.
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

    /// For what goes into `libpvio.so`.
    fn plugin() -> AllowList {
        AllowList::read("plugin.toml")
    }

    /// For what others may use in programs of any licence.
    fn permissive() -> AllowList {
        AllowList::read("permissive.toml")
    }

    fn allows(&self, licence: &str) -> bool {
        let expression = Expression::parse_mode(licence, ParseMode::LAX);
        let expression = expression.unwrap_or_else(|error| panic!("{licence}: {error}"));
        expression.evaluate(|wanted| self.0.iter().any(|allowed| allowed.satisfies(wanted)))
    }
}

/// What `cargo metadata` prints, as far as it is needed. The crate cargo_metadata would have serde_json built with another
/// feature for tests than for programs, and so the plugin twice.
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
    /// `None` for what the crate itself uses, `build` or `dev`.
    kind: Option<String>,
}

impl Metadata {
    fn read() -> Metadata {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked"])
            // What other hosts would need besides is not there after a build.
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

    /// A crate and everything that is built into it. What only its tests depend on is left out.
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
fn every_dependency_has_a_licence_that_the_crate_may_use() {
    let metadata = Metadata::read();
    for member in metadata.members() {
        let allowed = match member.license.as_deref() {
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

/// What these depend on is checked by the test above.
#[test]
fn crates_for_others_to_use_are_permissive() {
    let metadata = Metadata::read();
    for name in ["pvio-guest", "pvio-x86"] {
        let package = metadata.members().find(|package| package.name == name);
        assert_eq!(package.unwrap().license.as_deref(), Some("MIT OR Apache-2.0"), "{name}");
    }
}

#[test]
fn the_lists_refuse_what_does_not_go_together() {
    let (plugin, permissive) = (AllowList::plugin(), AllowList::permissive());
    for (licence, in_plugin, in_others) in [
        ("MIT", true, true),
        ("MIT/Apache-2.0", true, true),
        ("Apache-2.0 WITH LLVM-exception OR MIT", true, true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true, true),
        ("Apache-2.0", false, true),
        ("MIT AND Apache-2.0", false, true),
        ("GPL-2.0-or-later", true, false),
        ("GPL-2.0-only", false, false),
        ("GPL-3.0-or-later", false, false),
        ("CDDL-1.0", false, false),
    ] {
        assert_eq!(plugin.allows(licence), in_plugin, "{licence}");
        assert_eq!(permissive.allows(licence), in_others, "{licence}");
    }
}
