//! Builds a small kernel in guest memory, with all tables that name its code.

mod btf;
mod kallsyms;

use std::ops::Range;

use crate::guest::{PhysicalMemory, Registers};
use btf::btf;
use kallsyms::Writer;

/// The linear address of the image, which was linked at another.
pub(super) const TEXT: u64 = 0xffff_ffff_9200_0000;
pub(super) const TEXT_32: u64 = 0xc080_0000;
const PHYSICAL: u64 = 8 << 20;
const SIZE: usize = 16 << 20;

/// Offsets of parts in the image.
pub(super) const BTF: u64 = 0x10_0000;
const DATA: u64 = 0x18_0000;
const TABLES: u64 = 0x20_0000;
const ORC_IPS: u64 = 0x30_0000;
pub(super) const ORC_ENTRIES: u64 = 0x31_0000;
const IMAGE_SIZE: u64 = 0x40_0000;

/// A stack, which is aligned as Linux's are, and its size.
pub(super) const STACK: u64 = 0x3c_0000;
pub(super) const STACK_SIZE: u64 = 0x4000;

/// Offsets in a `struct module`: the fields of its code, of its symbols, and of its ORC table.
const CODE: u64 = 0x80;
const KALLSYMS: u64 = 0x1c0;
const ARCH: u64 = 0x220;

/// Page tables: the kernel's, and one of user mode, without the kernel.
pub(super) const KERNEL_TABLE: u64 = 0x2000;
pub(super) const USER_TABLE: u64 = 0x3000;
const INFO: u64 = 0x10_0000;

/// The address of the module.
pub(super) const MODULE: u64 = 0xffff_ffff_c010_0000;
const MODULE_PHYSICAL: u64 = 0xd0_0000;

pub(crate) const FUNCTIONS: u64 = 3000;
/// The size of each, in bytes.
pub(crate) const STRIDE: u64 = 0x20;
/// The function that loads modules.
pub(super) const LOAD_MODULE: &str = "load_module";
const SINITTEXT: u64 = 0x8_0000;

/// Entries of the ORC table: one for each function, and the end.
const ORC_COUNT: u64 = FUNCTIONS + 1;

/// The numbers of functions with special frames. In all others, SP points to the return address.
pub(super) mod unwound {
    /// Two words below the return address, the upper of which is RBP.
    pub(in super::super) const SAVES_BP: u64 = 1;
    /// The return address is above where RBP points to the saved one.
    pub(in super::super) const BY_BP: u64 = 2;
    pub(in super::super) const REGS: u64 = 3;
    pub(in super::super) const REGS_PARTIAL: u64 = 4;
    pub(in super::super) const END: u64 = 5;
    pub(in super::super) const UNDEFINED: u64 = 6;
    /// SP points to a pointer to the word below the return address.
    pub(in super::super) const SWITCHES_STACK: u64 = 7;
}

/// `struct orc_entry`, in the layout before or since 6.4.
fn orc_entry(function: u64, is_new: bool) -> [u8; 6] {
    const SP_REGISTER: u16 = 5;
    const BP_REGISTER: u16 = 4;
    const SP_INDIRECT: u16 = 9;
    const PREVIOUS_SP: u16 = 1 << 4;
    // The type "call" in either layout.
    let call = if is_new { 2 << 8 } else { 0 };
    let (sp, bp, flags): (i16, i16, u16) = match function {
        unwound::SAVES_BP => (24, -16, SP_REGISTER | PREVIOUS_SP | call),
        unwound::BY_BP => (16, -16, BP_REGISTER | PREVIOUS_SP | call),
        unwound::REGS => (0, 0, SP_REGISTER | if is_new { 3 << 8 | 0x800 } else { 1 << 8 }),
        unwound::REGS_PARTIAL => (0, 0, SP_REGISTER | if is_new { 4 << 8 | 0x800 } else { 2 << 8 }),
        unwound::END => (0, 0, if is_new { 1 << 8 } else { 1 << 10 }),
        unwound::UNDEFINED => (0, 0, 0),
        unwound::SWITCHES_STACK => (16, 0, SP_INDIRECT | call),
        _ => (8, 0, SP_REGISTER | call),
    };
    let [[a, b], [c, d], [e, f]] = [sp.to_le_bytes(), bp.to_le_bytes(), flags.to_le_bytes()];
    [a, b, c, d, e, f]
}

