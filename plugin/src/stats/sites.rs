//! Sites: the port instructions of the guest by address at run time, mode and bytes.
//!
//! Each Linux kernel that a machine boots has its own sites, because one may run at the addresses of another. *Boots*,
//! numbered from 0, distinguish them. A kernel that runs again, because a snapshot of it was loaded, gets its earlier
//! number again.
//!
//! A site is numbered when QEMU first translates it, or when it first runs at another address.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use arrayvec::ArrayVec;
use pvio_stats::Privilege;

use super::access_counters::MAX_OTHER_PORTS;
use super::first_port;
use super::keyed_counters::take_room;
use crate::guest::MappedElf;
use crate::symbols::{MappedFile, Names, SiteName};
use crate::x86::{InsnForm, MAX_INSN_LEN, Mode, Port, Supervisor};

/// Maximum number of sites that get a row of their own: 65,536.
///
/// They take about 11 MiB, and 2 MiB for each vCPU. A Linux boot has about 400.
pub const MAX_SITES: usize = 1 << 16;

/// Maximum number of files by which code is identified. Code in other files is identified by its address.
pub const MAX_FILES: usize = 4096;

/// The identity of a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SiteKey {
    /// The linear address.
    pub pc: u64,
    /// The mode of the code; `None` if QEMU does not say.
    pub mode: Option<Mode>,
    /// The bytes of the instruction, prefixes included.
    pub bytes: ArrayVec<u8, MAX_INSN_LEN>,
}

/// The number of a file that guest code is mapped from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u32);

/// A place in a file that guest code is mapped from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePlace {
    /// The file.
    pub file: FileId,
    /// The offset of the instruction, in bytes.
    pub offset: u64,
}

/// A site and its form.
#[derive(Clone, Debug)]
pub struct Site {
    /// The identity. Of code in a file, the address is that at which it was first seen.
    pub key: SiteKey,
    /// The position of the code in a file. If known, it identifies the site in place of the address.
    pub place: Option<FilePlace>,
    /// The form of the instruction.
    pub form: InsnForm,
    /// The boot of the kernel that runs it.
    pub boot: u32,
}

/// The number of a site's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u32);

/// The identity of a site: boot, file, and a key whose address is the offset in the file.
type Identity = (u32, Option<FileId>, SiteKey);

/// All sites, in the order in which they were found.
///
/// Its one lock serializes [`Sites::enter`]. Reading a site takes no lock.
pub struct Sites {
    /// Read without a lock; written while `numbers` is locked.
    rows: boxcar::Vec<Site>,
    /// For each row, the values that vCPUs compare each time an instruction runs.
    compared: Box<[[AtomicU64; 2]]>,
    /// For each row, the privileges with which it was translated: [`SUPERVISOR`] and [`USER`].
    privileges: Box<[AtomicU8]>,
    /// The number of each known site.
    numbers: Mutex<HashMap<Identity, SiteId>>,
    /// The paths of files.
    files: boxcar::Vec<String>,
    file_numbers: Mutex<HashMap<String, FileId>>,
    /// The identity of each mapped file; `None` if two files had the same path.
    elves: Mutex<HashMap<FileId, Option<MappedElf>>>,
    dropped: AtomicU64,
    /// The boot of the kernel that runs.
    boot: AtomicU32,
    /// The highest boot so far.
    last_boot: AtomicU32,
    /// The names that sites had when their kernel last ended; `None` if they had two.
    names: Mutex<HashMap<SiteId, Option<SiteName>>>,
    /// The number of rows that vCPUs have for ports that are not the first of their site.
    other_ports: AtomicUsize,
}

/// The columns of [`Sites::compared`].
#[derive(Clone, Copy)]
enum Compared {
    /// A copy of the address.
    Address,
    /// The first port that the site accessed, as [`first_port`] stores it.
    FirstPort,
}

/// Bits of [`Sites::privileges`].
const SUPERVISOR: u8 = 1;
const USER: u8 = 2;

