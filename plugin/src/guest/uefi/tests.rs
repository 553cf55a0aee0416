//! Synthetic firmware is found, and broken firmware does no harm.

use std::time::{Duration, Instant};

use super::*;

const FLASH_SIZE: usize = 0x2_0000;
const RAM_SIZE: usize = 0x80_0000;
/// The addresses of a loaded module and of an application from a disk.
const LOADED: usize = 0x20_0000;
const APPLICATION: usize = 0x30_0000;
const POINTER: usize = 0x40_0000;

#[derive(Clone)]
struct Memory {
    ram: Vec<u8>,
    flash: Vec<u8>,
}

impl PhysicalMemory for Memory {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        let flash = FLASH.end - FLASH_SIZE as u64;
        let (bytes, start) = match physical.checked_sub(flash) {
            Some(offset) => (&self.flash, offset as usize),
            None => (&self.ram, physical as usize),
        };
        let bytes = start.checked_add(into.len()).and_then(|end| bytes.get(start..end));
        bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        vec![0..RAM_SIZE as u64, FLASH.end - FLASH_SIZE as u64..FLASH.end]
    }
}

fn put(memory: &mut [u8], at: usize, bytes: &[u8]) {
    memory[at..at + bytes.len()].copy_from_slice(bytes);
}

fn put_words(memory: &mut [u8], at: usize, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    put(memory, at, &bytes);
}

/// A PE image of 0x800 bytes with this entry point.
fn pe(entry: u32) -> Vec<u8> {
    let mut image = vec![0; 0x800];
    put(&mut image, 0, b"MZ");
    put(&mut image, 0x3c, &0x80u32.to_le_bytes());
    put(&mut image, 0x80, b"PE\0\0\x64\x86\x01");
    put(&mut image, 0x80 + 40, &entry.to_le_bytes());
    put(&mut image, 0x80 + 80, &0x800u32.to_le_bytes());
    image
}

fn section(kind: u8, contents: &[u8]) -> Vec<u8> {
    let size = (contents.len() as u32 + 4).to_le_bytes();
    let mut section = [&size[..3], &[kind], contents].concat();
    section.resize(section.len().next_multiple_of(4), 0);
    section
}

fn file(guid: u8, name: Option<&str>, image: Vec<u8>) -> Vec<u8> {
    let mut sections = section(0x10, &image);
    if let Some(name) = name {
        let text: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        sections.extend(section(0x15, &text));
    }
    let size = (sections.len() as u32 + 24).to_le_bytes();
    let mut file = [&[guid; 16][..], &[0, 0, 7, 0], &size[..3], &[0xf8], &sections].concat();
    file.resize(file.len().next_multiple_of(8), 0);
    file
}

fn volume(files: &[Vec<u8>]) -> Vec<u8> {
    let files = files.concat();
    let mut header = vec![0; 72];
    put_words(&mut header, 32, &[(72 + files.len() + 64) as u64]);
    put(&mut header, 40, b"_FVH");
    put(&mut header, 48, &72u16.to_le_bytes());
    let sum = header.chunks(2).map(|word| image::u16_in(word, 0)).fold(0, u16::wrapping_add);
    put(&mut header, 50, &sum.wrapping_neg().to_le_bytes());
    [header, files, vec![0xff; 64]].concat()
}

/// Words of a firmware's structures.
struct Words {
    size: usize,
}

impl Words {
    fn put(&self, memory: &mut [u8], at: usize, words: &[u64]) {
        for (index, word) in words.iter().enumerate() {
            put(memory, at + index * self.size, &word.to_le_bytes()[..self.size]);
        }
    }
}

/// 64-bit firmware: a volume in flash, one of whose modules was loaded, and an application in the list of images.
fn firmware() -> Memory {
    firmware_with(8)
}

