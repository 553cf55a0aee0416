//! Registers of the vCPU that is in a callback: to read in any that asked for it, to write in a call.
//!
//! Where QEMU tells where it keeps them, they are read and written in place, at the cost of a load or a
//! store; else through the plugin API.

use std::ffi::{CStr, c_char, c_uint, c_void};
use std::marker::PhantomData;

use qemu_plugin_sys::{GByteArray, qemu_plugin_register};

use super::api::{Api, ReadRegister, WriteRegister};
use super::cpu_layout::{CpuLayout, Place};
use super::string_cpu::StringCpu;

/// A register that pvio reads. On an i386 target the `R` ones are the 32-bit registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// RAX or EAX.
    Rax,
    /// RCX or ECX.
    Rcx,
    /// RDX or EDX.
    Rdx,
    /// RFLAGS or EFLAGS; QEMU gives no arithmetic flags and no DF.
    Rflags,
    /// The CS selector.
    Cs,
    /// CR0.
    Cr0,
    /// CR3.
    Cr3,
    /// CR4.
    Cr4,
    /// IA32_EFER.
    Efer,
}

impl Register {
    pub(super) const ALL: [Register; 9] = [
        Register::Rax,
        Register::Rcx,
        Register::Rdx,
        Register::Rflags,
        Register::Cs,
        Register::Cr0,
        Register::Cr3,
        Register::Cr4,
        Register::Efer,
    ];

    /// QEMU's names, on x86-64 and on i386.
    fn names(self) -> [&'static CStr; 2] {
        match self {
            Register::Rax => [c"rax", c"eax"],
            Register::Rcx => [c"rcx", c"ecx"],
            Register::Rdx => [c"rdx", c"edx"],
            Register::Rflags => [c"rflags", c"eflags"],
            Register::Cs => [c"cs", c"cs"],
            Register::Cr0 => [c"cr0", c"cr0"],
            Register::Cr3 => [c"cr3", c"cr3"],
            Register::Cr4 => [c"cr4", c"cr4"],
            Register::Efer => [c"efer", c"efer"],
        }
    }
}

/// A register that this QEMU does not offer.
#[derive(Debug, thiserror::Error)]
#[error("this QEMU does not let plugins read the register {0:?}")]
pub struct MissingRegister(Register);

/// `qemu_plugin_reg_descriptor`'s first members, which are the same in all API levels; the array's
/// own element size says how far apart the descriptors are.
#[repr(C)]
struct Descriptor {
    handle: *mut qemu_plugin_register,
    name: *const c_char,
}

/// One vCPU's registers: where they are, if that is known, and else the handles by which QEMU copies
/// their values into a buffer.
pub(super) struct RegisterFile {
    direct: Option<Direct>,
    handles: [*mut qemu_plugin_register; Register::ALL.len()],
    buffer: *mut GByteArray,
    /// How many bytes a general register has: of the target, whatever the mode.
    general_size: usize,
    /// Where the low bits of each register are, if that is known; else null.
    low_bits: [*const u16; Register::ALL.len()],
}

/// A vCPU's `X86CPU`, which lives as long as it runs, and where its registers are in it. (One that is
/// plugged in again gets a new file: see `Vcpus::begin`.)
pub(super) struct Direct {
    cpu: *mut u8,
    layout: CpuLayout,
}

impl Direct {
    fn read(&self, register: Register) -> Option<u64> {
        self.layout.place(register).map(|place| self.load(place))
    }

    pub fn load(&self, Place { offset, size }: Place) -> u64 {
        // SAFETY: within the `X86CPU`, by QEMU's own description of it, aligned as C aligns them. QEMU
        // writes a vCPU's registers on the vCPU's thread alone, which this is.
        unsafe {
            let place = self.cpu.add(offset);
            match size {
                8 => place.cast::<u64>().read_volatile(),
                _ => place.cast::<u32>().read_volatile().into(),
            }
        }
    }

    /// Whether the vCPU runs a guest of the guest's, after VMRUN and before #VMEXIT.
    fn is_in_nested_guest(&self) -> Option<bool> {
        /// `HF_GUEST_MASK` in QEMU's `target/i386/cpu.h`; in what it saves, as all of `hflags`.
        const GUEST: u64 = 1 << 21;
        self.layout.hflags().map(|place| self.load(place) & GUEST != 0)
    }

