//! The layout of the kernel's structures for processes.

use crate::guest::PhysicalMemory;
use crate::guest::btf::{Structure, Wanted};
use crate::guest::kernel::Kernel;

const WANTED: [Wanted<'_>; 8] = [
    Wanted { name: "task_struct", members: &["comm", "pid", "tgid", "flags", "mm"] },
    Wanted { name: "mm_struct", members: &["exe_file", "mm_mt", "mmap"] },
    Wanted {
        name: "vm_area_struct",
        members: &["vm_start", "vm_end", "vm_file", "vm_pgoff", "vm_next"],
    },
    Wanted { name: "file", members: &["f_path"] },
    Wanted { name: "path", members: &["dentry"] },
    Wanted { name: "dentry", members: &["d_name", "d_parent"] },
    Wanted { name: "qstr", members: &["name"] },
    Wanted { name: "maple_tree", members: &["ma_root"] },
];

/// Offsets of members, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) comm: u64,
    pub(super) pid: u64,
    pub(super) tgid: u64,
    pub(super) flags: u64,
    pub(super) mm: u64,
    /// In an `mm_struct`.
    pub(super) exe_file: Option<u64>,
    pub(super) areas: Option<Areas>,
    pub(super) area: Option<Area>,
    pub(super) path: Option<Path>,
}

/// The container of an address space's areas, as offsets in `mm_struct`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Areas {
    /// The root of a maple tree (since 6.1).
    Tree { root: u64 },
    /// A list (before 6.1): the offset of its first element, and of the next in each.
    List { first: u64, next: u64 },
}

/// Offsets in a `vm_area_struct`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) file: u64,
    pub(super) page: u64,
}

/// The offsets that lead from a `file` to its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// In a `file`.
    pub(super) dentry: u64,
    /// In a `dentry`.
    pub(super) name: u64,
    pub(super) parent: u64,
}

impl Layout {
    pub(super) fn find(kernel: &Kernel, memory: &impl PhysicalMemory) -> Option<Layout> {
        let found: [Option<Structure>; WANTED.len()] =
            kernel.structures(memory, &WANTED)?.try_into().ok()?;
        let [task, mm, area, file, path, dentry, qstr, tree] = found.map(|structure| {
            let members = structure.map(|structure| structure.members).unwrap_or_default();
            members.into_iter().map(|member| member.map(u64::from)).collect::<Vec<_>>()
        });
        let &[Some(comm), Some(pid), Some(tgid), Some(flags), Some(mm_of_task)] = &task[..] else {
            return None;
        };
        let member = |members: &[Option<u64>], index: usize| members.get(index).copied().flatten();
        let sum = |a: Option<u64>, b: Option<u64>| Some(a? + b?);
        let tree = sum(member(&mm, 1), member(&tree, 0)).map(|root| Areas::Tree { root });
        let list = member(&mm, 2).zip(member(&area, 4));
        let list = list.map(|(first, next)| Areas::List { first, next });
        let area = match area[..] {
            [Some(start), Some(end), Some(file), Some(page), _] => {
                Some(Area { start, end, file, page })
            }
            _ => None,
        };
        let path = || {
            Some(Path {
                dentry: sum(member(&file, 0), member(&path, 0))?,
                name: sum(member(&dentry, 0), member(&qstr, 0))?,
                parent: member(&dentry, 1)?,
            })
        };
        Some(Layout {
            comm,
            pid,
            tgid,
            flags,
            mm: mm_of_task,
            exe_file: member(&mm, 0),
            areas: tree.or(list),
            area,
            path: path(),
        })
    }
}