/// The same with words of this size.
fn firmware_with(size: usize) -> Memory {
    let words = Words { size };
    let mut memory = Memory { ram: vec![0; RAM_SIZE], flash: vec![0xff; FLASH_SIZE] };
    let files = [
        file(1, Some("First"), pe(0x100)),
        file(2, None, pe(0x200)),
        file(3, Some("Third"), pe(0x300)),
    ];
    put(&mut memory.flash, 0x1000, &volume(&files));
    put(&mut memory.ram, LOADED, &pe(0x300));
    put(&mut memory.ram, APPLICATION, &pe(0x400));
    let [table, tables, info, entries, entry, protocol, path] =
        [0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000];
    // UEFI specification: the sizes and offsets of 4.3 and 9.1 with pointers of either size.
    let (table_size, table_count, path_at, base, image_size) = match size {
        8 => (120u32, 104, 32, 64, 72),
        _ => (72, 64, 16, 32, 40),
    };
    let ram = &mut memory.ram;
    put(ram, POINTER, b"IBI SYST");
    put_words(ram, POINTER + 8, &[table]);
    put(ram, table as usize, b"IBI SYST");
    put(ram, table as usize + 12, &table_size.to_le_bytes());
    words.put(ram, table as usize + table_count, &[1, tables]);
    put(
        ram,
        tables as usize,
        &[
            0x77, 0x2e, 0x15, 0x49, 0xda, 0x1a, 0x64, 0x47, 0xb7, 0xa2, 0x7a, 0xfe, 0xfe, 0xd9,
            0x5e, 0x8b,
        ],
    );
    words.put(ram, tables as usize + 16, &[info]);
    put(ram, info as usize + 4, &1u32.to_le_bytes());
    words.put(ram, info as usize + 8, &[entries]);
    words.put(ram, entries as usize, &[entry]);
    words.put(ram, entry as usize, &[1, protocol]);
    words.put(ram, protocol as usize + path_at, &[path]);
    words.put(ram, protocol as usize + base, &[APPLICATION as u64]);
    put_words(ram, protocol as usize + image_size, &[0x800]);
    let text: Vec<u8> = "\\EFI\\app.efi\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = (text.len() as u16 + 4).to_le_bytes();
    put(ram, path as usize, &[&[4, 4][..], &length, &text, &[0x7f, 0xff, 4, 0]].concat());
    memory
}

fn name(memory: &Memory, address: usize) -> Option<(String, u64)> {
    Firmware::find(memory)?.name(memory, address as u64, None)
}

#[test]
fn code_in_flash_and_loaded_code_have_their_modules() {
    for word in [4, 8] {
        check_modules(&firmware_with(word));
    }
}

fn check_modules(memory: &Memory) {
    let is = |address, module: &str, offset| {
        assert_eq!(name(memory, address), Some((module.to_owned(), offset)), "{address:#x}");
    };
    let flash = FLASH.end as usize - FLASH_SIZE + 0x1000;
    let first = flash + 72 + 24 + 4;
    is(first, "First", 0);
    is(first + 0x123, "First", 0x123);
    let second = first + file(1, Some("First"), pe(0)).len();
    is(second + 0x10, "02020202-0202-0202-0202-020202020202", 0x10);
    is(LOADED + 0x432, "Third", 0x432);
    is(APPLICATION + 0x7ff, "app.efi", 0x7ff);
    assert_eq!(name(memory, APPLICATION + 0x800), None);
    assert_eq!(name(memory, LOADED - 1), None);
}

#[test]
fn an_image_that_was_unloaded_has_the_name_that_it_had() {
    let mut memory = firmware();
    let address = LOADED as u64 + 0x432;
    let seen = SeenImage::around(&memory, address).expect("an image");
    memory.ram[LOADED..LOADED + 0x800].fill(0);
    let firmware = Firmware::find(&memory).expect("firmware");
    assert_eq!(firmware.name(&memory, address, None), None);
    assert_eq!(firmware.name(&memory, address, Some(&seen)), Some(("Third".to_owned(), 0x432)));
}

#[test]
fn a_machine_without_uefi_has_no_firmware() {
    let mut memory = firmware();
    memory.flash.fill(0xff);
    assert!(Firmware::find(&memory).is_none());
}

#[test]
fn broken_firmware_does_no_harm() {
    let whole = firmware();
    let mut random = fastrand::Rng::with_seed(5);
    let mut named = 0;
    for _ in 0..500 {
        let mut memory = whole.clone();
        for _ in 0..1 << random.u32(0..8) {
            let value = [0, 1, 0x7f, 0xff, random.u8(..)][random.usize(..5)];
            match random.bool() {
                true => memory.flash[0x1000 + random.usize(..0x2000)] = value,
                false => memory.ram[random.usize(..8) * 0x1000 + random.usize(..128)] = value,
            }
        }
        let start = Instant::now();
        let Some(firmware) = Firmware::find(&memory) else { continue };
        for address in
            [LOADED + 4, APPLICATION + 4, 0x10, usize::MAX, FLASH.end as usize - 0x1_f000]
        {
            if let Some((module, _)) = firmware.name(&memory, address as u64, None) {
                assert!(module.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{module:?}");
                named += 1;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    assert!(named > 100, "{named}");
}
