//! Each link, heading and file that a document names exists.

mod book;
mod commands;
mod pictures;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pvio_cli::paths;

/// Directories that builds and test runs create.
const MADE: [&str; 2] = ["target", ".ci/passed"];

/// Endings of files in the repository. Documents also name files of users, with other endings.
const ENDINGS: [&str; 8] = [".S", ".c", ".h", ".inc", ".md", ".rs", ".sh", ".toml"];

/// Files of users that have such an ending.
const OF_USERS: [&str; 2] = ["guest.toml", "my-host.toml"];

/// The directory of the command `pvio`, which was built together with the plugin.
fn programs() -> PathBuf {
    let plugin = paths::plugin().unwrap();
    let directory = plugin.parent().and_then(Path::parent).unwrap();
    assert!(directory.join("pvio").exists(), "pvio is not built: run qemu-scripts/setup");
    directory.to_owned()
}

/// A document of the repository.
struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    fn read(path: PathBuf) -> Document {
        let text = std::fs::read_to_string(&path).unwrap();
        Document { path, text }
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap()
    }

    /// The targets of its links within the repository.
    fn links(&self) -> Vec<&str> {
        let targets = self.text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        targets.filter(|target| !target.contains("://")).collect()
    }

    /// The words in backquotes and in blocks of code.
    fn code(&self) -> Vec<&str> {
        let mut words = Vec::new();
        for (number, part) in self.text.split("```").enumerate() {
            match number % 2 {
                1 => words.extend(part.split_whitespace()),
                _ => {
                    words.extend(part.split('`').skip(1).step_by(2).flat_map(str::split_whitespace))
                }
            }
        }
        words
    }

    /// The fragments by which its headings are linked, as GitHub makes them.
    fn headings(&self) -> BTreeSet<String> {
        let prose = self.text.split("```").step_by(2);
        let headings = prose.flat_map(str::lines).filter(|line| line.starts_with('#'));
        let fragment = |heading: &str| {
            let kept = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(fragment).collect()
    }

    /// The link with its document, if it is broken.
    fn broken(&self, link: &str) -> Option<String> {
        let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
        let path = match file {
            "" => self.path.clone(),
            _ => self.directory().join(file),
        };
        let is_broken = !path.exists()
            || !fragment.is_empty() && !Document::read(path).headings().contains(fragment);
        is_broken.then(|| format!("{}: {link}", self.path.display()))
    }
}

/// Collects the files below a directory that are part of the repository.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let relative = path.strip_prefix(paths::repository()).unwrap();
        if relative == Path::new(".git") || MADE.iter().any(|made| relative.ends_with(made)) {
            continue;
        }
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

fn repository() -> (Vec<PathBuf>, Vec<Document>) {
    let mut all = Vec::new();
    files(paths::repository(), &mut all);
    let documents = all.iter().filter(|path| path.extension().is_some_and(|end| end == "md"));
    let documents: Vec<_> = documents.cloned().map(Document::read).collect();
    assert!(documents.len() > 10, "{all:?}");
    (all, documents)
}

/// The path in the repository that a word of code names, if any.
///
/// A pattern stands for its directory.
fn named_path(word: &str) -> Option<&str> {
    let word = word.trim_matches(|c: char| "()[]{}\"',:;|…".contains(c));
    let path = word.split(['*', '<']).next().unwrap().trim_end_matches('/');
    let first = path.split('/').next().unwrap();
    let has_ending = ENDINGS.iter().any(|ending| path.ends_with(ending) && path != *ending);
    let is_within =
        word.contains('/') && !first.is_empty() && paths::repository().join(first).exists();
    let is_made =
        MADE.iter().any(|made| Path::new(path).starts_with(made)) || OF_USERS.contains(&path);
    let is_plain = !path.starts_with('/') && !path.contains(['=', '$', '@', '%']);
    ((has_ending || is_within) && !is_made && is_plain).then_some(path)
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let (_, documents) = repository();
    let links = documents
        .iter()
        .flat_map(|document| document.links().into_iter().map(move |link| (document, link)));
    let links: Vec<_> = links.collect();
    assert!(links.len() > 50, "{}", links.len());
    let broken: Vec<_> =
        links.into_iter().filter_map(|(document, link)| document.broken(link)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A registry shows them without the repository.
#[test]
fn readmes_of_crates_link_to_nothing_in_the_repository() {
    let crates =
        ["guest-shim", "plugin", "plugin/qemu", "plugin/stats", "plugin/x86", "qemu-scripts"];
    for name in crates {
        let readme = Document::read(paths::repository().join(name).join("README.md"));
        let links: Vec<_> =
            readme.links().into_iter().filter(|link| !link.starts_with('#')).collect();
        assert!(links.is_empty(), "{name}/README.md: {links:?}");
    }
}

#[test]
fn every_path_in_code_exists() {
    let (all, documents) = repository();
    let (mut paths_named, mut missing) = (0, Vec::new());
    for document in &documents {
        for path in document.code().into_iter().filter_map(named_path) {
            paths_named += 1;
            let places = [paths::repository(), document.directory()];
            let exists = places.iter().any(|place| place.join(path).exists())
                || !path.contains('/') && all.iter().any(|file| file.ends_with(path))
                || document.text.contains(&format!("cat > {path} <<"));
            if !exists {
                missing.push(format!("{}: {path}", document.path.display()));
            }
        }
    }
    assert!(paths_named > 150, "{paths_named}");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Paths in strings count too: these name files of the repository as well.
#[test]
fn every_path_in_a_source_file_exists() {
    let folders = ["docs/", "guest-shim/", "plugin/", "qemu-scripts/", "tests/"];
    let (all, _) = repository();
    let (mut paths_named, mut missing) = (0, Vec::new());
    let sources = all.iter().filter(|path| {
        path.extension().is_some_and(|end| ["S", "c", "h", "inc", "rs"].iter().any(|it| end == *it))
    });
    for source in sources {
        let text = std::fs::read_to_string(source).unwrap();
        let is_part = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let words = text.split(|c| !is_part(c)).map(|word| word.trim_end_matches('.'));
        for path in words.filter(|word| folders.iter().any(|folder| word.starts_with(folder))) {
            if ENDINGS.iter().any(|ending| path.ends_with(ending)) {
                paths_named += 1;
                // Relative to the repository, or to the crate.
                if !source.ancestors().any(|place| place.join(path).exists()) {
                    missing.push(format!("{}: {path}", source.display()));
                }
            }
        }
    }
    assert!(paths_named > 50, "{paths_named}");
    assert!(missing.is_empty(), "{missing:#?}");
}
