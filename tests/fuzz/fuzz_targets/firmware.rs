#![no_main]
//! UEFI firmware in flash and in RAM: volumes, files, PE images, and the list of loaded images.

use std::ops::Range;

use fuzz::assert_text;
use libfuzzer_sys::fuzz_target;
use pvio::guest::{Firmware, PhysicalMemory, SeenImage};

const FLASH_END: u64 = 1 << 32;
const FLASH_SIZE: u64 = 0x2000;

/// Flash and RAM, each with a part of the data at its beginning.
struct Memory {
    flash: Vec<u8>,
    ram: Vec<u8>,
}

impl Memory {
    const RAM_SIZE: u64 = 0x1_0000;
}

impl PhysicalMemory for Memory {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        let (data, at, size) = match physical.checked_sub(FLASH_END - FLASH_SIZE) {
            Some(at) => (&self.flash, at, FLASH_SIZE),
            None => (&self.ram, physical, Memory::RAM_SIZE),
        };
        if at.saturating_add(into.len() as u64) > size {
            return false;
        }
        into.fill(0);
        let data = data.get(at as usize..).unwrap_or_default();
        let len = data.len().min(into.len());
        into[..len].copy_from_slice(&data[..len]);
        true
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        vec![0..Memory::RAM_SIZE, FLASH_END - FLASH_SIZE..FLASH_END]
    }
}

/// Makes the checksum of each volume's header right. Volumes with a wrong one are not read.
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut repaired = data.to_vec();
    for (signature, _) in data.windows(4).enumerate().filter(|(_, bytes)| bytes == b"_FVH") {
        let Some(volume) = signature.checked_sub(40).and_then(|at| repaired.get_mut(at..)) else {
            continue;
        };
        let Some(&[low, high]) = volume.get(48..50) else { continue };
        let size = usize::from(u16::from_le_bytes([low, high]));
        let Some(header) = volume.get_mut(..size).filter(|header| header.len() >= 56) else {
            continue;
        };
        header[50..52].fill(0);
        let words = header.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
        let sum = words.fold(0, u16::wrapping_add);
        header[50..52].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    }
    repaired
}

fuzz_target!(|data: &[u8]| {
    let Some((&[low, high], data)) = data.split_first_chunk() else { return };
    let len = usize::from(u16::from_le_bytes([low, high])).min(data.len());
    let (flash, ram) = data.split_at(len);
    let memory = Memory { flash: with_checksums(flash), ram: with_checksums(ram) };
    Firmware::is_there(&memory);
    let seen = SeenImage::around(&memory, 0x1234);
    let Some(firmware) = Firmware::find(&memory) else { return };
    let begin = FLASH_END - FLASH_SIZE;
    for address in [0, 0x100, 0x1234, 0x8000, begin, begin + 0x80, begin + 0x123, u64::MAX] {
        for seen in [None, seen.as_ref()] {
            if let Some((name, _)) = firmware.name(&memory, address, seen) {
                assert_text(&name);
            }
        }
    }
});
