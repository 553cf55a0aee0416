//! A generator of random programs.

use std::collections::HashSet;
use std::ops::Range;

use fastrand::Rng;

use super::image::windows;
use super::instruction::{AddressSize, Instruction, PortIo, Source};
use super::layout::*;
use super::model::{Effects, model};
use super::program::{CodeKind, Program, Register, Segment, SegmentName};
use pvio::x86::{Direction, Mode, ignores_segment};

/// The bits CF, PF, AF, ZF, SF and OF.
const ARITHMETIC: u64 = 0x8d5;
const DIRECTION: u64 = 1 << 10;
const IOPL: u64 = 3 << 12;
const VIRTUAL_8086: u64 = 1 << 17;

/// The initial stack offset of programs in real and protected mode.
const STACK: u64 = WORK + 0xf0;

/// The number of draws of registers and segments for one code, before the code is replaced.
const TRIES: u32 = 30;

/// An endless iterator of programs.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    /// String instructions that were abandoned after a page fault: their addresses and bytes.
    ///
    /// Before QEMU 11.0 the plugin does not learn that such an attempt has ended. It takes the same
    /// instruction at the same address with the remaining count for a resumption, so none is generated.
    given_up: HashSet<(u64, Vec<u8>)>,
    /// True if `outs` in 64-bit code may name a segment that such code ignores.
    ignored_segments: bool,
}

impl Generator {
    /// A generator whose programs follow from the seed.
    pub fn with_seed(seed: u64) -> Generator {
        let (rng, given_up) = (Rng::with_seed(seed), HashSet::new());
        Generator { rng, given_up, ignored_segments: true }
    }

    /// Names no segment in `outs` that 64-bit code ignores. QEMU 10.2 adds its base.
    pub fn without_ignored_segments(self) -> Generator {
        Generator { ignored_segments: false, ..self }
    }

    /// The next program, and what it does.
    ///
    /// It repeats the draw if a program would access memory or ports that it must not.
    fn generate(&mut self) -> (Program, Effects) {
        loop {
            let kind = pick(&mut self.rng, &CodeKind::ALL);
            let instructions = instructions(&mut self.rng, kind);
            let mode = if kind.bits() == 64 { Mode::Bits64 } else { Mode::Bits32 };
            let ignores = |insn: &Instruction| {
                let is_out = insn.io.is_some_and(|io| io.direction == Direction::Out);
                is_out && ignores_segment(&insn.bytes, mode)
            };
            if !self.ignored_segments && instructions.iter().any(ignores) {
                continue;
            }
            for _ in 0..TRIES {
                let program = draw(&mut self.rng, kind, instructions.clone());
                if program.places().any(|place| self.given_up.contains(&place)) {
                    continue;
                }
                if let Some(effects) = model(&program)
                    && windows(&effects).len() <= WINDOWS_COUNT
                {
                    self.given_up.extend(program.places().filter(|_| effects.ends_early));
                    return (program, effects);
                }
            }
        }
    }
}

impl Iterator for Generator {
    type Item = (Program, Effects);

    fn next(&mut self) -> Option<(Program, Effects)> {
        Some(self.generate())
    }
}

/// Returns true with a probability in percent.
fn percent(rng: &mut Rng, chance: u32) -> bool {
    rng.u32(0..100) < chance
}

fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(0..choices.len())]
}

fn draw(rng: &mut Rng, kind: CodeKind, instructions: Vec<Instruction>) -> Program {
    let code_at = match percent(rng, 20) {
        // Code that crosses a page border.
        true => rng.u64(0x8fe0..0x9000),
        false => rng.u64(CODE.start..CODE.end - CODE_SIZE as u64),
    };
    let segments = segments(rng, kind, code_at);
    let mut flags = 2 | rng.u64(..) & (ARITHMETIC | IOPL);
    if percent(rng, 40) {
        flags |= DIRECTION;
    }
    if kind == CodeKind::Virtual8086 {
        flags |= VIRTUAL_8086;
    }
    let mut program = Program {
        kind,
        code_at,
        distance: 0,
        instructions,
        registers: std::array::from_fn(|_| rng.u64(..)),
        flags,
        segments,
    };
    aim(rng, &mut program);
    program
}

fn segments(rng: &mut Rng, kind: CodeKind, code_at: u64) -> [Segment; 6] {
    let mut segments = [Segment::default(); 6];
    for segment in &mut segments {
        *segment = match kind.has_paragraphs() {
            true => paragraph(rng.u16(0..0x9000)),
            false => {
                let (selector, base) = pick(rng, &DATA);
                Segment { selector, base }
            }
        };
    }
    // Real mode has 16 bits of SP to reach the stack, and IP to reach the code.
    if kind.has_paragraphs() {
        segments[SegmentName::Ss as usize] = paragraph(rng.u16(0..=(STACK >> 4) as u16));
        segments[SegmentName::Cs as usize] = paragraph(rng.u16(0..=(code_at >> 4) as u16));
        return segments;
    }
    let (selector, base) = match kind.bits() {
        16 => pick(rng, &CODE16),
        32 => pick(rng, &CODE32),
        _ => CODE64,
    };
    segments[SegmentName::Cs as usize] = Segment { selector, base };
    // QEMU 11.1 forgets the base of CS in 32-bit `outs dx,cs:[esi]` when DS, ES and SS have base 0.
    let forgets = |segments: &[Segment; 6]| {
        kind.bits() == 32 && base != 0 && [0, 2, 3].iter().all(|&data| segments[data].base == 0)
    };
    if forgets(&segments) {
        let (selector, base) = pick(rng, &DATA[1..]);
        segments[SegmentName::Ds as usize] = Segment { selector, base };
    }
    segments
}

