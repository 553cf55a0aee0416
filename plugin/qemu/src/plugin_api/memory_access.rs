//! One access of an instruction to guest memory.

use std::marker::PhantomData;

use qemu_plugin_sys::{qemu_plugin_mem_value_type, qemu_plugin_meminfo_t};

use super::api::Api;

/// One access of an instruction to guest memory, in the callback for it.
pub struct MemoryAccess<'a> {
    api: &'a Api,
    info: qemu_plugin_meminfo_t,
    /// It belongs to the callback's thread.
    callback: PhantomData<*mut ()>,
}

impl<'a> MemoryAccess<'a> {
    /// Only in the callback that gave `info`.
    pub(super) fn new(api: &'a Api, info: qemu_plugin_meminfo_t) -> MemoryAccess<'a> {
        MemoryAccess { api, info, callback: PhantomData }
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
