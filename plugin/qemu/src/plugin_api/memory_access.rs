//! One access of an instruction to guest memory.

use std::marker::PhantomData;

use qemu_plugin_sys::{qemu_plugin_mem_value_type, qemu_plugin_meminfo_t};

use super::api::Api;
use super::watch::PhysicalPage;

const PAGE: u64 = 4096;

/// One access of an instruction to guest memory, in the callback for it.
pub struct MemoryAccess<'a> {
    api: &'a Api,
    info: qemu_plugin_meminfo_t,
    linear: u64,
    /// It belongs to the callback's thread.
    callback: PhantomData<*mut ()>,
}

impl<'a> MemoryAccess<'a> {
    /// Only in the callback that gave `info` and the address.
    pub(super) fn new(api: &'a Api, info: qemu_plugin_meminfo_t, linear: u64) -> MemoryAccess<'a> {
        MemoryAccess { api, info, linear, callback: PhantomData }
    }

    /// Returns the linear address.
    pub fn linear(&self) -> u64 {
        self.linear
    }

    /// Returns true if the access wrote.
    pub fn is_write(&self) -> bool {
        // SAFETY: QEMU's own description of the access, in the callback for it.
        unsafe { (self.api.plugin.qemu_plugin_mem_is_store)(self.info) }
    }

    /// Returns the page that was accessed, of memory or of a device: `qemu_plugin_hwaddr_is_io` is always false in QEMU 10.2.
    ///
    /// `None` if two pages were, or if QEMU does not tell.
    pub fn page(&self) -> Option<PhysicalPage> {
        let functions = &self.api.places;
        // SAFETY: QEMU's own description of the access, in the callback for it.
        let size = 1 << unsafe { (self.api.plugin.qemu_plugin_mem_size_shift)(self.info) };
        if self.linear % PAGE > PAGE - size {
            return None;
        }
        // SAFETY: QEMU's own description of the access, in the callback for it. The result lasts until the next call on
        // this thread.
        unsafe {
            let place = (functions.qemu_plugin_get_hwaddr)(self.info, self.linear);
            if place.is_null() {
                return None;
            }
            Some(PhysicalPage((functions.qemu_plugin_hwaddr_phys_addr)(place) & !0xfff))
        }
    }

    /// Returns the value that was read or written, zero-extended; of more than 4 bytes the low ones.
    pub fn value(&self) -> u32 {
        // SAFETY: QEMU's own description of the access, in the callback for it.
        let value = unsafe { (self.api.plugin.qemu_plugin_mem_get_value)(self.info) };
        // SAFETY: each variant is a plain number in the low bytes, of the size that `type_` names.
        unsafe {
            match value.type_ {
                qemu_plugin_mem_value_type::QEMU_PLUGIN_MEM_VALUE_U8 => value.data.u8_.into(),
                qemu_plugin_mem_value_type::QEMU_PLUGIN_MEM_VALUE_U16 => value.data.u16_.into(),
                _ => value.data.u32_,
            }
        }
    }
}
