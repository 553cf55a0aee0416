//! The kernel's list of modules, and the symbols of each (Linux's `kernel/module/kallsyms.c`).

use std::ops::Range;

use super::PhysicalMemory;
use super::address_space::AddressSpace;
use super::btf::{self, Structure, Wanted};
use super::names::{Budget, LONGEST_NAME, Names, is_name};

/// How many modules are looked at.
const MOST: usize = 1024;
/// How many symbols one may have.
const MOST_SYMBOLS: u32 = 1 << 16;
/// How much code one may have.
const BIGGEST: u64 = 64 << 20;
/// The longest name of a module: Linux's `MODULE_NAME_LEN`, rounded up.
const LONGEST: usize = 64;

/// `MODULE_STATE_UNFORMED`: it is still being loaded.
const UNFORMED: u32 = 3;

/// Indexes in `module.mem`: `MOD_TEXT` and `MOD_INIT_TEXT`.
const TEXT_OF_MEM: [u64; 2] = [0, 4];

const WANTED: [Wanted; 5] = [
    Wanted {
        name: "module",
        members: &["state", "list", "name", "kallsyms", "mem", "core_layout", "init_layout"],
    },
    Wanted { name: "list_head", members: &["next", "prev"] },
    Wanted { name: "mod_kallsyms", members: &["symtab", "num_symtab", "strtab"] },
    Wanted { name: "module_memory", members: &["base", "size"] },
    Wanted { name: "module_layout", members: &["base", "text_size"] },
];

/// Where the kernel keeps what of its modules.
struct Layout {
    state: u64,
    list: u64,
    next: u64,
    prev: u64,
    name: u64,
    kallsyms: u64,
    symtab: u64,
    num_symtab: u64,
    strtab: u64,
    /// Where in a module the address and the size of each piece of code is.
    code: Vec<(u64, u64)>,
}

impl Layout {
    fn read<M: PhysicalMemory>(space: &AddressSpace<'_, M>, btf: (u64, u64)) -> Option<Layout> {
        let found: [Option<Structure>; 5] =
            btf::structures(space, btf, &WANTED)?.try_into().expect("five were wanted");
        let [module, list_head, mod_kallsyms, module_memory, module_layout] = found;
        let members = |structure: Option<Structure>| {
            let members = structure.map(|structure| structure.members).unwrap_or_default();
            members.into_iter().map(|member| member.map(u64::from)).collect::<Vec<_>>()
        };
        let [state, list, name, kallsyms, mem, core, init] = members(module)[..] else {
            return None;
        };
        let [next, prev] = members(list_head)[..] else { return None };
        let [symtab, num_symtab, strtab] = members(mod_kallsyms)[..] else { return None };
        let stride = module_memory.as_ref().map_or(0, |memory| u64::from(memory.size));
        // `mem` since 6.4, the others before.
        let code = match (mem, &members(module_memory)[..], &members(module_layout)[..]) {
            (Some(mem), &[Some(base), Some(size)], _) => {
                let piece = |index| (mem + index * stride + base, mem + index * stride + size);
                TEXT_OF_MEM.map(piece).to_vec()
            }
            (_, _, &[Some(base), Some(size)]) => {
                [core?, init?].map(|layout| (layout + base, layout + size)).to_vec()
            }
            _ => return None,
        };
        Some(Layout {
            state: state?,
            list: list?,
            next: next?,
            prev: prev?,
            name: name?,
            kallsyms: kallsyms?,
            symtab: symtab?,
            num_symtab: num_symtab?,
            strtab: strtab?,
            code,
        })
    }
}

/// The names of all modules that the list at `head` holds. A broken list ends where it breaks.
pub(super) fn names<M: PhysicalMemory>(
    space: &AddressSpace<'_, M>,
    head: u64,
    btf: (u64, u64),
    budget: &mut Budget,
) -> Option<Vec<Names>> {
    let layout = Layout::read(space, btf)?;
    let mut names = Vec::new();
    let (mut before, mut node) = (head, space.word(head.checked_add(layout.next)?)?);
    for _ in 0..MOST {
        if node == head || space.word(node.wrapping_add(layout.prev)) != Some(before) {
            break;
        }
        let module = Module { space, layout: &layout, at: node.wrapping_sub(layout.list) };
        names.extend(module.names(budget).unwrap_or_default());
        before = node;
        let Some(next) = space.word(node.wrapping_add(layout.next)) else { break };
        node = next;
    }
    Some(names)
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

    fn names(&self, budget: &mut Budget) -> Option<Vec<Names>> {
        if self.space.u32(self.at(self.layout.state))? == UNFORMED {
            return None;
        }
        let mut name = Vec::new();
        self.space.cursor(self.at(self.layout.name)).string(&mut name, LONGEST)?;
        is_name(&name).then_some(())?;
        let name = String::from_utf8(name).ok()?;
        let symbols = self.symbols(&self.code())?;
        let mut all = Vec::new();
        for (range, symbols) in symbols {
            let mut names = Names::new(range, Some(name.clone()));
            for (address, symbol) in &symbols {
                names.push(*address, symbol, budget)?;
            }
            all.push(names.finish());
        }
        Some(all)
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

    /// Its symbols in each of these ranges, sorted, those of one address in the order of the table.
    #[expect(clippy::type_complexity, reason = "two lists in a list")]
    fn symbols(&self, code: &[Range<u64>]) -> Option<Vec<(Range<u64>, Vec<(u64, Vec<u8>)>)>> {
        let (space, layout) = (self.space, self.layout);
        let table = space.word(self.at(layout.kallsyms))?;
        let symbols = space.word(table.wrapping_add(layout.symtab))?;
        let count = space.u32(table.wrapping_add(layout.num_symtab))?;
        let strings = space.word(table.wrapping_add(layout.strtab))?;
        let mut found: Vec<_> = code.iter().map(|range| (range.clone(), Vec::new())).collect();
        let (mut cursor, mut names) = (space.cursor(symbols), space.cursor(strings));
        let mut name = Vec::new();
        for _ in 0..count.min(MOST_SYMBOLS) {
            let symbol = ElfSymbol::read(&mut cursor, space.is_64_bit())?;
            let range = found.iter_mut().find(|(range, _)| range.contains(&symbol.value));
            let Some((_, symbols)) = range.filter(|_| symbol.is_defined) else { continue };
            names.seek(strings.wrapping_add(u64::from(symbol.name)));
            name.clear();
            names.string(&mut name, LONGEST_NAME)?;
            if is_name(&name) && !is_mapping_symbol(&name) {
                symbols.push((symbol.value, name.clone()));
            }
        }
        for (_, symbols) in &mut found {
            symbols.sort_by_key(|&(address, _)| address);
        }
        Some(found)
    }
}

struct ElfSymbol {
    name: u32,
    value: u64,
    is_defined: bool,
}

impl ElfSymbol {
    /// Reads an `Elf64_Sym` or an `Elf32_Sym`.
    fn read<M: PhysicalMemory>(
        cursor: &mut super::address_space::Cursor<'_, '_, M>,
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
