//! Whether a Linux kernel in the guest's memory is the one that a file describes, and how far it has moved.
//!
//! A kernel moves itself at boot (KASLR), in physical memory and in its address space. Its image stays in
//! one piece, at a multiple of 2 MiB. So its `linux_banner` is at one place of some 2 MiB, and
//! its `sys_call_table` at the same distance as in the file. Each entry of that table is the address of a
//! function. If all of the first ones, which lie all over the kernel, are so far from functions of the
//! file, the kernel is the one described, and that is how far it has moved.

use vm_memory::Bytes;

use super::table::Table;
use crate::qemu::GuestRam;

/// The machine's memory, by physical address.
pub trait Memory: Send + Sync {
    /// Fills the buffer; false where there is no memory.
    fn read(&self, physical: u64, bytes: &mut [u8]) -> bool;
}

impl Memory for GuestRam {
    fn read(&self, physical: u64, bytes: &mut [u8]) -> bool {
        let len = bytes.len();
        self.with(physical, len, |memory| memory.read_slice(bytes, 0).is_ok()).unwrap_or(false)
    }
}

/// The alignment of a kernel's image.
const STEP: u64 = 2 << 20;
/// Kernels are looked for in this many steps: 64 GiB.
const STEPS: u64 = 32 << 10;
const BANNER: &[u8] = b"Linux version ";
/// How many system calls are compared. The network's are among them, which is linked almost last.
const CALLS: usize = 110;
/// The names of the first system call: in 64-bit kernels, and in 32-bit ones.
const FIRST_64: [&[u8]; 3] = [b"__x64_sys_read", b"sys_read", b"SyS_read"];
const FIRST_32: [&[u8]; 2] = [b"__ia32_sys_restart_syscall", b"sys_restart_syscall"];

/// Addresses in a file by which a kernel is known.
#[derive(Debug, Default)]
pub(super) struct Marks {
    stext: Option<u64>,
    etext: Option<u64>,
    banner: Option<u64>,
    calls: Option<u64>,
    first_64: Vec<u64>,
    first_32: Vec<u64>,
}

/// A kernel in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// How far it has moved from where the file has it.
    pub moved: u64,
    /// What is added to an address in the file for the physical address.
    pub physical: u64,
}

impl Marks {
    /// Takes note of a symbol, if it is one of these.
    pub fn see(&mut self, name: &[u8], address: u64) {
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

    /// Whether the file is a Linux kernel's.
    pub fn are_linux(&self) -> bool {
        self.banner.is_some() || self.stext.is_some() && self.etext.is_some()
    }

    /// Whether it can be known if a kernel in memory is the one.
    pub fn are_enough(&self) -> bool {
        self.banner.is_some() && self.calls.is_some()
    }

    /// Whether an address of the file is in the text that stays in memory as long as the kernel runs.
    pub fn is_text(&self, address: u64) -> bool {
        let (Some(start), Some(end)) = (self.stext, self.etext) else { return false };
        (start..end).contains(&address)
    }

    /// All such kernels in memory. One that has rebooted may have left another.
    pub fn find(&self, table: &Table, memory: &dyn Memory) -> Vec<Image> {
        let (Some(banner), Some(calls)) = (self.banner, self.calls) else { return Vec::new() };
        let image = |step: u64| {
            let physical = step * STEP + banner % STEP;
            let mut start = [0; BANNER.len()];
            if !memory.read(physical, &mut start) || start != BANNER {
                return None;
            }
            let physical = physical.wrapping_sub(banner);
            self.moved(table, memory, calls.wrapping_add(physical), banner > u32::MAX.into())
                .map(|moved| Image { moved, physical })
        };
        (0..STEPS).filter_map(image).collect()
    }

    fn moved(&self, table: &Table, memory: &dyn Memory, at: u64, is_64: bool) -> Option<u64> {
        let (size, first) = if is_64 { (8, &self.first_64) } else { (4, &self.first_32) };
        let mut bytes = [0; CALLS * 8];
        let bytes = &mut bytes[..CALLS * size];
        memory.read(at, bytes).then_some(())?;
        let calls: Vec<u64> = bytes
            .chunks(size)
            .map(|call| {
                let mut word = [0; 8];
                word[..size].copy_from_slice(call);
                u64::from_le_bytes(word)
            })
            .collect();
        let moved = first.iter().map(|first| calls[0].wrapping_sub(*first));
        moved
            .into_iter()
            .find(|&moved| calls.iter().all(|call| table.starts_code(call.wrapping_sub(moved))))
    }
}