impl Default for Sites {
    fn default() -> Sites {
        Sites {
            rows: boxcar::Vec::new(),
            compared: bytemuck::zeroed_slice_box(MAX_SITES),
            privileges: bytemuck::zeroed_slice_box(MAX_SITES),
            numbers: Mutex::default(),
            files: boxcar::Vec::new(),
            file_numbers: Mutex::default(),
            elves: Mutex::default(),
            dropped: AtomicU64::new(0),
            boot: AtomicU32::new(0),
            last_boot: AtomicU32::new(0),
            names: Mutex::default(),
            other_ports: AtomicUsize::new(0),
        }
    }
}

impl Sites {
    /// Returns the number of a site, adding the site if it is new.
    ///
    /// Returns `None` if the site is new and there are [`MAX_SITES`] already.
    ///
    /// At a place in a file, the site is the same at every address at which the file is mapped.
    pub fn enter(
        &self,
        key: SiteKey,
        place: Option<FilePlace>,
        form: impl Into<InsnForm>,
    ) -> Option<SiteId> {
        let form = form.into();
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let boot = self.boot();
        let numbered = match place {
            None => (boot, None, key.clone()),
            Some(FilePlace { file, offset }) => {
                (boot, Some(file), SiteKey { pc: offset, ..key.clone() })
            }
        };
        if let Some(&id) = numbers.get(&numbered) {
            return Some(id);
        }
        if numbers.len() == MAX_SITES {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let pc = key.pc;
        let id = SiteId(self.rows.push(Site { key, place, form, boot }) as u32);
        // Relaxed is enough: the number reaches other threads by the lock or by QEMU's translation.
        self.compared(id, Compared::Address).store(pc, Ordering::Relaxed);
        numbers.insert(numbered, id);
        Some(id)
    }

    /// The site with this number.
    ///
    /// # Panics
    ///
    /// If [`Sites::enter`] did not return the number.
    pub fn get(&self, id: SiteId) -> &Site {
        &self.rows[id.0 as usize]
    }

    /// The linear address of the site with this number, which [`Sites::enter`] returned.
    #[inline]
    pub fn address(&self, id: SiteId) -> u64 {
        self.compared(id, Compared::Address).load(Ordering::Relaxed)
    }

    #[inline]
    fn compared(&self, id: SiteId, column: Compared) -> &AtomicU64 {
        &self.compared[id.0 as usize][column as usize]
    }

    /// The first port that a site accessed on any vCPU; `None` before its first access.
    pub fn first_port(&self, id: SiteId) -> Option<Port> {
        first_port::get(self.compared(id, Compared::FirstPort)).map(Port)
    }

    /// Returns true if a port is the first that the site accesses.
    #[inline]
    pub fn is_first_port(&self, id: SiteId, port: Port) -> bool {
        first_port::is_first(self.compared(id, Compared::FirstPort), port.0)
    }

    /// Reserves a row for a port that is not the first of its site. Returns whether there is room.
    pub(super) fn take_room_for_port(&self) -> bool {
        take_room(&self.other_ports, MAX_OTHER_PORTS)
    }

    /// Enters the same instruction at another address, as [`Sites::enter`].
    pub fn enter_alias(&self, id: SiteId, pc: u64, place: Option<FilePlace>) -> Option<SiteId> {
        let Site { key, form, .. } = self.get(id);
        let alias = self.enter(SiteKey { pc, ..key.clone() }, place, *form)?;
        let privileges = self.privileges[id.0 as usize].load(Ordering::Relaxed);
        self.privileges[alias.0 as usize].fetch_or(privileges, Ordering::Relaxed);
        Some(alias)
    }

    /// Records that QEMU translated the site for code of this privilege, which the translation keeps.
    pub fn translated_for(&self, id: SiteId, privilege: Supervisor) {
        let bit = match privilege {
            Supervisor::Yes => SUPERVISOR,
            Supervisor::No => USER,
        };
        // Relaxed is enough: no other data depends on it.
        self.privileges[id.0 as usize].fetch_or(bit, Ordering::Relaxed);
    }

    /// The privilege of the code at a site; `None` if QEMU does not say.
    pub fn privilege(&self, id: SiteId) -> Option<Privilege> {
        match self.privileges[id.0 as usize].load(Ordering::Relaxed) {
            SUPERVISOR => Some(Privilege::Supervisor),
            USER => Some(Privilege::User),
            0 => None,
            _ => Some(Privilege::Both),
        }
    }

    /// Returns the number of a file, by its path. `None` if it is new and there are [`MAX_FILES`] already.
    pub fn file(&self, path: &str) -> Option<FileId> {
        let mut numbers = self.file_numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&file) = numbers.get(path) {
            return Some(file);
        }
        if numbers.len() == MAX_FILES {
            return None;
        }
        let file = FileId(self.files.push(path.to_owned()) as u32);
        numbers.insert(path.to_owned(), file);
        Some(file)
    }