/// The order and encoding of the symbol tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Before 4.6: addresses, count, names, markers, tokens.
    Plain,
    /// Before 6.4: offsets, base, count, names, markers, tokens.
    OffsetsFirst,
    /// Since then: count, names, markers, tokens, offsets, base.
    OffsetsLast,
    /// Since 7.0: the same, but each offset is from its own place.
    FromItself,
}

pub(super) const SHAPES: [Shape; 4] =
    [Shape::Plain, Shape::OffsetsFirst, Shape::OffsetsLast, Shape::FromItself];

#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) wide: bool,
    pub(super) shape: Shape,
    pub(super) has_info: bool,
    /// True if `struct module` has `mem`.
    pub(super) has_mem: bool,
    /// True if data has names, and the kernel has types.
    pub(super) has_data: bool,
    /// True if the kernel has the function that loads modules.
    pub(super) loads_modules: bool,
}

/// A recent kernel, with everything that helps to find it.
pub(super) const OPTIONS: Options = Options {
    wide: true,
    shape: Shape::OffsetsFirst,
    has_info: true,
    has_mem: true,
    has_data: true,
    loads_modules: true,
};

pub(crate) struct Guest {
    pub(super) ram: Vec<u8>,
    pub(crate) registers: Registers,
    /// The parts of RAM that a search reads, for tests that break them.
    pub(super) parts: Vec<Range<usize>>,
    wide: bool,
}

impl PhysicalMemory for Guest {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        let Ok(start) = usize::try_from(physical) else { return false };
        let bytes = start.checked_add(into.len()).and_then(|end| self.ram.get(start..end));
        bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        std::iter::once(0..SIZE as u64).collect()
    }
}

/// All symbols: address, kind, name.
pub(crate) fn symbols(text: u64, has_data: bool) -> Vec<(u64, char, String)> {
    let mut symbols = vec![
        (text, 'T', "_stext".to_owned()),
        (text, 'T', "_text".to_owned()),
        (text + FUNCTIONS * STRIDE, 'T', "_etext".to_owned()),
        (text + SINITTEXT, 'T', "_sinittext".to_owned()),
        (text + SINITTEXT, 't', "start".to_owned()),
        (text + SINITTEXT + 0x100, 'T', "_einittext".to_owned()),
        (text + SINITTEXT + 0x200, 't', LOAD_MODULE.to_owned()),
        (text + BTF, 'R', "__start_BTF".to_owned()),
        (text + BTF + 0x1_0000, 'R', "__stop_BTF".to_owned()),
        (text + DATA, 'R', "linux_banner".to_owned()),
        (text + DATA + 0x100, 'd', "modules".to_owned()),
        // In 7.3 the list has the letter of code.
        (text + DATA + 0x200, 'T', "modules".to_owned()),
        (text + ORC_IPS, 'R', "__start_orc_unwind_ip".to_owned()),
        (text + ORC_IPS + 4 * ORC_COUNT, 'R', "__stop_orc_unwind_ip".to_owned()),
        (text + ORC_ENTRIES, 'R', "__start_orc_unwind".to_owned()),
        (text - PHYSICAL + KERNEL_TABLE, 'D', "init_top_pgt".to_owned()),
    ];
    for function in 1..FUNCTIONS {
        symbols.push((text + function * STRIDE, 't', format!("function_{function}")));
    }
    for alias in (0..FUNCTIONS).step_by(10) {
        symbols.push((text + alias * STRIDE, 'W', format!("alias_{alias}")));
    }
    symbols.retain(|&(address, ..)| has_data || (text..text + BTF).contains(&address));
    symbols.sort_by_key(|&(address, ..)| address);
    symbols
}