    /// PKRU, if it is known where that is.
    pub fn pkru(&self) -> Option<u32> {
        Some(self.load(self.layout.keys().pkru?) as u32)
    }

    /// IA32_PKRS, if it is known where that is.
    pub fn pkrs(&self) -> Option<u32> {
        Some(self.load(self.layout.keys().pkrs?) as u32)
    }

    /// Whether it was written, as far as that is known.
    fn write(&self, register: Register, value: u64) -> bool {
        let Some(place) = self.layout.place(register) else { return false };
        self.store(place, value);
        true
    }

    /// Writes a general register, in a callback that writes registers.
    pub fn store(&self, Place { offset, size }: Place, value: u64) {
        // SAFETY: as in `load`; a general register may have any value, and in a callback that writes
        // registers QEMU takes them from here afterwards.
        unsafe {
            let place = self.cpu.add(offset);
            match size {
                8 => place.cast::<u64>().write_volatile(value),
                _ => place.cast::<u32>().write_volatile(value as u32),
            }
        }
    }

    /// QEMU's `CPUState`, with which an `X86CPU` begins.
    pub fn cpu_state(&self) -> *mut c_void {
        self.cpu.cast()
    }
}

// SAFETY: the `X86CPU` is QEMU's, and used by the thread that runs the vCPU only (see `Vcpus`);
// the handles are numbers in disguise (QEMU's register index + 1), valid on any thread, and
// the buffer is used by the thread that runs the vCPU only (see `Vcpus`).
unsafe impl Send for RegisterFile {}

impl RegisterFile {
    /// The registers of the vCPU that is in the initialization callback, whose `CPUState` QEMU tells or
    /// does not (null).
    pub fn of_current_vcpu(
        api: &Api,
        cpu: *mut c_void,
        layout: Option<CpuLayout>,
    ) -> Result<RegisterFile, MissingRegister> {
        // SAFETY: this is the initialization callback, where it may be called.
        let array = unsafe { (api.get_registers)() };
        // SAFETY: QEMU returns a valid array, which nobody else has.
        let (data, len, stride) = unsafe {
            ((*array).data, (*array).len as usize, (api.array_get_element_size)(array) as usize)
        };
        let mut handles = [None; Register::ALL.len()];
        let mut is_64_bit = false;
        for index in 0..len {
            // SAFETY: `index` is below the array's length and `stride` is its element size; each
            // element begins with the members of `Descriptor`, its name is a C string for ever.
            let (handle, name) = unsafe {
                let descriptor = data.add(index * stride).cast::<Descriptor>();
                ((*descriptor).handle, CStr::from_ptr((*descriptor).name))
            };
            is_64_bit |= name == c"rax";
            for register in Register::ALL {
                // A handle may be null and valid: whether one was found is told apart from it.
                if register.names().contains(&name) && handles[register as usize].is_none() {
                    handles[register as usize] = Some(handle);
                }
            }
        }
        // SAFETY: our array, used no more; the names in it are not part of it.
        unsafe { (api.array_free)(array, 1) };
        let mut found = [std::ptr::null_mut(); Register::ALL.len()];
        for register in Register::ALL {
            found[register as usize] =
                handles[register as usize].ok_or(MissingRegister(register))?;
        }
        let mut file = RegisterFile {
            direct: None,
            handles: found,
            // SAFETY: may be called at any time; the array is never freed.
            buffer: unsafe { (api.byte_array_new)() },
            general_size: if is_64_bit { 8 } else { 4 },
            low_bits: [std::ptr::null(); Register::ALL.len()],
        };
        // An `X86CPU` begins with its `CPUState`.
        let direct =
            layout.filter(|_| !cpu.is_null()).map(|layout| Direct { cpu: cpu.cast(), layout });
        file.direct = direct.filter(|direct| {
            let agrees = |&register: &Register| {
                direct.read(register).is_none_or(|value| value == read(api, &mut file, register))
            };
            Register::ALL.iter().all(agrees)
        });
        if let Some(Direct { cpu, layout }) = &file.direct {
            for register in Register::ALL {
                let at = |place: Place| cpu.wrapping_add(place.offset).cast::<u16>().cast_const();
                file.low_bits[register as usize] =
                    layout.place(register).map_or(std::ptr::null(), at);
            }
        }
        Ok(file)
    }
}

