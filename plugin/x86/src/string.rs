//! The memory of `ins` and `outs`: its segment, and how the index register moves through it.
//!
//! Source: SDM vol. 1, 3.3.7 and 7.3.9.

use super::{AddressSize, Direction, Mode, PAGE, Prefix, Segment};

/// Returns the segment of a string instruction's memory operand.
///
/// `bytes` is the whole instruction. `None` in 64-bit code, unless a prefix names FS or GS for `outs`.
///
/// ```
/// use pvio_x86::{Direction, Mode, Segment, string_segment};
///
/// let cs_outsb = [0x2e, 0x6e];
/// assert_eq!(string_segment(&cs_outsb, Mode::Bits16, Direction::Out), Some(Segment::Cs));
/// assert_eq!(string_segment(&cs_outsb, Mode::Bits64, Direction::Out), None);
/// ```
pub fn string_segment(bytes: &[u8], mode: Mode, direction: Direction) -> Option<Segment> {
    let is_long = mode == Mode::Bits64;
    if direction == Direction::In {
        return (!is_long).then_some(Segment::Es);
    }
    let (_opcode, prefixes) = bytes.split_last()?;
    let named = prefixes.iter().rev().find_map(|&byte| match Prefix::of(byte) {
        Some(Prefix::Segment(segment)) => {
            (!is_long || matches!(segment, Segment::Fs | Segment::Gs)).then_some(segment)
        }
        _ => None,
    });
    named.or((!is_long).then_some(Segment::Ds))
}

/// Returns true if a prefix of `outs` names a segment that 64-bit code ignores.
///
/// ```
/// use pvio_x86::{Mode, ignores_segment};
///
/// let ds_outsb = [0x3e, 0x6e];
/// assert!(ignores_segment(&ds_outsb, Mode::Bits64) && !ignores_segment(&ds_outsb, Mode::Bits32));
/// assert!(!ignores_segment(&[0x64, 0x6e], Mode::Bits64));
/// ```
pub fn ignores_segment(bytes: &[u8], mode: Mode) -> bool {
    let is_ignored = |&byte: &u8| match Prefix::of(byte) {
        Some(Prefix::Segment(segment)) => !matches!(segment, Segment::Fs | Segment::Gs),
        _ => false,
    };
    let prefixes = bytes.split_last().map_or(&[][..], |(_opcode, prefixes)| prefixes);
    mode == Mode::Bits64 && prefixes.iter().any(is_ignored)
}

/// The position of a string instruction in memory, and how it moves.
///
/// ```
/// use pvio_x86::{AddressSize, Run, StringWalk};
///
/// // 100 bytes, from 16 bytes before the end of a page.
/// let mut walk = StringWalk {
///     base: 0,
///     offset: 0x1ff0,
///     address_size: AddressSize::Bits32,
///     is_long: false,
///     goes_down: false,
///     size: 1,
/// };
/// assert_eq!(walk.next_run(100), Some(Run { lowest: 0x1ff0, count: 16 }));
/// walk.advance(16);
/// assert_eq!(walk.next_run(84), Some(Run { lowest: 0x2000, count: 84 }));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct StringWalk {
    /// The segment's base; 0 if there is no segment.
    pub base: u64,
    /// The index register, cut to the address size.
    pub offset: u64,
    /// The width of the index register.
    pub address_size: AddressSize,
    /// True if linear addresses have 64 bits, not 32.
    pub is_long: bool,
    /// True if the index register decreases: EFLAGS.DF.
    pub goes_down: bool,
    /// The size of an element in bytes: 1, 2 or 4.
    pub size: u64,
}

/// Adjacent elements in one page, or a single element that spans two pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The linear address of the lowest byte.
    pub lowest: u64,
    /// The number of elements, at least 1.
    pub count: u64,
}

impl StringWalk {
    /// Returns the next elements: at least one, at most `most`.
    ///
    /// `None` if the next element wraps around the end of the linear address space.
    pub fn next_run(&self, most: u64) -> Option<Run> {
        let size = self.size;
        let linear = self.base.wrapping_add(self.offset);
        let linear = if self.is_long { linear } else { linear & 0xffff_ffff };
        let in_page = linear % PAGE;
        if in_page + size > PAGE {
            let last = linear.checked_add(size - 1)?;
            return (self.is_long || last >> 32 == 0).then_some(Run { lowest: linear, count: 1 });
        }
        let (in_page, before_wrap) = match self.goes_down {
            true => (in_page / size, self.offset / size),
            false => {
                ((PAGE - size - in_page) / size, (self.address_size.mask() - self.offset) / size)
            }
        };
        // Both count the elements after the first.
        let count = 1 + in_page.min(before_wrap).min(most.saturating_sub(1));
        let lowest = if self.goes_down { linear - (count - 1) * size } else { linear };
        Some(Run { lowest, count })
    }

