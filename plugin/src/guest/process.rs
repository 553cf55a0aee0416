//! Finds the process that runs on a processor: Linux's `current`.

mod elf;
mod layout;
mod mappings;

pub use elf::MappedElf;
use layout::Layout;
pub use mappings::Mapping;

use super::PhysicalMemory;
use super::kernel::{CurrentTask, Kernel};

/// Linux's `TASK_COMM_LEN`.
const COMM: usize = 16;
/// Linux's `PF_KTHREAD`.
const KERNEL_THREAD: u32 = 0x0020_0000;
/// Maximum number of processors of a guest.
const MOST_PROCESSORS: u64 = 1024;

/// Finds the processes of one kernel, by its types (BTF) and its names of data.
#[derive(Clone, Debug)]
pub struct Processes {
    layout: Layout,
    current: CurrentTask,
    word_size: usize,
}

/// A thread of a process, or of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The thread's name, as in `/proc/PID/comm`. Unprintable characters are `?`.
    pub comm: String,
    /// The thread's number.
    pub pid: u32,
    /// The process's number, which is that of its first thread.
    pub tgid: u32,
    /// True if it is a kernel thread.
    pub is_kernel_thread: bool,
    /// The address of its `mm_struct`; 0 if it has none.
    mm: u64,
}

/// A thread's name as the kernel stores it, padded with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Comm([u8; COMM]);

impl Comm {
    /// Creates a name, cut to 15 bytes.
    #[cfg(test)]
    pub fn new(text: &str) -> Comm {
        let mut name = [0; COMM];
        name.iter_mut().zip(text.bytes().take(COMM - 1)).for_each(|(to, from)| *to = from);
        Comm(name)
    }

    /// The name, with unprintable characters replaced.
    pub fn text(&self) -> String {
        let length = self.0.iter().position(|&byte| byte == 0).unwrap_or(COMM);
        printable(&self.0[..length])
    }
}

/// The identity of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The thread's name.
    pub comm: Comm,
    /// The thread's number.
    pub pid: u32,
    /// The process's number.
    pub tgid: u32,
}

impl Processes {
    /// Reads the layout of a kernel's structures. Returns `None` if the kernel has no types.
    pub fn find(kernel: &Kernel, memory: &impl PhysicalMemory) -> Option<Processes> {
        let layout = Layout::find(kernel, memory)?;
        Some(Processes { layout, current: kernel.current().clone(), word_size: kernel.word_size() })
    }

    /// The address of the `task_struct` that runs on a processor, by its per-CPU base.
    pub fn task(&self, base: u64, read: &mut impl FnMut(u64, &mut [u8]) -> bool) -> Option<u64> {
        let mut reader = Reader { word_size: self.word_size, read };
        reader.word(reader.wrap(base.wrapping_add(self.current.pointer?)))
    }

