//! A small kernel in guest memory, with everything in it that names its code.

use std::ops::Range;

use crate::guest::{PhysicalMemory, Registers};

/// Where the image is, in linear and in physical memory: moved from where it was linked.
pub(super) const TEXT: u64 = 0xffff_ffff_9200_0000;
pub(super) const TEXT_32: u64 = 0xc080_0000;
const PHYSICAL: u64 = 8 << 20;
const SIZE: usize = 16 << 20;

/// Where parts are in the image.
const BTF: u64 = 0x10_0000;
const DATA: u64 = 0x18_0000;
const TABLES: u64 = 0x20_0000;
const ORC_IPS: u64 = 0x30_0000;
const ORC_ENTRIES: u64 = 0x31_0000;
const IMAGE_SIZE: u64 = 0x40_0000;

/// A stack, which is aligned as Linux's are, and its size.
pub(super) const STACK: u64 = 0x3c_0000;
pub(super) const STACK_SIZE: u64 = 0x4000;

/// Where parts are in a `struct module`: what says where its code is, and what says where its symbols are.
const CODE: u64 = 0x80;
const KALLSYMS: u64 = 0x1c0;
const ARCH: u64 = 0x220;

/// The page tables: the kernel's, and that of a process in user mode, which holds no kernel.
pub(super) const KERNEL_TABLE: u64 = 0x2000;
pub(super) const USER_TABLE: u64 = 0x3000;
const INFO: u64 = 0x10_0000;

/// Where modules are loaded.
pub(super) const MODULE: u64 = 0xffff_ffff_c010_0000;
const MODULE_PHYSICAL: u64 = 0xd0_0000;

pub(crate) const FUNCTIONS: u64 = 3000;
/// Bytes of each.
pub(crate) const STRIDE: u64 = 0x20;
const SINITTEXT: u64 = 0x8_0000;

/// Entries of the table for unwinding: one for each function, and the end.
const ORC_COUNT: u64 = FUNCTIONS + 1;

/// How functions are unwound, by their numbers; all others have their return address where SP points.
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
    // What the two layouts have for it.
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

/// How the tables of symbols are laid out.
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
    /// Whether `struct module` has `mem`.
    pub(super) has_mem: bool,
    /// Whether data have names, and types are there.
    pub(super) has_data: bool,
}

/// A kernel of this time.
pub(super) const OPTIONS: Options = Options {
    wide: true,
    shape: Shape::OffsetsFirst,
    has_info: true,
    has_mem: true,
    has_data: true,
};

pub(crate) struct Guest {
    pub(super) ram: Vec<u8>,
    pub(crate) registers: Registers,
    /// Where the guest holds what is read of it, to be broken.
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

/// Writes one thing after the other.
struct Writer {
    at: u64,
    bytes: Vec<u8>,
    wide: bool,
    align: usize,
}

impl Writer {
    fn here(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }

