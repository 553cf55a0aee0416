//! An instruction that QEMU is translating.

use std::ffi::CStr;
use std::marker::PhantomData;

use qemu_plugin_sys::qemu_plugin_insn;

use super::api::Api;
use super::callbacks::Installed;
use super::register_file::{rip_at_translation, translates_for_nested_guest};

/// Room for the longest instruction of any x86 processor.
const MAX_INSN_BYTES: usize = 15;

/// A block that QEMU is translating.
pub(super) struct Block<'a> {
    installed: &'a Installed,
    /// The linear address of its first instruction.
    start: u64,
}

impl<'a> Block<'a> {
    /// A block, by its first instruction.
    pub fn new(installed: &'a Installed, first: *mut qemu_plugin_insn) -> Block<'a> {
        // SAFETY: QEMU's instruction, in the callback that it is translated in.
        let start = unsafe { (installed.api.insn_vaddr)(first) };
        Block { installed, start }
    }

    /// RIP or EIP of its first instruction: QEMU translates a block when a vCPU is about to run it.
    pub fn rip(&self) -> u64 {
        rip_at_translation(self.installed)
    }
}

/// An instruction, as long as the translation callback lasts.
pub struct Insn<'a> {
    api: &'a Api,
    block: &'a Block<'a>,
    handle: *mut qemu_plugin_insn,
    bytes: [u8; MAX_INSN_BYTES],
    len: usize,
    /// Handles die with the callback, and belong to its thread.
    callback: PhantomData<&'a *mut qemu_plugin_insn>,
}

impl<'a> Insn<'a> {
    pub(super) fn new(block: &'a Block<'a>, handle: *mut qemu_plugin_insn) -> Self {
        let api = &block.installed.api;
        let mut bytes = [0; MAX_INSN_BYTES];
        // SAFETY: QEMU's instruction, in the callback that it is translated in; at most as many bytes
        // are written as there is room for.
        let len = unsafe { (api.insn_data)(handle, bytes.as_mut_ptr().cast(), bytes.len()) };
        Insn { api, block, handle, bytes, len, callback: PhantomData }
    }

    /// The bytes of the instruction, prefixes included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The linear address at translation (the code segment's base is in it). The translation also runs at other
    /// addresses at which the page is mapped.
    pub fn pc(&self) -> u64 {
        // SAFETY: QEMU's instruction, which lasts as long as `self` may.
        unsafe { (self.api.insn_vaddr)(self.handle) }
    }

    /// The base of the code segment, which is the same whenever this translation runs; 0 in 64-bit code. Costs a load,
    /// or about 100 cycles where QEMU does not tell where RIP is.
    pub fn code_base(&self) -> u32 {
        (self.block.start as u32).wrapping_sub(self.block.rip() as u32)
    }

    /// QEMU's disassembly in AT&T syntax, in the mode of the code; `None` where QEMU was built
    /// without a disassembler.
    pub fn disassembly(&self) -> Option<String> {
        // SAFETY: QEMU's instruction, which lasts as long as `self` may.
        let text = unsafe { (self.api.insn_disas)(self.handle) };
        if text.is_null() {
            return None;
        }
        // SAFETY: a C string which QEMU made for us, and which we free once.
        unsafe {
            let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
            (self.api.free)(text.cast());
            Some(copy)
        }
    }

    /// Whether it is code of a guest of the guest's; `None` where QEMU does not tell.
    pub fn is_in_nested_guest(&self) -> Option<bool> {
        translates_for_nested_guest(self.block.installed)
    }

    /// Has QEMU translate all code anew, soon, if it exports how: some of it is to be watched otherwise.
    pub fn translate_all_anew(&self) {
        self.block.installed.exports.translate_anew();
    }

    /// The registers of the vCPU that translates, as QEMU's monitor prints them; `None` where QEMU
    /// does not export what prints them. Costs some microseconds.
    pub fn register_dump(&self) -> Option<String> {
        self.block.installed.exports.register_dump()
    }
}
