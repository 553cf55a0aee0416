//! The RAM of a guest: live, or a copy that a test may damage.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use pvio::guest::PhysicalMemory;

const PAGE: usize = 0x1000;

/// The guest's RAM as it is at each moment.
#[derive(Debug)]
pub struct LiveRam {
    file: File,
    size: u64,
}

impl LiveRam {
    /// Opens the file behind QEMU's `memory-backend-file`.
    pub(super) fn open(path: &Path) -> LiveRam {
        let file = File::open(path).unwrap();
        let size = file.metadata().unwrap().len();
        LiveRam { file, size }
    }

    /// Copies the RAM.
    pub fn copy(&self) -> RamCopy {
        let mut bytes = vec![0; self.size as usize];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        RamCopy::new(bytes)
    }
}

impl PhysicalMemory for LiveRam {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        self.file.read_exact_at(into, physical).is_ok()
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        std::iter::once(0..self.size).collect()
    }
}

/// A copy of a guest's RAM. Pages of zeros are not part of its ranges.
#[derive(Debug)]
pub struct RamCopy {
    bytes: Vec<u8>,
    ranges: Vec<Range<u64>>,
}

impl RamCopy {
    fn new(bytes: Vec<u8>) -> RamCopy {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (page, contents) in (0..).step_by(PAGE).zip(bytes.chunks(PAGE)) {
            if contents.iter().all(|&byte| byte == 0) {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.end == page => last.end += PAGE as u64,
                _ => ranges.push(page..page + PAGE as u64),
            }
        }
        RamCopy { bytes, ranges }
    }

    /// The pages, to be changed.
    pub fn pages_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_mut(PAGE)
    }

    /// Overwrites random bytes with random values. It hits each page of the ranges equally often.
    pub fn damage(&mut self, random: &mut fastrand::Rng, bytes: usize) {
        let pages = self.ranges.iter().flat_map(|range| range.clone().step_by(PAGE));
        let pages: Vec<u64> = pages.collect();
        for _ in 0..bytes {
            let page = pages[random.usize(..pages.len())] as usize;
            self.bytes[page + random.usize(..PAGE)] = random.u8(..);
        }
    }
}

impl PhysicalMemory for RamCopy {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        let start = physical as usize;
        let bytes = start.checked_add(into.len()).and_then(|end| self.bytes.get(start..end));
        bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        self.ranges.clone()
    }
}