impl Guest {
    /// A kernel of this time, with everything that helps to find it.
    pub(crate) fn of_this_time() -> Guest {
        Guest::new(OPTIONS)
    }

    pub(super) fn new(options: Options) -> Guest {
        let wide = options.wide;
        let registers = match wide {
            true => Registers { cr0: 0x8005_0033, cr3: KERNEL_TABLE, cr4: 0x6f0, efer: 0xd01 },
            false => Registers { cr0: 0x8005_0033, cr3: KERNEL_TABLE, cr4: 0x6d0, efer: 0 },
        };
        let mut guest = Guest { ram: vec![0; SIZE], registers, parts: Vec::new(), wide };
        guest.page_tables();
        let info = guest.kallsyms(options);
        if options.has_info {
            guest.put(INFO, info.as_bytes());
        }
        let text = guest.text();
        guest.put_linear(text + DATA, b"Linux version 6.9.9-test (somebody@somewhere)\0");
        // Another file's variable of this name, which is no list.
        guest.put_linear(text + DATA + 0x100, &[1; 16]);
        guest.put_linear(text + BTF, &btf(options.has_mem, wide));
        guest.module(options.has_mem);
        guest.orc(options.has_mem);
        guest
    }

    /// Writes the tables for unwinding, of the kernel and of the module.
    fn orc(&mut self, is_new: bool) {
        let (text, module) = (self.text(), self.module_text());
        let mut table = |code: u64, stride: u64, count: u64, ips: u64, entries: u64| {
            let ip = |index: u64| (code + index * stride).wrapping_sub(ips + 4 * index) as u32;
            let all: Vec<u8> = (0..count).flat_map(|index| ip(index).to_le_bytes()).collect();
            self.put_linear(ips, &all);
            let all: Vec<u8> =
                (0..count).flat_map(|function| orc_entry(function, is_new)).collect();
            self.put_linear(entries, &all);
        };
        table(text, STRIDE, ORC_COUNT, text + ORC_IPS, text + ORC_ENTRIES);
        table(module, 0x800, 3, module + 0x2a00, module + 0x2a40);
        let arch = module + 0x2000 + ARCH;
        self.put_linear(arch, &3u32.to_le_bytes());
        self.put_linear(arch + 8, &(module + 0x2a00).to_le_bytes());
        self.put_linear(arch + 16, &(module + 0x2a40).to_le_bytes());
    }

    /// Writes words at a linear address of the image.
    pub(super) fn put_words(&mut self, at: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put_linear(at, &bytes);
    }

    pub(crate) fn text(&self) -> u64 {
        if self.wide { TEXT } else { TEXT_32 }
    }

    pub(crate) fn module_text(&self) -> u64 {
        if self.wide { MODULE } else { 0xf000_0000 }
    }

