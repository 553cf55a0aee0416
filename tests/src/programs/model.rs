//! A model of a program's port accesses, written from Intel's manual (SDM).

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

use pvio::x86::{Direction, Mode, Port, PortForm, Width};

use super::instruction::{AddressSize, PortIo, Source};
use super::layout::{ARENA, physical};
use super::program::{CodeKind, Program, Register, SegmentName};

/// One access, as it reaches a port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The direction.
    pub direction: Direction,
    /// The port.
    pub port: u16,
    /// The size.
    pub width: Width,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:#x} size {}", self.direction, self.port, self.width.bytes())
    }
}

/// An attempt of a port instruction.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    form: PortForm,
    port: Port,
    accesses: u64,
    /// True if a page was missing.
    faults: bool,
    /// True if QEMU 10 cannot verify it: virtual-8086 mode without a memory access.
    in_question: bool,
}

/// The effects of a program.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// The attempts, in order.
    pub attempts: Vec<Attempt>,
    /// The bytes of RAM that it reads or writes.
    pub touched: Vec<Range<u64>>,
    /// True if an exception ends it instead of its `int`.
    pub ends_early: bool,
    /// The events that it meets.
    pub events: HashSet<Event>,
}

/// Events in string instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// An index register wraps around between two elements.
    WrapsAround(AddressSize),
    /// An element crosses pages.
    CrossesPages,
    /// An element is unaligned.
    Unaligned,
    /// The count is 0.
    CountsZero,
    /// The count exceeds 100.
    CountsHundreds,
    /// The first element is in a missing page.
    FaultsAtOnce,
    /// A later element is in a missing page.
    FaultsLater,
}

impl Effects {
    /// The forms of the attempts, in order.
    pub fn forms(&self) -> impl Iterator<Item = PortForm> {
        self.attempts.iter().map(|attempt| attempt.form)
    }

    /// The accesses, in order.
    pub fn accesses(&self) -> impl Iterator<Item = Access> {
        self.attempts.iter().flat_map(|&Attempt { form, port, accesses, .. }| {
            let access = Access { direction: form.direction(), port: port.0, width: form.width() };
            std::iter::repeat_n(access, accesses as usize)
        })
    }
}

/// Runs the model. `None` if the program makes an access that it must not.
///
/// Those are accesses to other memory, past the end of a segment, to ports outside 0xe0 to 0xe3, and
/// unaligned port accesses.
pub fn model(program: &Program) -> Option<Effects> {
    let mut effects = Effects::default();
    let mut registers = program.registers;
    for io in program.instructions.iter().filter_map(|instruction| instruction.io) {
        if io.locked {
            effects.ends_early = true;
            break;
        }
        let port = match io.source {
            Source::Immediate(port) => u16::from(port),
            _ => registers[Register::Rdx as usize] as u16,
        };
        let width = u16::from(io.width.bytes());
        if !(0xe0..=0xe3).contains(&port) || port % width != 0 {
            return None;
        }
        let moved = match io.source {
            Source::String { .. } => string(program, &io, &mut registers, &mut effects)?,
            _ => Moved { accesses: 1, faults: false },
        };
        let shown_by_memory =
            matches!(io.source, Source::String { .. }) && (moved.accesses > 0 || moved.faults);
        effects.attempts.push(Attempt {
            form: io.form(),
            port: Port(port),
            accesses: moved.accesses,
            faults: moved.faults,
            in_question: program.kind == CodeKind::Virtual8086 && !shown_by_memory,
        });
        if moved.faults {
            effects.ends_early = true;
            break;
        }
    }
    Some(effects)
}

struct Moved {
    accesses: u64,
    faults: bool,
}

