//! Finds multiboot headers.

/// The magic number of a multiboot 1 header, which is in the first 8 KiB of a file at a multiple of 4.
const MAGIC_1: u32 = 0x1bad_b002;
const END_1: usize = 8 << 10;

/// The magic number of a multiboot 2 header, which is in the first 32 KiB of a file at a multiple of 8.
const MAGIC_2: u32 = 0xe852_50d6;
const END_2: usize = 32 << 10;

/// A header of multiboot 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Multiboot {
    flags: u32,
}

impl Multiboot {
    /// Returns true if the header itself says where the file is loaded, so that it need not be an ELF file.
    pub(super) fn has_addresses(self) -> bool {
        self.flags & 1 << 16 != 0
    }
}

/// Finds a header of multiboot 1.
pub(super) fn find(start: &[u8]) -> Option<Multiboot> {
    let mut candidates = words(start, END_1, 4).filter(|words| words[0] == MAGIC_1);
    // The third word makes the sum of the three 0.
    let found = candidates.find(|words| sum(&words[..3]) == 0)?;
    Some(Multiboot { flags: found[1] })
}

/// Returns true if there is a header of multiboot 2.
pub(super) fn has_multiboot_2(start: &[u8]) -> bool {
    words(start, END_2, 8).any(|words| words[0] == MAGIC_2 && sum(&words) == 0)
}

fn sum(words: &[u32]) -> u32 {
    words.iter().fold(0, |sum, &word| sum.wrapping_add(word))
}

/// Returns four words from each multiple of `step` up to `end`. Words beyond the end of the file are 0.
fn words(start: &[u8], end: usize, step: usize) -> impl Iterator<Item = [u32; 4]> {
    let start = &start[..start.len().min(end)];
    (0..start.len()).step_by(step).map(move |at| {
        [0, 1, 2, 3].map(|index| {
            let bytes = start.get(at + 4 * index..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |&bytes| u32::from_le_bytes(bytes))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(at: usize, words: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0x90; at];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }

    #[test]
    fn header_needs_place_and_checksum() {
        let one = [MAGIC_1, 1 << 16, 0u32.wrapping_sub(MAGIC_1 + (1 << 16))];
        assert!(find(&header(4, &one)).unwrap().has_addresses());
        assert_eq!(find(&header(2, &one)), None);
        assert_eq!(find(&header(END_1, &one)), None);
        assert_eq!(find(&header(4, &[MAGIC_1, 0, 0])), None);
        let two = [MAGIC_2, 0, 16, 0u32.wrapping_sub(MAGIC_2 + 16)];
        assert!(has_multiboot_2(&header(END_2 - 16, &two)) && !has_multiboot_2(&header(4, &two)));
    }
}
