//! The kernel's list of modules, and the symbols of each (Linux's `kernel/module/kallsyms.c`).

mod layout;
mod search;

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use layout::{CodeFields, Layout};
pub(super) use search::head;

use super::PhysicalMemory;
use super::address_space::{AddressSpace, Cursor, Registers};
use super::names::{Budget, LONGEST_NAME, Names, is_name};
use super::unwind::orc;

/// Maximum number of modules that are read.
const MOST: usize = 1024;
/// Maximum size of code in one module, in bytes.
const BIGGEST: u64 = 64 << 20;
/// The longest name of a module in bytes: Linux's `MODULE_NAME_LEN`, rounded up.
const LONGEST: usize = 64;

/// Linux's `MODULE_STATE_UNFORMED`: the module is being loaded or was unloaded.
const UNFORMED: u32 = 3;

/// The list of modules of a kernel.
#[derive(Clone, Debug)]
pub(super) struct ModuleList {
    /// The linear address of the variable `modules`.
    head: u64,
    layout: Layout,
}

/// The names and the unwind tables of all modules that are loaded.
#[derive(Default)]
pub(super) struct Modules {
    pub(super) names: Vec<Names>,
    pub(super) orc: Vec<orc::Table>,
}

/// A piece of a module's code, and its fields in `struct module`.
///
/// The memory of an unloaded module is unmapped, or belongs to another module. So the piece is still loaded if the
/// structure still has the same contents.
#[derive(Debug)]
pub(super) struct LoadedCode {
    /// The name of the module.
    name: String,
    /// Bytes of the structure, by linear address: the name, and the address and the size of the code.
    fields: [(u64, Box<[u8]>); 3],
}

impl LoadedCode {
    pub(super) fn module_name(&self) -> &str {
        &self.name
    }

    /// Returns true if the module is still loaded. `read` fills bytes from a linear address.
    pub(super) fn is_loaded(&self, read: &mut impl FnMut(u64, &mut [u8]) -> bool) -> bool {
        let mut now = [0; LONGEST + 1];
        self.fields.iter().all(|(at, bytes)| {
            let now = &mut now[..bytes.len()];
            read(*at, now) && *now == **bytes
        })
    }

    /// Returns true if [`LoadedCode::is_loaded`] reads an address.
    pub(super) fn reads(&self, linear: u64) -> bool {
        self.fields.iter().any(|&(at, _)| at == linear)
    }
}

impl ModuleList {
    /// Finds out how the list at `head` is laid out. Returns `None` if no list is there.
    pub(super) fn at<M: PhysicalMemory>(
        space: &AddressSpace<'_, M>,
        head: u64,
        btf: Option<(u64, u64)>,
    ) -> Option<ModuleList> {
        let layout = btf.and_then(|btf| Layout::by_btf(space, btf));
        let layout = layout.or_else(|| Layout::by_shape(space, head))?;
        let first = space.word(head.wrapping_add(layout.next))?;
        let is_list = space.word(first.wrapping_add(layout.prev)) == Some(head);
        is_list.then_some(ModuleList { head, layout })
    }

    /// Reads all modules. A broken list ends where it breaks.
    pub(super) fn read<M: PhysicalMemory>(
        &self,
        space: &AddressSpace<'_, M>,
        budget: &mut Budget,
    ) -> Modules {
        let mut modules = Modules::default();
        let _: ControlFlow<()> = self.each(space, |module| {
            modules.names.extend(module.names(budget).unwrap_or_default());
            modules.orc.extend(module.orc());
            ControlFlow::Continue(())
        });
        modules
    }

    /// Names code in a module, as `symbol+0x12 [module]`, by the list as it is now.
    pub(super) fn name<M: PhysicalMemory>(
        &self,
        space: &AddressSpace<'_, M>,
        address: u64,
    ) -> Option<String> {
        let has_it = |module: &Module<'_, '_, M>| {
            module.is_formed() && module.code().any(|(code, _)| code.contains(&address))
        };
        let found = self.each(space, |module| match has_it(&module) {
            true => ControlFlow::Break(module.names(&mut Budget::new())),
            false => ControlFlow::Continue(()),
        });
        let names = found.break_value()??;
        names.iter().find_map(|names| names.name(address)).map(|name| name.to_string())
    }

