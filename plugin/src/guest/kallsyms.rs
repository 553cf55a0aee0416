//! kallsyms: the kernel's table of its own symbols (Linux's `kernel/kallsyms.c`).
//!
//! Names are compressed: each byte is the number of a token, a piece of text. The first character of a name is the kind
//! of the symbol, as `nm` prints it.

use super::PhysicalMemory;
use super::address_space::{AddressSpace, Cursor};
use super::names::{LONGEST_NAME, MOST_SYMBOLS, is_name};
use super::vmcoreinfo::VmCoreInfo;

/// The linear addresses of the parts of a symbol table.
pub(super) struct Kallsyms {
    pub(super) count: usize,
    pub(super) names: u64,
    pub(super) tokens: Tokens,
    pub(super) addresses: Addresses,
}

/// The encoding of addresses, and the linear address at which they begin.
#[derive(Clone, Copy)]
pub(super) enum Addresses {
    /// Whole addresses (before 4.6).
    Plain { at: u64 },
    /// Offsets of 32 bits from a base.
    ///
    /// If `absolute_percpu`, an offset below 0 counts downwards from `base - 1`, and others are addresses.
    FromBase { at: u64, base: u64, absolute_percpu: bool },
    /// Offsets of 32 bits, each from its own address (since 7.0).
    FromItself { at: u64 },
}

impl Addresses {
    /// Offsets from a base. The last one, which is the highest, shows whether some count downwards.
    pub(super) fn from_base<M: PhysicalMemory>(
        space: &AddressSpace<'_, M>,
        at: u64,
        base: u64,
        count: usize,
    ) -> Option<Addresses> {
        let last = at.wrapping_add(4 * (count as u64).checked_sub(1)?);
        // A 32-bit kernel never counts downwards; a 64-bit image is smaller than 2 GiB.
        let absolute_percpu = space.is_64_bit() && space.u32(last)? as i32 <= -1;
        Some(Addresses::FromBase { at, base, absolute_percpu })
    }

    fn at(&self) -> u64 {
        let (Addresses::Plain { at }
        | Addresses::FromBase { at, .. }
        | Addresses::FromItself { at }) = *self;
        at
    }

    /// Reads the next address.
    fn next<M: PhysicalMemory>(
        &self,
        space: &AddressSpace<'_, M>,
        cursor: &mut Cursor<'_, '_, M>,
    ) -> Option<u64> {
        let place = cursor.position();
        let address = match *self {
            Addresses::Plain { .. } if space.is_64_bit() => u64::from_le_bytes(cursor.array()?),
            Addresses::Plain { .. } => u64::from(cursor.u32()?),
            Addresses::FromBase { base, absolute_percpu, .. } => {
                let offset = cursor.u32()?;
                match (absolute_percpu, offset as i32) {
                    (true, down @ ..=-1) => base.wrapping_add(!down as u64),
                    (true, address) => address as u64,
                    (false, _) => base.wrapping_add(u64::from(offset)),
                }
            }
            Addresses::FromItself { .. } => {
                place.wrapping_add_signed(i64::from(cursor.u32()? as i32))
            }
        };
        Some(if space.is_64_bit() { address } else { address & 0xffff_ffff })
    }
}

/// The texts of the 256 tokens.
#[derive(Clone)]
pub(super) struct Tokens {
    text: Vec<u8>,
    index: [u16; 256],
}

impl Tokens {
    /// Reads the texts and their offsets. Returns `None` if they disagree.
    pub(super) fn read<M: PhysicalMemory>(
        space: &AddressSpace<'_, M>,
        table: u64,
        index: u64,
    ) -> Option<Tokens> {
        let bytes: [u8; 512] = space.bytes(index)?;
        let index: [u16; 256] =
            std::array::from_fn(|i| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]));
        let mut text = Vec::new();
        let mut cursor = space.cursor(table);
        for start in index {
            let is_right = usize::from(start) == text.len();
            is_right.then_some(())?;
            cursor.string(&mut text, LONGEST_NAME)?;
            text.push(0);
        }
        text.iter().all(|&byte| byte == 0 || byte.is_ascii_graphic()).then_some(())?;
        Some(Tokens { text, index })
    }

    /// The text of a token.
    fn get(&self, token: u8) -> &[u8] {
        let start = usize::from(self.index[usize::from(token)]);
        let end = match self.index.get(usize::from(token) + 1) {
            Some(&next) => usize::from(next),
            None => self.text.len(),
        };
        &self.text[start..end - 1]
    }

    /// Writes the text of tokens to `into`. Returns `None` if it is longer than any symbol.
    pub(super) fn expand(&self, tokens: &[u8], into: &mut Vec<u8>) -> Option<()> {
        into.clear();
        for &token in tokens {
            into.extend_from_slice(self.get(token));
            (into.len() <= 1 + LONGEST_NAME).then_some(())?;
        }
        Some(())
    }
}

/// A symbol of the table.
pub(super) struct Symbol<'n> {
    pub(super) address: u64,
    pub(super) kind: u8,
    pub(super) name: &'n [u8],
}

impl Symbol<'_> {
    /// Returns true if the kind is that of code.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.kind, b't' | b'T' | b'w' | b'W')
    }
}

impl Kallsyms {
    /// Finds the table by VMCOREINFO.
    pub(super) fn by_info<M: PhysicalMemory>(
        space: &AddressSpace<'_, M>,
        info: &VmCoreInfo,
    ) -> Option<Kallsyms> {
        let symbol = |name: &str| info.symbol(&format!("kallsyms_{name}"));
        let count = space.u32(symbol("num_syms")?)? as usize;
        let addresses = match (symbol("offsets"), symbol("relative_base")) {
            (Some(at), Some(base)) => Addresses::from_base(space, at, space.word(base)?, count)?,
            (Some(at), None) => Addresses::FromItself { at },
            (None, _) => Addresses::Plain { at: symbol("addresses")? },
        };
        let tokens = Tokens::read(space, symbol("token_table")?, symbol("token_index")?)?;
        Some(Kallsyms { count, names: symbol("names")?, tokens, addresses })
    }

    /// Visits the symbols whose addresses are wanted, in ascending order of addresses.
    ///
    /// Returns `None` if this is not the table of a kernel, or as soon as `visit` does.
    pub(super) fn for_each<M: PhysicalMemory>(
        &self,
        space: &AddressSpace<'_, M>,
        wants: impl Fn(u64) -> bool,
        mut visit: impl FnMut(Symbol<'_>) -> Option<()>,
    ) -> Option<()> {
        if !(1..=MOST_SYMBOLS).contains(&self.count) {
            return None;
        }
        let mut names = space.cursor(self.names);
        let mut addresses = space.cursor(self.addresses.at());
        let (mut tokens, mut text) = ([0; LONGEST_NAME], Vec::new());
        let mut last_address = 0;
        for _ in 0..self.count {
            let mut length = usize::from(names.u8()?);
            if length & 0x80 != 0 {
                length = length & 0x7f | usize::from(names.u8()?) << 7;
            }
            let tokens = tokens.get_mut(..length)?;
            names.fill(tokens)?;
            let address = self.addresses.next(space, &mut addresses)?;
            (address >= last_address).then_some(())?;
            last_address = address;
            if !wants(address) {
                continue;
            }
            self.tokens.expand(tokens, &mut text)?;
            let (&kind, name) = text.split_first()?;
            (kind.is_ascii_alphabetic() && is_name(name)).then_some(())?;
            visit(Symbol { address, kind, name })?;
        }
        Some(())
    }
}
