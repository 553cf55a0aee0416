//! Port I/O instructions, made from prefixes and an opcode, and their effects.
//!
//! SDM vol. 2, 2.1 "Instruction format", 2.2.1 "REX prefixes".

use pvio::x86::{Direction, PortForm, PortSource, Width};

use super::{CodeKind, SegmentName};

/// The address size of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressSize {
    /// SI, DI, CX.
    Bits16,
    /// ESI, EDI, ECX.
    Bits32,
    /// RSI, RDI, RCX.
    Bits64,
}

impl AddressSize {
    /// The bits of a register that the instruction uses.
    pub fn mask(self) -> u64 {
        match self {
            AddressSize::Bits16 => 0xffff,
            AddressSize::Bits32 => 0xffff_ffff,
            AddressSize::Bits64 => u64::MAX,
        }
    }
}

/// The source of an instruction's port, and its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The port is in the instruction.
    Immediate(u8),
    /// The port is in DX.
    Dx,
    /// The port is in DX, the operand in memory.
    String {
        /// True if it repeats by the count in CX, ECX or RCX.
        repeats: bool,
    },
}

/// The effect of a port I/O instruction.
#[derive(Clone, Copy, Debug)]
pub struct PortIo {
    /// The direction.
    pub direction: Direction,
    /// Port and operand.
    pub source: Source,
    /// The size of an element.
    pub width: Width,
    /// The size of index registers and count.
    pub address_size: AddressSize,
    /// The segment of the memory operand.
    pub segment: SegmentName,
    /// True if LOCK makes it undefined.
    pub locked: bool,
}

impl PortIo {
    /// Its form in the statistics.
    pub fn form(&self) -> PortForm {
        let source = match self.source {
            Source::Immediate(_) => PortSource::Immediate,
            Source::Dx => PortSource::Dx,
            Source::String { repeats: false } => PortSource::String,
            Source::String { repeats: true } => PortSource::RepString,
        };
        PortForm::new(self.direction, source, self.width)
    }
}

/// An instruction of a program.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its port I/O; `None` if it only sets or reads flags.
    pub io: Option<PortIo>,
}

impl Instruction {
    /// An instruction without port I/O.
    pub fn other(bytes: &[u8]) -> Instruction {
        Instruction { bytes: bytes.to_vec(), io: None }
    }

    /// A port I/O instruction.
    ///
    /// `rex` is for 64-bit code only, where it follows the other prefixes. `port` is the immediate of the
    /// opcodes that have one.
    pub fn port_io(
        kind: CodeKind,
        prefixes: &[u8],
        rex: Option<u8>,
        opcode: u8,
        port: u8,
    ) -> Instruction {
        let has = |wanted: u8| prefixes.contains(&wanted);
        let direction = if opcode & 2 == 0 { Direction::In } else { Direction::Out };
        let source = match opcode >> 4 {
            0x6 => Source::String { repeats: has(0xf2) || has(0xf3) },
            _ if opcode & 8 == 0 => Source::Immediate(port),
            _ => Source::Dx,
        };
        let sixteen = kind.bits() == 16;
        let width = match (opcode & 1, has(0x66) != sixteen, rex.unwrap_or(0) & 8) {
            (0, _, _) => Width::Byte,
            (_, true, 0) => Width::Word,
            _ => Width::Dword,
        };
        let address_size = match (kind.bits(), has(0x67)) {
            (64, false) => AddressSize::Bits64,
            (16, false) | (32, true) => AddressSize::Bits16,
            _ => AddressSize::Bits32,
        };
        // The last segment prefix counts. INS always writes to ES.
        let overriding = prefixes.iter().rev().find_map(|&prefix| SegmentName::of_prefix(prefix));
        let segment = match direction {
            Direction::In => SegmentName::Es,
            Direction::Out => overriding.unwrap_or(SegmentName::Ds),
        };
        let mut bytes = prefixes.to_vec();
        bytes.extend(rex);
        bytes.push(opcode);
        if let Source::Immediate(port) = source {
            bytes.push(port);
        }
        let locked = has(0xf0);
        let io = PortIo { direction, source, width, address_size, segment, locked };
        Instruction { bytes, io: Some(io) }
    }
}
