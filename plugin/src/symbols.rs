//! Names for addresses, from ELF files and System.map files.

use std::io;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

/// A file that no symbols can be taken from.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}; name an ELF file or a System.map")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is an ELF file without any.
    #[error("{0} is an ELF file without symbols; name one that was not stripped")]
    Stripped(PathBuf),
    /// It is something else.
    #[error(
        "{0} is neither an ELF file nor a System.map (lines of address, type and name); name one of these"
    )]
    Unknown(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Symbol {
    address: u64,
    /// Where it ends, if the file says.
    end: Option<u64>,
    name: String,
}

/// Names of code, by linear address.
#[derive(Debug, Default)]
pub struct Symbols {
    /// Sorted by address.
    symbols: Vec<Symbol>,
}

impl Symbols {
    /// All symbols of the files together.
    pub fn load(paths: &[PathBuf]) -> Result<Symbols, SymbolsError> {
        let mut symbols = Vec::new();
        for path in paths {
            symbols.extend(load_one(path)?);
        }
        // Of several names for an address the first that is sized, so that it is the function's.
        symbols.sort_by_key(|symbol| (symbol.address, symbol.end.is_none()));
        symbols.dedup_by_key(|symbol| symbol.address);
        Ok(Symbols { symbols })
    }

    /// The symbol that `pc` is in, as `name` or `name+0x12`.
    pub fn name(&self, pc: u64) -> Option<String> {
        let after = self.symbols.partition_point(|symbol| symbol.address <= pc);
        let symbol = &self.symbols[after.checked_sub(1)?];
        if symbol.end.is_some_and(|end| pc >= end) {
            return None;
        }
        Some(match pc - symbol.address {
            0 => symbol.name.clone(),
            offset => format!("{}+{offset:#x}", symbol.name),
        })
    }
}

fn load_one(path: &Path) -> Result<Vec<Symbol>, SymbolsError> {
    let contents = std::fs::read(path)
        .map_err(|source| SymbolsError::Read { path: path.to_owned(), source })?;
    match object::File::parse(&*contents) {
        Ok(file) => {
            let symbols = of_object(&file);
            match symbols.is_empty() {
                true => Err(SymbolsError::Stripped(path.to_owned())),
                false => Ok(symbols),
            }
        }
        Err(_) => std::str::from_utf8(&contents)
            .ok()
            .and_then(of_system_map)
            .filter(|symbols| !symbols.is_empty())
            .ok_or_else(|| SymbolsError::Unknown(path.to_owned())),
    }
}

fn of_object(file: &object::File<'_>) -> Vec<Symbol> {
    file.symbols()
        .filter(|symbol| symbol.is_definition() && is_code(file, symbol))
        .filter_map(|symbol| {
            let address = symbol.address();
            let end = (symbol.size() > 0).then(|| address + symbol.size());
            let name = symbol.name().ok().filter(|name| !name.is_empty())?.to_owned();
            Some(Symbol { address, end, name })
        })
        .collect()
}

/// Functions, and the plain labels of assembly code.
fn is_code(file: &object::File<'_>, symbol: &object::Symbol<'_, '_>) -> bool {
    let in_text = || {
        let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
        section.is_some_and(|section| section.kind() == SectionKind::Text)
    };
    match symbol.kind() {
        SymbolKind::Text => true,
        SymbolKind::Label | SymbolKind::Unknown => in_text(),
        _ => false,
    }
}

/// Lines of `ffffffff81000000 T _stext`, as `nm` and `/proc/kallsyms` print them (the latter adds a
/// module's name).
fn of_system_map(text: &str) -> Option<Vec<Symbol>> {
    let mut symbols = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let (kind, name) = (words.next()?, words.next()?);
        // Data too: a function ends where anything else begins.
        if kind.len() == 1 {
            symbols.push((address, matches!(kind, "t" | "T" | "w" | "W"), name));
        }
    }
    symbols.sort_by_key(|&(address, is_code, _)| (address, !is_code));
    symbols.dedup_by_key(|&mut (address, ..)| address);
    let ends = symbols.iter().skip(1).map(|&(address, ..)| Some(address)).chain([None]);
    Some(
        symbols
            .iter()
            .zip(ends)
            .filter(|((_, is_code, _), _)| *is_code)
            .map(|(&(address, _, name), end)| Symbol { address, end, name: name.to_owned() })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "\
ffffffff81000000 T startup_64
ffffffff81000050 t outb
ffffffff81000050 T native_outb
ffffffff81000060 D a_table
ffffffff81000080 T last
";

    fn load(contents: &[u8]) -> Result<Symbols, SymbolsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, contents).unwrap();
        Symbols::load(&[file.path().to_owned()])
    }

    #[test]
    fn a_system_map_names_code_and_only_code() {
        let symbols = load(MAP.as_bytes()).unwrap();
        let name = |pc| symbols.name(pc);
        assert_eq!(name(0xffff_ffff_8100_0000).as_deref(), Some("startup_64"));
        assert_eq!(name(0xffff_ffff_8100_0051).as_deref(), Some("outb+0x1"));
        assert_eq!(name(0xffff_ffff_8100_0061), None, "inside a_table");
        assert_eq!(name(0xffff_ffff_8100_0090).as_deref(), Some("last+0x10"));
        assert_eq!(name(0x1000), None);
    }

    #[test]
    fn an_elf_file_names_its_functions() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let symbols = load(&own).unwrap();
        let main = symbols.symbols.iter().find(|symbol| symbol.name == "main").unwrap();
        assert_eq!(symbols.name(main.address).as_deref(), Some("main"));
    }

    #[test]
    fn other_files_are_refused_with_what_would_be_right() {
        let error = load(b"hello, world\n").unwrap_err().to_string();
        assert!(error.contains("neither an ELF file nor a System.map"), "{error}");
        assert!(load(b"").is_err());
        let error = Symbols::load(&["/nonexistent/vmlinux".into()]).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }
}
