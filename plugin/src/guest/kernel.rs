//! The kernel that runs in a guest, and the names of its code.

use std::collections::HashSet;

use super::address_space::{AddressSpace, Registers};
use super::kallsyms::{Kallsyms, Symbol};
use super::names::{Budget, Name, Names};
use super::vmcoreinfo::VmCoreInfo;
use super::{PhysicalMemory, modules, shape};

/// How many tables of symbols are decoded before the search ends: a guest can hold any number of them.
const ATTEMPTS: usize = 8;

/// A Linux kernel in guest memory.
#[derive(Debug)]
pub struct Kernel {
    release: Option<String>,
    kaslr_offset: Option<u64>,
    stext: u64,
    /// Of the kernel and then of its modules.
    names: Vec<Names>,
}

impl Kernel {
    /// The kernel that the vCPUs run: one of them has it in its page tables, in user mode too.
    pub fn find(memory: &impl PhysicalMemory, vcpus: &[Registers]) -> Option<Kernel> {
        let mut tables = HashSet::new();
        let spaces = vcpus.iter().flat_map(|&registers| AddressSpace::of(memory, registers));
        let spaces: Vec<_> = spaces.filter(|space| tables.insert(space.table())).collect();
        let mut attempts = ATTEMPTS;
        if !spaces.is_empty() {
            for info in VmCoreInfo::search(memory) {
                let maps =
                    |space: &&AddressSpace<'_, _>| info.is_mapped(|linear| space.translate(linear));
                let Some(space) = spaces.iter().find(maps) else { continue };
                attempts = attempts.checked_sub(1)?;
                let kallsyms = Kallsyms::by_info(space, &info);
                if let Some(kernel) = kallsyms.and_then(|it| Kernel::read(space, &it, Some(&info)))
                {
                    return Some(kernel);
                }
            }
        }
        Kernel::by_shape(&spaces, attempts)
    }

    /// A kernel that does not say where its tables are.
    fn by_shape<M: PhysicalMemory>(
        spaces: &[AddressSpace<'_, M>],
        mut attempts: usize,
    ) -> Option<Kernel> {
        let mut images = HashSet::new();
        for space in spaces {
            let Some(image) = shape::image(space) else { continue };
            if !images.insert((image.start, space.translate(image.start))) {
                continue;
            }
            for kallsyms in shape::search(space, image) {
                attempts = attempts.checked_sub(1)?;
                if let Some(kernel) = Kernel::read(space, &kallsyms, None) {
                    return Some(kernel);
                }
            }
        }
        None
    }

    fn read<M: PhysicalMemory>(
        space: &AddressSpace<'_, M>,
        kallsyms: &Kallsyms,
        info: Option<&VmCoreInfo>,
    ) -> Option<Kernel> {
        let mut budget = Budget::new();
        let (names, marks) = read_names(space, kallsyms, &mut budget)?;
        let stext = marks.stext?;
        let physical = space.translate(stext)?;
        let mut kernel = Kernel {
            release: info.and_then(VmCoreInfo::release).map(str::to_owned),
            kaslr_offset: info.and_then(VmCoreInfo::kaslr_offset),
            stext,
            names: vec![names],
        };
        if kernel.release.is_none() {
            kernel.release = marks.banner.and_then(|banner| release(space, banner));
        }

        // The kernel's own table has all of it, which that of a process has only after it was used.
        let table = marks.page_table.and_then(|table| space.translate(table));
        let own = table.map(|table| space.with_table(table));
        let own = own.filter(|own| own.translate(stext) == Some(physical));
        let space = own.as_ref().unwrap_or(space);
        if let (Some(start), Some(stop)) = (marks.btf_start, marks.btf_stop) {
            let list = |&head: &u64| modules::names(space, head, (start, stop), &mut budget);
            kernel.names.extend(marks.modules.iter().find_map(list).unwrap_or_default());
        }
        Some(kernel)
    }

    /// What `uname -r` prints, such as `6.1.0-50-cloud-amd64`.
    pub fn release(&self) -> Option<&str> {
        self.release.as_deref()
    }

    /// How far the kernel runs from where it was linked, if it says so.
    pub fn kaslr_offset(&self) -> Option<u64> {
        self.kaslr_offset
    }

    /// Where its symbol `_stext` is.
    pub fn stext(&self) -> u64 {
        self.stext
    }

    /// The name of code at a linear address, as the kernel's own `%pS` has it.
    pub fn name(&self, address: u64) -> Option<Name<'_>> {
        self.names.iter().find_map(|names| names.name(address))
    }
}

/// Addresses of symbols that are needed for more.
#[derive(Default)]
struct Marks {
    stext: Option<u64>,
    banner: Option<u64>,
    page_table: Option<u64>,
    btf_start: Option<u64>,
    btf_stop: Option<u64>,
    /// More than one file may have a variable of this name.
    modules: Vec<u64>,
}

impl Marks {
    fn note(&mut self, symbol: &Symbol<'_>) {
        let mark = match symbol.name {
            b"_stext" => &mut self.stext,
            b"linux_banner" => &mut self.banner,
            b"init_top_pgt" | b"init_level4_pgt" | b"swapper_pg_dir" => &mut self.page_table,
            b"__start_BTF" => &mut self.btf_start,
            b"__stop_BTF" => &mut self.btf_stop,
            b"modules" if !symbol.is_text() && self.modules.len() < ATTEMPTS => {
                self.modules.push(symbol.address);
                return;
            }
            _ => return,
        };
        *mark = Some(symbol.address);
    }
}

fn read_names<M: PhysicalMemory>(
    space: &AddressSpace<'_, M>,
    kallsyms: &Kallsyms,
    budget: &mut Budget,
) -> Option<(Names, Marks)> {
    // Where the kernel's half begins; what is below are offsets into a processor's own data.
    let lowest = if space.is_64_bit() { 1 << 63 } else { 1 << 30 };
    let mut marks = Marks::default();
    let mut names: Option<Names> = None;
    let mut ended = None;
    let mut last = 0;
    kallsyms.for_each(space, |symbol| {
        marks.note(&symbol);
        let address = symbol.address;
        if address < lowest || names.is_none() && !symbol.is_text() || ended == Some(address) {
            return Some(());
        }
        last = address;
        let names = names.get_or_insert_with(|| {
            let end = address.saturating_add(u64::from(u32::MAX));
            Names::new(address..end, None, kallsyms.count)
        });
        if matches!(symbol.name, b"_etext" | b"_einittext") {
            // What is there is filling.
            names.end(address);
            ended = Some(address);
            return Some(());
        }
        names.push(address, symbol.is_text().then_some(symbol.name), budget)
    })?;
    let mut names = names?;
    // Nothing says where the last one ends: in its page, probably.
    names.push((last | 0xfff).checked_add(1)?, None, budget)?;
    Some((names.finish(), marks))
}

/// The release in `Linux version 5.10.0 (…`.
fn release<M: PhysicalMemory>(space: &AddressSpace<'_, M>, banner: u64) -> Option<String> {
    let mut text = Vec::new();
    space.cursor(banner).string(&mut text, 1024)?;
    let text = String::from_utf8(text).ok()?;
    let release = text.strip_prefix("Linux version ")?.split(' ').next()?;
    release.bytes().all(|byte| byte.is_ascii_graphic()).then(|| release.to_owned())
}
