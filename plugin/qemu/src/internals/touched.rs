//! The guest's RAM that may hold nonzero data.
//!
//! Most of a large guest's RAM is never touched. The host's kernel allocates no pages for it, which
//! `/proc/self/pagemap` shows (Documentation/admin-guide/mm/pagemap.rst).

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::ram::GuestRam;

const PAGE: u64 = 4096;
/// The step of the search for RAM in holes. QEMU's machines place it in multiples of this.
const STEP: u64 = 1 << 20;
/// The longest gap between two pieces of RAM.
const MAX_GAP: u64 = 64 << 30;
/// Number of pages that are queried at once.
const CHUNK: usize = 8192;
/// Bits 63, 62 and 61 of a page's entry: present, swapped out, and mapped from a file or shared.
const IN_USE: u64 = 0b111 << 61;

impl GuestRam {
    /// The RAM by physical address, ascending and in whole pages, without pages that the guest has never touched.
    ///
    /// Takes some milliseconds for each GiB.
    pub fn touched_ranges(&self) -> Vec<Range<u64>> {
        let pages = File::open("/proc/self/pagemap").ok();
        let mut ranges = Vec::new();
        let (mut physical, mut gap) = (0, 0);
        while gap < MAX_GAP {
            match self.extent(physical) {
                Some((host, len)) => {
                    add_touched(pages.as_ref(), physical, host, len, &mut ranges);
                    physical += len;
                    gap = 0;
                }
                None => {
                    let next = (physical / STEP + 1) * STEP;
                    gap += next - physical;
                    physical = next;
                }
            }
        }
        ranges
    }
}

/// Adds those pages of `len` bytes of RAM that the host's kernel may have filled.
fn add_touched(
    pages: Option<&File>,
    physical: u64,
    host: u64,
    len: u64,
    ranges: &mut Vec<Range<u64>>,
) {
    let mut entries = vec![0; CHUNK * 8];
    let (mut done, count) = (0, len / PAGE);
    while done < count {
        let chunk = (count - done).min(CHUNK as u64);
        let entries = &mut entries[..chunk as usize * 8];
        let at = (host / PAGE + done) * 8;
        let known = pages.is_some_and(|pages| pages.read_exact_at(entries, at).is_ok());
        for page in 0..chunk {
            let entry = entries[page as usize * 8..].first_chunk().expect("a whole entry");
            if known && u64::from_ne_bytes(*entry) & IN_USE == 0 {
                continue;
            }
            let start = physical + (done + page) * PAGE;
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end += PAGE,
                _ => ranges.push(start..start + PAGE),
            }
        }
        done += chunk;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_were_touched_are_listed() {
        let mut memory = vec![0u8; 64 * PAGE as usize];
        let host = (memory.as_ptr().addr() as u64).next_multiple_of(PAGE);
        let offset = (host - memory.as_ptr().addr() as u64) as usize;
        for page in [3, 4, 40] {
            memory[offset + page * PAGE as usize] = 1;
        }
        let pages = File::open("/proc/self/pagemap").unwrap();
        let mut ranges = Vec::new();
        add_touched(Some(&pages), 0x10_0000, host, 50 * PAGE, &mut ranges);
        let has = |page: u64| ranges.iter().any(|range| range.contains(&(0x10_0000 + page * PAGE)));
        assert!(has(3) && has(4) && has(40), "{ranges:x?}");
        assert!(!has(50));
    }

    #[test]
    fn without_the_kernels_word_every_page_counts() {
        let mut ranges = Vec::new();
        add_touched(None, 0x1000, 0x1000, 3 * PAGE, &mut ranges);
        assert_eq!(ranges.first(), Some(&(0x1000..0x4000)));
        assert_eq!(ranges.len(), 1);
    }
}
