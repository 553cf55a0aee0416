//! An instruction that QEMU is translating.

use std::ffi::CStr;
use std::marker::PhantomData;

use qemu_plugin_sys::{qemu_plugin_insn, qemu_plugin_tb};

use super::host::Host;
use super::watch::PhysicalPage;
use crate::register::Register;
use crate::symbol::hidden;

/// Room for the longest instruction of any x86 processor.
const MAX_INSN_BYTES: usize = 15;

/// A block that QEMU is translating.
pub(super) struct Block<'a> {
    host: &'a Host,
    handle: *mut qemu_plugin_tb,
    /// The number of instructions, at least 1.
    count: usize,
    /// The linear address of its first instruction.
    start: u64,
}

impl<'a> Block<'a> {
    /// Only in the translation callback that gave `handle`.
    pub fn new(host: &'a Host, handle: *mut qemu_plugin_tb) -> Block<'a> {
        let functions = &host.api.plugin;
        // SAFETY: QEMU's block, in the callback that it is translated in, and its first instruction.
        let (count, start) = unsafe {
            let first = (functions.qemu_plugin_tb_get_insn)(handle, 0);
            ((functions.qemu_plugin_tb_n_insns)(handle), (functions.qemu_plugin_insn_vaddr)(first))
        };
        Block { host, handle, count, start }
    }

    /// Its instructions, in order.
    pub fn insns(&self) -> impl Iterator<Item = Insn<'_>> {
        let get = self.host.api.plugin.qemu_plugin_tb_get_insn;
        // SAFETY: QEMU's block, which lasts as long as `self` may; it has that many instructions.
        (0..self.count).map(move |index| Insn::new(self, index, unsafe { get(self.handle, index) }))
    }

    /// RIP or EIP of its first instruction.
    pub fn rip(&self) -> u64 {
        self.host.rip_at_translation()
    }
}

/// An instruction that QEMU is translating, while the translation callback lasts.
pub struct Insn<'a> {
    block: &'a Block<'a>,
    /// Its place in the block.
    index: usize,
    handle: *mut qemu_plugin_insn,
    bytes: [u8; MAX_INSN_BYTES],
    len: usize,
    /// Handles die with the callback, and belong to its thread.
    callback: PhantomData<&'a *mut qemu_plugin_insn>,
}

impl<'a> Insn<'a> {
    pub(super) fn new(block: &'a Block<'a>, index: usize, handle: *mut qemu_plugin_insn) -> Self {
        let functions = &block.host.api.plugin;
        let mut bytes = [0; MAX_INSN_BYTES];
        let buffer = bytes.as_mut_ptr().cast();
        // SAFETY: QEMU's instruction, in the callback that it is translated in; at most as many bytes
        // are written as there is room for.
        let len = unsafe { (functions.qemu_plugin_insn_data)(handle, buffer, MAX_INSN_BYTES) };
        Insn { block, index, handle, bytes, len, callback: PhantomData }
    }

    pub(super) fn handle(&self) -> *mut qemu_plugin_insn {
        self.handle
    }

    /// The instructions of its block, in order. It is one of them.
    pub fn block(&self) -> impl Iterator<Item = Insn<'_>> {
        self.block.insns()
    }

    /// Returns true if it is the first instruction of its block.
    pub fn is_first(&self) -> bool {
        self.index == 0
    }

    /// Returns true if it is the last instruction of its block.
    pub fn is_last(&self) -> bool {
        self.index + 1 == self.block.count
    }

    /// The linear address of the first instruction of its block, at translation.
    pub fn block_start(&self) -> u64 {
        self.block.start
    }

    /// A register of the vCPU that translates, which is about to run the block; `None` before a vCPU has
    /// begun. Costs about 45 cycles.
    pub fn register(&self, register: Register) -> Option<u64> {
        self.block.host.register_at_translation(register)
    }

    /// The bytes of the instruction, prefixes included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The linear address at translation, with the code segment's base.
    ///
    /// The translation also runs at other addresses at which the page is mapped.
    pub fn pc(&self) -> u64 {
        // SAFETY: QEMU's instruction, which lasts as long as `self` may.
        unsafe { (self.block.host.api.plugin.qemu_plugin_insn_vaddr)(self.handle) }
    }

    /// The base of the code segment; 0 in 64-bit code.
    ///
    /// It is the same whenever this translation runs. Costs a load, or about 100 cycles if the location of
    /// RIP in QEMU is not known.
    pub fn code_base(&self) -> u32 {
        (self.block.start as u32).wrapping_sub(self.block.rip() as u32)
    }

    /// The page of the instruction if it is memory; `None` if it is a device, or if that is not known.
    ///
    /// From API 5 on. QEMU walks the page tables through which it has just fetched the instruction.
    pub fn ram_page(&self) -> Option<PhysicalPage> {
        let api = &self.block.host.api;
        let mut physical = 0;
        // SAFETY: QEMU's instruction, in the callback that it is translated in.
        unsafe {
            if (api.places.qemu_plugin_insn_haddr)(self.handle).is_null() {
                return None;
            }
            let translate = api.translation?.qemu_plugin_translate_vaddr;
            translate(self.pc(), &mut physical).then_some(PhysicalPage(physical & !0xfff))
        }
    }

    /// QEMU's disassembly in AT&T syntax, in the mode of the code; `None` if QEMU was built without a
    /// disassembler.
    pub fn disassembly(&self) -> Option<String> {
        let api = &self.block.host.api;
        if hidden().disassembly {
            return None;
        }
        // SAFETY: QEMU's instruction, which lasts as long as `self` may.
        let text = unsafe { (api.plugin.qemu_plugin_insn_disas)(self.handle) };
        if text.is_null() {
            return None;
        }
        // SAFETY: a C string that QEMU made for us, and that we free once.
        unsafe {
            let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
            (api.glib.g_free)(text.cast());
            Some(copy)
        }
    }

    /// Returns true if it is a nested guest's code; `None` if that is not known.
    pub fn is_in_nested_guest(&self) -> Option<bool> {
        self.block.host.translates_for_nested_guest()
    }

    /// Makes QEMU translate all code again soon, so that other instructions can be watched.
    ///
    /// Does nothing if QEMU does not export the function for it.
    pub fn retranslate_all(&self) {
        self.block.host.translations.flush();
    }

    /// The registers of the vCPU that translates, as QEMU's monitor prints them; `None` if QEMU does not
    /// export what prints them. Costs some microseconds.
    pub fn register_dump(&self) -> Option<String> {
        self.block.host.register_dump.print()
    }
}
