//! Finds kallsyms by the shape of its tables, in kernels before 6.0 or without VMCOREINFO.
//!
//! The method is that of `vmlinux-to-elf`. The tokens of the digits 0 to 9 are the digits themselves, so their texts show
//! the table of tokens. The names come before it, after the number of symbols. Addresses come before that number, or,
//! since 6.4, after the tokens.

use std::ops::Range;

use super::PhysicalMemory;
use super::address_space::AddressSpace;
use super::kallsyms::{Addresses, Kallsyms, Tokens};
use super::names::{LONGEST_NAME, MOST_SYMBOLS, is_name};
use crate::x86::PAGE;

const DIGITS: &[u8; 20] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0";

/// Minimum number of symbols of a kernel.
const FEWEST_SYMBOLS: usize = 1000;
/// Maximum number of bytes between the number of symbols and the tokens.
const REACH: u64 = 8 << 20;
/// Maximum number of places with digits that are tried, and maximum number of tables of tokens.
const DIGIT_PLACES: usize = 4096;
const TOKEN_TABLES: usize = 4;
/// Maximum number of places before each where names may begin.
const PLACES: usize = 1 << 16;
/// Maximum number of these places at which all names are read.
const NAME_TABLES: usize = 64;

/// The linear addresses that an image can have.
///
/// In 64-bit kernels they are the first `KERNEL_IMAGE_SIZE` bytes after `__START_KERNEL_map`.
const IMAGE_64: Range<u64> = 0xffff_ffff_8000_0000..0xffff_ffff_c000_0000;
/// The same in 32-bit kernels: from `PAGE_OFFSET` on.
const IMAGE_32: Range<u64> = 0xc000_0000..0xe000_0000;

/// The mapped part of the range for an image.
pub(super) fn image<M: PhysicalMemory>(space: &AddressSpace<'_, M>) -> Option<Range<u64>> {
    /// A large page. The first small page of each mapped one is mapped.
    const STEP: usize = 2 << 20;
    let range = if space.is_64_bit() { IMAGE_64 } else { IMAGE_32 };
    let mut mapped = range.step_by(STEP).filter(|&linear| space.translate(linear).is_some());
    let first = mapped.next()?;
    Some(first..mapped.last().unwrap_or(first) + STEP as u64)
}

/// Finds tables in an image that may be kallsyms.
pub(super) fn search<M: PhysicalMemory>(
    space: &AddressSpace<'_, M>,
    image: Range<u64>,
) -> impl Iterator<Item = Kallsyms> {
    let digits = find_digits(space, image);
    // Since 7.0 the tables of 64-bit kernels are aligned to 4 bytes, too.
    let aligns = if space.is_64_bit() { &[8, 4][..] } else { &[4] };
    let all =
        digits.into_iter().flat_map(|digits| aligns.iter().map(move |&align| (digits, align)));
    let tokens = all.filter_map(|(digits, align)| TokenTable::around(space, digits, align));
    tokens.take(TOKEN_TABLES).flat_map(|tokens| tables(space, &tokens))
}

/// Finds the digits among tokens.
fn find_digits<M: PhysicalMemory>(space: &AddressSpace<'_, M>, image: Range<u64>) -> Vec<u64> {
    const KEPT: usize = DIGITS.len() - 1;
    let ranges = space.memory().ranges();
    let is_touched = |physical: u64| {
        let after = ranges.partition_point(|range| range.start <= physical);
        after.checked_sub(1).is_some_and(|before| ranges[before].contains(&physical))
    };
    let finder = memchr::memmem::Finder::new(DIGITS);
    // The end of the page before, and a page.
    let mut bytes = [0; KEPT + PAGE as usize];
    let mut found = Vec::new();
    for page in image.step_by(PAGE as usize) {
        bytes.copy_within(PAGE as usize.., 0);
        let (_, now) = bytes.split_at_mut(KEPT);
        let physical = space.translate(page).filter(|&physical| is_touched(physical));
        if !physical.is_some_and(|physical| space.memory().read(physical, now)) {
            now.fill(0);
            continue;
        }
        found.extend(finder.find_iter(&bytes).map(|at| page + at as u64 - KEPT as u64));
        if found.len() >= DIGIT_PLACES {
            break;
        }
    }
    found
}

/// The table of tokens, which is between the other tables.
struct TokenTable {
    at: u64,
    /// The address of the tables after it.
    end: u64,
    tokens: Tokens,
    align: u64,
}

