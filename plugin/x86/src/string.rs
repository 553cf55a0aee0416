//! Where the elements of `ins` and `outs` are: the segment that the prefixes say, and how the index
//! register goes through it (SDM vol. 1, 3.3.7 and 7.3.9).

use super::{AddressSize, Direction, Mode, PAGE};

/// A segment register, as the processor numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// ES, to which `ins` writes.
    Es,
    /// CS.
    Cs,
    /// SS.
    Ss,
    /// DS, from which `outs` reads unless a prefix says otherwise.
    Ds,
    /// FS.
    Fs,
    /// GS.
    Gs,
}

impl Segment {
    /// All six.
    pub const ALL: [Segment; 6] =
        [Segment::Es, Segment::Cs, Segment::Ss, Segment::Ds, Segment::Fs, Segment::Gs];

    /// The processor's number.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// The segment of the elements of a string instruction with these bytes; `None` where it has none, in
/// 64-bit code without a prefix that counts there.
pub fn string_segment(bytes: &[u8], mode: Mode, direction: Direction) -> Option<Segment> {
    let is_long = mode == Mode::Bits64;
    if direction == Direction::In {
        return (!is_long).then_some(Segment::Es);
    }
    let (_opcode, prefixes) = bytes.split_last()?;
    let named = prefixes.iter().rev().find_map(|prefix| match prefix {
        0x64 => Some(Segment::Fs),
        0x65 => Some(Segment::Gs),
        _ if is_long => None,
        0x26 => Some(Segment::Es),
        0x2e => Some(Segment::Cs),
        0x36 => Some(Segment::Ss),
        0x3e => Some(Segment::Ds),
        _ => None,
    });
    named.or((!is_long).then_some(Segment::Ds))
}

impl AddressSize {
    /// The greatest value of an index register.
    pub const fn mask(self) -> u64 {
        match self {
            AddressSize::Bits16 => 0xffff,
            AddressSize::Bits32 => 0xffff_ffff,
            AddressSize::Bits64 => u64::MAX,
        }
    }

    /// What a general register holds when this part of it has been written: 16 bits leave the others as
    /// they are, 32 bits clear them.
    pub const fn written(self, before: u64, value: u64) -> u64 {
        match self {
            AddressSize::Bits16 => before & !0xffff | value & 0xffff,
            AddressSize::Bits32 | AddressSize::Bits64 => value & self.mask(),
        }
    }
}

/// How a string instruction goes through memory, and where it is.
#[derive(Clone, Copy, Debug)]
pub struct StringWalk {
    /// Of the segment; 0 where there is none.
    pub base: u64,
    /// The index register, as far as the address size goes.
    pub offset: u64,
    /// Of the offset.
    pub address_size: AddressSize,
    /// Whether linear addresses have more than 32 bits.
    pub is_long: bool,
    /// EFLAGS.DF.
    pub goes_down: bool,
    /// Bytes of an element.
    pub size: u64,
}

/// Elements that are next to each other in memory: in one page, or a single one in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Linear address of the lowest byte.
    pub lowest: u64,
    /// How many there are.
    pub count: u64,
}

impl StringWalk {
    /// The next elements, at most `most` and at least one; `None` where one goes around the end of linear
    /// memory.
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
        // Each is how many follow the first.
        let count = 1 + in_page.min(before_wrap).min(most.saturating_sub(1));
        let lowest = if self.goes_down { linear - (count - 1) * size } else { linear };
        Some(Run { lowest, count })
    }

    /// Behind so many elements.
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
    fn prefixes_name_the_segment() {
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

    /// The addresses of the next elements, one after another as the processor makes them.
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
    fn runs_have_the_elements_one_by_one() {
        let mut rng = fastrand::Rng::with_seed(1);
        let sizes = [AddressSize::Bits16, AddressSize::Bits32, AddressSize::Bits64];
        for _ in 0..20_000 {
            let address_size = rng.choice(sizes).unwrap();
            let is_long = rng.bool() || address_size == AddressSize::Bits64;
            // Where something ends: the page, the segment, the addresses.
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

    #[test]
    fn what_is_written_of_a_register_is_what_the_processor_writes() {
        assert_eq!(
            AddressSize::Bits16.written(0x1234_5678_9abc_def0, 0x5_1111),
            0x1234_5678_9abc_1111
        );
        assert_eq!(AddressSize::Bits32.written(0x1234_5678_9abc_def0, 0x1111), 0x1111);
        assert_eq!(AddressSize::Bits64.written(1, u64::MAX), u64::MAX);
    }
}
