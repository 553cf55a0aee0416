//! The offsets of a vCPU's registers, from the table with which QEMU saves and migrates them.
//!
//! If anything is not as expected, registers are read through the plugin API, which takes ten times as
//! long.

use super::symbols::CpuDescription;
use super::vmstate::{FieldLocation, Fields, Memory};
use crate::register::Register;

/// The offsets in an `X86CPU` of the registers that each intercepted instruction needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuLayout {
    registers: [Option<FieldLocation>; Register::ALL.len()],
    /// RAX, with which the array of general registers begins.
    general: Option<FieldLocation>,
    hflags: Option<FieldLocation>,
    kernel_gs_base: Option<FieldLocation>,
    strings: Option<StringLayout>,
    keys: KeyLayout,
}

/// The offsets of the registers of protection keys, if they are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyLayout {
    pub pkru: Option<FieldLocation>,
    /// IA32_PKRS.
    pub pkrs: Option<FieldLocation>,
}

/// The offsets of the state that a string instruction uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct StringLayout {
    pub rcx: FieldLocation,
    pub rsi: FieldLocation,
    pub rdi: FieldLocation,
    /// The bases of ES, CS, SS, DS, FS, GS, in the order of the processor's numbers for them.
    pub bases: [FieldLocation; 6],
    /// `env.df`: 1 or -1, the step of an index register, in elements.
    pub step: FieldLocation,
    pub hflags: FieldLocation,
    pub dr7: FieldLocation,
    pub a20_mask: FieldLocation,
}

impl CpuLayout {
    /// Reads the table of this process's QEMU; `None` if QEMU does not export it, or if it has another
    /// shape.
    pub fn of_this_process() -> Option<CpuLayout> {
        let table = CpuDescription::find().ok()?.vmstate_x86_cpu.as_ptr();
        let memory = Memory::open()?;
        let fields = Fields::of_cpu(&memory, table)?;
        let registers = Register::ALL.map(|register| {
            // A 32-bit target has no EFER in its table.
            let (name, element) = field_of(register)?;
            Some(element_of(fields.find(name)?, element))
        });
        let key = |name, field| fields.find_in_subsection(name, field);
        Some(CpuLayout {
            registers,
            general: fields.find("env.regs"),
            hflags: fields.find("env.hflags"),
            kernel_gs_base: fields.find("env.kernelgsbase"),
            strings: StringLayout::of(&fields),
            keys: KeyLayout {
                pkru: key("cpu/pkru", "env.pkru"),
                pkrs: key("cpu/pkrs", "env.pkrs"),
            },
        })
    }

    /// Returns where a register is, if that is known.
    #[inline]
    pub fn location(&self, register: Register) -> Option<FieldLocation> {
        self.registers[register as usize]
    }

    /// Returns where a general register is, by the processor's number for it, if that is known.
    pub(super) fn general(&self, number: usize) -> Option<FieldLocation> {
        self.general.map(|first| element_of(first, number))
    }

    /// Returns where `env.hflags` is, QEMU's summary of the processor's state, if that is known.
    #[inline]
    pub(super) fn hflags(&self) -> Option<FieldLocation> {
        self.hflags
    }

    /// Returns where IA32_KERNEL_GS_BASE is, if that is known; a 32-bit target has none.
    pub(super) fn kernel_gs_base(&self) -> Option<FieldLocation> {
        self.kernel_gs_base
    }

    /// Returns where the state is that a string instruction uses, if that is known.
    #[inline]
    pub(super) fn strings(&self) -> Option<StringLayout> {
        self.strings
    }

    /// Returns where the registers of protection keys are.
    #[inline]
    pub(super) fn keys(&self) -> KeyLayout {
        self.keys
    }
}

impl StringLayout {
    fn of(fields: &Fields<'_>) -> Option<StringLayout> {
        let registers = fields.find("env.regs")?;
        let base = fields.within("env.segs", "segment", "selector")?.find("base")?;
        let segments = fields.find_of_any_size("env.segs")?;
        let eflags = fields.find("env.eflags")?;
        let hflags = fields.find("env.hflags")?;
        // QEMU does not save `df`, since EFLAGS contains it then. In `CPUX86State` it is between two
        // fields that QEMU saves: after EFLAGS, three words for the arithmetic flags, and one of 32 bits
        // that says how to read them; and before `hflags`.
        let step = FieldLocation { offset: eflags.offset + 4 * eflags.size + 4, size: 4 };
        (step.offset + step.size == hflags.offset).then_some(())?;
        Some(StringLayout {
            rcx: element_of(registers, 1),
            rsi: element_of(registers, 6),
            rdi: element_of(registers, 7),
            bases: std::array::from_fn(|number| FieldLocation {
                offset: segments.offset + number * segments.size + base.offset,
                size: base.size,
            }),
            step,
            hflags,
            dr7: element_of(fields.find("env.dr")?, 7),
            a20_mask: fields.find("env.a20_mask")?,
        })
    }
}

/// An element of an array of numbers, by the place of the first.
fn element_of(first: FieldLocation, number: usize) -> FieldLocation {
    FieldLocation { offset: first.offset + number * first.size, size: first.size }
}

/// QEMU's name of the field that contains a register, and the register's number in it (`R_EAX` and so on in
/// `target/i386/cpu.h`, which are the processor's own numbers).
fn field_of(register: Register) -> Option<(&'static str, usize)> {
    match register {
        Register::Rax => Some(("env.regs", 0)),
        Register::Rcx => Some(("env.regs", 1)),
        Register::Rdx => Some(("env.regs", 2)),
        Register::Rsp => Some(("env.regs", 4)),
        Register::Rbp => Some(("env.regs", 5)),
        Register::Rflags => Some(("env.eflags", 0)),
        Register::Rip => Some(("env.eip", 0)),
        Register::Cr0 => Some(("env.cr[0]", 0)),
        Register::Cr3 => Some(("env.cr[3]", 0)),
        Register::Cr4 => Some(("env.cr[4]", 0)),
        Register::Efer => Some(("env.efer", 0)),
        // In a structure of its own, and pvio seldom asks for it.
        Register::Cs => None,
    }
}