fn paragraph(selector: u16) -> Segment {
    Segment { selector, base: u64::from(selector) << 4 }
}

/// One to three port I/O instructions, between others that set or read flags.
fn instructions(rng: &mut Rng, kind: CodeKind) -> Vec<Instruction> {
    // The count after a `rep` is undefined in bits beyond the address size, and the next `rep` would use it.
    let mut repeated = false;
    let mut instructions = Vec::new();
    for _ in 0..pick(rng, &[1, 1, 1, 2, 2, 3]) {
        if percent(rng, 70) {
            instructions.push(arithmetic(rng, kind));
        }
        let instruction = std::iter::repeat_with(|| port_io(rng, kind))
            .find(|instruction| !(repeated && repeats(instruction)))
            .expect("an endless supply");
        repeated |= repeats(&instruction);
        instructions.push(instruction);
    }
    if percent(rng, 30) {
        instructions.push(arithmetic(rng, kind));
    }
    // With many prefixes the code may be too long.
    let length: usize = instructions.iter().map(|instruction| instruction.bytes.len()).sum();
    if length + Program::END.len() > CODE_SIZE {
        instructions.truncate(2);
    }
    instructions
}

fn repeats(instruction: &Instruction) -> bool {
    instruction.io.is_some_and(|io| io.source == Source::String { repeats: true })
}

/// Arithmetic on (R)BX and (R)BP, and instructions that read flags.
///
/// Except for AH, none changes a register that port I/O uses.
fn arithmetic(rng: &mut Rng, kind: CodeKind) -> Instruction {
    const ENCODINGS: [&[u8]; 17] = [
        &[0x01, 0xeb],       // add ebx,ebp
        &[0x29, 0xeb],       // sub ebx,ebp
        &[0x39, 0xeb],       // cmp ebx,ebp
        &[0x11, 0xeb],       // adc ebx,ebp
        &[0x19, 0xeb],       // sbb ebx,ebp
        &[0x21, 0xeb],       // and ebx,ebp
        &[0x31, 0xeb],       // xor ebx,ebp
        &[0x85, 0xeb],       // test ebx,ebp
        &[0xf7, 0xdb],       // neg ebx
        &[0xd1, 0xe3],       // shl ebx,1
        &[0xd3, 0xeb],       // shr ebx,cl
        &[0xd1, 0xdb],       // rcr ebx,1
        &[0xfe, 0xc3],       // inc bl
        &[0xfe, 0xcb],       // dec bl
        &[0x0f, 0xaf, 0xdd], // imul ebx,ebp
        &[0x0f, 0x9c, 0xc3], // setl bl
        &[0x9f],             // lahf
    ];
    let mut bytes = Vec::new();
    if percent(rng, 30) {
        bytes.push(0x66);
    }
    if kind.bits() == 64 && percent(rng, 40) {
        bytes.push(0x48);
    }
    bytes.extend(pick(rng, &ENCODINGS));
    Instruction::other(&bytes)
}

fn port_io(rng: &mut Rng, kind: CodeKind) -> Instruction {
    const OPCODES: [u8; 12] =
        [0x6c, 0x6d, 0x6e, 0x6f, 0xe4, 0xe5, 0xe6, 0xe7, 0xec, 0xed, 0xee, 0xef];
    // Half of the instructions are strings: they have more cases.
    let opcode = match rng.bool() {
        true => pick(rng, &OPCODES[..4]),
        false => pick(rng, &OPCODES[4..]),
    };
    let is_string = opcode < 0xe0;
    let mut prefixes = Vec::new();
    let mut maybe = |rng: &mut Rng, chance, choices: &[u8]| {
        if percent(rng, chance) {
            prefixes.push(pick(rng, choices));
        }
    };
    maybe(rng, if is_string { 60 } else { 10 }, &[0xf3, 0xf3, 0xf2]);
    maybe(rng, 45, &[0x66]);
    maybe(rng, 30, &[0x67]);
    // It is undefined whether a prefix that 64-bit code ignores cancels an FS before it: never use both.
    let overrides: &[u8] = match (kind.bits(), rng.bool()) {
        (64, true) => &[0x64, 0x65],
        (64, false) => &[0x26, 0x2e, 0x36, 0x3e],
        _ => &[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65],
    };
    maybe(rng, 35, overrides);
    maybe(rng, 1, &[0xf0]);
    if percent(rng, 15) {
        let most = if percent(rng, 20) { 11 } else { 3 };
        for _ in 0..rng.usize(1..=most) {
            let redundant: &[u8] = match rng.u8(0..4) {
                0 => &[0x66],
                1 => &[0x67],
                2 => overrides,
                // A single string instruction gets no `rep` prefix.
                _ if is_string && !prefixes.iter().any(|&byte| byte >= 0xf2) => continue,
                _ => &[0xf2, 0xf3],
            };
            prefixes.push(pick(rng, redundant));
        }
        prefixes.truncate(12);
    }
    rng.shuffle(&mut prefixes);
    let rex = (kind.bits() == 64 && percent(rng, 40)).then(|| rng.u8(0x40..0x50));
    let port = 0xe0 + pick(rng, &[0, 0, 0, 1, 2, 2, 3]);
    Instruction::port_io(kind, &prefixes, rex, opcode, port)
}