    /// Moves past `count` elements.
    pub fn advance(&mut self, count: u64) {
        let distance = count.wrapping_mul(self.size);
        let offset = match self.goes_down {
            true => self.offset.wrapping_sub(distance),
            false => self.offset.wrapping_add(distance),
        };
        self.offset = offset & self.address_size.mask();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_effective_prefix_names_the_segment() {
        use Direction::{In, Out};
        let cases: [(&[u8], Mode, Direction, Option<Segment>); 10] = [
            (&[0xf3, 0x6e], Mode::Bits32, Out, Some(Segment::Ds)),
            (&[0x2e, 0xf3, 0x6e], Mode::Bits16, Out, Some(Segment::Cs)),
            (&[0x2e, 0x36, 0xf3, 0x6f], Mode::Bits16, Out, Some(Segment::Ss)),
            (&[0x26, 0xf3, 0x66, 0x6f], Mode::Bits32, Out, Some(Segment::Es)),
            (&[0x64, 0x3e, 0xf3, 0x6f], Mode::Bits32, Out, Some(Segment::Ds)),
            (&[0x64, 0x3e, 0xf3, 0x6f], Mode::Bits64, Out, Some(Segment::Fs)),
            (&[0x65, 0xf3, 0x48, 0x6f], Mode::Bits64, Out, Some(Segment::Gs)),
            (&[0x3e, 0xf3, 0x6e], Mode::Bits64, Out, None),
            (&[0x64, 0xf3, 0x6c], Mode::Bits32, In, Some(Segment::Es)),
            (&[0x64, 0xf3, 0x6c], Mode::Bits64, In, None),
        ];
        for (bytes, mode, direction, segment) in cases {
            assert_eq!(string_segment(bytes, mode, direction), segment, "{bytes:x?} {mode:?}");
        }
    }

    /// The addresses of the next elements, computed one by one as the processor does.
    fn addresses(mut walk: StringWalk, count: u64) -> Vec<u64> {
        let next = |_| {
            let linear = walk.base.wrapping_add(walk.offset);
            let linear = if walk.is_long { linear } else { linear & 0xffff_ffff };
            walk.advance(1);
            linear
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn runs_are_the_elements_in_order() {
        let mut rng = fastrand::Rng::with_seed(1);
        let sizes = [AddressSize::Bits16, AddressSize::Bits32, AddressSize::Bits64];
        for _ in 0..20_000 {
            let address_size = rng.choice(sizes).unwrap();
            let is_long = rng.bool() || address_size == AddressSize::Bits64;
            // Ends of a page, of a segment, of the address space.
            let near = [0, 0x1000, 0xffff, 0x1_0000, 0xffff_f000, 0xffff_ffff, u64::MAX];
            let around = |rng: &mut fastrand::Rng| {
                rng.choice(near).unwrap().wrapping_add(rng.u64(0..80)).wrapping_sub(40)
            };
            let mut walk = StringWalk {
                base: around(&mut rng),
                offset: around(&mut rng) & address_size.mask(),
                address_size,
                is_long,
                goes_down: rng.bool(),
                size: rng.choice([1, 2, 4]).unwrap(),
            };
            let mut left = rng.u64(1..60);
            while left > 0 {
                let expected = addresses(walk, left);
                let Some(Run { lowest, count }) = walk.next_run(left) else {
                    let end = if is_long { u64::MAX } else { 0xffff_ffff };
                    assert!(expected[0] > end - walk.size + 1, "{walk:x?}");
                    break;
                };
                assert!(1 <= count && count <= left);
                let mut run: Vec<u64> =
                    (0..count).map(|place| lowest + place * walk.size).collect();
                if walk.goes_down {
                    run.reverse();
                }
                assert_eq!(run, expected[..count as usize], "{walk:x?}");
                let last_byte = lowest + (count * walk.size - 1);
                assert!(count == 1 || lowest / PAGE == last_byte / PAGE, "{walk:x?}");
                walk.advance(count);
                left -= count;
            }
        }
    }
}
