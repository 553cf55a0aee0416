//! Finds what a process has mapped at an address.

use super::layout::{Areas, Layout};
use super::{Reader, printable};
use crate::x86::PAGE;

/// Maximum number of areas of a list: Linux's `vm.max_map_count`, rounded up.
const MOST_AREAS: usize = 1 << 16;
/// Maximum number of levels of a maple tree.
const DEEPEST: usize = 16;
/// Maximum number of directories in a path.
const MOST_DIRECTORIES: usize = 64;
/// The longest name in a directory, in bytes: Linux's `NAME_MAX`.
const LONGEST_NAME: usize = 255;

/// A mapped range of a process's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// The address after its last.
    pub end: u64,
    /// The offset of its first byte in the file.
    pub file_offset: u64,
    /// The file's path in its file system; `None` if no file is mapped.
    pub path: Option<String>,
}

/// Finds the mapping that contains an address.
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

/// Looks an index up in a maple tree of a 64-bit kernel (Linux's `lib/maple_tree.c`).
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
        // A node has its parent, the pivots, which are one fewer than the slots, and the slots.
        let pivots = node.wrapping_add(8);
        let mut slot = 0;
        while slot < slots - 1 {
            let pivot = reader.word(pivots.wrapping_add(8 * slot))?;
            // A pivot of 0 after the first ends the list.
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