/// Sets the registers so that the program accesses the intended ports and memory.
fn aim(rng: &mut Rng, program: &mut Program) {
    let registers = |program: &mut Program, register, value| {
        program.registers[register as usize] = value;
    };
    let port = 0xe0 + pick(rng, &[0, 0, 0, 0, 1, 2, 2, 3]);
    let rdx = program.register(Register::Rdx) & !0xffff | port;
    registers(program, Register::Rdx, rdx);

    let ios: Vec<PortIo> =
        program.instructions.iter().filter_map(|instruction| instruction.io).collect();
    let strings = ios.iter().filter(|io| matches!(io.source, Source::String { .. }));
    let mut count = 1;
    if let Some(rep) = ios.iter().find(|io| io.source == Source::String { repeats: true }) {
        count = elements(rng);
        let rcx = with_garbage(rng, count, rep.address_size);
        registers(program, Register::Rcx, rcx);
    }
    for direction in [Direction::In, Direction::Out] {
        let Some(io) = strings.clone().find(|io| io.direction == direction) else { continue };
        let (index, segment) = match direction {
            Direction::In => (Register::Rdi, SegmentName::Es),
            Direction::Out => (Register::Rsi, io.segment),
        };
        let count = if io.source == (Source::String { repeats: true }) { count } else { 1 };
        let offset = offset(rng, program, io, program.base(segment), count);
        let value = with_garbage(rng, offset, io.address_size);
        registers(program, index, value);
    }
    if !program.kind.is_long() {
        program.registers[..8].iter_mut().for_each(|register| *register &= 0xffff_ffff);
        program.registers[8..].fill(0);
    }
}

fn elements(rng: &mut Rng) -> u64 {
    match rng.u32(0..100) {
        0..8 => 0,
        8..18 => 1,
        18..78 => rng.u64(2..20),
        78..92 => rng.u64(20..100),
        _ => rng.u64(100..700),
    }
}

/// A register with these low bits and random others.
fn with_garbage(rng: &mut Rng, value: u64, size: AddressSize) -> u64 {
    rng.u64(..) & !size.mask() | value
}

/// An offset from a segment's base at which a number of elements meets an interesting case.
fn offset(rng: &mut Rng, program: &Program, io: &PortIo, base: u64, count: u64) -> u64 {
    let mask = io.address_size.mask();
    let width = u64::from(io.width.bytes());
    // Addresses that wrap around after some elements.
    if percent(rng, 20) {
        let before = rng.u64(0..=count) * width;
        return match program.goes_down() {
            true => before & mask,
            false => before.wrapping_neg() & mask,
        };
    }
    let area: Range<u64> = match (program.kind.is_long(), rng.u32(0..100)) {
        (true, 0..35) => SCATTERED,
        (true, 35..55) => WITH_HOLES,
        _ => ARENA,
    };
    let linear = match percent(rng, 60) {
        // Near a page border, most often before it in the string's direction.
        true => {
            let borders = area.start / 0x1000 + 1..area.end / 0x1000;
            let border = std::iter::repeat_with(|| rng.u64(borders.clone()) * 0x1000)
                .find(|&border| area != WITH_HOLES || ends_at(border, program.goes_down()))
                .expect("an endless supply");
            let distance = rng.u64(0..=count * width + 3);
            if program.goes_down() { border + distance - width } else { border - distance }
        }
        false => rng.u64(area),
    };
    // With 16-bit addresses, and in real mode also with 32-bit ones, the offset stays in the segment.
    let reach = if program.kind.has_paragraphs() { 0xffff } else { mask };
    match linear.wrapping_sub(base) {
        beyond if beyond > reach && reach == 0xffff => {
            rng.u64(ARENA.start.saturating_sub(base).min(reach)..=reach)
        }
        offset => offset & mask,
    }
}

/// Returns true if a string reaches a missing page at this border.
fn ends_at(border: u64, goes_down: bool) -> bool {
    let (below, above) = (frame((border >> 12) - 1), frame(border >> 12));
    match goes_down {
        true => below.is_none() && above.is_some(),
        false => below.is_some() && above.is_none(),
    }
}
