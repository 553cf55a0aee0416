//! What a process has mapped where.

use super::layout::{Areas, Layout};
use super::{Reader, printable};
use crate::x86::PAGE;

/// How many areas of a list are looked at: Linux's `vm.max_map_count`, rounded up.
const MOST_AREAS: usize = 1 << 16;
/// How deep a maple tree is, at most.
const DEEPEST: usize = 16;
/// How many directories a file may be in, and the longest name in each (Linux's `NAME_MAX`).
const MOST_DIRECTORIES: usize = 64;
const LONGEST_NAME: usize = 255;

/// A mapped range of a process's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// The address after its last.
    pub end: u64,
    /// Where its first byte is in the file.
    pub file_offset: u64,
    /// The file's path in its file system; `None` if no file is mapped.
    pub path: Option<String>,
}

/// The mapping that an address is in.
pub(super) fn find<R: FnMut(u64, &mut [u8]) -> bool>(
    layout: &Layout,
    mm: u64,
    address: u64,
    reader: &mut Reader<'_, R>,
) -> Option<Mapping> {
    let area = match layout.areas? {
        Areas::Tree { root } => in_tree(mm.wrapping_add(root), address, reader)?,
        Areas::List { first, next } => {
            let end = layout.area?.end;
            let mut area = reader.word(mm.wrapping_add(first))?;
            let mut left = MOST_AREAS;
            while reader.word(area.wrapping_add(end))? <= address {
                left = left.checked_sub(1)?;
                area = reader.word(area.wrapping_add(next))?;
            }
            area
        }
    };
    let places = layout.area?;
    let start = reader.word(area.wrapping_add(places.start))?;
    let end = reader.word(area.wrapping_add(places.end))?;
    (start..end).contains(&address).then_some(())?;
    let page = reader.word(area.wrapping_add(places.page))?;
    let file = reader.word(area.wrapping_add(places.file))?;
    Some(Mapping {
        start,
        end,
        file_offset: page.wrapping_mul(PAGE),
        path: if file == 0 { None } else { path(layout, file, reader) },
    })
}

/// What a maple tree has at an index (Linux's `lib/maple_tree.c`). Only 64-bit kernels' nodes are known.
fn in_tree<R: FnMut(u64, &mut [u8]) -> bool>(
    root: u64,
    index: u64,
    reader: &mut Reader<'_, R>,
) -> Option<u64> {
    const LEAF: u64 = 1;
    const RANGE: u64 = 2;
    const ALLOCATION_RANGE: u64 = 3;
    /// A node's address, without its type and flags.
    const NODE: u64 = !0xff;
    (reader.word_size == 8).then_some(())?;
    let mut entry = reader.word(root)?;
    for _ in 0..DEEPEST {
        let kind = entry >> 3 & 15;
        let slots = match kind {
            LEAF | RANGE => 16,
            ALLOCATION_RANGE => 10,
            _ => return None,
        };
        let node = entry & NODE;
        // A node is its parent, one pivot less than slots, and the slots.
        let pivots = node.wrapping_add(8);
        let mut slot = 0;
        while slot < slots - 1 {
            let pivot = reader.word(pivots.wrapping_add(8 * slot))?;
            // A pivot of 0 after the first means that there are no more.
            if index <= pivot || pivot == 0 && slot > 0 {
                break;
            }
            slot += 1;
        }
        let slot_at = pivots.wrapping_add(8 * (slots - 1 + slot));
        entry = reader.word(slot_at)?;
        if kind == LEAF {
            return (entry != 0).then_some(entry);
        }
    }
    None
}

/// The path of a `file` in its file system.
pub(super) fn path<R: FnMut(u64, &mut [u8]) -> bool>(
    layout: &Layout,
    file: u64,
    reader: &mut Reader<'_, R>,
) -> Option<String> {
    let places = layout.path?;
    let mut dentry = reader.word(file.wrapping_add(places.dentry))?;
    let mut names = Vec::new();
    for _ in 0..MOST_DIRECTORIES {
        let parent = reader.word(dentry.wrapping_add(places.parent))?;
        if parent == dentry {
            names.reverse();
            return Some(names.concat());
        }
        let name = reader.word(dentry.wrapping_add(places.name))?;
        names.push(format!("/{}", printable(&reader.string(name, LONGEST_NAME + 1)?)));
        dentry = parent;
    }
    None
}
