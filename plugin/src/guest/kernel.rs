//! The kernel that runs in a guest, and the names of its code.

use std::collections::HashSet;
use std::ops::Range;

use super::address_space::{AddressSpace, Registers};
use super::btf::{self, Structure, Wanted};
use super::kallsyms::{Kallsyms, Symbol};
use super::modules::Modules;
use super::names::{Budget, Name, Names};
use super::unwind::orc;
use super::vmcoreinfo::VmCoreInfo;
use super::{PhysicalMemory, modules, shape};
use crate::x86::PAGE;

/// How many tables of symbols are decoded before the search ends: a guest can hold any number of them.
const ATTEMPTS: usize = 8;
/// How many images, of different vCPUs, are searched for tables.
const IMAGES: usize = 4;
/// How many variables named `modules` are tried.
const MODULES: usize = 8;

/// A Linux kernel in guest memory.
#[derive(Debug)]
pub struct Kernel {
    identity: KernelIdentity,
    build_id: Option<String>,
    kaslr_offset: Option<u64>,
    /// Its code that is freed after initialization, if it says where that is.
    initialization: Option<Range<u64>>,
    /// Of the kernel and then of its modules.
    names: Vec<Names>,
    /// What the kernel translates its own addresses by.
    registers: Registers,
    orc: Option<orc::Tables>,
    /// Where its types are.
    btf: Option<(u64, u64)>,
    current: CurrentTask,
}

/// What tells a kernel in memory from others.
///
/// Two boots of the same kernel to the same place are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelIdentity {
    /// `None` if the kernel does not say it.
    release: Option<String>,
    /// Where `_stext` is, linear and physical.
    stext: (u64, u64),
    /// How many symbols it has.
    symbols: usize,
}

/// Where a processor keeps the task that runs on it.
#[derive(Clone, Debug, Default)]
pub(super) struct CurrentTask {
    /// The pointer, in the data of a processor.
    pub(super) pointer: Option<u64>,
    /// The table of where each processor's data are.
    pub(super) per_cpu_offset: Option<u64>,
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

    /// Registers by which a kernel may be found that a vCPU left a moment ago, as before `kexec` does.
    ///
    /// The vCPU's own table has no kernel any more. The kernel may be mapped by `last_tables`, which vCPUs used
    /// before; and those of 6.0 and newer say where their own table is.
    pub fn left(
        memory: &impl PhysicalMemory,
        vcpus: &[Registers],
        last_tables: &[u64],
    ) -> Vec<Registers> {
        let Some(&vcpu) = vcpus.iter().find(|vcpu| vcpu.is_paging()) else { return Vec::new() };
        let infos = VmCoreInfo::search(memory);
        let own = infos.filter_map(|info| info.page_table()).take(IMAGES);
        let tables = last_tables.iter().copied().chain(own);
        tables.map(|cr3| Registers { cr3, ..vcpu }).collect()
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
            if images.len() > IMAGES {
                break;
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
        let marks = Marks::read(space, kallsyms)?;
        let (stext, etext) = (marks.stext?, marks.etext?);
        // Code comes first in an image, and the tables with other data after it.
        let is_image = stext % PAGE == 0 && stext < etext && etext <= kallsyms.names;
        is_image.then_some(())?;
        // The kernel's own table has all of it, which that of a process has only after it was used.
        let table = info.and_then(|info| info.symbol("swapper_pg_dir")).or(marks.page_table);
        let own = match table {
            Some(table) => Some(space.with_table(space.translate(table)?)),
            None => None,
        };
        let runs = own.as_ref().is_none_or(|own| maps_the_same(own, space, stext));
        runs.then_some(())?;
        let release = || marks.banner.and_then(|banner| release(space, banner));
        let identity = KernelIdentity {
            release: info.and_then(VmCoreInfo::release).map(str::to_owned).or_else(release),
            stext: (stext, space.translate(stext)?),
            symbols: kallsyms.count,
        };
        let mut kernel = Kernel {
            identity,
            build_id: info.and_then(VmCoreInfo::build_id).map(str::to_owned),
            kaslr_offset: info.and_then(VmCoreInfo::kaslr_offset),
            initialization: marks.sinittext.zip(marks.einittext).map(|(start, end)| start..end),
            registers: own.as_ref().unwrap_or(space).registers(),
            names: read_names(space, kallsyms, &marks.code(), &mut budget)?,
            orc: None,
            btf: marks.btf_start.zip(marks.btf_stop),
            current: CurrentTask {
                // 6.2 to 6.14 have the pointer first in a structure.
                pointer: marks.current_task.or(marks.pcpu_hot),
                per_cpu_offset: marks.per_cpu_offset,
            },
        };
        let space = own.as_ref().unwrap_or(space);
        let btf = kernel.btf;
        let list = |&head: &u64| Modules::read(space, head, btf, &mut budget);
        let lists = match &marks.modules[..] {
            [] => &Vec::from_iter(modules::head(space, etext)),
            named => named,
        };
        let modules = lists.iter().find_map(list).unwrap_or_default();
        kernel.names.extend(modules.names);
        kernel.orc = marks.orc().and_then(|table| orc::Tables::read(space, table));
        if let Some(orc) = &mut kernel.orc {
            orc.add_modules(modules.orc);
        }
        Some(kernel)
    }

    /// What `uname -r` prints, such as `6.1.0-50-cloud-amd64`.
    pub fn release(&self) -> Option<&str> {
        self.identity.release.as_deref()
    }

    /// What tells it from other kernels.
    pub fn identity(&self) -> &KernelIdentity {
        &self.identity
    }

    /// The build id of its image, in hexadecimal, if it says it (since 5.9).
    pub fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    /// Where the symbols of its own code begin, without modules.
    pub fn starts(&self) -> impl Iterator<Item = u64> {
        self.names.iter().filter(|names| names.is_of_kernel()).flat_map(Names::starts)
    }

    /// How far the kernel runs from where it was linked, if it says so.
    pub fn kaslr_offset(&self) -> Option<u64> {
        self.kaslr_offset
    }

    /// Where its symbol `_stext` is.
    pub fn stext(&self) -> u64 {
        self.identity.stext.0
    }

    /// Whether the kernel has these bytes at a linear address now; `None` if nothing is mapped there.
    pub fn has_bytes(
        &self,
        memory: &impl PhysicalMemory,
        address: u64,
        bytes: &[u8],
    ) -> Option<bool> {
        let mut found = vec![0; bytes.len()];
        self.read_linear(memory, address, &mut found).then(|| found == bytes)
    }

    /// Whether code at a linear address is in memory that the kernel frees after its initialization.
    pub fn is_initialization(&self, address: u64) -> bool {
        self.initialization.as_ref().is_some_and(|code| code.contains(&address))
    }

    /// The name of code at a linear address, as the kernel's own `%pS` has it.
    pub fn name(&self, address: u64) -> Option<Name<'_>> {
        self.names.iter().find_map(|names| names.name(address))
    }

