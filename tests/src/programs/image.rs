//! Programs and their results in the guest's memory.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use fastrand::Rng;

use super::layout::*;
use super::model::Effects;
use super::program::{CodeKind, Program, REGISTER_NAMES, Register, SegmentName};

/// The number of bytes around a program's accesses that its result includes.
const GUARD: u64 = 24;

/// The programs of one run.
#[derive(Debug, Default)]
pub struct Batch {
    /// The programs in the order in which they run.
    pub programs: Vec<(Program, Effects)>,
    /// True if paging is on in protected mode.
    pub paged: bool,
}

/// The result of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    registers: [u64; 16],
    vector: u64,
    error: u64,
    rip: u64,
    flags: u64,
    cr2: u64,
    cs: u64,
    /// The contents of physical memory, by window.
    windows: Vec<(Range<u64>, Vec<u8>)>,
}

/// The memory that a program's result includes.
pub fn windows(effects: &Effects) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = effects.touched.clone();
    sorted.sort_by_key(|touched| touched.start);
    let mut windows: Vec<Range<u64>> = Vec::new();
    for touched in sorted {
        let window = touched.start - GUARD..touched.end + GUARD;
        match windows.last_mut() {
            Some(last) if last.end >= window.start => last.end = last.end.max(window.end),
            _ => windows.push(window),
        }
    }
    windows
}

impl Batch {
    /// Repeats each program at all linear addresses of its pages.
    ///
    /// The address at which QEMU translates it varies.
    pub fn at_aliases(&self) -> Batch {
        let programs = self.programs.iter().enumerate().flat_map(|(index, (program, effects))| {
            let mut all: Vec<Program> = program.at_aliases().collect();
            let first = index % all.len();
            all.rotate_left(first);
            all.into_iter().map(|alias| (alias, effects.clone()))
        });
        Batch { programs: programs.collect(), paged: true }
    }

    /// Writes the guest's initial memory to a file for `memory-backend-file`.
    pub fn write_memory(&self, path: &Path, rng: &mut Rng) -> std::io::Result<()> {
        let room = (RESULTS - RECORDS) as usize / RECORD_SIZE;
        assert!(self.programs.len() <= room, "there is room for {room} programs");
        let mut memory = vec![0; RAM as usize];
        let mut put = |at: u64, bytes: &[u8]| {
            memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        };
        let bytes = |quads: Vec<u64>| Vec::from_iter(quads.into_iter().flat_map(u64::to_le_bytes));
        let mut arena = vec![0; (ARENA.end - ARENA.start) as usize];
        rng.fill(&mut arena);
        put(ARENA.start, &arena);
        let pages = if self.paged { PROTECTED_PAGE_TABLES } else { 0 };
        let start = [RECORDS as u32, RESULTS as u32, self.programs.len() as u32, pages as u32];
        put(START, &start.map(u32::to_le_bytes).concat());
        put(GDT, &bytes(descriptors()));
        put(PAGE_TABLES, &bytes(page_tables()));
        put(PROTECTED_PAGE_TABLES, &bytes(protected_page_tables()));
        for (index, (program, effects)) in self.programs.iter().enumerate() {
            put(RECORDS + (index * RECORD_SIZE) as u64, &record(program, effects));
        }
        File::create(path)?.write_all(&memory)
    }

    /// Reads the results from the guest's final memory.
    pub fn read_outcomes(&self, memory: &[u8]) -> Vec<Outcome> {
        let mut rest = &memory[RESULTS as usize..];
        let mut take = |length: usize| {
            let (taken, after) = rest.split_at(length);
            rest = after;
            taken
        };
        let outcome = |(_, effects): &(Program, Effects)| {
            let result = take(RESULT_SIZE);
            let quad =
                |at: usize| u64::from_le_bytes(result[at..at + 8].try_into().expect("eight bytes"));
            Outcome {
                registers: std::array::from_fn(|register| quad(8 * register)),
                vector: quad(0x80),
                error: quad(0x88),
                rip: quad(0x90),
                flags: quad(0x98),
                cr2: quad(0xa0),
                cs: quad(0xa8),
                windows: windows(effects)
                    .into_iter()
                    .map(|window| {
                        let length = (window.end - window.start) as usize;
                        (window, take(length).to_vec())
                    })
                    .collect(),
            }
        };
        self.programs.iter().map(outcome).collect()
    }
}

/// Makes a record, as `tests/guests/differ.inc` describes it.
fn record(program: &Program, effects: &Effects) -> Vec<u8> {
    let mut record = vec![0; RECORD_SIZE];
    let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
    let register = |register| program.register(register);
    let segment = |name: SegmentName| program.segments[name as usize];
    let selector = |name| u64::from(segment(name).selector);
    let ip = program.runs_at().wrapping_sub(segment(SegmentName::Cs).base);

    put(0x00, &program.kind.runner().to_le_bytes());
    put(0x04, &(program.code_at as u32).to_le_bytes());
    put(0x08, &program.code());
    put(0x40, &program.registers.map(u64::to_le_bytes).concat());

    use {Register::*, SegmentName::*};
    // In the order of POPAL and IRET.
    let general = [Rdi, Rsi, Rbp, Rsp, Rbx, Rdx, Rcx, Rax].map(register);
    let returning = [ip, selector(Cs), program.flags, register(Rsp)];
    let (first, last) = ([Gs, Fs, Es, Ds].map(selector), [Ss, Es, Ds, Fs, Gs].map(selector));
    let frame = general.iter().chain(&first).chain(&returning).chain(&last);
    let frame: Vec<u8> = frame.flat_map(|&slot| (slot as u32).to_le_bytes()).collect();
    put(0xc0, &frame);
    let stack = (WORK + 0xf0).wrapping_sub(segment(Ss).base) as u32;
    put(0x114, &stack.to_le_bytes());
    put(0x118, &segment(Ss).selector.to_le_bytes());
    let ip = if program.kind == CodeKind::Long64 { ip } else { ip & 0xffff_ffff };
    let long_frame = [ip, selector(Cs), program.flags, register(Rsp), selector(Ss)];
    put(0x120, &long_frame.map(u64::to_le_bytes).concat());

    for (index, window) in windows(effects).into_iter().enumerate() {
        let pair = [window.start as u32, (window.end - window.start) as u32];
        put(0x148 + 8 * index, &pair.map(u32::to_le_bytes).concat());
    }
    record
}

impl Outcome {
    /// Returns true if the program ended by its `int`, or by the exception that the model predicts.
    pub fn ended_as_modelled(&self, program: &Program, effects: &Effects) -> bool {
        // In virtual-8086 mode with IOPL < 3 the `int` itself is a #GP.
        let at_the_end = self.vector == 0x30
            || program.kind == CodeKind::Virtual8086 && self.vector == 13 && self.error == 0;
        at_the_end != effects.ends_early
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { vector, error, rip, flags, cr2, cs, .. } = self;
        writeln!(f, "  vector {vector:#x}, error {error:#x}, at {cs:#x}:{rip:#x}, cr2 {cr2:#x}")?;
        write!(f, "  flags {flags:#x}")?;
        for (name, register) in REGISTER_NAMES.iter().zip(self.registers) {
            write!(f, " {name}={register:#x}")?;
        }
        for (window, bytes) in &self.windows {
            write!(f, "\n  memory {:#x}: ", window.start)?;
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}
