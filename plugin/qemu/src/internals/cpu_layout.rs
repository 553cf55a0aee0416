//! Where QEMU keeps a vCPU's registers: read from the table by which it saves and migrates them.
//!
//! `vmstate_x86_cpu` names each part of an `X86CPU` that is machine state, with its offset and size. The
//! names are those of QEMU's source, and part of every migration stream. The table's own shape differs
//! between versions. It is read through `/proc/self/mem`, where a wrong address is an error and no fault;
//! if anything is not as expected, registers are read through the plugin API, which takes ten times as
//! long.

use std::ffi::c_void;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::lookup::lookup_export;
use crate::register::Register;

/// Where a register is in an `X86CPU`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldLocation {
    pub offset: usize,
    /// In bytes: 4 or 8.
    pub size: usize,
}

/// Where the registers are that pvio uses on the path of an instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuLayout {
    registers: [Option<FieldLocation>; Register::ALL.len()],
    hflags: Option<FieldLocation>,
    strings: Option<StringLayout>,
    keys: KeyLayout,
}

/// Where the registers of protection keys are, if that is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyLayout {
    pub pkru: Option<FieldLocation>,
    /// IA32_PKRS.
    pub pkrs: Option<FieldLocation>,
}

/// Where there is what a string instruction goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StringLayout {
    pub rcx: FieldLocation,
    pub rsi: FieldLocation,
    pub rdi: FieldLocation,
    /// The bases of ES, CS, SS, DS, FS, GS, which are the processor's own numbers for them.
    pub bases: [FieldLocation; 6],
    /// 1 or -1: what an index register is moved by, in elements.
    pub step: FieldLocation,
    pub hflags: FieldLocation,
    pub dr7: FieldLocation,
    pub a20_mask: FieldLocation,
}

impl CpuLayout {
    /// Of the QEMU that this process is; `None` where it does not export its table, or that has another
    /// shape.
    pub fn of_this_process() -> Option<CpuLayout> {
        let table = lookup_export(c"vmstate_x86_cpu")?;
        let memory = Memory(File::open("/proc/self/mem").ok()?);
        let fields = Fields::of(&memory, table)?;
        let mut places = [None; Register::ALL.len()];
        for register in Register::ALL {
            // A 32-bit target has no EFER in its table.
            places[register as usize] = field_of(register).and_then(|(name, element)| {
                let FieldLocation { offset, size } = fields.find(name)?;
                Some(FieldLocation { offset: offset + element * size, size })
            });
        }
        let strings = StringLayout::of(&fields);
        let key = |name, field| Subsections::of(&fields, table)?.find(name, field);
        let keys =
            KeyLayout { pkru: key("cpu/pkru", "env.pkru"), pkrs: key("cpu/pkrs", "env.pkrs") };
        Some(CpuLayout { registers: places, hflags: fields.find("env.hflags"), strings, keys })
    }

    /// Where a register is, if that is known.
    pub fn location(&self, register: Register) -> Option<FieldLocation> {
        self.registers[register as usize]
    }

    /// Where QEMU keeps what it knows of the processor's state besides registers, if that is known.
    pub fn hflags(&self) -> Option<FieldLocation> {
        self.hflags
    }

    /// Where there is what a string instruction goes by, if that is known.
    pub fn strings(&self) -> Option<StringLayout> {
        self.strings
    }

    /// Where the registers of protection keys are.
    pub fn keys(&self) -> KeyLayout {
        self.keys
    }
}

impl StringLayout {
    fn of(fields: &Fields<'_>) -> Option<StringLayout> {
        let registers = fields.find("env.regs")?;
        let register = |number| FieldLocation {
            offset: registers.offset + number * registers.size,
            size: registers.size,
        };
        let base = fields.within("env.segs", "segment", "selector")?.find("base")?;
        let segments = fields.find_of_any_size("env.segs")?;
        let eflags = fields.find("env.eflags")?;
        let hflags = fields.find("env.hflags")?;
        // `df` is not saved, since it is in EFLAGS then. In `CPUX86State` it is between two that are,
        // behind three words for the arithmetic flags and one of 32 bits that says how to read them.
        let step = FieldLocation { offset: eflags.offset + 4 * eflags.size + 4, size: 4 };
        (step.offset + step.size == hflags.offset).then_some(())?;
        let dr = fields.find("env.dr")?;
        Some(StringLayout {
            rcx: register(1),
            rsi: register(6),
            rdi: register(7),
            bases: std::array::from_fn(|number| FieldLocation {
                offset: segments.offset + number * segments.size + base.offset,
                size: base.size,
            }),
            step,
            hflags,
            dr7: FieldLocation { offset: dr.offset + 7 * dr.size, size: dr.size },
            a20_mask: fields.find("env.a20_mask")?,
        })
    }
}

/// QEMU's name of the field that holds a register, and which of its elements it is (`R_EAX` and its like
/// in `target/i386/cpu.h`, which are the processor's own numbers).
fn field_of(register: Register) -> Option<(&'static str, usize)> {
    match register {
        Register::Rax => Some(("env.regs", 0)),
        Register::Rcx => Some(("env.regs", 1)),
        Register::Rdx => Some(("env.regs", 2)),
        Register::Rflags => Some(("env.eflags", 0)),
        Register::Rip => Some(("env.eip", 0)),
        Register::Cr0 => Some(("env.cr[0]", 0)),
        Register::Cr3 => Some(("env.cr[3]", 0)),
        Register::Cr4 => Some(("env.cr[4]", 0)),
        Register::Efer => Some(("env.efer", 0)),
        // In a structure of its own, and seldom asked for.
        Register::Cs => None,
    }
}

/// This process's memory, by addresses that may be wrong.
struct Memory(File);

