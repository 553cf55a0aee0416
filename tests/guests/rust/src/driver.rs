//! A driver for a latch of four ports, written once for every way to access the ports.

use pvio_guest::PortIo;

/// The first port of the latch.
pub const LATCH: u16 = 0x5000;

/// The values that [`drive`] has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    long: u32,
    byte: u8,
    word: u16,
    bytes: [u8; 4],
    words: [u16; 3],
    longs: [u32; 2],
}

/// The values that it reads from a latch.
pub const FROM_LATCH: Read = Read {
    long: 0x4433_2211,
    byte: 0x55,
    word: 0x8877,
    bytes: [3; 4],
    words: [0x0605; 3],
    longs: [0xddcc_bbaa; 2],
};

/// The values that it reads if no device serves the ports.
pub const FROM_NOBODY: Read = Read {
    long: u32::MAX,
    byte: u8::MAX,
    word: u16::MAX,
    bytes: [u8::MAX; 4],
    words: [u16::MAX; 3],
    longs: [u32::MAX; 2],
};

/// Uses each of the twelve operations.
pub fn drive<P: PortIo + ?Sized>(io: &P) -> Read {
    let mut read = Read::default();
    // SAFETY: behind these ports there is a latch or nobody.
    unsafe {
        io.outb(0x11, LATCH);
        io.outb(0x22, LATCH + 1);
        io.outw(0x4433, LATCH + 2);
        read.long = io.inl(LATCH);
        io.outl(0x8877_6655, LATCH);
        read.byte = io.inb(LATCH);
        read.word = io.inw(LATCH + 2);
        io.outsb(LATCH, &[1, 2, 3]);
        io.insb(LATCH, &mut read.bytes);
        io.outsw(LATCH, &[0x0201, 0x0403, 0x0605]);
        io.insw(LATCH, &mut read.words);
        io.outsl(LATCH, &[0x0403_0201, 0xddcc_bbaa]);
        io.insl(LATCH, &mut read.longs);
    }
    read
}
