//! The code and the symbols of an ELF file, read without the plugin's reader.

use std::collections::BTreeMap;
use std::path::Path;

use object::{Object, ObjectSection, ObjectSymbol, SectionKind};
use pvio::stats::SiteRow;
use pvio_tests::{site_bytes, site_pc, split_symbol};

/// The code and the symbols of an ELF file.
pub(super) struct ElfCode {
    /// Address and bytes of each section of code.
    sections: Vec<(u64, Vec<u8>)>,
    /// Address and size of each symbol, by name.
    symbols: BTreeMap<String, Vec<(u64, u64)>>,
}

impl ElfCode {
    pub(super) fn read(path: &Path) -> ElfCode {
        let contents = std::fs::read(path).unwrap();
        let file = object::File::parse(&*contents).unwrap();
        let code = file.sections().filter(|section| section.kind() == SectionKind::Text);
        let sections = code.map(|section| (section.address(), section.data().unwrap().to_vec()));
        let sections = sections.collect();
        let mut symbols: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        for symbol in file.symbols().filter(|symbol| symbol.section_index().is_some()) {
            let range = (symbol.address(), symbol.size());
            symbols.entry(symbol.name().unwrap().to_owned()).or_default().push(range);
        }
        ElfCode { sections, symbols }
    }

    /// The code from an address to the end of its section; `None` if no section contains the address.
    pub(super) fn code_at(&self, pc: u64) -> Option<&[u8]> {
        self.sections.iter().find_map(|(start, bytes)| {
            let offset = usize::try_from(pc.checked_sub(*start)?).ok()?;
            (offset < bytes.len()).then(|| &bytes[offset..])
        })
    }

    /// Fails unless a site has a name exactly if the file covers it, and the name is right.
    ///
    /// A right name's symbol covers the site, no symbol starts in between, and the file has the site's
    /// instruction at its address.
    #[track_caller]
    pub(super) fn check(&self, site: &SiteRow) {
        let pc = site_pc(site);
        let Some(code) = self.code_at(pc) else {
            assert_eq!(site.symbol, None, "{site:?}");
            return;
        };
        assert!(code.starts_with(&site_bytes(site)), "{site:?}");
        let symbol = site.symbol.as_deref().unwrap_or_else(|| panic!("no name: {site:?}"));
        let (name, offset) = split_symbol(symbol);
        let covers =
            |&(address, size): &(u64, u64)| address + offset == pc && (size == 0 || offset < size);
        assert!(self.symbols[name].iter().any(covers), "{site:?}");
        let is_between =
            |&&(address, size): &&(u64, u64)| size == 0 && address > pc - offset && address <= pc;
        assert_eq!(self.symbols.values().flatten().find(is_between), None, "{site:?}");
    }
}
