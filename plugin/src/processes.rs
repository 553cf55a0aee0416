//! Finds the owner of the code that a vCPU runs: a Linux process, or an address space.
//!
//! Linux's `current` is read from guest memory each time, because the guest may switch in between. The per-CPU bases that
//! lead to it are looked up once for each kernel.

mod memory;

use std::fmt;
use std::sync::Arc;

use crate::guest::{Comm, MappedElf, Mapping, Processes};
use crate::qemu::{GuestRam, RamPages, TaskState, TaskStateReader};
use crate::running_kernel::{KernelView, RunningKernel};
use crate::x86::{Cr0, PAGE};
use memory::KernelMemory;

/// The owner of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A process of the running Linux kernel: its user code, or the kernel on its behalf.
    Process {
        /// The process's number, which all its threads have in common.
        pid: u32,
        /// The thread's name.
        comm: Comm,
    },
    /// An address space, if no process is known: CR3 without its low bits.
    AddressSpace(u64),
    /// Code without paging.
    Unpaged,
}

/// Prints `PID/COMM`, the address of the page table, or `unpaged`.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Process { pid, comm } => write!(f, "{pid}/{}", comm.text()),
            Owner::AddressSpace(table) => write!(f, "{table:#x}"),
            Owner::Unpaged => f.write_str("unpaged"),
        }
    }
}

/// The owner and privilege of the code that a vCPU runs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its owner.
    pub owner: Owner,
    /// True if it is user code.
    pub is_user: bool,
}

/// The sources from which vCPUs find processes.
pub struct ProcessFinder {
    /// The kernel whose processes are found.
    pub kernel: Arc<RunningKernel>,
    /// The guest's memory.
    pub ram: Arc<GuestRam>,
    /// The state of vCPUs.
    pub states: TaskStateReader,
}

impl ProcessFinder {
    /// Creates a reader, for one vCPU thread at a time.
    pub fn reader(&self) -> ProcessReader {
        ProcessReader {
            kernel: KernelView::new(Arc::clone(&self.kernel)),
            running: Arc::clone(&self.kernel),
            states: self.states,
            pages: Some(RamPages::new(Arc::clone(&self.ram))),
            known: None,
            generation: 0,
            table: None,
        }
    }
}

/// Finds the process on the calling thread's vCPU. Use it only in QEMU's callbacks.
pub struct ProcessReader {
    kernel: KernelView,
    running: Arc<RunningKernel>,
    states: TaskStateReader,
    /// `None` while `known` holds them.
    pages: Option<RamPages>,
    known: Option<Known>,
    generation: u64,
    /// The page table (CR3) at the last request for a search.
    table: Option<u64>,
}

/// A kernel's processes, and the cached addresses that lead to them.
struct Known {
    processes: Processes,
    memory: KernelMemory,
    /// The per-CPU bases that were seen.
    bases: Vec<u64>,
}

impl ProcessReader {
    /// The code that runs now; `None` outside a vCPU's thread.
    pub fn running(&mut self) -> Option<Running> {
        let state = self.states.read()?;
        Some(Running { owner: self.owner(&state), is_user: state.cpl == 3 })
    }

    fn owner(&mut self, state: &TaskState) -> Owner {
        if !Cr0::from_bits_retain(state.paging.cr0).contains(Cr0::PAGING) {
            return Owner::Unpaged;
        }
        let process = if state.is_plain { self.process(state) } else { None };
        process.unwrap_or(Owner::AddressSpace(state.paging.cr3 & !(PAGE - 1)))
    }

    fn process(&mut self, state: &TaskState) -> Option<Owner> {
        let known = self.known(state.paging.cr3)?;
        let identity = known.task(state).and_then(|task| known.identity(task))?;
        Some(Owner::Process { pid: identity.tgid, comm: identity.comm })
    }

    /// The mapping at an address of the running user code, and its ELF headers.
    pub fn mapping(&mut self, address: u64) -> Option<(Mapping, Option<MappedElf>)> {
        let state = self.states.read()?;
        (state.cpl == 3 && state.is_plain).then_some(())?;
        let known = self.known(state.paging.cr3)?;
        let task = known.task(&state)?;
        let Known { processes, memory, .. } = known;
        let mut read = |at: u64, into: &mut [u8]| memory.read(at, into);
        let process = processes.at(task, &mut read)?;
        let mapping = processes.mapping(&process, address, &mut read)?;
        // Linkers put a file's code as far from its first page in memory as in the file.
        let first = mapping.start.wrapping_sub(mapping.file_offset);
        let is_first = match mapping.file_offset {
            0 => true,
            _ => processes
                .mapping(&process, first, &mut read)
                .is_some_and(|found| found.file_offset == 0 && found.path == mapping.path),
        };
        let mut page = vec![0; PAGE as usize];
        let can_read = is_first && memory.read_user(state.paging, first, &mut page);
        let elf = if can_read { MappedElf::parse(&page) } else { None };
        Some((mapping, elf))
    }

    #[inline]
    fn known(&mut self, table: u64) -> Option<&mut Known> {
        // Search in user code, too: the kernel itself may make no access.
        if self.kernel.known().is_none() {
            if self.table.replace(table) != Some(table) {
                self.kernel.uses_new_table();
            }
            self.kernel.search();
        }
        if self.kernel.generation() != self.generation {
            self.look();
        }
        self.known.as_mut()
    }

    /// Reads the layout of a kernel that became known.
    #[cold]
    fn look(&mut self) {
        self.generation = self.kernel.generation();
        if let Some(known) = self.known.take() {
            self.pages = Some(known.memory.into_pages());
        }
        let Some(kernel) = self.kernel.known() else { return };
        let Some(processes) = Processes::find(kernel, self.running.memory()) else { return };
        let pages = self.pages.take().expect("they are here or in what was known");
        let memory = KernelMemory::new(pages, kernel.registers());
        self.known = Some(Known { processes, memory, bases: Vec::new() });
    }
}

impl Known {
    /// The address of the `task_struct` of the thread that runs.
    #[inline]
    fn task(&mut self, state: &TaskState) -> Option<u64> {
        let candidates = [state.gs_base, state.kernel_gs_base, state.fs_base];
        let Known { processes, memory, bases } = self;
        let mut read = |at: u64, into: &mut [u8]| memory.read(at, into);
        let known = candidates.iter().find(|base| bases.contains(base));
        let base = match known {
            Some(&base) => base,
            None => {
                let base = processes.base_among(&candidates, &mut read)?;
                bases.push(base);
                base
            }
        };
        processes.task(base, &mut read)
    }

    #[inline]
    fn identity(&mut self, task: u64) -> Option<crate::guest::Identity> {
        let memory = &mut self.memory;
        self.processes.identity(task, &mut |at, into| memory.read(at, into))
    }
}
