//! Finds the Linux kernel that a symbol file describes in guest memory, with its KASLR offset.
//!
//! A kernel relocates itself at boot (KASLR), in physical memory and in its address space. The image
//! stays contiguous and aligned to 2 MiB. So `linux_banner` has a known offset in some 2 MiB block,
//! and `sys_call_table` has the same distance from it as in the file. Each entry of that table is the
//! address of a function. If the first entries, which spread over the whole kernel, all differ from
//! functions of the file by one offset, the kernel matches, and that is its KASLR offset.

use vm_memory::Bytes;

use super::table::Table;
use crate::qemu::GuestRam;

/// Guest memory by physical address.
pub trait Memory: Send + Sync {
    /// Fills the buffer. Returns false if there is no memory at the address.
    fn read(&self, physical: u64, bytes: &mut [u8]) -> bool;
}

impl Memory for GuestRam {
    fn read(&self, physical: u64, bytes: &mut [u8]) -> bool {
        let len = bytes.len();
        self.with(physical, len, |memory| memory.read_slice(bytes, 0).is_ok()).unwrap_or(false)
    }
}

/// The alignment of a kernel image in bytes.
const STEP: u64 = 2 << 20;
/// The number of steps to search: 64 GiB.
const STEPS: u64 = 32 << 10;
const BANNER: &[u8] = b"Linux version ";
/// The number of system calls to compare. They include the network's, which is linked almost last.
const CALLS: usize = 110;
/// Names of system call 0 in 64-bit kernels. `FIRST_32` is the same for 32-bit kernels.
const FIRST_64: [&[u8]; 3] = [b"__x64_sys_read", b"sys_read", b"SyS_read"];
const FIRST_32: [&[u8]; 2] = [b"__ia32_sys_restart_syscall", b"sys_restart_syscall"];

/// The addresses in a file that identify a kernel.
#[derive(Debug, Default)]
pub(super) struct Marks {
    stext: Option<u64>,
    etext: Option<u64>,
    banner: Option<u64>,
    calls: Option<u64>,
    first_64: Vec<u64>,
    first_32: Vec<u64>,
}

/// A kernel found in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// The KASLR offset in bytes: run-time address minus address in the file.
    pub load_offset: u64,
    /// Physical address minus address in the file, in bytes.
    pub physical_offset: u64,
}

impl Marks {
    /// Records a symbol's address if the symbol identifies a kernel.
    pub fn record(&mut self, name: &[u8], address: u64) {
        match name {
            b"_stext" => self.stext = Some(address),
            b"_etext" => self.etext = Some(address),
            b"linux_banner" => self.banner = Some(address),
            b"sys_call_table" => self.calls = Some(address),
            name if FIRST_64.contains(&name) => self.first_64.push(address),
            name if FIRST_32.contains(&name) => self.first_32.push(address),
            _ => {}
        }
    }

    /// Whether the file describes a Linux kernel.
    pub fn are_linux(&self) -> bool {
        self.banner.is_some() || self.stext.is_some() && self.etext.is_some()
    }

    /// Whether the marks suffice to identify a kernel in memory.
    pub fn are_enough(&self) -> bool {
        self.banner.is_some() && self.calls.is_some()
    }

    /// Whether an address in the file is in the text that the kernel never frees.
    pub fn is_text(&self, address: u64) -> bool {
        let (Some(start), Some(end)) = (self.stext, self.etext) else { return false };
        (start..end).contains(&address)
    }

    /// Finds all matching kernels. A reboot may leave an old image in memory.
    pub fn find(&self, table: &Table, memory: &dyn Memory) -> Vec<Image> {
        let (Some(banner), Some(calls)) = (self.banner, self.calls) else { return Vec::new() };
        let image = |step: u64| {
            let physical = step * STEP + banner % STEP;
            let mut start = [0; BANNER.len()];
            if !memory.read(physical, &mut start) || start != BANNER {
                return None;
            }
            let offset = physical.wrapping_sub(banner);
            self.load_offset(table, memory, calls.wrapping_add(offset), banner > u32::MAX.into())
                .map(|load_offset| Image { load_offset, physical_offset: offset })
        };
        (0..STEPS).filter_map(image).collect()
    }

    /// The KASLR offset of the kernel whose system call table is at a physical address, if it matches.
    fn load_offset(
        &self,
        table: &Table,
        memory: &dyn Memory,
        table_at: u64,
        is_64: bool,
    ) -> Option<u64> {
        let (size, first) = if is_64 { (8, &self.first_64) } else { (4, &self.first_32) };
        let mut bytes = [0; CALLS * 8];
        let bytes = &mut bytes[..CALLS * size];
        memory.read(table_at, bytes).then_some(())?;
        let calls: Vec<u64> = bytes
            .chunks(size)
            .map(|call| {
                let mut word = [0; 8];
                word[..size].copy_from_slice(call);
                u64::from_le_bytes(word)
            })
            .collect();
        let mut offsets = first.iter().map(|first| calls[0].wrapping_sub(*first));
        offsets
            .find(|&offset| calls.iter().all(|call| table.starts_code(call.wrapping_sub(offset))))
    }
}
