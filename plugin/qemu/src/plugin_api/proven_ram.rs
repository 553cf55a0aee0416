//! Guest memory by physical address, through the plugin API alone: pages that are proven to be RAM.
//!
//! The API's functions also access devices, where a read may have effects, and do not report what is at an address. So a
//! page is used only after QEMU has shown that it is RAM: QEMU has translated code in it, or an instruction has accessed
//! it and the access was not I/O. Addresses that a PC switches between RAM and devices are never used.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::symbols::{GlibFunctions, PhysicalMemory};
use super::watch::PhysicalPage;

const PAGE: u64 = 4096;
/// Addresses at which a PC switches between the display's memory and the RAM of system management mode.
const SWITCHED: Range<u64> = 0xa_0000..0xc_0000;
/// `QEMU_PLUGIN_HWADDR_OPERATION_OK`.
const OK: std::ffi::c_uint = 0;

/// The pages of the guest's memory that are proven to be RAM.
///
/// Its one lock protects the set of pages. No other lock is taken while it is held.
pub struct ProvenRam {
    memory: PhysicalMemory,
    glib: GlibFunctions,
    pages: Mutex<HashSet<u64>>,
}

impl ProvenRam {
    /// Creates an empty set of proven pages; `None` below API 5.
    pub fn open() -> Option<ProvenRam> {
        let (memory, glib) = (PhysicalMemory::find().ok()?, GlibFunctions::find().ok()?);
        Some(ProvenRam { memory, glib, pages: Mutex::default() })
    }

    /// Marks a page as RAM.
    pub fn prove(&self, PhysicalPage(page): PhysicalPage) {
        if !SWITCHED.contains(&page) {
            self.lock().insert(page / PAGE);
        }
    }

    fn is_proven(&self, physical: u64, len: usize) -> bool {
        let is_within = len > 0 && physical % PAGE + len as u64 <= PAGE;
        is_within && self.lock().contains(&(physical / PAGE))
    }

    /// Reads bytes of one page. Returns false if it is not proven. Only on the thread of a vCPU.
    pub fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        if !self.is_proven(physical, into.len()) {
            return false;
        }
        // SAFETY: a new array, which is freed below; QEMU gives it this length, and fills it, on a vCPU's thread.
        unsafe {
            let array = (self.glib.g_byte_array_new)();
            let result = (self.memory.qemu_plugin_read_memory_hwaddr)(physical, array, into.len());
            let is_read = result == OK && (*array).len as usize == into.len();
            if is_read {
                std::ptr::copy_nonoverlapping((*array).data, into.as_mut_ptr(), into.len());
            }
            (self.glib.g_byte_array_unref)(array);
            is_read
        }
    }

    /// Writes bytes of one page. Returns false if it is not proven, or is ROM. Only on the thread of a vCPU.
    pub fn write(&self, physical: u64, from: &[u8]) -> bool {
        let Ok(len) = from.len().try_into() else { return false };
        if !self.is_proven(physical, from.len()) {
            return false;
        }
        // SAFETY: as in `read`; the array has room for `len` bytes after it was told its size.
        unsafe {
            let array = (self.glib.g_byte_array_new)();
            (self.glib.g_byte_array_set_size)(array, len);
            std::ptr::copy_nonoverlapping(from.as_ptr(), (*array).data, from.len());
            let result = (self.memory.qemu_plugin_write_memory_hwaddr)(physical, array);
            (self.glib.g_byte_array_unref)(array);
            result == OK
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