    /// Reads the identity of a thread, given its `task_struct`.
    #[inline]
    pub fn identity(
        &self,
        task: u64,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Option<Identity> {
        let mut reader = Reader { word_size: self.word_size, read };
        let mut comm = [0; COMM];
        reader.fill(task.wrapping_add(self.layout.comm), &mut comm)?;
        // The bytes after the end may be of an earlier name.
        let length = comm.iter().position(|&byte| byte == 0)?;
        comm[length..].fill(0);
        let pid = reader.u32(task.wrapping_add(self.layout.pid))?;
        let tgid = reader.u32(task.wrapping_add(self.layout.tgid))?;
        Some(Identity { comm: Comm(comm), pid, tgid })
    }

    /// The thread that runs on a processor.
    ///
    /// One of `bases` must be the per-CPU base: GS's base, `IA32_KERNEL_GS_BASE`, or, in 32-bit kernels, FS's base. `read`
    /// fills bytes from a linear address of the kernel.
    pub fn current(
        &self,
        bases: &[u64],
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Option<Process> {
        let mut reader = Reader { word_size: self.word_size, read };
        let base = self.base(bases, &mut reader)?;
        let task = self.task(base, read)?;
        self.at(task, read)
    }

    /// The first of these addresses that is the per-CPU base of a processor.
    pub fn base_among(
        &self,
        bases: &[u64],
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Option<u64> {
        self.base(bases, &mut Reader { word_size: self.word_size, read })
    }

    /// The per-CPU base of a processor, by its number in the kernel.
    pub fn base_of(
        &self,
        processor: u64,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Option<u64> {
        let mut reader = Reader { word_size: self.word_size, read };
        (processor < MOST_PROCESSORS).then_some(())?;
        let at = self.current.per_cpu_offset?.wrapping_add(processor * self.word_size as u64);
        reader.word(reader.wrap(at)).filter(|&base| base != 0)
    }

    /// The first of these addresses that is in the kernel's table of per-CPU bases.
    fn base<R: FnMut(u64, &mut [u8]) -> bool>(
        &self,
        bases: &[u64],
        reader: &mut Reader<'_, R>,
    ) -> Option<u64> {
        let table = self.current.per_cpu_offset?;
        let mut last = None;
        for processor in 0..MOST_PROCESSORS {
            let at = table.wrapping_add(processor * self.word_size as u64);
            let base = reader.word(reader.wrap(at))?;
            // The kernel gives all processors that are absent the same base.
            if base == 0 || last == Some(base) {
                return None;
            }
            last = Some(base);
            if bases.contains(&base) {
                return Some(base);
            }
        }
        None
    }

    /// Reads the thread whose `task_struct` is at an address.
    pub fn at(&self, task: u64, read: &mut impl FnMut(u64, &mut [u8]) -> bool) -> Option<Process> {
        let mut reader = Reader { word_size: self.word_size, read };
        let layout = &self.layout;
        let mut comm = [0; COMM];
        reader.fill(task.wrapping_add(layout.comm), &mut comm)?;
        let length = memchr::memchr(0, &comm)?;
        let flags = reader.u32(task.wrapping_add(layout.flags))?;
        Some(Process {
            comm: printable(&comm[..length]),
            pid: reader.u32(task.wrapping_add(layout.pid))?,
            tgid: reader.u32(task.wrapping_add(layout.tgid))?,
            is_kernel_thread: flags & KERNEL_THREAD != 0,
            mm: reader.word(task.wrapping_add(layout.mm))?,
        })
    }

    /// The path of the file that a process runs, in its file system.
    pub fn executable(
        &self,
        process: &Process,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Option<String> {
        let mut reader = Reader { word_size: self.word_size, read };
        (process.mm != 0).then_some(())?;
        let file = reader.word(process.mm.wrapping_add(self.layout.exe_file?))?;
        mappings::path(&self.layout, file, &mut reader)
    }

    /// The mapping at an address of a process.
    pub fn mapping(
        &self,
        process: &Process,
        address: u64,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Option<Mapping> {
        let mut reader = Reader { word_size: self.word_size, read };
        (process.mm != 0).then_some(())?;
        mappings::find(&self.layout, process.mm, address, &mut reader)
    }
}

/// Text of the guest, with unprintable characters replaced.
fn printable(bytes: &[u8]) -> String {
    let is_printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    bytes.iter().map(|&byte| if is_printable(byte) { byte as char } else { '?' }).collect()
}

/// Reads the kernel's structures.
struct Reader<'r, R> {
    word_size: usize,
    read: &'r mut R,
}

impl<R: FnMut(u64, &mut [u8]) -> bool> Reader<'_, R> {
    /// Truncates an address to the kernel's width.
    fn wrap(&self, address: u64) -> u64 {
        if self.word_size == 4 { address & 0xffff_ffff } else { address }
    }

    fn fill(&mut self, at: u64, into: &mut [u8]) -> Option<()> {
        (self.read)(at, into).then_some(())
    }

    fn u32(&mut self, at: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.fill(at, &mut bytes)?;
        Some(u32::from_le_bytes(bytes))
    }

    fn word(&mut self, at: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        let size = self.word_size;
        self.fill(at, &mut bytes[..size])?;
        Some(u64::from_le_bytes(bytes))
    }

    /// Reads a string without its zero byte. Returns `None` if it has `most` bytes or more.
    fn string(&mut self, at: u64, most: usize) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < most {
            let mut byte = [0];
            self.fill(at.wrapping_add(text.len() as u64), &mut byte)?;
            if byte == [0] {
                return Some(text);
            }
            text.extend(byte);
        }
        None
    }
}