    /// Fills `into` from a linear address of the kernel's half, by the kernel's own page table.
    pub fn read_linear(&self, memory: &impl PhysicalMemory, linear: u64, into: &mut [u8]) -> bool {
        let spaces = AddressSpace::of(memory, self.registers);
        spaces.first().is_some_and(|space| space.read(linear, into).is_some())
    }

    /// Where members are in a structure of the kernel's, in bytes, by its types (BTF). `None` for what is
    /// not a member.
    pub fn members<const N: usize>(
        &self,
        memory: &impl PhysicalMemory,
        structure: &str,
        members: [&str; N],
    ) -> Option<[Option<u32>; N]> {
        let wanted = [Wanted { name: structure, members: &members }];
        let found = self.structures(memory, &wanted)?.pop()??;
        found.members.try_into().ok()
    }

    /// What the kernel translates its own addresses by.
    pub fn registers(&self) -> Registers {
        self.registers
    }

    /// Looks structures up in the kernel's types.
    pub(super) fn structures(
        &self,
        memory: &impl PhysicalMemory,
        wanted: &[Wanted<'_>],
    ) -> Option<Vec<Option<Structure>>> {
        let space = AddressSpace::of(memory, self.registers).into_iter().next()?;
        btf::structures(&space, self.btf?, wanted)
    }

    /// Where a processor keeps the task that runs on it.
    pub(super) fn current(&self) -> &CurrentTask {
        &self.current
    }

    /// Bytes of an address.
    pub(super) fn word_size(&self) -> usize {
        if self.stext() >> 32 == 0 { 4 } else { 8 }
    }

    /// Whether an address is in the tables for unwinding.
    pub(super) fn has_tables_at(&self, linear: u64) -> bool {
        self.orc.as_ref().is_some_and(|orc| orc.contains(linear))
    }

    /// Tables for unwinding.
    pub(super) fn orc(&self) -> Option<&orc::Tables> {
        self.orc.as_ref()
    }
}

/// Whether a table has the kernel's half of what is mapped: its code, and the highest page that there is.
///
/// A kernel that ran before a reset may be left in memory, whole. In a 32-bit kernel both are mapped, as is
/// most of RAM; the fixed mappings at the end are of the kernel that runs.
fn maps_the_same<M: PhysicalMemory>(
    own: &AddressSpace<'_, M>,
    running: &AddressSpace<'_, M>,
    stext: u64,
) -> bool {
    /// How many pages at the end there can be one in.
    const PAGES: u64 = 4096;
    let top = if own.is_64_bit() { u64::MAX } else { u64::from(u32::MAX) };
    let mut pages = (0..PAGES).map(|page| top - page * PAGE);
    let highest = pages.find(|&page| running.translate(page).is_some());
    let same = |linear| own.translate(linear) == running.translate(linear);
    same(stext) && highest.is_none_or(same)
}

/// Addresses of symbols that are needed for more.
#[derive(Default)]
struct Marks {
    stext: Option<u64>,
    etext: Option<u64>,
    sinittext: Option<u64>,
    einittext: Option<u64>,
    banner: Option<u64>,
    page_table: Option<u64>,
    btf_start: Option<u64>,
    btf_stop: Option<u64>,
    orc_ips: Option<u64>,
    orc_ips_end: Option<u64>,
    orc_entries: Option<u64>,
    current_task: Option<u64>,
    pcpu_hot: Option<u64>,
    per_cpu_offset: Option<u64>,
    /// More than one file may have a variable of this name.
    modules: Vec<u64>,
}

impl Marks {
    fn read<M: PhysicalMemory>(space: &AddressSpace<'_, M>, kallsyms: &Kallsyms) -> Option<Marks> {
        let mut marks = Marks::default();
        kallsyms.for_each(
            space,
            |_| true,
            |symbol| {
                marks.note(&symbol);
                Some(())
            },
        )?;
        Some(marks)
    }