/// Whether the vCPU that this thread runs, and translates for, runs a guest of the guest's; `None` where
/// QEMU does not tell.
pub(super) fn translates_for_nested_guest(
    cpu: *mut c_void,
    layout: Option<&CpuLayout>,
) -> Option<bool> {
    let layout = *layout.filter(|_| !cpu.is_null())?;
    Direct { cpu: cpu.cast(), layout }.is_in_nested_guest()
}

/// Reads registers, while the callback that it was given to lasts.
pub struct Registers<'a> {
    source: Source<'a>,
    /// Whether QEMU takes them from where they are when the callback returns.
    may_be_written: bool,
    /// They belong to the callback's thread.
    callback: PhantomData<*mut ()>,
}

enum Source<'a> {
    Vcpu(&'a Api, &'a mut RegisterFile, Whose),
    #[cfg(test)]
    Fixed(&'a dyn Fn(Register) -> u64),
}

impl<'a> Registers<'a> {
    pub(super) fn new(api: &'a Api, file: &'a mut RegisterFile, whose: Whose) -> Self {
        let source = Source::Vcpu(api, file, whose);
        Registers { source, may_be_written: false, callback: PhantomData }
    }

    /// In a callback that was registered as one that writes registers.
    pub(super) fn of_string(api: &'a Api, file: &'a mut RegisterFile, whose: Whose) -> Self {
        Registers { may_be_written: true, ..Registers::new(api, file, whose) }
    }

    /// Registers with values from a function, to try code above without QEMU.
    #[cfg(test)]
    pub fn fixed(values: &'a dyn Fn(Register) -> u64) -> Self {
        let source = Source::Fixed(values);
        Registers { source, may_be_written: false, callback: PhantomData }
    }

    /// The register's value, zero-extended. Outside 64-bit code the upper half of a general register may
    /// be anything. Costs a load, or about 45 cycles where QEMU does not tell where it is.
    #[inline]
    pub fn read(&mut self, register: Register) -> u64 {
        match &mut self.source {
            Source::Vcpu(api, file, whose) => file.read(api, *whose, register),
            #[cfg(test)]
            Source::Fixed(values) => values(register),
        }
    }

    /// What a string instruction goes by, to be changed in place before it runs; `None` where QEMU does
    /// not tell where that is, or where the report is on another instruction.
    pub fn string_cpu(&mut self) -> Option<StringCpu<'_>> {
        match &self.source {
            Source::Vcpu(_, file, Whose::Own) if self.may_be_written => {
                let direct = file.direct.as_ref()?;
                Some(StringCpu::new(direct, direct.layout.strings()?))
            }
            _ => None,
        }
    }
}

impl Registers<'_> {
    /// The low 16 bits of a general register.
    #[inline]
    pub fn read_u16(&mut self, register: Register) -> u16 {
        match &mut self.source {
            Source::Vcpu(api, file, whose) => file.read_u16(api, *whose, register),
            #[cfg(test)]
            Source::Fixed(values) => values(register) as u16,
        }
    }
}

/// A vCPU that has called: its registers can be read and written, while the callback lasts.
pub struct CallingVcpu<'a> {
    api: &'a Api,
    file: &'a mut RegisterFile,
    whose: Whose,
    /// They belong to the callback's thread.
    callback: PhantomData<*mut ()>,
}

impl<'a> CallingVcpu<'a> {
    /// In a callback that was registered as one that writes registers, which asks for API 5.
    pub(super) fn new(api: &'a Api, file: &'a mut RegisterFile, whose: Whose) -> Self {
        CallingVcpu { api, file, whose, callback: PhantomData }
    }

    /// As [`Registers::read`].
    #[inline]
    pub fn read(&mut self, register: Register) -> u64 {
        self.file.read(self.api, self.whose, register)
    }

    /// Writes a general register. Costs a store, or about 30 cycles.
    ///
    /// All of it is written, the upper half of a 64-bit one too.
    #[inline]
    pub fn write(&mut self, register: Register, value: u64) {
        self.file.write(self.api, self.whose, register, value);
    }