impl Memory {
    fn word(&self, address: u64) -> Option<u64> {
        let mut word = [0; 8];
        self.0.read_exact_at(&mut word, address).ok()?;
        Some(u64::from_ne_bytes(word))
    }

    /// Whether there is this string, as C has them.
    fn is_string(&self, address: u64, expected: &str) -> bool {
        let mut bytes = vec![0; expected.len() + 1];
        self.0.read_exact_at(&mut bytes, address).is_ok()
            && bytes.strip_suffix(&[0]) == Some(expected.as_bytes())
    }
}

/// The fields of a `VMStateDescription`, until one without a name: structures that begin with a name (and
/// before QEMU 11 a hint for errors), an offset and a size (`VMStateField` in QEMU's `migration/vmstate.h`).
struct Fields<'a> {
    memory: &'a Memory,
    first: u64,
    /// From one to the next.
    stride: u64,
    /// Of the offset within a field; the size follows it.
    offset_at: u64,
}

/// A description begins with a name and three words of numbers; then come functions, of which versions
/// have more or fewer, and then the fields.
const DESCRIPTION_WORDS: std::ops::Range<u64> = 3..24;
/// How long a field may be, in words: 13 in QEMU 10.2, 12 in 11.1.
const FIELD_WORDS: std::ops::Range<u64> = 4..32;
/// How many fields there may be; QEMU 10.2 has some 70.
const MAX_FIELDS: u64 = 512;

impl<'a> Fields<'a> {
    fn of(memory: &'a Memory, description: *mut c_void) -> Option<Fields<'a>> {
        let description = description.addr() as u64;
        if !memory.is_string(memory.word(description)?, "cpu") {
            return None;
        }
        let is_name = |at: u64, name| memory.word(at).is_some_and(|at| memory.is_string(at, name));
        let first = DESCRIPTION_WORDS
            .filter_map(|word| memory.word(description + 8 * word))
            .find(|&fields| is_name(fields, "env.regs"))?;
        let stride = FIELD_WORDS
            .map(|words| 8 * words)
            .find(|&stride| is_name(first + stride, "env.eip"))?;
        // EFLAGS follows EIP in the table, as it does in the structure.
        let (eip, eflags) = (first + stride, first + 2 * stride);
        let offset_at = [8, 16].into_iter().find(|at| {
            let eip = memory.word(eip + at).zip(memory.word(eip + at + 8));
            eip.is_some_and(|(offset, size)| {
                matches!(size, 4 | 8) && memory.word(eflags + at) == Some(offset + size)
            })
        })?;
        Some(Fields { memory, first, stride, offset_at })
    }

    /// A field that is a number, or the first of several.
    fn find(&self, name: &str) -> Option<FieldLocation> {
        self.find_of_any_size(name).filter(|place| matches!(place.size, 4 | 8))
    }

    fn find_of_any_size(&self, name: &str) -> Option<FieldLocation> {
        let field = self.field(name)?;
        let offset = usize::try_from(self.memory.word(field + self.offset_at)?).ok()?;
        let size = usize::try_from(self.memory.word(field + self.offset_at + 8)?).ok()?;
        Some(FieldLocation { offset, size })
    }

    /// The fields of a structure within: the field of this name refers to a description of another,
    /// whose first field has a name too.
    fn within(&self, name: &str, description: &str, first: &str) -> Option<Fields<'a>> {
        let field = self.field(name)?;
        let words = |at: u64, count: u64| {
            (0..count).filter_map(move |word| self.memory.word(at + 8 * word))
        };
        let is_name =
            |at, name| self.memory.word(at).is_some_and(|at| self.memory.is_string(at, name));
        let its_description = words(field, self.stride / 8).find(|&at| is_name(at, description))?;
        let first =
            words(its_description, DESCRIPTION_WORDS.end).find(|&fields| is_name(fields, first))?;
        Some(Fields { first, ..*self })
    }

    fn field(&self, name: &str) -> Option<u64> {
        for field in (0..MAX_FIELDS).map(|number| self.first + number * self.stride) {
            let its_name = self.memory.word(field)?;
            if its_name == 0 {
                return None;
            }
            if self.memory.is_string(its_name, name) {
                return Some(field);
            }
        }
        None
    }
}

/// The descriptions of what not every processor has: a list of addresses that a null ends, to which the word
/// behind a description's fields points.
struct Subsections<'a> {
    /// The fields of the description that they belong to.
    fields: &'a Fields<'a>,
    list: u64,
}

/// How many subsections there may be; QEMU 10.2 has some 30.
const MAX_SUBSECTIONS: u64 = 128;

impl<'a> Subsections<'a> {
    fn of(fields: &'a Fields<'a>, description: *mut c_void) -> Option<Subsections<'a>> {
        let word = |word| fields.memory.word(description.addr() as u64 + 8 * word);
        let its_fields =
            DESCRIPTION_WORDS.into_iter().find(|&at| word(at) == Some(fields.first))?;
        Some(Subsections { fields, list: word(its_fields + 1)? })
    }

    /// The field in the subsection of this name, of which it is the first.
    fn find(&self, name: &str, field: &str) -> Option<FieldLocation> {
        let memory = self.fields.memory;
        let is_name = |at, name| memory.word(at).is_some_and(|at| memory.is_string(at, name));
        let entries = (0..MAX_SUBSECTIONS).map_while(|number| memory.word(self.list + 8 * number));
        let subsection =
            entries.take_while(|&entry| entry != 0).find(|&entry| is_name(entry, name))?;
        let first = DESCRIPTION_WORDS
            .filter_map(|word| memory.word(subsection + 8 * word))
            .find(|&fields| is_name(fields, field))?;
        Fields { first, ..*self.fields }.find(field)
    }
}
