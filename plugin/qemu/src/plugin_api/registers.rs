//! Registers of the vCPU that is in a callback: to read in any that asked for it, to write in a call.

use std::marker::PhantomData;

use super::api::Api;
use super::register_file::{RegisterFile, Whose};
use crate::internals::{Direct, StringCpu};
use crate::register::Register;

/// Registers of a vCPU that is about to run an instruction.
///
/// [`Registers`] is QEMU's; tests of what reads them bring their own.
pub trait ReadRegisters {
    /// The register's value, zero-extended. Outside 64-bit code the upper half of a general register may be anything.
    /// Costs a load, or about 45 cycles where QEMU does not tell where it is.
    fn read(&mut self, register: Register) -> u64;

    /// The low 16 bits of a general register.
    #[inline]
    fn read_u16(&mut self, register: Register) -> u16 {
        self.read(register) as u16
    }

    /// [`Register::Rip`], for less.
    #[inline]
    fn rip(&mut self) -> u64 {
        self.read(Register::Rip)
    }

    /// What a string instruction goes by, to be changed in place before it runs; `None` where QEMU does not tell where
    /// that is, or where the report is on another instruction.
    fn string_cpu(&mut self) -> Option<StringCpu<'_>> {
        None
    }
}

/// Reads registers, while the callback that it was given to lasts.
pub struct Registers<'a> {
    api: &'a Api,
    file: &'a mut RegisterFile,
    whose: Whose,
    /// Whether QEMU takes them from where they are when the callback returns.
    may_be_written: bool,
    /// They belong to the callback's thread.
    callback: PhantomData<*mut ()>,
}

impl<'a> Registers<'a> {
    pub(super) fn new(api: &'a Api, file: &'a mut RegisterFile, whose: Whose) -> Self {
        Registers { api, file, whose, may_be_written: false, callback: PhantomData }
    }

    /// In a callback that was registered as one that writes registers.
    pub(super) fn of_string(api: &'a Api, file: &'a mut RegisterFile, whose: Whose) -> Self {
        Registers { may_be_written: true, ..Registers::new(api, file, whose) }
    }
}

impl ReadRegisters for Registers<'_> {
    #[inline]
    fn read(&mut self, register: Register) -> u64 {
        self.file.read(self.api, self.whose, register)
    }

    #[inline]
    fn read_u16(&mut self, register: Register) -> u16 {
        self.file.read_u16(self.api, self.whose, register)
    }

    #[inline]
    fn rip(&mut self) -> u64 {
        self.file.rip(self.api, self.whose)
    }

    fn string_cpu(&mut self) -> Option<StringCpu<'_>> {
        match self.whose {
            Whose::Own if self.may_be_written => StringCpu::of(self.file.direct()?),
            _ => None,
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

    /// As [`ReadRegisters::rip`].
    #[inline]
    pub fn rip(&mut self) -> u64 {
        self.file.rip(self.api, self.whose)
    }

    /// As [`ReadRegisters::read`].
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
        self.file.direct().filter(|_| self.whose == Whose::Own)
    }

    /// Whether the call comes from a guest of the guest's, whose memory and ports are what its own host
    /// makes of them; `None` where QEMU does not tell. Costs a load.
    pub fn is_in_nested_guest(&self) -> Option<bool> {
        self.own()?.is_in_nested_guest()
    }
}
