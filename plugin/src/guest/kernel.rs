//! Finds the kernel that runs in a guest, and names its code.

mod symbols;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::address_space::{AddressSpace, Registers};
use super::btf::{self, Structure, Wanted};
use super::kallsyms::Kallsyms;
use super::modules::{LoadedCode, ModuleList, ModuleNamer};
use super::names::{Budget, Name, Names};
use super::unwind::orc;
use super::vmcoreinfo::VmCoreInfo;
use super::{PhysicalMemory, modules, shape};
use crate::x86::PAGE;
use symbols::{Marks, read_names, release};

/// Maximum number of symbol tables that are decoded. A guest can hold any number of them.
const ATTEMPTS: usize = 8;
/// Maximum number of images, of different vCPUs, that are searched for tables.
const IMAGES: usize = 4;
/// A Linux kernel in guest memory.
#[derive(Debug)]
pub struct Kernel {
    identity: KernelIdentity,
    build_id: Option<String>,
    kaslr_offset: Option<u64>,
    /// The code that the kernel frees after its initialization, if it is known.
    initialization: Option<Range<u64>>,
    /// The names of the kernel, then those of its modules.
    names: Vec<Names>,
    /// The paging registers for the kernel's own page table.
    registers: Registers,
    orc: Option<orc::Tables>,
    /// `None` if it has none, or if their layout is unknown.
    modules: Option<ModuleList>,
    /// The start and end of its types (BTF).
    btf: Option<(u64, u64)>,
    current: CurrentTask,
}

/// The identity of a kernel in memory.
///
/// Two boots of one kernel at the same addresses are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelIdentity {
    /// `None` if it is not known.
    release: Option<String>,
    /// The linear and the physical address of `_stext`.
    stext: (u64, u64),
    /// The number of its symbols.
    symbols: usize,
}

/// Addresses that lead to a processor's `current`.
#[derive(Clone, Debug, Default)]
pub(super) struct CurrentTask {
    /// The offset of the pointer from a per-CPU base.
    pub(super) pointer: Option<u64>,
    /// The table of per-CPU bases.
    pub(super) per_cpu_offset: Option<u64>,
}

impl Kernel {
    /// Finds the kernel that the vCPUs run, through their page tables. Works in user mode, too.
    pub fn find(memory: &impl PhysicalMemory, vcpus: &[Registers]) -> Option<Kernel> {
        let mut tables = HashSet::new();
        let spaces = vcpus
            .iter()
            .flat_map(|&registers| AddressSpace::that_may_have_kernel(memory, registers));
        let spaces: Vec<_> = spaces.filter(|space| tables.insert(space.table())).collect();
        let mut attempts = ATTEMPTS;
        if !spaces.is_empty() {
            for info in VmCoreInfo::search(memory).filter(VmCoreInfo::has_symbol_table) {
                let maps =
                    |space: &&AddressSpace<'_, _>| info.is_mapped(|linear| space.translate(linear));
                for space in spaces.iter().filter(maps) {
                    attempts = attempts.checked_sub(1)?;
                    let kallsyms = Kallsyms::by_info(space, &info);
                    let kernel = kallsyms.and_then(|it| Kernel::read(space, &it, Some(&info)));
                    if kernel.is_some() {
                        return kernel;
                    }
                }
            }
        }
        Kernel::by_shape(&spaces, attempts)
    }

    /// Paging registers for finding the kernel that a vCPU left a moment ago.
    ///
    /// In `kexec`, a vCPU leaves one kernel before it starts another.
    /// The vCPU's current page table no longer maps the old kernel. `last_tables`, which vCPUs used before, may still map
    /// it, unless their processes ended. VMCOREINFO also has the address of a 64-bit kernel's own page table.
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

