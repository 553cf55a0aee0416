//! The kernel's list of modules, and the symbols of each (Linux's `kernel/module/kallsyms.c`).

mod layout;
mod search;

use std::ops::Range;

use layout::Layout;
pub(super) use search::head;

use super::PhysicalMemory;
use super::address_space::{AddressSpace, Cursor};
use super::names::{Budget, LONGEST_NAME, Names, is_name};
use super::unwind::orc;

/// How many modules are looked at.
const MOST: usize = 1024;
/// How much code one may have.
const BIGGEST: u64 = 64 << 20;
/// The longest name of a module: Linux's `MODULE_NAME_LEN`, rounded up.
const LONGEST: usize = 64;

/// `MODULE_STATE_UNFORMED`: it is still being loaded.
const UNFORMED: u32 = 3;

/// What the modules of a kernel have.
#[derive(Default)]
pub(super) struct Modules {
    pub(super) names: Vec<Names>,
    pub(super) orc: Vec<orc::Table>,
}

impl Modules {
    /// Reads all modules that the list at `head` holds; `None` if no list is there. A broken list ends
    /// where it breaks.
    pub(super) fn read<M: PhysicalMemory>(
        space: &AddressSpace<'_, M>,
        head: u64,
        btf: Option<(u64, u64)>,
        budget: &mut Budget,
    ) -> Option<Modules> {
        let layout = btf.and_then(|btf| Layout::by_btf(space, btf));
        let layout = layout.or_else(|| Layout::by_shape(space, head))?;
        let mut modules = Modules::default();
        let next = |node: u64| space.word(node.wrapping_add(layout.next));
        let follows =
            |node: u64, before| space.word(node.wrapping_add(layout.prev)) == Some(before);
        let (mut before, mut node) = (head, next(head)?);
        follows(node, head).then_some(())?;
        for _ in 0..MOST {
            if node == head || !follows(node, before) {
                break;
            }
            let module = Module { space, layout: &layout, at: node.wrapping_sub(layout.list) };
            modules.names.extend(module.names(budget).unwrap_or_default());
            modules.orc.extend(module.orc());
            before = node;
            let Some(after) = next(node) else { break };
            node = after;
        }
        Some(modules)
    }
}

struct Module<'a, 'm, M> {
    space: &'a AddressSpace<'m, M>,
    layout: &'a Layout,
    /// Where its structure is.
    at: u64,
}

impl<M: PhysicalMemory> Module<'_, '_, M> {
    fn at(&self, place: u64) -> u64 {
        self.at.wrapping_add(place)
    }

    fn is_formed(&self) -> bool {
        self.space.u32(self.at(self.layout.state)).is_some_and(|state| state != UNFORMED)
    }

    /// Its table for unwinding.
    fn orc(&self) -> Option<orc::Table> {
        let places = self.layout.orc.filter(|_| self.is_formed())?;
        let word = |place| self.space.word(self.at(place));
        let count = u64::from(self.space.u32(self.at(places.count))?);
        orc::Table::new(word(places.ips)?, word(places.entries)?, count)
    }

    fn names(&self, budget: &mut Budget) -> Option<Vec<Names>> {
        self.is_formed().then_some(())?;
        let mut name = Vec::new();
        self.space.cursor(self.at(self.layout.name)).string(&mut name, LONGEST)?;
        is_name(&name).then_some(())?;
        let name = String::from_utf8(name).ok()?;
        let strings = self.kallsyms(self.layout.strtab)?;
        let mut cursor = self.space.cursor(strings);
        let mut all = Vec::new();
        let mut text = Vec::new();
        for (code, symbols) in self.symbols(&self.code(), budget)? {
            let mut names = Names::new(code, Some(name.clone()));
            for (address, place) in symbols {
                cursor.seek(strings.wrapping_add(u64::from(place)));
                text.clear();
                cursor.string(&mut text, LONGEST_NAME)?;
                if is_name(&text) && !is_mapping_symbol(&text) {
                    names.push(address, &text, budget)?;
                }
            }
            all.push(names.finish());
        }
        Some(all)
    }

    /// A word of the structure that tells of its symbols.
    fn kallsyms(&self, place: u64) -> Option<u64> {
        let table = self.space.word(self.at(self.layout.kallsyms))?;
        self.space.word(table.wrapping_add(place))
    }

    /// Its code: for ever, and that which only its start needs, for as long as it is there.
    fn code(&self) -> Vec<Range<u64>> {
        let range = |&(base, size): &(u64, u64)| {
            let base = self.space.word(self.at(base))?;
            let size = u64::from(self.space.u32(self.at(size))?);
            let end = base.checked_add(size)?;
            (base != 0 && (1..=BIGGEST).contains(&size)).then_some(base..end)
        };
        self.layout.code.iter().filter_map(range).collect()
    }

    /// The addresses of its symbols in each piece of code, sorted, and where their names are. Those of one
    /// address are in the order of the table.
    fn symbols(&self, code: &[Range<u64>], budget: &mut Budget) -> Option<Vec<Symbols>> {
        let count = self.kallsyms(self.layout.num_symtab)? as u32;
        budget.module_symbols = budget.module_symbols.checked_sub(count)?;
        let mut cursor = self.space.cursor(self.kallsyms(self.layout.symtab)?);
        let mut found: Vec<_> = code.iter().map(|code| (code.clone(), Vec::new())).collect();
        for _ in 0..count {
            let symbol = ElfSymbol::read(&mut cursor, self.space.is_64_bit())?;
            let piece = found.iter_mut().find(|(code, _)| code.contains(&symbol.value));
            if let Some((_, symbols)) = piece.filter(|_| symbol.is_defined) {
                symbols.push((symbol.value, symbol.name));
            }
        }
        for (_, symbols) in &mut found {
            symbols.sort_by_key(|&(address, _)| address);
        }
        Some(found)
    }
}

/// A piece of code, and of each symbol the address and the place of the name.
type Symbols = (Range<u64>, Vec<(u64, u32)>);

struct ElfSymbol {
    name: u32,
    value: u64,
    is_defined: bool,
}

impl ElfSymbol {
    /// Reads an `Elf64_Sym` or an `Elf32_Sym`.
    fn read<M: PhysicalMemory>(
        cursor: &mut Cursor<'_, '_, M>,
        is_64_bit: bool,
    ) -> Option<ElfSymbol> {
        let name = cursor.u32()?;
        if is_64_bit {
            let [_info, _other, low, high] = cursor.array()?;
            let value = u64::from_le_bytes(cursor.array()?);
            cursor.skip(8);
            return Some(ElfSymbol { name, value, is_defined: (low, high) != (0, 0) });
        }
        let value = u64::from(cursor.u32()?);
        cursor.skip(4);
        let [_info, _other, low, high] = cursor.array()?;
        Some(ElfSymbol { name, value, is_defined: (low, high) != (0, 0) })
    }
}

/// A mark of the assembler, which the kernel does not name either.
fn is_mapping_symbol(name: &[u8]) -> bool {
    name.starts_with(b".L") || name.starts_with(b"L0\x01") || name.starts_with(b"$")
}
