//! BTF: the kernel's types, for the offsets of members (Linux's `Documentation/bpf/btf.rst`).

use std::collections::HashMap;

use super::PhysicalMemory;
use super::address_space::AddressSpace;

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
/// Maximum size of BTF, in bytes. Debian's kernels have 4 to 6 MB.
const BIGGEST: u64 = 32 << 20;
/// The longest name that is looked up, in bytes.
const LONGEST: usize = 32;

/// Maximum number of anonymous structures that are searched, and maximum depth of their nesting.
const MOST_NAMELESS: usize = 1024;
const DEEPEST: usize = 4;

/// A structure to look up, and its members.
pub(super) struct Wanted<'w> {
    pub(super) name: &'w str,
    pub(super) members: &'w [&'w str],
}

/// The layout of a structure: its members in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Structure {
    pub(super) size: u32,
    /// Offsets in bytes; `None` if the kernel has no such member.
    pub(super) members: Vec<Option<u32>>,
}

/// The linear addresses of the parts of BTF: start and end.
struct Btf {
    types: (u64, u64),
    strings: (u64, u64),
}

/// Looks structures up in the BTF at these addresses. Unknown ones are `None`.
pub(super) fn structures<M: PhysicalMemory>(
    space: &AddressSpace<'_, M>,
    (start, stop): (u64, u64),
    wanted: &[Wanted<'_>],
) -> Option<Vec<Option<Structure>>> {
    let btf = Btf::open(space, start, stop)?;
    let names: Vec<&str> = wanted
        .iter()
        .flat_map(|wanted| wanted.members.iter().chain([&wanted.name]))
        .copied()
        .collect();
    let strings = btf.strings(space, &names)?;
    let place = |name: &str| {
        let index = names.iter().position(|&known| known == name).expect("it is in the list");
        strings[index]
    };
    let wanted: Vec<(Option<u32>, Vec<Option<u32>>)> = wanted
        .iter()
        .map(|wanted| {
            let members = wanted.members.iter().map(|member| place(member)).collect();
            (place(wanted.name), members)
        })
        .collect();
    btf.types(space, &wanted)
}

impl Btf {
    fn open<M: PhysicalMemory>(space: &AddressSpace<'_, M>, start: u64, stop: u64) -> Option<Btf> {
        let size = stop.checked_sub(start).filter(|&size| size <= BIGGEST)?;
        let header: [u8; HEADER] = space.bytes(start)?;
        let word = |at: usize| {
            let bytes = header[at..at + 4].try_into().expect("four bytes");
            u64::from(u32::from_le_bytes(bytes))
        };
        if u16::from_le_bytes([header[0], header[1]]) != MAGIC || header[2] != 1 {
            return None;
        }
        let header_size = word(4);
        let part = |at: usize| {
            let (begin, length) = (header_size + word(at), word(at + 4));
            (begin + length <= size).then(|| (start + begin, start + begin + length))
        };
        Some(Btf { types: part(8)?, strings: part(16)? })
    }

    /// The offset of each string among all strings: types refer to strings by it.
    fn strings<M: PhysicalMemory>(
        &self,
        space: &AddressSpace<'_, M>,
        names: &[&str],
    ) -> Option<Vec<Option<u32>>> {
        let mut found = vec![None; names.len()];
        let mut cursor = space.cursor(self.strings.0);
        let mut string = Vec::new();
        while cursor.position() < self.strings.1 {
            let at = (cursor.position() - self.strings.0) as u32;
            string.clear();
            // Names of generated C++ or Rust types may be long.
            cursor.string(&mut string, 1 << 16)?;
            if string.len() <= LONGEST
                && let Some(index) = names.iter().position(|name| name.as_bytes() == string)
            {
                found[index] = Some(at);
            }
        }
        // Two structures may have members of the same name: only the first of them was found.
        for index in 0..names.len() {
            let first = names.iter().position(|name| name == &names[index]);
            found[index] = found[first.expect("it is itself")];
        }
        Some(found)
    }

    /// Scans all types, and again for each level of anonymous structures.
    ///
    /// Members of an anonymous structure count as those of the structure around it.
    fn types<M: PhysicalMemory>(
        &self,
        space: &AddressSpace<'_, M>,
        wanted: &[(Option<u32>, Vec<Option<u32>>)],
    ) -> Option<Vec<Option<Structure>>> {
        let mut found: Vec<Option<Structure>> = vec![None; wanted.len()];
        let mut nameless = Nameless::new();
        for depth in 0..=DEEPEST {
            let (mut deeper, mut room) = (Nameless::new(), MOST_NAMELESS);
            let mut number = 0;
            let mut cursor = space.cursor(self.types.0);
            while cursor.position() < self.types.1 {
                number += 1;
                let (name, info, size) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
                let (kind, count) = (info >> 24 & 0x1f, u64::from(info & 0xffff));
                let mut outer = Vec::new();
                if depth > 0 && matches!(kind, KIND_STRUCT | KIND_UNION) {
                    outer = nameless.remove(&number).unwrap_or_default();
                } else if depth == 0 && kind == KIND_STRUCT {
                    let mut all = wanted.iter().zip(&found);
                    let index =
                        all.position(|(wanted, found)| wanted.0 == Some(name) && found.is_none());
                    if let Some(index) = index {
                        let members = vec![None; wanted[index].1.len()];
                        found[index] = Some(Structure { size, members });
                        outer.push((index, 0));
                    }
                }
                if outer.is_empty() {
                    cursor.skip(size_of_rest(kind, count)?);
                    continue;
                }
                // With the flag, the upper byte of a place is the width of a bit field.
                let mask = if info >> 31 != 0 { 0x00ff_ffff } else { u32::MAX };
                for _ in 0..count {
                    let (name, kind, place) = (cursor.u32()?, cursor.u32()?, cursor.u32()? & mask);
                    for &(index, start) in &outer {
                        let place = place / 8 + start;
                        if name == 0 && room > 0 {
                            room -= 1;
                            deeper.entry(kind).or_default().push((index, place));
                        }
                        let (names, structure) = (&wanted[index].1, &mut found[index]);
                        let member = names.iter().position(|known| *known == Some(name));
                        if let Some((member, structure)) = member.zip(structure.as_mut()) {
                            structure.members[member].get_or_insert(place);
                        }
                    }
                }
            }
            if deeper.is_empty() {
                break;
            }
            nameless = deeper;
        }
        Some(found)
    }
}

/// Anonymous structures by type number: the indexes of the requested structures around them, and their offsets there.
type Nameless = HashMap<u32, Vec<(usize, u32)>>;

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;

/// The bytes after the first 12 of a type; `None` for an unknown kind.
fn size_of_rest(kind: u32, count: u64) -> Option<u64> {
    Some(match kind {
        1 | 14 | 17 => 4,          // int, variable, tag of a declaration
        2 | 7..=12 | 16 | 18 => 0, // pointer, forward, typedef, qualifiers, function, float, tag
        3 => 12,                   // array
        KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * count, // also sections, enumerations of 64 bits
        6 | 13 => 8 * count,       // enumeration, function prototype
        _ => return None,
    })
}
