//! The layout of `struct module`, which differs between kernels.

use crate::guest::PhysicalMemory;
use crate::guest::address_space::AddressSpace;
use crate::guest::btf::{self, Structure, Wanted};
use crate::x86::PAGE;

/// Indexes in `module.mem`: `MOD_TEXT` and `MOD_INIT_TEXT`.
const TEXT_OF_MEM: [u64; 2] = [0, 4];

const WANTED: [Wanted<'_>; 6] = [
    Wanted {
        name: "module",
        members: &[
            "state",
            "list",
            "name",
            "kallsyms",
            "mem",
            "core_layout",
            "init_layout",
            "arch",
        ],
    },
    Wanted { name: "list_head", members: &["next", "prev"] },
    Wanted { name: "mod_kallsyms", members: &["symtab", "num_symtab", "strtab"] },
    Wanted { name: "module_memory", members: &["base", "size"] },
    Wanted { name: "module_layout", members: &["base", "text_size"] },
    Wanted { name: "mod_arch_specific", members: &["num_orcs", "orc_unwind_ip", "orc_unwind"] },
];

/// The offsets of fields in the structures of modules, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) state: u64,
    pub(super) list: u64,
    pub(super) next: u64,
    pub(super) prev: u64,
    pub(super) name: u64,
    pub(super) kallsyms: u64,
    pub(super) symtab: u64,
    pub(super) num_symtab: u64,
    pub(super) strtab: u64,
    /// The fields of each piece of code.
    pub(super) code: Vec<CodeFields>,
    /// The fields of its ORC table. Only the kernel's types tell them.
    pub(super) orc: Option<OrcPlaces>,
}

/// The offsets of the fields of a piece of code in `struct module`.
#[derive(Clone, Copy, Debug)]
pub(super) struct CodeFields {
    /// A word.
    pub(super) base: u64,
    /// A `u32`.
    pub(super) size: u64,
}

/// The offsets of the fields of a module's ORC table.
#[derive(Clone, Copy, Debug)]
pub(super) struct OrcPlaces {
    pub(super) count: u64,
    pub(super) ips: u64,
    pub(super) entries: u64,
}

impl Layout {
    /// Reads the layout from the kernel's types.
    pub(super) fn by_btf<M: PhysicalMemory>(
        space: &AddressSpace<'_, M>,
        btf: (u64, u64),
    ) -> Option<Layout> {
        let found: [Option<Structure>; 6] =
            btf::structures(space, btf, &WANTED)?.try_into().expect("six were wanted");
        let [module, list_head, mod_kallsyms, module_memory, module_layout, arch] = found;
        let members = |structure: Option<Structure>| {
            let members = structure.map(|structure| structure.members).unwrap_or_default();
            members.into_iter().map(|member| member.map(u64::from)).collect::<Vec<_>>()
        };
        let [state, list, name, kallsyms, mem, core, init, arch_place] = members(module)[..] else {
            return None;
        };
        let [next, prev] = members(list_head)[..] else { return None };
        let [symtab, num_symtab, strtab] = members(mod_kallsyms)[..] else { return None };
        let stride = module_memory.as_ref().map_or(0, |memory| u64::from(memory.size));
        // `mem` since 6.4, the others before.
        let code = match (mem, &members(module_memory)[..], &members(module_layout)[..]) {
            (Some(mem), &[Some(base), Some(size)], _) => {
                let piece = |index| CodeFields {
                    base: mem + index * stride + base,
                    size: mem + index * stride + size,
                };
                TEXT_OF_MEM.map(piece).to_vec()
            }
            (_, _, &[Some(base), Some(size)]) => {
                let piece = |layout| CodeFields { base: layout + base, size: layout + size };
                [core?, init?].map(piece).to_vec()
            }
            _ => return None,
        };
        let orc = match (arch_place, &members(arch)[..]) {
            (Some(arch), &[Some(count), Some(ips), Some(entries)]) => {
                Some(OrcPlaces { count: arch + count, ips: arch + ips, entries: arch + entries })
            }
            _ => None,
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
            orc,
        })
    }

    /// Infers the layout from the modules on the list, for a kernel without types.
    ///
    /// A module begins with its state, its list node and its name. The pointer to its symbol table points to the bytes
    /// after itself, and the symbols are in the module's own memory.
    pub(super) fn by_shape<M: PhysicalMemory>(
        space: &AddressSpace<'_, M>,
        head: u64,
    ) -> Option<Layout> {
        let word = space.word_size();
        let mut node = space.word(head)?;
        for _ in 0..LOOKED_AT {
            if node == head {
                break;
            }
            if let Some(layout) =
                Shape::read(space, node.wrapping_sub(word)).and_then(Shape::layout)
            {
                return Some(layout);
            }
            node = space.word(node)?;
        }
        None
    }
}