    /// The path of a file.
    pub fn path(&self, FileId(number): FileId) -> &str {
        &self.files[number as usize]
    }

    /// Records the ELF headers of a mapped file.
    pub fn record_elf(&self, file: FileId, elf: MappedElf) {
        let mut elves = self.elves.lock().unwrap_or_else(PoisonError::into_inner);
        match elves.get_mut(&file) {
            Some(kept) => drop(kept.take_if(|kept| *kept != elf)),
            None => drop(elves.insert(file, Some(elf))),
        }
    }

    /// All sites that have a row, by number.
    pub fn iter(&self) -> impl Iterator<Item = (SiteId, &Site)> {
        self.rows.iter().map(|(row, site)| (SiteId(row as u32), site))
    }

    /// Keeps the names of this boot's sites, as `name` gives them now.
    pub(super) fn keep_names(&self, name: impl Fn(&Site) -> Option<SiteName>) {
        let boot = self.boot();
        let own = self.iter().filter(|(_, site)| site.boot == boot);
        let named: Vec<_> = own.filter_map(|(id, site)| Some((id, name(site)?))).collect();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, name) in named {
            let kept = names.entry(id).or_insert_with(|| Some(name.clone()));
            kept.take_if(|kept| *kept != name);
        }
    }

    /// Starts the boot of a kernel that has not run before.
    ///
    /// QEMU keeps translations of code that is not written anew, such as firmware; these keep their sites.
    pub fn next_boot(&self) {
        // Relaxed is enough: a vCPU that translates at the same time may run code of either kernel.
        let boot = self.last_boot.fetch_add(1, Ordering::Relaxed) + 1;
        self.boot.store(boot, Ordering::Relaxed);
    }

    /// Continues the boot of a kernel that runs again.
    pub fn resume_boot(&self, boot: u32) {
        self.boot.store(boot, Ordering::Relaxed);
    }

    /// The boot of the kernel that runs.
    pub fn boot(&self) -> u32 {
        self.boot.load(Ordering::Relaxed)
    }

    /// The name that a site has in the kernel that ran it.
    pub fn name_in(&self, id: SiteId, names: &Names<'_>) -> Option<SiteName> {
        let site = self.get(id);
        let by_place = site.place.and_then(|FilePlace { file, offset }| {
            let elves = self.elves.lock().unwrap_or_else(PoisonError::into_inner);
            let elf = elves.get(&file).and_then(Option::as_ref);
            let mapped = MappedFile { path: self.path(file), elf };
            names.name_in_file(mapped, offset, &site.key.bytes)
        });
        by_place.or_else(|| self.name(id, || names.name(site.key.pc, &site.key.bytes)))
    }

    /// The same as for [`Sites::name_in`]; `now` gives the name in the kernel that runs.
    ///
    /// A site that had another name when its kernel last ended has none: either may have run.
    fn name(&self, id: SiteId, now: impl FnOnce() -> Option<SiteName>) -> Option<SiteName> {
        let runs = self.get(id).boot == self.boot();
        let now = if runs { now() } else { None };
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match names.get(&id) {
            None => now,
            Some(kept) => agreed(kept, now),
        }
    }

    /// Returns the number of sites that got no row.
    ///
    /// A site counts again when it is translated or looked up again: recognizing it would take the
    /// memory that the limit saves.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The name of what had a name when its kernel last ended, and may have one now. `None` if they differ.
pub(super) fn agreed<N: Clone + PartialEq>(kept: &Option<N>, now: Option<N>) -> Option<N> {
    match now {
        None => kept.clone(),
        Some(now) => kept.as_ref().filter(|kept| **kept == now).cloned(),
    }
}

#[cfg(test)]
mod tests;
