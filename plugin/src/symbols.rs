//! Names for addresses, from ELF files and System.map files.

use std::io;
use std::path::{Path, PathBuf};

use object::{Object, ObjectKind, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

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
    /// It is a pipe, a device or a directory.
    #[error("{0} is no regular file; name an ELF file or a System.map")]
    NoFile(PathBuf),
    /// It is an ELF file without any.
    #[error("{0} is an ELF file without symbols of code; name one that was not stripped")]
    Stripped(PathBuf),
    /// Its addresses are not those at which it runs.
    #[error("{0} is an ELF file that is not linked; name the linked one")]
    Relocatable(PathBuf),
    /// It is an ELF file that cannot be read on.
    #[error("{path} is a broken ELF file ({source}); name a whole one")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: object::Error,
    },
    /// It hides the addresses, as `/proc/kallsyms` does from all but root.
    #[error("all addresses in {0} are 0; read it as root")]
    Hidden(PathBuf),
    /// It is something else.
    #[error(
        "{0} is neither an ELF file nor a System.map (lines of address, type and name); \
         of a Linux kernel name vmlinux or its System.map, not vmlinuz"
    )]
    Unknown(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Symbol {
    address: u64,
    /// The first address that is not in it, however many other symbols there are before that.
    end: u64,
    /// Whether the file says so.
    sized: bool,
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
        symbols.sort_by_key(|symbol| (symbol.address, !symbol.sized));
        symbols.dedup_by_key(|symbol| symbol.address);
        Ok(Symbols { symbols })
    }

    /// The symbol that `pc` is in, as `name` or `name+0x12`.
    pub fn name(&self, pc: u64) -> Option<String> {
        let after = self.symbols.partition_point(|symbol| symbol.address <= pc);
        let symbol = &self.symbols[after.checked_sub(1)?];
        if pc >= symbol.end {
            return None;
        }
        Some(match pc - symbol.address {
            0 => symbol.name.clone(),
            offset => format!("{}+{offset:#x}", symbol.name),
        })
    }
}

fn load_one(path: &Path) -> Result<Vec<Symbol>, SymbolsError> {
    let read_error = |source| SymbolsError::Read { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(read_error)?.is_file() {
        return Err(SymbolsError::NoFile(path.to_owned()));
    }
    let contents = std::fs::read(path).map_err(read_error)?;
    if contents.starts_with(&object::elf::ELFMAG) {
        return of_elf(path, &contents);
    }
    let symbols = std::str::from_utf8(&contents).ok().and_then(of_system_map).unwrap_or_default();
    match symbols.last() {
        None => Err(SymbolsError::Unknown(path.to_owned())),
        Some(last) if last.address == 0 => Err(SymbolsError::Hidden(path.to_owned())),
        Some(_) => Ok(symbols),
    }
}

fn of_elf(path: &Path, contents: &[u8]) -> Result<Vec<Symbol>, SymbolsError> {
    let broken = |source| SymbolsError::Broken { path: path.to_owned(), source };
    let file = object::File::parse(contents).map_err(broken)?;
    if file.kind() == ObjectKind::Relocatable {
        return Err(SymbolsError::Relocatable(path.to_owned()));
    }
    let symbols: Vec<Symbol> =
        file.symbols().filter_map(|symbol| code_symbol(&file, &symbol)).collect();
    match symbols.is_empty() {
        true => Err(SymbolsError::Stripped(path.to_owned())),
        false => Ok(symbols),
    }
}

/// A function, or a plain label of assembly code; not what a linker script or an assembler defines.
fn code_symbol(file: &object::File<'_>, symbol: &object::Symbol<'_, '_>) -> Option<Symbol> {
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let is_code = section.kind() == SectionKind::Text
        && matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Label | SymbolKind::Unknown);
    let address = symbol.address();
    let section_end = section.address().checked_add(section.size())?;
    if !is_code || !(section.address()..section_end).contains(&address) {
        return None;
    }
    let (end, sized) = match symbol.size() {
        0 => (section_end, false),
        size => (address.checked_add(size)?, true),
    };
    Some(Symbol { address, end, sized, name: printable(symbol.name().ok()?)? })
}

/// Lines of `ffffffff81000000 T _stext`, as `nm` and `/proc/kallsyms` print them (the former has lines
/// without an address, the latter adds a module's name). `None` when there are other lines.
fn of_system_map(text: &str) -> Option<Vec<Symbol>> {
    let mut symbols = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] | ["U" | "w" | "v", _] => {}
            [address, kind, name, ..] if kind.len() == 1 => {
                let address = u64::from_str_radix(address, 16).ok()?;
                // Data too: a function ends where anything else begins.
                symbols.push((address, matches!(kind, "t" | "T" | "w" | "W"), name));
            }
            _ => return None,
        }
    }
    symbols.sort_by_key(|&(address, is_code, _)| (address, !is_code));
    symbols.dedup_by_key(|&mut (address, ..)| address);
    let next = symbols.iter().skip(1).map(|&(address, ..)| address);
    // Nothing says where the last one ends: in its page, probably.
    let ends = next.chain(symbols.last().map(|&(address, ..)| address | 0xfff));
    let code = symbols.iter().zip(ends).filter(|((_, is_code, _), _)| *is_code);
    let symbol = |(&(address, _, name), end): (&(u64, bool, &str), u64)| {
        Some(Symbol { address, end, sized: false, name: printable(name)? })
    };
    Some(code.filter_map(symbol).collect())
}

/// A name without what would disturb a terminal.
fn printable(name: &str) -> Option<String> {
    let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    (!name.is_empty()).then(|| name.chars().map(clean).collect())
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
        assert_eq!(name(0xffff_ffff_8100_1000), None, "beyond the last one's page");
        assert_eq!(name(0x1000), None);
    }

    #[test]
    fn the_output_of_nm_is_a_map_too() {
        let symbols = load(b"\n                 U printf\n0000000000001000 T main\n").unwrap();
        assert_eq!(symbols.name(0x1004).as_deref(), Some("main+0x4"));
    }

    #[test]
    fn names_do_not_reach_into_the_terminal() {
        let symbols = load("0000000000001000 T \u{1b}[31mred\n".as_bytes()).unwrap();
        assert_eq!(symbols.name(0x1000).as_deref(), Some("\u{fffd}[31mred"));
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
        let error = load(b"MZ\xea\x07\x00\xc0\x07").unwrap_err().to_string();
        assert!(error.contains("not vmlinuz"), "{error}");
        let error = load(b"0000000000000000 T _text\n0000000000000000 t a\n").unwrap_err();
        assert!(error.to_string().contains("read it as root"), "{error}");
        let error = load(b"\x7fELF and no more").unwrap_err().to_string();
        assert!(error.contains("broken ELF file"), "{error}");
        let error = Symbols::load(&["/nonexistent/vmlinux".into()]).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }
}