/// Maximum number of modules from which the layout is inferred.
const LOOKED_AT: usize = 8;
/// Bytes of each that are read.
const SIZE: usize = 0x800;

/// A `struct module` of which only the beginning is known.
struct Shape {
    at: u64,
    bytes: [u8; SIZE],
    word: u64,
    /// The lowest address of the kernel's half.
    lowest: u64,
}

impl Shape {
    fn read<M: PhysicalMemory>(space: &AddressSpace<'_, M>, at: u64) -> Option<Shape> {
        let mut bytes = [0; SIZE];
        space.read(at, &mut bytes)?;
        Some(Shape { at, bytes, word: space.word_size(), lowest: space.kernel_half() })
    }

    fn u32(&self, place: u64) -> Option<u64> {
        let bytes = self.bytes.get(place as usize..)?.first_chunk()?;
        Some(u64::from(u32::from_le_bytes(*bytes)))
    }

    fn word(&self, place: u64) -> Option<u64> {
        match self.word {
            8 => self
                .bytes
                .get(place as usize..)?
                .first_chunk()
                .map(|bytes| u64::from_le_bytes(*bytes)),
            _ => self.u32(place),
        }
    }

    fn layout(self) -> Option<Layout> {
        let word = self.word;
        let name = 3 * word;
        let mut places = (name + 0x38..SIZE as u64).step_by(word as usize);
        let kallsyms =
            places.find(|&place| self.word(place) == Some(self.at.wrapping_add(place + word)))?;
        let symtab = self.word(kallsyms + word)?;
        let mut places = (name + 0x38..kallsyms).step_by(word as usize);
        let code = places.find_map(|place| self.code(place, symtab))?;
        Some(Layout {
            state: 0,
            list: word,
            next: 0,
            prev: word,
            name,
            kallsyms,
            symtab: 0,
            num_symtab: word,
            strtab: 2 * word,
            code: vec![code],
            orc: None,
        })
    }

    /// Finds the fields of the code, if a place describes the memory with the symbols.
    fn code(&self, place: u64, symtab: u64) -> Option<CodeFields> {
        let data = self.memory(place)?;
        (data.base..data.base.checked_add(data.size)?).contains(&symtab).then_some(())?;
        // In a `module_layout` the size of the code is next, and then that of all read-only memory.
        let (text, read_only) = (place + self.word + 4, place + self.word + 8);
        let (text_size, read_only_size) = (self.u32(text)?, self.u32(read_only)?);
        if text_size != 0 && text_size <= read_only_size && read_only_size <= data.size {
            return Some(CodeFields { base: place, size: text });
        }
        // A `module_memory` of data comes after that of code, and before that of read-only data.
        (2 * self.word..=0x80).step_by(self.word as usize).find_map(|stride| {
            self.memory(place + stride)?;
            let code = self.memory(place.checked_sub(stride)?)?;
            Some(CodeFields { base: place - stride, size: code.size_place })
        })
    }

    /// Reads the address and size at a place. Returns `None` unless they are of whole pages.
    fn memory(&self, place: u64) -> Option<Memory> {
        let base = self.word(place)?;
        // Since 6.13 a flag comes before the size.
        let flag = self.u32(place + self.word)?;
        let size_place = place + self.word + if flag > 1 { 0 } else { 4 };
        let size = self.u32(size_place)?;
        let is_memory = base >= self.lowest && (1..=super::BIGGEST).contains(&size);
        let is_whole = base % PAGE == 0 && size % PAGE == 0;
        (is_memory && is_whole).then_some(Memory { base, size, size_place })
    }
}

/// A piece of a module's memory.
struct Memory {
    base: u64,
    size: u64,
    /// The offset of its size in the structure.
    size_place: u64,
}