    fn align(&mut self) {
        let align = self.align;
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    fn word(&mut self, value: u64) {
        let size = if self.wide { 8 } else { 4 };
        self.bytes.extend(&value.to_le_bytes()[..size]);
    }
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
        let info = guest.kallsyms(options.shape, options.has_data);
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

    /// Writes the tables of symbols, and returns VMCOREINFO.
    fn kallsyms(&mut self, shape: Shape, has_data: bool) -> String {
        let (wide, text) = (self.wide, self.text());
        let symbols = symbols(text, has_data);
        let align = if wide && shape != Shape::FromItself { 8 } else { 4 };
        let mut out = Writer { at: text + TABLES, bytes: Vec::new(), wide, align };
        let mut info = format!("OSRELEASE=6.9.9-test\nSYMBOL(_stext)={text:x}\n");
        if wide {
            let base = PHYSICAL as i64 - (TEXT - 0xffff_ffff_8000_0000) as i64;
            info += &format!("NUMBER(phys_base)={base}\nKERNELOFFSET=11000000\n");
        }
        let mut name = |what: &str, at: u64| info += &format!("SYMBOL(kallsyms_{what})={at:x}\n");

        let base = symbols[0].0;
        let offsets = |out: &mut Writer, name: &mut dyn FnMut(&str, u64)| {
            name("offsets", out.here());
            for (address, ..) in &symbols {
                match shape {
                    Shape::FromItself => out.u32((address.wrapping_sub(out.here())) as u32),
                    // Downwards from the base, as where a processor's data are absolute.
                    _ if wide => out.u32(!(address - base) as u32),
                    _ => out.u32((address - base) as u32),
                }
            }
            out.align();
            if shape != Shape::FromItself {
                name("relative_base", out.here());
                out.word(base);
            }
        };
        match shape {
            Shape::Plain => {
                name("addresses", out.here());
                symbols.iter().for_each(|&(address, ..)| out.word(address));
            }
            Shape::OffsetsFirst => offsets(&mut out, &mut name),
            _ => {}
        }
        name("num_syms", out.here());
        out.u32(symbols.len() as u32);
        out.align();
        name("names", out.here());
        let (names, mut markers) = (out.here(), Vec::new());
        for (number, (_, kind, symbol)) in symbols.iter().enumerate() {
            if number % 256 == 0 {
                markers.push((out.here() - names) as u32);
            }
            // One token is a whole word.
            let symbol = symbol.replace("function_", "\u{1}");
            out.bytes.push(1 + symbol.len() as u8);
            out.bytes.push(*kind as u8);
            out.bytes.extend(symbol.bytes());
        }
        out.align();
        markers.iter().for_each(|&marker| out.u32(marker));
        out.align();
        name("token_table", out.here());
        let mut index = Vec::new();
        let table = out.here();
        for token in 0..=u8::MAX {
            index.push((out.here() - table) as u16);
            match token {
                1 => out.bytes.extend(b"function_"),
                _ if token.is_ascii_graphic() => out.bytes.push(token),
                _ => {}
            }
            out.bytes.push(0);
        }
        out.align();
        name("token_index", out.here());
        index.iter().for_each(|place| out.bytes.extend(place.to_le_bytes()));
        out.align();
        if matches!(shape, Shape::OffsetsLast | Shape::FromItself) {
            offsets(&mut out, &mut name);
        }
        self.put_linear(out.at, &out.bytes.clone());
        info
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

/// Types: the structures of the list of modules, among others.
fn btf(has_mem: bool, wide: bool) -> Vec<u8> {
    let word = if wide { 8 } else { 4 };
    let layout: &[(&str, u64)] = match has_mem {
        true => &[("mem", CODE)],
        false => &[("core_layout", CODE), ("init_layout", CODE + 0x40)],
    };
    let module =
        [("state", 0), ("list", word), ("name", 3 * word), ("kallsyms", KALLSYMS), ("arch", ARCH)];
    let module = [&module, layout].concat();
    let structures = [
        ("list_head", 2 * word, vec![("next", 0), ("prev", word)]),
        ("mod_kallsyms", 4 * word, vec![("symtab", 0), ("num_symtab", word), ("strtab", 2 * word)]),
        match has_mem {
            true => ("module_memory", 2 * word, vec![("base", 0), ("size", word)]),
            false => {
                ("module_layout", 32, vec![("base", 0), ("size", word), ("text_size", word + 4)])
            }
        },
        ("mod_arch_specific", 24, vec![("num_orcs", 0), ("orc_unwind_ip", 8), ("orc_unwind", 16)]),
        ("module", 0x280, module),
        // Another of the same name, as a driver may have: the first counts.
        ("module", 4, vec![("name", 0)]),
    ];
    let mut strings = vec![0];
    let mut place = |name: &str| {
        let known: Vec<&[u8]> = strings.split(|&byte| byte == 0).collect();
        let mut at = 0;
        for string in known {
            if string == name.as_bytes() {
                return at;
            }
            at += string.len() as u32 + 1;
        }
        let at = strings.len() as u32;
        strings.extend(name.bytes());
        strings.push(0);
        at
    };
    let mut types: Vec<u32> = vec![place("int"), 1 << 24, 4, 0x20];
    types.extend([0, 2 << 24, 1]);
    types.extend([0, 3 << 24, 0, 1, 1, 4]);
    types.extend([place("state"), 6 << 24 | 1, 4, place("LIVE"), 0]);
    for (name, size, members) in structures {
        types.extend([place(name), 4 << 24 | members.len() as u32, size as u32]);
        for (member, at) in members {
            types.extend([place(member), 1, 8 * at as u32]);
        }
    }
    let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
    let sizes = [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32];
    let mut btf = vec![0x9f, 0xeb, 1, 0];
    btf.extend(sizes.iter().flat_map(|word| word.to_le_bytes()));
    [btf, types, strings].concat()
}