impl TokenTable {
    /// Reads the table that has these digits.
    fn around<M: PhysicalMemory>(
        space: &AddressSpace<'_, M>,
        digits: u64,
        align: u64,
    ) -> Option<TokenTable> {
        let mut cursor = space.cursor(digits);
        let mut text = Vec::new();
        for _token in b'0'..=u8::MAX {
            text.clear();
            cursor.string(&mut text, LONGEST_NAME)?;
        }
        let index = cursor.position().next_multiple_of(align);
        let before = space.bytes(index + 2 * u64::from(b'0')).map(u16::from_le_bytes)?;
        let at = digits.checked_sub(u64::from(before))?;
        let tokens = Tokens::read(space, at, index)?;
        Some(TokenTable { at, end: (index + 512).next_multiple_of(align), tokens, align })
    }
}

/// Finds the other tables around that of tokens.
fn tables<M: PhysicalMemory>(space: &AddressSpace<'_, M>, tokens: &TokenTable) -> Vec<Kallsyms> {
    let word = space.word_size();
    let mut found = Vec::new();
    for (names, count) in find_names(space, tokens) {
        let number = names - tokens.align;
        let size = (4 * count as u64).next_multiple_of(tokens.align);
        let from_base =
            |at: u64, base: u64| Addresses::from_base(space, at, space.word(base)?, count);
        let addresses = [
            from_base(number - word - size, number - word),
            from_base(tokens.end, tokens.end + size),
            Some(Addresses::FromItself { at: tokens.end }),
            Some(Addresses::Plain { at: number - count as u64 * word }),
        ];
        for addresses in addresses.into_iter().flatten() {
            found.push(Kallsyms { count, names, tokens: tokens.tokens.clone(), addresses });
        }
    }
    found
}

/// Finds the names before the table of tokens. Returns addresses and counts.
fn find_names<M: PhysicalMemory>(
    space: &AddressSpace<'_, M>,
    TokenTable { at: table, tokens, align, .. }: &TokenTable,
) -> Vec<(u64, usize)> {
    let align = *align as usize;
    let begin = (*table - REACH) & !(PAGE - 1);
    let mut bytes = vec![0; (*table - begin) as usize];
    // A page that is absent stays zeros.
    for (page, bytes) in (begin..).step_by(PAGE as usize).zip(bytes.chunks_mut(PAGE as usize)) {
        let _ = space.read(page, bytes);
    }
    let names = |at: usize| &bytes[at + align..];
    let count =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let last = bytes.len().saturating_sub(align);
    (0..last)
        .step_by(align)
        .rev()
        .map(|at| (at, count(at) as usize))
        .filter(|(_, count)| (FEWEST_SYMBOLS..=MOST_SYMBOLS).contains(count))
        .take(PLACES)
        .filter(|&(at, _)| begin_well(names(at), tokens))
        .take(NAME_TABLES)
        .filter(|&(at, count)| markers_follow(names(at), count, align))
        .map(|(at, count)| (begin + (at + align) as u64, count))
        .collect()
}

/// Returns true if the first names are plausible: each has the letter of a kind, and characters.
fn begin_well(mut names: &[u8], tokens: &Tokens) -> bool {
    let mut text = Vec::new();
    (0..8).all(|_| {
        let Some((name, rest)) = split_name(names) else { return false };
        names = rest;
        tokens.expand(name, &mut text).is_some()
            && text
                .split_first()
                .is_some_and(|(kind, name)| kind.is_ascii_alphabetic() && is_name(name))
    })
}

/// Returns true if the markers follow these names: the offset of each 256th name.
///
/// A marker has 4 bytes, or, before 5.0, a word.
fn markers_follow(names: &[u8], count: usize, align: usize) -> bool {
    let mut places = Vec::with_capacity(count / 256 + 1);
    let mut rest = names;
    for number in 0..count {
        if number % 256 == 0 {
            places.push((names.len() - rest.len()) as u64);
        }
        let Some((_, after)) = split_name(rest) else { return false };
        rest = after;
    }
    // The markers are aligned as the names are.
    let end = (names.len() - rest.len()).next_multiple_of(align);
    [4, align].iter().any(|&size| {
        let Some(markers) = names.get(end..end + size * places.len()) else { return false };
        markers.chunks(size).zip(&places).all(|(marker, place)| {
            let mut word = [0; 8];
            word[..size].copy_from_slice(marker);
            u64::from_le_bytes(word) == *place
        })
    })
}

/// Splits off the tokens of the first name.
fn split_name(names: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = names.split_first()?;
    let (length, rest) = match first & 0x80 {
        0 => (usize::from(first), rest),
        _ => {
            let (&second, rest) = rest.split_first()?;
            (usize::from(first & 0x7f) | usize::from(second) << 7, rest)
        }
    };
    (length > 0 && length <= rest.len()).then(|| rest.split_at(length))
}
