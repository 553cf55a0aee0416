//! The process under which an access is counted.

use std::sync::Arc;

use crate::processes::{ProcessReader, Running};
use crate::stats::{FilePlace, ProcessTable, ProcessUse, Sites};

/// The longest path of a file by which code is identified. It is limited because the guest chooses paths.
const LONGEST_PATH: usize = 1024;

/// Finds the processes that one thread of vCPUs runs.
pub(super) struct VcpuProcesses {
    reader: ProcessReader,
    table: Arc<ProcessTable>,
    sites: Arc<Sites>,
    /// The last result: the kernel's boot, the process, and its counters.
    last: Option<(u32, Running, ProcessUse)>,
}

impl VcpuProcesses {
    /// Enters processes into `table`. `sites` has the boot of the kernel that runs.
    pub fn new(
        reader: ProcessReader,
        table: Arc<ProcessTable>,
        sites: Arc<Sites>,
    ) -> VcpuProcesses {
        VcpuProcesses { reader, table, sites, last: None }
    }

    /// Returns the counters for the instruction that is about to run.
    pub fn find(&mut self) -> ProcessUse {
        let Some(running) = self.reader.running() else { return ProcessUse::UNKNOWN };
        let boot = self.sites.boot();
        match self.last {
            Some((of_boot, was, process)) if (of_boot, was) == (boot, running) => process,
            _ => {
                let process = self.table.find(boot, running);
                self.last = Some((boot, running, process));
                process
            }
        }
    }

    /// Returns where user code at an address is in a file, by the mappings of the process that runs now.
    pub fn place(&mut self, pc: u64) -> Option<FilePlace> {
        let (mapping, elf) = self.reader.mapping(pc)?;
        let path = mapping.path.filter(|path| path.len() <= LONGEST_PATH)?;
        let file = self.sites.file(&path)?;
        if let Some(elf) = elf {
            self.sites.record_elf(file, elf);
        }
        let offset = mapping.file_offset.wrapping_add(pc - mapping.start);
        Some(FilePlace { file, offset })
    }
}
