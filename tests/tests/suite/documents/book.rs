//! The book: `docs/SUMMARY.md` lists its pages, and a reader of the built book finds what each page links to.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use pvio_cli::paths;

use super::{Document, repository};

/// The languages of blocks of code. `commands` runs those of `sh`.
const LANGUAGES: [&str; 11] =
    ["asm", "c", "json", "no_run", "python", "rust", "sh", "sql", "text", "toml", "yaml"];

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => assert!(plain.pop(), "{}", path.display()),
            other => plain.push(other),
        }
    }
    plain
}

fn summary() -> Document {
    Document::read(paths::repository().join("docs/SUMMARY.md"))
}

/// The files that a document links to.
fn linked(document: &Document) -> Vec<PathBuf> {
    let files = document.links().into_iter().map(|link| link.split('#').next().unwrap());
    let files = files.filter(|file| !file.is_empty());
    files.map(|file| plain(&document.directory().join(file))).collect()
}

/// The pages of the book, in its order.
pub(super) fn pages() -> Vec<Document> {
    linked(&summary()).into_iter().map(Document::read).collect()
}

#[test]
fn summary_lists_every_page_once() {
    let listed = linked(&summary());
    let once: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(once.len(), listed.len(), "a page is listed twice: {listed:#?}");
    let docs = paths::repository().join("docs");
    let (_, documents) = repository();
    let missing: Vec<_> = documents
        .iter()
        .map(|document| &document.path)
        .filter(|path| path.starts_with(&docs) && !path.ends_with("SUMMARY.md"))
        .filter(|path| !once.contains(*path))
        .collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md lacks {missing:#?}");
}

/// `qemu-scripts/book` copies files that pages link to, but neither directories nor pages that are not in the book.
#[test]
fn pages_link_to_pages_of_the_book_and_to_files() {
    let pages = pages();
    let listed: BTreeSet<_> = pages.iter().map(|page| page.path.clone()).collect();
    let mut lost = Vec::new();
    for page in &pages {
        let is_lost = |path: &PathBuf| match path.extension().is_some_and(|end| end == "md") {
            true => !listed.contains(path),
            false => !path.is_file(),
        };
        let here = page.path.display();
        let links = linked(page).into_iter().filter(is_lost);
        lost.extend(links.map(|path| format!("{here}: {}", path.display())));
    }
    assert!(lost.is_empty(), "the book does not contain {lost:#?}");
}

/// mdBook gives the second of two equal headings another anchor than GitHub.
#[test]
fn headings_of_a_page_differ() {
    for page in pages() {
        let prose = page.text.split("```").step_by(2);
        let headings = prose.flat_map(str::lines).filter(|line| line.starts_with('#')).count();
        assert_eq!(page.headings().len(), headings, "{}", page.path.display());
    }
}

#[test]
fn every_block_of_code_has_a_language() {
    let mut blocks = 0;
    for page in pages() {
        for block in page.text.split("```").skip(1).step_by(2) {
            blocks += 1;
            let language = block.lines().next().unwrap();
            let here = page.path.display();
            assert!(LANGUAGES.contains(&language), "{here}: a block has the language {language:?}");
        }
    }
    assert!(blocks > 50, "{blocks}");
}

/// The values of an attribute in a page of HTML.
fn attribute<'a>(html: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let start = format!(" {name}=\"");
    let parts: Vec<_> = html.split(&*start).skip(1).collect();
    parts.into_iter().map(|rest| rest.split('"').next().unwrap())
}

fn html_pages(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => html_pages(&path, found),
            false if path.extension().is_some_and(|end| end == "html") => found.push(path),
            false => {}
        }
    }
}

/// The links of a built page that lead nowhere.
fn broken(page: &Path) -> Vec<String> {
    let html = std::fs::read_to_string(page).unwrap();
    let links = attribute(&html, "href").chain(attribute(&html, "src"));
    let links = links.filter(|link| !link.contains("://") && !link.starts_with("data:"));
    let is_broken = |link: &&str| {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = match file {
            "" => page.to_owned(),
            _ => plain(&page.parent().unwrap().join(file)),
        };
        let has_anchor = || {
            let text = std::fs::read_to_string(&target).unwrap();
            attribute(&text, "id").any(|id| id == anchor)
        };
        !target.is_file() || !anchor.is_empty() && !has_anchor()
    };
    links.filter(is_broken).map(|link| format!("{}: {link}", page.display())).collect()
}

#[test]
#[ignore = "runs in qemu-scripts/test --long book"]
fn mdbook_builds_every_page_without_a_warning_or_a_broken_link() {
    let script = paths::repository().join("qemu-scripts/book");
    let output = Command::new(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let first = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end());
    let book = first.parent().unwrap();
    for page in pages() {
        let page = page.path.strip_prefix(paths::repository()).unwrap().with_extension("html");
        assert!(book.join(&page).is_file(), "{}", page.display());
    }
    let mut built = Vec::new();
    html_pages(book, &mut built);
    // These two have the links of other pages, in another directory.
    built.retain(|page| !page.ends_with("print.html") && !page.ends_with("404.html"));
    let broken: Vec<_> = built.iter().flat_map(|page| broken(page)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}
