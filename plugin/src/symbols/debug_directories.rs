//! Finds separate debug files in the directories that the user names.
//!
//! A file is found by its build id, at `.build-id/xx/yyyy.debug` or anywhere in the directory; by the name in a stripped
//! file's `.gnu_debuglink`; or, for a module of UEFI firmware, by the module's name.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::elf_names::ElfNames;
use super::lines::AddressIn;
use super::{Found, SiteName, SymbolsError};
use crate::elf::{DebugLink, Elf};
use crate::guest::Kernel;
use crate::guest_file::GuestFile;

/// Limits of the search: files and directories, and levels of directories.
const MOST_ENTRIES: usize = 1 << 16;
const DEEPEST: usize = 12;
/// Maximum number of debug files that are read after the start.
const MOST_READ: usize = 1024;
/// The lengths of build ids in hexadecimal digits.
const BUILD_ID_LENGTHS: std::ops::RangeInclusive<usize> = 8..=128;

/// Directories of debug files, in the order of the options.
#[derive(Debug, Default)]
pub(super) struct DebugDirectories {
    roots: Vec<PathBuf>,
    index: OnceLock<Index>,
    read: Mutex<HashMap<PathBuf, Option<Arc<DebugFile>>>>,
    /// The files that were used, or that do not match, with the problem.
    found: Mutex<BTreeMap<PathBuf, Option<String>>>,
}

/// The ELF files in the directories, except those in `.build-id`.
#[derive(Debug, Default)]
struct Index {
    by_build_id: HashMap<String, PathBuf>,
    /// By [`stem`].
    by_stem: HashMap<String, Vec<PathBuf>>,
}

/// A debug file.
#[derive(Debug)]
pub(super) struct DebugFile {
    pub path: PathBuf,
    pub names: ElfNames,
}

impl DebugFile {
    /// A name for an address in the file.
    pub fn found(&self, symbol: String, address: u64) -> Found {
        let named_by = self.path.display().to_string();
        let name = SiteName { symbol, named_by, source: None };
        Found { name, line: Some((Arc::clone(&self.names.info), address)) }
    }
}

impl DebugDirectories {
    pub fn new(roots: &[PathBuf]) -> DebugDirectories {
        DebugDirectories { roots: roots.to_vec(), ..DebugDirectories::default() }
    }

    /// The symbols of a stripped file, from its separate debug file.
    ///
    /// # Errors
    ///
    /// No directory has it, or the file of its name does not match.
    pub fn names_of_stripped(
        &self,
        path: &Path,
        build_id: Option<String>,
        link: Option<DebugLink>,
    ) -> Result<ElfNames, SymbolsError> {
        let mut candidates: Vec<PathBuf> = Vec::new();
        if let Some(id) = &build_id {
            candidates.extend(self.paths_of(id));
        }
        if let Some(link) = &link {
            let parent = std::path::absolute(path).ok();
            let parent = parent.as_deref().and_then(Path::parent).unwrap_or(Path::new("/"));
            let below = parent.strip_prefix("/").unwrap_or(parent);
            let places = self.roots.iter().flat_map(|root| [root.clone(), root.join(below)]);
            candidates.extend(places.map(|place| place.join(&link.name)));
            let stem = stem(&link.name);
            let named = self.index().by_stem.get(&stem).into_iter().flatten();
            let named = named.filter(|path| path.file_name() == Some(link.name.as_os_str()));
            candidates.extend(named.cloned());
        }
        let mut other = None;
        for debug in candidates {
            let Some(found) = open_elf(&debug) else { continue };
            let fits = match (&build_id, found.build_id()) {
                (Some(own), Some(id)) => *own == id,
                _ => link.as_ref().is_some_and(|link| crc_of(&found.file) == Some(link.crc)),
            };
            match ElfNames::read(found) {
                Ok(names) if fits && !names.table.is_empty() => {
                    self.note(&debug, None);
                    return Ok(names);
                }
                _ if !fits => other = other.or(Some(debug)),
                _ => {}
            }
        }
        let path = path.to_owned();
        Err(match (other, self.roots.is_empty()) {
            (Some(debug), _) => SymbolsError::OtherDebugFile { path, debug },
            (None, true) => SymbolsError::Stripped(path),
            (None, false) => SymbolsError::NoDebugFile(path),
        })
    }

    /// The debug file with a build id.
    pub fn by_build_id(&self, id: &str) -> Option<Arc<DebugFile>> {
        self.paths_of(id).into_iter().find_map(|path| {
            let file = self.read(&path)?;
            let fits = file.names.marks.build_id.as_deref() == Some(id);
            self.note(&path, (!fits).then(|| other_build_id(id)));
            fits.then_some(file)
        })
    }

