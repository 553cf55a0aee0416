//! QEMU's tables of the state that it saves, which give the location of each field of a structure by name.
//!
//! The names are those of QEMU's source, and part of every migration stream. The shape of the tables
//! (`migration/vmstate.h`) differs between versions, so it is inferred from entries that every table has. The
//! tables are read through `/proc/self/mem`, where a wrong address is an error and not a crash.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::c_types::VmStateDescription;

/// The location of an integer in a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldLocation {
    /// In bytes, from the start of the structure.
    pub offset: usize,
    /// In bytes: 4 or 8.
    pub size: usize,
}

/// This process's memory, for reads at addresses that may be wrong.
pub(super) struct Memory(File);

impl Memory {
    pub fn open() -> Option<Memory> {
        File::open("/proc/self/mem").ok().map(Memory)
    }

    fn word(&self, address: u64) -> Option<u64> {
        let mut word = [0; 8];
        self.0.read_exact_at(&mut word, address).ok()?;
        Some(u64::from_ne_bytes(word))
    }

    /// Returns true if the word at an address points to this C string.
    fn names(&self, at: u64, expected: &str) -> bool {
        let mut bytes = vec![0; expected.len() + 1];
        self.word(at).is_some_and(|address| self.0.read_exact_at(&mut bytes, address).is_ok())
            && bytes.strip_suffix(&[0]) == Some(expected.as_bytes())
    }
}

/// The words of a `VMStateDescription` among which is the address of its fields: first come a name and
/// three words of numbers, then functions, of which versions have more or fewer.
const DESCRIPTION_WORDS: Range<u64> = 3..24;
/// Accepted sizes of a field, in words: 13 in QEMU 10.2, 12 in 11.1.
const FIELD_WORDS: Range<u64> = 4..32;
/// Maximum number of fields that are searched; QEMU 10.2 has some 70.
const MAX_FIELDS: u64 = 512;
/// Maximum number of subsections that are searched; QEMU 10.2 has some 30.
const MAX_SUBSECTIONS: u64 = 128;

/// The fields of a description, up to one without a name. Each begins with a name (before QEMU 11 a hint
/// for errors follows), an offset and a size.
pub(super) struct Fields<'a> {
    memory: &'a Memory,
    description: u64,
    first: u64,
    /// The size of a field, in bytes.
    stride: u64,
    /// The position of the offset in a field; the size follows it.
    offset_at: u64,
}

impl<'a> Fields<'a> {
    /// The fields of an `X86CPU`; `None` if the table does not look as expected.
    pub fn of_cpu(memory: &'a Memory, table: *mut VmStateDescription) -> Option<Fields<'a>> {
        let description = table.addr() as u64;
        memory.names(description, "cpu").then_some(())?;
        let first = first_field(memory, description, "env.regs")?;
        let stride = FIELD_WORDS
            .map(|words| 8 * words)
            .find(|&stride| memory.names(first + stride, "env.eip"))?;
        // EFLAGS follows EIP in the table, as it does in the structure.
        let (eip, eflags) = (first + stride, first + 2 * stride);
        let offset_at = [8, 16].into_iter().find(|at| {
            let eip = memory.word(eip + at).zip(memory.word(eip + at + 8));
            eip.is_some_and(|(offset, size)| {
                matches!(size, 4 | 8) && memory.word(eflags + at) == Some(offset + size)
            })
        })?;
        Some(Fields { memory, description, first, stride, offset_at })
    }

    /// Finds a field that is a number, or the first of several.
    pub fn find(&self, name: &str) -> Option<FieldLocation> {
        self.find_of_any_size(name).filter(|field| matches!(field.size, 4 | 8))
    }

    /// Finds a field of any size.
    pub fn find_of_any_size(&self, name: &str) -> Option<FieldLocation> {
        let field = self.field(name)?;
        let offset = usize::try_from(self.memory.word(field + self.offset_at)?).ok()?;
        let size = usize::try_from(self.memory.word(field + self.offset_at + 8)?).ok()?;
        Some(FieldLocation { offset, size })
    }

    /// Finds the fields of a structure within: the field of this name refers to its description, whose
    /// name and first field are known.
    pub fn within(&self, name: &str, description: &str, first: &str) -> Option<Fields<'a>> {
        let field = self.field(name)?;
        let its_description = (0..self.stride / 8)
            .filter_map(|word| self.memory.word(field + 8 * word))
            .find(|&at| self.memory.names(at, description))?;
        self.of_description(its_description, first)
    }

    /// Finds the first field of a subsection, which has what not every processor has.
    ///
    /// The subsections are a list of addresses that a null ends. The word after that of the fields points
    /// to it.
    pub fn find_in_subsection(&self, name: &str, field: &str) -> Option<FieldLocation> {
        let word = |word| self.memory.word(self.description + 8 * word);
        let fields = DESCRIPTION_WORDS.into_iter().find(|&at| word(at) == Some(self.first))?;
        let list = word(fields + 1)?;
        let subsection = (0..MAX_SUBSECTIONS)
            .map_while(|number| self.memory.word(list + 8 * number))
            .take_while(|&entry| entry != 0)
            .find(|&entry| self.memory.names(entry, name))?;
        self.of_description(subsection, field)?.find(field)
    }

    fn of_description(&self, description: u64, first: &str) -> Option<Fields<'a>> {
        let first = first_field(self.memory, description, first)?;
        Some(Fields { description, first, ..*self })
    }

    fn field(&self, name: &str) -> Option<u64> {
        for field in (0..MAX_FIELDS).map(|number| self.first + number * self.stride) {
            if self.memory.word(field)? == 0 {
                return None;
            }
            if self.memory.names(field, name) {
                return Some(field);
            }
        }
        None
    }
}

fn first_field(memory: &Memory, description: u64, name: &str) -> Option<u64> {
    DESCRIPTION_WORDS
        .filter_map(|word| memory.word(description + 8 * word))
        .find(|&fields| memory.names(fields, name))
}
