//! The kernel's symbol tables, in each order and encoding.

use super::{Guest, KERNEL_TABLE, LOAD_MODULE, Options, PHYSICAL, Shape, TABLES, TEXT, symbols};

/// Writes one thing after the other.
pub(super) struct Writer {
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) wide: bool,
    pub(super) align: usize,
}

impl Writer {
    pub(super) fn here(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }

    fn align(&mut self) {
        let align = self.align;
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn word(&mut self, value: u64) {
        let size = if self.wide { 8 } else { 4 };
        self.bytes.extend(&value.to_le_bytes()[..size]);
    }
}

impl Guest {
    /// Writes the tables of symbols, and returns VMCOREINFO.
    pub(super) fn kallsyms(&mut self, options: Options) -> String {
        let (wide, text, shape) = (self.wide, self.text(), options.shape);
        let mut symbols = symbols(text, options.has_data);
        symbols.retain(|(.., name)| options.loads_modules || name != LOAD_MODULE);
        let align = if wide && shape != Shape::FromItself { 8 } else { 4 };
        let mut out = Writer { at: text + TABLES, bytes: Vec::new(), wide, align };
        let mut info = format!("OSRELEASE=6.9.9-test\nSYMBOL(_stext)={text:x}\n");
        if wide {
            let base = PHYSICAL as i64 - (TEXT - 0xffff_ffff_8000_0000) as i64;
            info += &format!("NUMBER(phys_base)={base}\nKERNELOFFSET=11000000\n");
            info += &format!("SYMBOL(swapper_pg_dir)={:x}\n", text - PHYSICAL + KERNEL_TABLE);
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
}