    fn note(&mut self, symbol: &Symbol<'_>) {
        let mark = match symbol.name {
            b"_stext" => &mut self.stext,
            b"_etext" => &mut self.etext,
            b"_sinittext" => &mut self.sinittext,
            b"_einittext" => &mut self.einittext,
            b"linux_banner" => &mut self.banner,
            b"init_top_pgt" | b"init_level4_pgt" | b"swapper_pg_dir" => &mut self.page_table,
            b"__start_BTF" => &mut self.btf_start,
            b"__stop_BTF" => &mut self.btf_stop,
            b"__start_orc_unwind_ip" => &mut self.orc_ips,
            b"__stop_orc_unwind_ip" => &mut self.orc_ips_end,
            b"__start_orc_unwind" => &mut self.orc_entries,
            b"current_task" => &mut self.current_task,
            b"pcpu_hot" => &mut self.pcpu_hot,
            b"__per_cpu_offset" => &mut self.per_cpu_offset,
            b"modules" => {
                if self.modules.len() < MODULES {
                    self.modules.push(symbol.address);
                }
                return;
            }
            _ => return,
        };
        *mark = Some(symbol.address);
    }

    fn orc(&self) -> Option<orc::Table> {
        let size = self.orc_ips_end?.checked_sub(self.orc_ips?)?;
        orc::Table::new(self.orc_ips?, self.orc_entries?, size / 4)
    }

    /// Where the kernel's code is: the kind of a symbol does not tell it (in 7.3 data is `T`, too).
    fn code(&self) -> Vec<Range<u64>> {
        let ends = [(self.stext, self.etext), (self.sinittext, self.einittext)];
        ends.iter().filter_map(|&(start, end)| Some(start?..end?)).collect()
    }
}

/// The names of the kernel's own code.
fn read_names<M: PhysicalMemory>(
    space: &AddressSpace<'_, M>,
    kallsyms: &Kallsyms,
    code: &[Range<u64>],
    budget: &mut Budget,
) -> Option<Vec<Names>> {
    let mut names: Vec<Names> = code.iter().map(|code| Names::new(code.clone(), None)).collect();
    let wants = |address| code.iter().any(|code| code.contains(&address));
    kallsyms.for_each(space, wants, |symbol| {
        match names.iter_mut().find(|names| names.has(symbol.address)) {
            Some(names) if symbol.is_text() => names.push(symbol.address, symbol.name, budget),
            _ => Some(()),
        }
    })?;
    Some(names.into_iter().map(Names::finish).collect())
}

/// The release in `Linux version 5.10.0 (…`.
fn release<M: PhysicalMemory>(space: &AddressSpace<'_, M>, banner: u64) -> Option<String> {
    let mut text = Vec::new();
    space.cursor(banner).string(&mut text, 1024)?;
    let text = String::from_utf8(text).ok()?;
    let release = text.strip_prefix("Linux version ")?.split(' ').next()?;
    release.bytes().all(|byte| byte.is_ascii_graphic()).then(|| release.to_owned())
}