    /// PKRU; `None` where QEMU does not tell. Costs a load.
    pub fn pkru(&self) -> Option<u32> {
        self.own()?.pkru()
    }

    /// IA32_PKRS; `None` where QEMU does not tell. Costs a load.
    pub fn pkrs(&self) -> Option<u32> {
        self.own()?.pkrs()
    }

    fn own(&self) -> Option<&Direct> {
        self.file.direct.as_ref().filter(|_| self.whose == Whose::Own)
    }

    /// Whether the call comes from a guest of the guest's, whose memory and ports are what its own host
    /// makes of them; `None` where QEMU does not tell. Costs a load.
    pub fn is_in_nested_guest(&self) -> Option<bool> {
        match self.whose {
            Whose::Own => self.file.direct.as_ref()?.is_in_nested_guest(),
            Whose::Shared => None,
        }
    }
}

/// Whose registers are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The vCPU's that the file is of.
    Own,
    /// Perhaps another's on the same thread: only QEMU knows.
    Shared,
}

impl RegisterFile {
    #[inline]
    fn read(&mut self, api: &Api, whose: Whose, register: Register) -> u64 {
        let direct = self.direct.as_ref().filter(|_| whose == Whose::Own);
        match direct.and_then(|direct| direct.read(register)) {
            Some(value) => value,
            None => read(api, self, register),
        }
    }

    #[inline]
    fn read_u16(&mut self, api: &Api, whose: Whose, register: Register) -> u16 {
        let place = self.low_bits[register as usize];
        if whose == Whose::Own && !place.is_null() {
            // SAFETY: as in `Direct::load`; x86 stores the low bits first.
            return unsafe { place.read_volatile() };
        }
        self.read(api, whose, register) as u16
    }

    #[inline]
    fn write(&mut self, api: &Api, whose: Whose, register: Register, value: u64) {
        let direct = self.direct.as_ref().filter(|_| whose == Whose::Own);
        if !direct.is_some_and(|direct| direct.write(register, value)) {
            write(api, self, register, value);
        }
    }
}

#[cold]
fn write(api: &Api, file: &mut RegisterFile, register: Register, value: u64) {
    let handle = file.handles[register as usize];
    let size = file.general_size;
    let bytes = value.to_le_bytes();
    // SAFETY: `buffer` is a live GByteArray of ours, which has room for `size` bytes after the first
    // call; GLib moves it where it had not. The handle is QEMU's, in a callback that was registered as
    // one that writes registers.
    let written = unsafe {
        (api.byte_array_set_size)(file.buffer, size as c_uint);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), (*file.buffer).data, size);
        match &api.write_register {
            Some(WriteRegister::Length(function)) => function(handle, file.buffer) > 0,
            Some(WriteRegister::Success(function)) => function(handle, file.buffer),
            None => false,
        }
    };
    assert!(written, "QEMU offered the register {register:?} and cannot write it");
}

#[cold]
fn read(api: &Api, file: &mut RegisterFile, register: Register) -> u64 {
    let handle = file.handles[register as usize];
    // QEMU appends to the buffer.
    // SAFETY: `buffer` is a live GByteArray of ours; shortening it is setting its length.
    unsafe { (*file.buffer).len = 0 };
    // SAFETY: a handle from QEMU and a buffer of ours, in a callback that was registered as one that
    // reads registers.
    let read = unsafe {
        match api.read_register {
            ReadRegister::Length(function) => function(handle, file.buffer) > 0,
            ReadRegister::Success(function) => function(handle, file.buffer),
        }
    };
    assert!(read, "QEMU offered the register {register:?} and cannot read it");
    // SAFETY: `buffer` is a live GByteArray of ours, whose `len` bytes QEMU has just written.
    let bytes = unsafe {
        std::slice::from_raw_parts((*file.buffer).data.cast_const(), (*file.buffer).len as usize)
    };
    // The guest's byte order is x86's. One load each: QEMU has just stored the value in one piece.
    match (bytes.first_chunk::<8>(), bytes.first_chunk::<4>()) {
        (Some(quad), _) => u64::from_le_bytes(*quad),
        (None, Some(double)) => u32::from_le_bytes(*double).into(),
        (None, None) => panic!("QEMU gave {} bytes for {register:?}", bytes.len()),
    }
}