    /// Calls `visit` with each module, until it breaks off.
    fn each<'a, 'm, M: PhysicalMemory, B>(
        &'a self,
        space: &'a AddressSpace<'m, M>,
        mut visit: impl FnMut(Module<'a, 'm, M>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let layout = &self.layout;
        let (mut before, mut node) = (self.head, space.word(self.head.wrapping_add(layout.next)));
        for _ in 0..MOST {
            let Some(at) = node.filter(|&node| node != self.head) else { break };
            if space.word(at.wrapping_add(layout.prev)) != Some(before) {
                break;
            }
            visit(Module { space, layout, at: at.wrapping_sub(layout.list) })?;
            before = at;
            node = space.word(at.wrapping_add(layout.next));
        }
        ControlFlow::Continue(())
    }
}

/// Names code in the modules that a kernel has loaded at the moment.
#[derive(Clone, Debug)]
pub struct ModuleNamer {
    registers: Registers,
    own_code: Vec<Range<u64>>,
    list: ModuleList,
}

impl ModuleNamer {
    /// Creates a namer. `own_code` is the code of the kernel itself.
    pub(super) fn new(
        registers: Registers,
        own_code: Vec<Range<u64>>,
        list: ModuleList,
    ) -> ModuleNamer {
        ModuleNamer { registers, own_code, list }
    }

    /// Returns true if an address is in the kernel itself.
    pub fn is_in_kernel(&self, address: u64) -> bool {
        self.own_code.iter().any(|code| code.contains(&address))
    }

    /// Names code as `symbol+0x12 [module]`; `None` if no loaded module has it.
    pub fn name(&self, memory: &impl PhysicalMemory, address: u64) -> Option<String> {
        self.list.name(&AddressSpace::of(memory, self.registers), address)
    }
}

struct Module<'a, 'm, M> {
    space: &'a AddressSpace<'m, M>,
    layout: &'a Layout,
    /// The linear address of its structure.
    at: u64,
}

impl<M: PhysicalMemory> Module<'_, '_, M> {
    fn at(&self, place: u64) -> u64 {
        self.at.wrapping_add(place)
    }

    fn is_formed(&self) -> bool {
        self.space.u32(self.at(self.layout.state)).is_some_and(|state| state != UNFORMED)
    }

    /// Its ORC table.
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
        let code: Vec<_> = self.code().collect();
        for ((code, fields), symbols) in self.symbols(&code, budget)? {
            let mut names = Names::new(code, Some(self.loaded_code(&name, fields)?));
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

    /// A word of its `struct mod_kallsyms`.
    fn kallsyms(&self, place: u64) -> Option<u64> {
        let table = self.space.word(self.at(self.layout.kallsyms))?;
        self.space.word(table.wrapping_add(place))
    }

    /// Its pieces of code: the one that stays, and the one that is freed after its initialization.
    fn code(&self) -> impl Iterator<Item = Piece> {
        self.layout.code.iter().filter_map(|&fields| {
            let base = self.space.word(self.at(fields.base))?;
            let size = u64::from(self.space.u32(self.at(fields.size))?);
            let end = base.checked_add(size)?;
            (base != 0 && (1..=BIGGEST).contains(&size)).then_some((base..end, fields))
        })
    }

    /// The fields of the structure that tell whether a piece of code is still loaded.
    fn loaded_code(&self, name: &str, fields: CodeFields) -> Option<Arc<LoadedCode>> {
        let field = |place, size: usize| {
            let mut bytes = vec![0; size].into_boxed_slice();
            self.space.read(self.at(place), &mut bytes)?;
            Some((self.at(place), bytes))
        };
        let word = self.space.word_size() as usize;
        // With the zero byte after it.
        let name_field = field(self.layout.name, name.len() + 1)?;
        let fields = [name_field, field(fields.base, word)?, field(fields.size, 4)?];
        Some(Arc::new(LoadedCode { name: name.to_owned(), fields }))
    }

    /// The symbols in each piece of code, by address. Those of one address are in the order of the table.
    fn symbols(&self, code: &[Piece], budget: &mut Budget) -> Option<Vec<(Piece, Symbols)>> {
        let count = self.kallsyms(self.layout.num_symtab)? as u32;
        budget.module_symbols = budget.module_symbols.checked_sub(count)?;
        let mut cursor = self.space.cursor(self.kallsyms(self.layout.symtab)?);
        let mut found: Vec<_> = code.iter().map(|code| (code.clone(), Vec::new())).collect();
        for _ in 0..count {
            let symbol = ElfSymbol::read(&mut cursor, self.space.is_64_bit())?;
            let piece = found.iter_mut().find(|((code, _), _)| code.contains(&symbol.value));
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

/// A piece of code, and the fields that say where it is.
type Piece = (Range<u64>, CodeFields);

/// The address of each symbol, and the offset of its name.
type Symbols = Vec<(u64, u32)>;

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

/// Returns true if this is a local label of the assembler, which is not a name.
fn is_mapping_symbol(name: &[u8]) -> bool {
    name.starts_with(b".L") || name.starts_with(b"L0\x01") || name.starts_with(b"$")
}
