//! One access of an instruction to guest memory.

use std::marker::PhantomData;

use qemu_plugin_sys::{qemu_plugin_mem_value_type, qemu_plugin_meminfo_t};

use super::api::Api;
use super::watch::PhysicalPage;

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

    /// Returns the page that was accessed if it is memory; `None` if it is a device, or if that is not known.
    pub fn ram_page(&self) -> Option<PhysicalPage> {
        let functions = &self.api.places;
        // SAFETY: QEMU's own description of the access, in the callback for it. The result lasts until the next call on
        // this thread.
        unsafe {
            let place = (functions.qemu_plugin_get_hwaddr)(self.info, self.linear);
            if place.is_null() || (functions.qemu_plugin_hwaddr_is_io)(place) {
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
