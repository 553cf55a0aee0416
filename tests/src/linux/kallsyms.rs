//! The names and addresses that a kernel gives its own code, in `/proc/kallsyms`.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

use pvio::stats::SiteRow;

use crate::{parse_hex, site_pc, split_symbol};

/// A line of `/proc/kallsyms`.
#[derive(Clone, Debug)]
pub struct KernelSymbol {
    /// The linear address.
    pub address: u64,
    /// The kind, a letter as `nm` prints it.
    pub kind: char,
    /// The name.
    pub name: String,
    /// The module; `None` for the kernel itself.
    pub module: Option<String>,
}

impl KernelSymbol {
    fn parse(line: &str) -> KernelSymbol {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_else(|| panic!("{line}"));
        let (address, kind, name) = (parse_hex(word()), word(), word().to_owned());
        let kind = kind.parse().unwrap_or_else(|_| panic!("{line}"));
        let module = words.next().map(|module| module.trim_matches(['[', ']']).to_owned());
        KernelSymbol { address, kind, name, module }
    }

    /// Returns true if the kind is that of code.
    pub fn is_code(&self) -> bool {
        "tTwW".contains(self.kind)
    }
}

/// A kernel's own list of its symbols, by address. Aliases stay in the order of the list.
#[derive(Debug)]
pub struct Kallsyms {
    symbols: Vec<KernelSymbol>,
    /// The code of the kernel itself.
    code: [Range<u64>; 2],
}

impl Kallsyms {
    /// Reads a copy of `/proc/kallsyms`.
    pub fn read(path: &Path) -> Kallsyms {
        Kallsyms::parse(&std::fs::read_to_string(path).unwrap())
    }

    /// Reads a copy of `/proc/kallsyms` that gzip compressed.
    pub fn unpack(packed: &[u8]) -> Kallsyms {
        let mut gzip = Command::new("gzip")
            .arg("-dc")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("gzip");
        let mut stdin = gzip.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            let writer = scope.spawn(move || stdin.write_all(packed));
            let output = gzip.wait_with_output().unwrap();
            writer.join().unwrap().unwrap();
            output
        });
        assert!(output.status.success());
        Kallsyms::parse(&String::from_utf8(output.stdout).unwrap())
    }

    fn parse(text: &str) -> Kallsyms {
        let mut symbols: Vec<KernelSymbol> = text.lines().map(KernelSymbol::parse).collect();
        symbols.sort_by_key(|symbol| symbol.address);
        let address = |name| address_of(&symbols, name);
        let code = [("_stext", "_etext"), ("_sinittext", "_einittext")];
        let code = code.map(|(start, end)| address(start)..address(end));
        Kallsyms { symbols, code }
    }

    /// All symbols, by address.
    pub fn symbols(&self) -> &[KernelSymbol] {
        &self.symbols
    }

    /// The address of a symbol of the kernel itself.
    ///
    /// # Panics
    ///
    /// If there is no such symbol.
    pub fn address(&self, name: &str) -> u64 {
        address_of(&self.symbols, name)
    }

    /// The name of an address, as the kernel's `%pS` prints it; `None` outside all code.
    pub fn name(&self, address: u64) -> Option<String> {
        let symbol = self.last_symbols(address).iter().find(|symbol| symbol.is_code())?;
        (self.is_kernel(address) || symbol.module.is_some()).then_some(())?;
        let offset = match address - symbol.address {
            0 => String::new(),
            offset => format!("+{offset:#x}"),
        };
        let module = symbol.module.as_ref().map_or(String::new(), |module| format!(" [{module}]"));
        Some(format!("{}{offset}{module}", symbol.name))
    }

    /// Returns true if an address is code of the kernel itself.
    pub fn is_kernel(&self, address: u64) -> bool {
        self.code.iter().any(|code| code.contains(&address))
    }

    /// Returns true if code of the kernel itself is at an address of the other kernel's.
    pub fn overlaps(&self, other: &Kallsyms) -> bool {
        let overlap = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
        self.code.iter().any(|code| other.code.iter().any(|others| overlap(code, others)))
    }

    /// Fails unless a site's name is one of the last symbols of code at or before it.
    #[track_caller]
    pub fn assert_names(&self, site: &SiteRow) {
        let pc = site_pc(site);
        let symbol = site.symbol.as_deref().unwrap_or_else(|| panic!("no name: {site:?}"));
        let (name, offset) = split_symbol(symbol);
        let is_named = |symbol: &KernelSymbol| {
            symbol.is_code() && symbol.name == name && symbol.address + offset == pc
        };
        let symbols = self.last_symbols(pc);
        assert!(symbols.iter().any(is_named), "{site:?}: {symbols:?}");
    }

    /// The symbols at the last address that has some, at or before this one.
    fn last_symbols(&self, address: u64) -> &[KernelSymbol] {
        let end = self.symbols.partition_point(|symbol| symbol.address <= address);
        let Some(last) = self.symbols[..end].last() else { return &[] };
        let start = self.symbols.partition_point(|symbol| symbol.address < last.address);
        &self.symbols[start..end]
    }
}

fn address_of(symbols: &[KernelSymbol], name: &str) -> u64 {
    let found = symbols.iter().find(|symbol| symbol.name == name && symbol.module.is_none());
    found.unwrap_or_else(|| panic!("no {name}")).address
}