    /// Finds a kernel whose VMCOREINFO does not have the address of its symbol table.
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
        // A process's page table may lack parts of the kernel until they are used.
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
            modules: None,
            btf: marks.btf_start.zip(marks.btf_stop),
            current: CurrentTask {
                // In 6.2 to 6.14 the pointer is the first member of a structure.
                pointer: marks.current_task.or(marks.pcpu_hot),
                per_cpu_offset: marks.per_cpu_offset,
            },
        };
        let space = own.as_ref().unwrap_or(space);
        let btf = kernel.btf;
        let lists = match &marks.modules[..] {
            // The search takes a tenth of a second if it finds nothing.
            [] if marks.loads_modules => &Vec::from_iter(modules::head(space, etext)),
            named => named,
        };
        kernel.modules = lists.iter().find_map(|&head| ModuleList::at(space, head, btf));
        let modules = kernel.modules.as_ref().map(|list| list.read(space, &mut budget));
        let modules = modules.unwrap_or_default();
        kernel.names.extend(modules.names);
        kernel.orc = marks.orc().and_then(|table| orc::Tables::read(space, table));
        if let Some(orc) = &mut kernel.orc {
            orc.add_modules(modules.orc);
        }
        Some(kernel)
    }

    /// The release that `uname -r` prints, such as `6.1.0-50-cloud-amd64`.
    pub fn release(&self) -> Option<&str> {
        self.identity.release.as_deref()
    }

    /// The identity of the kernel.
    pub fn identity(&self) -> &KernelIdentity {
        &self.identity
    }

    /// The build id of its image, in hexadecimal, if VMCOREINFO has it (since 5.9).
    pub fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    /// The addresses of the symbols of its own code, without modules.
    pub fn starts(&self) -> impl Iterator<Item = u64> {
        self.names.iter().filter(|names| names.module().is_none()).flat_map(Names::starts)
    }

    /// The distance in bytes from the linked to the run-time address, if VMCOREINFO has it.
    pub fn kaslr_offset(&self) -> Option<u64> {
        self.kaslr_offset
    }

    /// The linear address of its symbol `_stext`.
    pub fn stext(&self) -> u64 {
        self.identity.stext.0
    }

    /// Returns whether these bytes are at a linear address now; `None` if nothing is mapped there.
    pub fn has_bytes(
        &self,
        memory: &impl PhysicalMemory,
        address: u64,
        bytes: &[u8],
    ) -> Option<bool> {
        let mut found = vec![0; bytes.len()];
        self.read_linear(memory, address, &mut found).then(|| found == bytes)
    }

    /// Returns true if a linear address is in code that the kernel frees after its initialization.
    pub fn is_initialization(&self, address: u64) -> bool {
        self.initialization.as_ref().is_some_and(|code| code.contains(&address))
    }

    /// The name of code at a linear address, as the kernel's own `%pS` has it.
    pub fn name(&self, address: u64) -> Option<Name<'_>> {
        self.names.iter().find_map(|names| names.name(address))
    }

    /// Names code as [`Kernel::name`], but not in a module that was unloaded. `read` reads linear addresses.
    pub(super) fn name_if_loaded(
        &self,
        address: u64,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Option<Name<'_>> {
        let names = self.names.iter().find(|names| names.has(address))?;
        let is_loaded = names.module().is_none_or(|module| module.is_loaded(read));
        names.name(address).filter(|_| is_loaded)
    }

    /// The module that had code at an address when the kernel was read.
    pub(super) fn module_at(&self, address: u64) -> Option<&Arc<LoadedCode>> {
        self.names.iter().find(|names| names.has(address))?.module()
    }

    /// Returns a namer of code in modules; `None` if the list of modules was not found.
    pub fn module_namer(&self) -> Option<ModuleNamer> {
        let own = self.names.iter().filter(|names| names.module().is_none());
        let own_code = own.map(|names| names.code().clone()).collect();
        Some(ModuleNamer::new(self.registers, own_code, self.modules.clone()?))
    }

    /// Fills `into` from a linear address of the kernel, by its own page table.
    pub fn read_linear(&self, memory: &impl PhysicalMemory, linear: u64, into: &mut [u8]) -> bool {
        AddressSpace::of(memory, self.registers).read(linear, into).is_some()
    }

    /// The offsets of members of a structure, in bytes, by the kernel's types (BTF). Unknown members are `None`.
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

    /// The paging registers for the kernel's own page table.
    pub fn registers(&self) -> Registers {
        self.registers
    }

    /// Looks structures up in the kernel's types.
    pub(super) fn structures(
        &self,
        memory: &impl PhysicalMemory,
        wanted: &[Wanted<'_>],
    ) -> Option<Vec<Option<Structure>>> {
        btf::structures(&AddressSpace::of(memory, self.registers), self.btf?, wanted)
    }

    /// The addresses that lead to `current`.
    pub(super) fn current(&self) -> &CurrentTask {
        &self.current
    }

    /// The size of an address in bytes.
    pub(super) fn word_size(&self) -> usize {
        if self.stext() >> 32 == 0 { 4 } else { 8 }
    }

    /// Returns true if an address is in a table for unwinding.
    pub(super) fn has_table_at(&self, linear: u64) -> bool {
        self.orc.as_ref().is_some_and(|orc| orc.contains(linear))
    }

    /// Returns true if unwinding reads an address to see if a module is still loaded.
    pub(super) fn describes_module_at(&self, linear: u64) -> bool {
        self.names.iter().filter_map(Names::module).any(|module| module.reads(linear))
    }

    /// The ORC tables; `None` if the kernel has none.
    pub(super) fn orc(&self) -> Option<&orc::Tables> {
        self.orc.as_ref()
    }
}

/// Returns true if two page tables map the kernel's code and the highest page alike.
///
/// A kernel that ran before a reset may still be in memory. A 32-bit kernel maps most of RAM, so the code of both is
/// mapped, but the fixed mappings at the end belong to the kernel that runs.
fn maps_the_same<M: PhysicalMemory>(
    own: &AddressSpace<'_, M>,
    running: &AddressSpace<'_, M>,
    stext: u64,
) -> bool {
    /// The pages at the end of which one is mapped.
    const PAGES: u64 = 4096;
    let top = if own.is_64_bit() { u64::MAX } else { u64::from(u32::MAX) };
    let mut pages = (0..PAGES).map(|page| top - page * PAGE);
    let highest = pages.find(|&page| running.translate(page).is_some());
    let same = |linear| own.translate(linear) == running.translate(linear);
    same(stext) && highest.is_none_or(same)
}