fn string(
    program: &Program,
    io: &PortIo,
    registers: &mut [u64; 16],
    effects: &mut Effects,
) -> Option<Moved> {
    let mask = io.address_size.mask();
    let count = match io.source {
        Source::String { repeats: true } => registers[Register::Rcx as usize] & mask,
        _ => 1,
    };
    let (index, segment) = match io.direction {
        Direction::In => (Register::Rdi, SegmentName::Es),
        Direction::Out => (Register::Rsi, io.segment),
    };
    let width = u64::from(io.width.bytes());
    // In real and virtual-8086 mode a segment ends at 64 KiB, even for 32-bit offsets.
    let last = if program.kind.has_paragraphs() { 0xffff } else { mask };
    let step = if program.goes_down() { width.wrapping_neg() } else { width };
    let base = program.base(segment);
    match count {
        0 => effects.events.insert(Event::CountsZero),
        101.. => effects.events.insert(Event::CountsHundreds),
        _ => false,
    };
    for element in 0..count {
        let register = &mut registers[index as usize];
        let offset = *register & mask;
        if offset > last - (width - 1) {
            return None;
        }
        let linear = match program.kind {
            CodeKind::Long64 => base.wrapping_add(offset),
            _ => base.wrapping_add(offset) & 0xffff_ffff,
        };
        if linear % width != 0 {
            effects.events.insert(Event::Unaligned);
        }
        if linear & 0xfff > 0x1000 - width {
            effects.events.insert(Event::CrossesPages);
        }
        let Some(places) = places(program.kind, linear, width) else {
            effects.events.insert(match element {
                0 => Event::FaultsAtOnce,
                _ => Event::FaultsLater,
            });
            return Some(Moved { accesses: element, faults: true });
        };
        for place in places {
            if !ARENA.contains(&place) {
                return None;
            }
            match effects.touched.last_mut() {
                Some(last) if last.end == place => last.end += 1,
                _ => effects.touched.push(place..place + 1),
            }
        }
        let next = offset.wrapping_add(step) & mask;
        if element + 1 < count && (next < offset) == (step == width) {
            effects.events.insert(Event::WrapsAround(io.address_size));
        }
        *register = match io.address_size {
            AddressSize::Bits16 => *register & !0xffff | next,
            _ => next,
        };
    }
    Some(Moved { accesses: count, faults: false })
}

/// The physical addresses of an element's bytes; `None` if a page is missing.
fn places(kind: CodeKind, linear: u64, width: u64) -> Option<Vec<u64>> {
    (0..width).map(|byte| physical(kind, linear.wrapping_add(byte))).collect()
}

/// The expected counts of a whole run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Attempts, executions, accesses, faults and unverified attempts, by form.
    pub forms: BTreeMap<PortForm, [u64; 5]>,
    /// Accesses and unverified accesses, by port.
    pub ports: BTreeMap<(Port, Direction, Width), [u64; 2]>,
    /// Executions and unverified attempts, by linear address, mode and form. `None` is the guest's own code.
    pub sites: BTreeMap<(Option<u64>, Mode, PortForm), u64>,
}

impl Expected {
    /// Adds the effects of a program, on a QEMU with or without exception events.
    pub fn add(&mut self, program: &Program, effects: &Effects, reports_exceptions: bool) {
        let has_io = program.instructions.iter().map(|instruction| instruction.io.is_some());
        let of_io = program.places().zip(has_io).filter(|(_, has_io)| *has_io);
        for (attempt, ((pc, _), _)) in effects.attempts.iter().zip(of_io) {
            let unverified = attempt.in_question && !reports_exceptions;
            let executed = !unverified && !attempt.faults;
            let accesses = if unverified { 0 } else { attempt.accesses };
            let faults = attempt.faults && reports_exceptions;
            let row = self.forms.entry(attempt.form).or_default();
            let sum = [1, executed.into(), accesses, faults.into(), unverified.into()];
            row.iter_mut().zip(sum).for_each(|(field, more)| *field += more);
            if attempt.accesses > 0 {
                let form = attempt.form;
                let place = (attempt.port, form.direction(), form.width());
                let row = self.ports.entry(place).or_default();
                row[0] += accesses;
                row[1] += attempt.accesses - accesses;
            }
            if executed || unverified {
                let site = (Some(pc), program.kind.mode(), attempt.form);
                *self.sites.entry(site).or_default() += 1;
            }
        }
    }

    /// Adds the guest's only own access: the exit.
    pub fn add_end(&mut self) {
        let form = PortForm::OutImmAl;
        let row = self.forms.entry(form).or_default();
        (0..3).for_each(|field| row[field] += 1);
        self.ports.entry((Port(0xf4), Direction::Out, Width::Byte)).or_default()[0] += 1;
        *self.sites.entry((None, Mode::Bits32, form)).or_default() += 1;
    }
}
