//! Small guests in each format that QEMU boots: ELF files, disks, a CD-ROM.

/// Code for 16, 32 and 64-bit mode that writes 16 to isa-debug-exit, which makes 33 of it: `mov al,16; out 0xf4,al`.
pub const EXIT_33: &[u8] = b"\xb0\x10\xe6\xf4\xfa\xf4\xeb\xfd";

/// 32-bit code that writes the command line of multiboot to COM1; other code follows.
pub const PRINT_COMMAND_LINE: &[u8] = &[
    0x8b, 0x73, 0x10, // mov esi, [ebx + 16]
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xac, 0x84, 0xc0, 0x74, 0x03, // lodsb; test al, al; jz +3
    0xee, 0xeb, 0xf8, // out dx, al; jmp -8
    0xb0, b'\n', 0xee, // mov al, '\n'; out dx, al
];

/// The physical address of an ELF guest.
const ADDRESS: u32 = 0x10_0000;

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn halves(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A multiboot 1 header.
pub fn multiboot_1(flags: u32) -> Vec<u8> {
    words(&[0x1bad_b002, flags, 0u32.wrapping_sub(0x1bad_b002 + flags)])
}

/// A multiboot 2 header with an end tag, aligned in an ELF32 file.
pub fn multiboot_2() -> Vec<u8> {
    let magic = 0xe852_50d6u32;
    words(&[0, magic, 0, 24, 0u32.wrapping_sub(magic).wrapping_sub(24), 0, 8])
}

/// A note with the address of a PVH kernel's code, which is after the note in an ELF64 file. QEMU reads 8 bytes of it.
pub fn pvh_note() -> Vec<u8> {
    let headers = 64 + 2 * 56;
    [words(&[4, 8, 18]), b"Xen\0".to_vec(), words(&[ADDRESS + headers + 24, 0])].concat()
}

/// An ELF32 file for i386: a header such as that of multiboot, then code.
pub fn elf32(header: &[u8], code: &[u8]) -> Vec<u8> {
    const HEADERS: u32 = 52 + 32;
    let contents = [header, code].concat();
    let size = HEADERS + contents.len() as u32;
    let entry = ADDRESS + HEADERS + header.len() as u32;
    [
        b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        halves(&[2, 3]),              // executable, i386
        words(&[1, entry, 52, 0, 0]), // version, program headers
        halves(&[52, 32, 1, 0, 0, 0]),
        words(&[1, 0, ADDRESS, ADDRESS, size, size, 7, 0x1000]), // all of the file
        contents,
    ]
    .concat()
}

/// An ELF64 file: a header, which a program header calls a note, then code.
pub fn elf64(machine: u16, header: &[u8], code: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 2 * 56;
    let contents = [header, code].concat();
    let size = HEADERS + contents.len() as u64;
    let address = u64::from(ADDRESS);
    let segment = |kind: u32, offset: u64, size: u64| {
        let place = address + offset;
        [words(&[kind, 7]), longs(&[offset, place, place, size, size, 4])].concat()
    };
    [
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        halves(&[2, machine]),
        words(&[1]),
        longs(&[address + HEADERS + header.len() as u64, 64, 0]),
        words(&[0]),
        halves(&[64, 56, 2, 0, 0, 0]),
        segment(1, 0, size),
        segment(4, HEADERS, header.len() as u64),
        contents,
    ]
    .concat()
}

/// A file with a multiboot 1 header that says where it is loaded, so that it needs no ELF header.
pub fn multiboot_flat(code: &[u8]) -> Vec<u8> {
    let header = multiboot_1(1 << 16);
    let end = ADDRESS + 32 + code.len() as u32;
    let addresses = words(&[ADDRESS, ADDRESS, end, end, ADDRESS + 32]);
    [header, addresses, code.to_vec()].concat()
}

/// A sector that a BIOS boots.
pub fn boot_sector(code: &[u8]) -> Vec<u8> {
    let mut sector = code.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

/// A BIOS of 64 KiB: a jump at the reset vector to code at its beginning.
pub fn bios(code: &[u8]) -> Vec<u8> {
    let mut image = code.to_vec();
    image.resize(0x1_0000, 0);
    image[0xfff0..0xfff5].copy_from_slice(b"\xea\0\0\0\xf0");
    image
}

/// A qcow2 image, version 2, whose only cluster begins with a boot sector.
pub fn qcow2(code: &[u8]) -> Vec<u8> {
    const CLUSTER: usize = 1 << 16;
    let cluster = |number: u64| number << 16;
    let used = 1 << 63;
    let mut image = vec![0; 6 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| image[at..][..bytes.len()].copy_from_slice(bytes);
    let long = |value: u64| value.to_be_bytes();
    let word = |value: u32| value.to_be_bytes();
    put(0, b"QFI\xfb");
    put(4, &word(2)); // version
    put(20, &word(16)); // bits of a cluster
    put(24, &long(CLUSTER as u64)); // size of the disk
    put(36, &word(1)); // entries of the first table
    put(40, &long(cluster(3)));
    put(48, &long(cluster(1))); // table of reference counts
    put(56, &word(1));
    put(CLUSTER, &long(cluster(2)));
    for number in 0..6 {
        put(2 * CLUSTER + 2 * number, &1u16.to_be_bytes());
    }
    put(3 * CLUSTER, &long(cluster(4) | used));
    put(4 * CLUSTER, &long(cluster(5) | used));
    put(5 * CLUSTER, &boot_sector(code));
    image
}

/// An ISO 9660 image. With a boot record, a BIOS boots the code.
pub fn iso(code: &[u8], has_boot_record: bool) -> Vec<u8> {
    const SECTOR: usize = 2048;
    let mut image = vec![0; 32 * SECTOR];
    let mut put = |sector: usize, at: usize, bytes: &[u8]| {
        image[sector * SECTOR + at..][..bytes.len()].copy_from_slice(bytes);
    };
    put(16, 0, b"\x01CD001\x01");
    if has_boot_record {
        put(17, 0, b"\0CD001\x01EL TORITO SPECIFICATION");
        put(17, 0x47, &19u32.to_le_bytes()); // the catalog's sector
        put(19, 0, &[1, 0]);
        put(19, 30, &[0x55, 0xaa]);
        put(19, 28, &0u16.wrapping_sub(0xaa55 + 1).to_le_bytes()); // the sum of the entry is 0
        put(19, 32, &[0x88, 0, 0, 0, 0, 0, 4, 0]); // bootable, no emulation, four sectors of 512
        put(19, 40, &20u32.to_le_bytes());
        put(20, 0, code);
    } else {
        put(17, 0, b"\xffCD001\x01");
    }
    put(18, 0, b"\xffCD001\x01");
    image
}

/// A disk with a FAT12 file system that has only `EFI/BOOT/BOOTX64.EFI`.
pub fn fat12(application: &[u8]) -> Vec<u8> {
    const SECTOR: usize = 512;
    const SECTORS: u16 = 2880;
    const DATA: usize = 1 + 2 * 9 + 14;
    let mut image = vec![0; usize::from(SECTORS) * SECTOR];
    image[0..11].copy_from_slice(b"\xeb\x3c\x90MSDOS5.0");
    // Bytes of a sector, sectors of a cluster, reserved; FATs, entries of the root, sectors, media, sectors of a FAT.
    image[11..16].copy_from_slice(&[0, 2, 1, 1, 0]);
    image[16..24].copy_from_slice(&[2, 224, 0, 0x40, 0x0b, 0xf0, 9, 0]);
    image[24..28].copy_from_slice(&[18, 0, 2, 0]);
    image[38] = 0x29;
    image[43..62].copy_from_slice(b"GUEST      FAT12   ");
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    let clusters = application.len().div_ceil(SECTOR);
    // Of each cluster, the next one: the directories EFI (2) and BOOT (3) have one, the file those from 4 on.
    let mut next = vec![0xff0u16, 0xfff, 0xfff, 0xfff];
    next.extend((5..5 + clusters as u16 - 1).chain([0xfff]));
    for (cluster, next) in next.into_iter().enumerate() {
        for fat in [SECTOR, 10 * SECTOR] {
            let at = fat + cluster * 3 / 2;
            let shifted = if cluster % 2 == 0 { next } else { next << 4 };
            image[at] |= shifted as u8;
            image[at + 1] |= (shifted >> 8) as u8;
        }
    }
    let mut entry = |at: usize, name: &[u8; 11], attributes: u8, cluster: u16, size: u32| {
        image[at..at + 11].copy_from_slice(name);
        image[at + 11] = attributes;
        image[at + 26..at + 28].copy_from_slice(&cluster.to_le_bytes());
        image[at + 28..at + 32].copy_from_slice(&size.to_le_bytes());
    };
    const DIRECTORY: u8 = 0x10;
    let (efi, boot) = (DATA * SECTOR, (DATA + 1) * SECTOR);
    entry(19 * SECTOR, b"EFI        ", DIRECTORY, 2, 0);
    entry(efi, b".          ", DIRECTORY, 2, 0);
    entry(efi + 32, b"..         ", DIRECTORY, 0, 0);
    entry(efi + 64, b"BOOT       ", DIRECTORY, 3, 0);
    entry(boot, b".          ", DIRECTORY, 3, 0);
    entry(boot + 32, b"..         ", DIRECTORY, 2, 0);
    entry(boot + 64, b"BOOTX64 EFI", 0x20, 4, application.len() as u32);
    image[(DATA + 2) * SECTOR..][..application.len()].copy_from_slice(application);
    image
}