    fn page_tables(&mut self) {
        const FLAGS: u64 = 0x63;
        const LARGE: u64 = 0xe3;
        let pages = IMAGE_SIZE >> 21;
        if self.wide {
            self.put(KERNEL_TABLE + 8 * 511, &(0x4000 | FLAGS).to_le_bytes());
            self.put(0x4000 + 8 * 510, &(0x5000 | FLAGS).to_le_bytes());
            self.put(0x4000 + 8 * 511, &(0x6000 | FLAGS).to_le_bytes());
            // From the table at the beginning of RAM on, which the image's own page table is.
            let first = (TEXT - PHYSICAL) >> 21 & 511;
            for page in 0..(PHYSICAL >> 21) + pages {
                self.put(0x5000 + 8 * (first + page), &(page << 21 | LARGE).to_le_bytes());
            }
            self.put(0x6000 + 8 * (MODULE >> 21 & 511), &(0x7000 | FLAGS).to_le_bytes());
            for page in 0..4 {
                let entry = MODULE_PHYSICAL | page << 12 | FLAGS;
                self.put(0x7000 + 8 * ((MODULE >> 12 & 511) + page), &entry.to_le_bytes());
            }
        } else {
            for page in 0..(SIZE as u64 >> 22) {
                let entry = (page << 22 | LARGE) as u32;
                self.put(KERNEL_TABLE + 4 * (768 + page), &entry.to_le_bytes());
            }
            self.put(KERNEL_TABLE + 4 * (0xf00 >> 2), &(0x7000 | FLAGS as u32).to_le_bytes());
            // A fixed mapping at the end.
            self.put(KERNEL_TABLE + 4 * 1023, &(0x6000 | FLAGS as u32).to_le_bytes());
            self.put(0x6000 + 4 * 1020, &(0x9000 | FLAGS as u32).to_le_bytes());
            for page in 0..4 {
                let entry = (MODULE_PHYSICAL | page << 12 | FLAGS) as u32;
                self.put(0x7000 + 4 * page, &entry.to_le_bytes());
            }
        }
        self.parts.push(KERNEL_TABLE as usize..0x8000);
    }

    /// Writes one module, and the list that it is in.
    fn module(&mut self, has_mem: bool) {
        let (wide, text) = (self.wide, self.module_text());
        let (word, head) = (if wide { 8 } else { 4 }, self.text() + DATA + 0x200);
        let at = text + 0x2000;
        let list = at + word;
        let table = at + KALLSYMS + word;
        let (symbols, strings) = (at + 0x300, at + 0x800);
        let mut put = |at: u64, value: u64| {
            let bytes = value.to_le_bytes();
            self.put_linear(at, &bytes[..word as usize]);
        };
        put(head, list);
        put(head + word, list);
        put(list, head);
        put(list + word, head);
        put(at + KALLSYMS, table);
        put(table, symbols);
        put(table + word, 5);
        put(table + 2 * word, strings);
        let memory = at + CODE;
        if has_mem {
            let pieces = [(text, 0x1000), (text + 0x2000, 0x2000), (text + 0x1000, 0x1000)];
            for (number, (base, size)) in (0..).zip(pieces) {
                put(memory + number * 2 * word, base);
                put(memory + number * 2 * word + word, size);
            }
        } else {
            put(memory, text);
            for (number, size) in (0..).zip([0x4000u32, 0x1000, 0x2000]) {
                self.put_linear(memory + word + 4 * number, &size.to_le_bytes());
            }
        }
        self.put_linear(at + 3 * word, b"driver\0");
        self.put_linear(strings, b"\0probe\0other\0table\0");
        // Not in the order of addresses; the second of an address does not count; one is no code.
        let entries =
            [(0, 0), (7, text + 0x80), (1, text + 0x40), (13, text + 0x40), (13, text + 0x3000)];
        for (number, (name, value)) in entries.into_iter().enumerate() {
            let mut out = Writer { at: 0, bytes: Vec::new(), wide, align: 1 };
            out.u32(name);
            if wide {
                out.bytes.extend([0x12, 0, u8::from(value != 0), 0]);
                out.word(value);
                out.word(0);
            } else {
                out.word(value);
                out.u32(0);
                out.bytes.extend([0x12, 0, u8::from(value != 0), 0]);
            }
            let size = out.bytes.len() as u64;
            self.put_linear(symbols + number as u64 * size, &out.bytes);
        }
    }

    fn put(&mut self, physical: u64, bytes: &[u8]) {
        let start = physical as usize;
        self.ram[start..start + bytes.len()].copy_from_slice(bytes);
        if bytes.len() > 8 {
            self.parts.push(start..start + bytes.len());
        }
    }

    pub(crate) fn put_linear(&mut self, linear: u64, bytes: &[u8]) {
        let physical = match linear.checked_sub(self.module_text()) {
            Some(offset) => MODULE_PHYSICAL + offset,
            None => linear - self.text() + PHYSICAL,
        };
        self.put(physical, bytes);
    }
}
