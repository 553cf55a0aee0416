//! Registers of the vCPU in a callback, while the callback lasts: to read, or to read and write.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::api::Api;
use super::register_file::{RegisterFile, VcpuThread};
use crate::internals::{Direct, StackState, StringCpu};
use crate::register::Register;

/// Registers of a vCPU that is about to run an instruction.
///
/// [`Registers`] is QEMU's; tests of code that reads registers bring their own.
pub trait ReadRegisters {
    /// Reads a register, zero-extended.
    ///
    /// Outside 64-bit code the upper half of a general register may be anything. Costs a load, or about 45
    /// cycles if the register's location in QEMU is not known.
    fn read(&mut self, register: Register) -> u64;

    /// Reads the low 16 bits of a general register.
    #[inline]
    fn read_u16(&mut self, register: Register) -> u16 {
        self.read(register) as u16
    }

    /// Reads [`Register::Rip`], which costs less this way.
    #[inline]
    fn rip(&mut self) -> u64 {
        self.read(Register::Rip)
    }

    /// The state that a string instruction uses, to be changed in place before it runs.
    ///
    /// `None` if its location in QEMU is not known, or if the instruction is not watched as
    /// [`Watch::ExecAndMemory`](super::Watch::ExecAndMemory).
    #[inline]
    fn string_cpu(&mut self) -> Option<StringCpu<'_>> {
        None
    }

    /// Reads the stack's state, in some loads; `None` if its location in QEMU is unknown.
    fn stack_state(&mut self) -> Option<StackState> {
        None
    }
}

/// Registers to read. In callbacks with `QEMU_PLUGIN_CB_R_REGS`.
pub struct Registers<'a> {
    api: &'a Api,
    file: &'a mut RegisterFile,
    thread: VcpuThread,
    /// True if the callback may change the registers of a string instruction in place.
    is_string: bool,
    /// They belong to the callback's thread.
    callback: PhantomData<*mut ()>,
}

impl<'a> Registers<'a> {
    pub(super) fn new(api: &'a Api, file: &'a mut RegisterFile, thread: VcpuThread) -> Self {
        Registers { api, file, thread, is_string: false, callback: PhantomData }
    }

    /// Only in a callback with `QEMU_PLUGIN_CB_RW_REGS`.
    pub(super) fn of_string(api: &'a Api, file: &'a mut RegisterFile, thread: VcpuThread) -> Self {
        Registers { is_string: true, ..Registers::new(api, file, thread) }
    }

    /// The same as for [`ReadRegisters::read`].
    #[inline]
    pub fn read(&mut self, register: Register) -> u64 {
        self.file.read(self.api, self.thread, register)
    }

    /// The same as for [`ReadRegisters::rip`].
    #[inline]
    pub fn rip(&mut self) -> u64 {
        self.file.rip(self.api, self.thread)
    }

    /// Returns true if CR0, CR3, CR4, EFER, and the system flags of RFLAGS can be read in every callback.
    ///
    /// Only QEMU's own functions write them, so they are in memory whatever a callback may read. QEMU would
    /// refuse to read them through its API in callbacks with `QEMU_PLUGIN_CB_NO_REGS`.
    pub fn can_read_system(&self) -> bool {
        const SYSTEM: [Register; 5] =
            [Register::Cr0, Register::Cr3, Register::Cr4, Register::Efer, Register::Rflags];
        let is_known =
            |own: &Direct| SYSTEM.iter().all(|&register| own.layout().location(register).is_some());
        self.own().is_some_and(is_known)
    }

    /// Reads PKRU; `None` if its location is not known. Costs a load.
    #[inline]
    pub fn pkru(&self) -> Option<u32> {
        self.own()?.pkru()
    }

    /// Reads IA32_PKRS; `None` if its location is not known. Costs a load.
    #[inline]
    pub fn pkrs(&self) -> Option<u32> {
        self.own()?.pkrs()
    }

    /// Returns true if the vCPU runs a nested guest; `None` if that is not known. Costs a load.
    ///
    /// The nested guest's memory and ports are those that its own hypervisor gives it.
    #[inline]
    pub fn is_in_nested_guest(&self) -> Option<bool> {
        self.own()?.is_in_nested_guest()
    }

    #[inline]
    fn own(&self) -> Option<&Direct> {
        self.file.direct().filter(|_| self.thread == VcpuThread::Own)
    }
}

impl ReadRegisters for Registers<'_> {
    #[inline]
    fn read(&mut self, register: Register) -> u64 {
        Registers::read(self, register)
    }

    #[inline]
    fn read_u16(&mut self, register: Register) -> u16 {
        self.file.read_u16(self.api, self.thread, register)
    }

    #[inline]
    fn rip(&mut self) -> u64 {
        Registers::rip(self)
    }

    #[inline]
    fn string_cpu(&mut self) -> Option<StringCpu<'_>> {
        match self.thread {
            VcpuThread::Own if self.is_string => StringCpu::of(self.file.direct()?),
            _ => None,
        }
    }

    fn stack_state(&mut self) -> Option<StackState> {
        let direct = self.file.direct()?;
        match self.thread {
            VcpuThread::Own => StackState::of(direct),
            VcpuThread::Shared => StackState::of(&Direct::of_this_thread(*direct.layout())?),
        }
    }
}

/// Registers to read and write. In callbacks with `QEMU_PLUGIN_CB_RW_REGS`, from API 5 on.
pub struct WritableRegisters<'a>(Registers<'a>);

impl<'a> WritableRegisters<'a> {
    /// Only in a callback with `QEMU_PLUGIN_CB_RW_REGS`.
    pub(super) fn new(api: &'a Api, file: &'a mut RegisterFile, thread: VcpuThread) -> Self {
        WritableRegisters(Registers::new(api, file, thread))
    }

    /// Writes a general register, the upper half of a 64-bit one too.
    ///
    /// Costs a store, or about 30 cycles if the register's location in QEMU is not known.
    ///
    /// # Panics
    ///
    /// If QEMU refuses to write the register.
    #[inline]
    pub fn write(&mut self, register: Register, value: u64) {
        self.0.file.write(self.0.api, self.0.thread, register, value);
    }
}

impl<'a> Deref for WritableRegisters<'a> {
    type Target = Registers<'a>;

    #[inline]
    fn deref(&self) -> &Registers<'a> {
        &self.0
    }
}

impl<'a> DerefMut for WritableRegisters<'a> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Registers<'a> {
        &mut self.0
    }
}