    /// An address of a kernel's code in the debug file with its build id.
    pub fn line_of_kernel(&self, kernel: &Kernel, pc: u64) -> Option<AddressIn> {
        if self.roots.is_empty() {
            return None;
        }
        kernel.name(pc).filter(|name| name.module.is_none())?;
        let names = &self.by_build_id(kernel.build_id()?)?.names;
        let moved = names.marks.load_offset(&names.table, kernel)?;
        Some((Arc::clone(&names.info), pc.wrapping_sub(moved)))
    }

    /// The debug files with the name of a module.
    pub fn by_module(&self, module: &str) -> Vec<Arc<DebugFile>> {
        if self.roots.is_empty() {
            return Vec::new();
        }
        let paths = self.index().by_stem.get(&stem(Path::new(module)));
        paths.into_iter().flatten().filter_map(|path| self.read(path)).collect()
    }

    /// Records that a file was used, or its problem.
    pub fn note(&self, path: &Path, problem: Option<String>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.entry(path.to_owned()).or_insert(problem);
    }

    /// The files that were found, each with its problem if it has one.
    pub fn found(&self) -> Vec<(String, Option<String>)> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.iter().map(|(path, problem)| (path.display().to_string(), problem.clone())).collect()
    }

    /// The files that may have a build id.
    fn paths_of(&self, id: &str) -> Vec<PathBuf> {
        if !BUILD_ID_LENGTHS.contains(&id.len()) {
            return Vec::new();
        }
        let (first, rest) = id.split_at(2);
        let name = format!("{rest}.debug");
        let places = self.roots.iter().flat_map(|root| {
            [root.join(".build-id").join(first).join(&name), root.join(first).join(&name)]
        });
        let mut paths: Vec<PathBuf> = places.filter(|path| path.is_file()).collect();
        if paths.is_empty() {
            paths.extend(self.index().by_build_id.get(id).cloned());
        }
        paths
    }

    fn read(&self, path: &Path) -> Option<Arc<DebugFile>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.get(path) {
            return known.clone();
        }
        (read.len() < MOST_READ).then_some(())?;
        let names = open_elf(path).and_then(|elf| ElfNames::read(elf).ok());
        let file = names.map(|names| Arc::new(DebugFile { path: path.to_owned(), names }));
        read.insert(path.to_owned(), file.clone());
        file
    }

    /// Walks the directories once.
    fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let mut index = Index::default();
            let mut left = MOST_ENTRIES;
            for root in &self.roots {
                walk(root, DEEPEST, &mut left, &mut index);
            }
            index
        })
    }
}

fn other_build_id(id: &str) -> String {
    format!(
        "its build id is not {id}, so its names are not used; replace it by the file with that build id"
    )
}

/// A file's name in lower case, without directories and extension.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

fn walk(directory: &Path, depth: usize, left: &mut usize, index: &mut Index) {
    let Ok(entries) = directory.read_dir() else { return };
    let mut entries: Vec<_> = entries.take(*left).filter_map(Result::ok).collect();
    *left -= entries.len();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if depth > 0 && entry.file_name() != ".build-id" {
                walk(&path, depth - 1, left, index);
            }
        } else if let Some(elf) = open_elf(&path) {
            if let Some(id) = elf.build_id() {
                index.by_build_id.entry(id).or_insert_with(|| path.clone());
            }
            index.by_stem.entry(stem(&path)).or_default().push(path);
        }
    }
}

/// Opens a regular file that is an ELF file for x86.
fn open_elf(path: &Path) -> Option<Elf> {
    let text = path.to_string_lossy().into_owned();
    let file = GuestFile { text, path: path.to_owned(), load_offset: None };
    let file = file.open("name an ELF file").ok()?;
    Elf::has_magic(&file).then(|| Elf::read(file).ok())?
}

/// The CRC-32 of a file's contents, as `.gnu_debuglink` has it.
fn crc_of(file: &File) -> Option<u32> {
    /// The largest file that is read.
    const MOST: u64 = 4 << 30;
    let mut file = file.try_clone().ok()?;
    std::io::Seek::rewind(&mut file).ok()?;
    let mut reader = file.take(MOST);
    let mut crc = crc32fast::Hasher::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match reader.read(&mut piece).ok()? {
            0 => return Some(crc.finalize()),
            len => crc.update(&piece[..len]),
        }
    }
}
