//! One vCPU's registers: in place where it is known where they are, else through the plugin API.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_uint, c_void};

use qemu_plugin_sys::{GByteArray, qemu_plugin_register};

use super::api::{Api, ReadRegister, WriteRegister};
use super::callbacks::Installed;
use crate::internals::{CpuLayout, Direct};
use crate::register::Register;

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
        // SAFETY: the vCPU that this thread runs, and that this file is of.
        let direct =
            layout.filter(|_| !cpu.is_null()).map(|layout| unsafe { Direct::new(cpu, layout) });
        file.direct = direct.filter(|direct| {
            let agrees = |&register: &Register| {
                direct.read(register).is_none_or(|value| value == file.read_by_api(api, register))
            };
            Register::ALL.iter().all(agrees)
        });
        if let Some(direct) = &file.direct {
            file.low_bits = Register::ALL.map(|register| direct.low_bits(register));
        }
        Ok(file)
    }
}

/// Whether the vCPU that this thread runs, and translates for, runs a guest of the guest's; `None` where
/// QEMU does not tell.
pub(super) fn translates_for_nested_guest(installed: &Installed) -> Option<bool> {
    Direct::of_this_thread(installed.layout?)?.is_in_nested_guest()
}

/// RIP or EIP of the vCPU that this thread runs, in a callback for a translation; 0 before any vCPU has begun.
pub(super) fn rip_at_translation(installed: &Installed) -> u64 {
    let direct = installed.layout.and_then(Direct::of_this_thread);
    match direct.and_then(|direct| direct.read(Register::Rip)) {
        Some(rip) => rip,
        None => installed.rip.get().map_or(0, |handle| handle.read(&installed.api)),
    }
}

/// The handle of RIP, which is the same on all vCPUs, for callbacks that do not name their vCPU.
pub(super) struct RipHandle(*mut qemu_plugin_register);

// SAFETY: a number in disguise, valid on any thread (see `RegisterFile`).
unsafe impl Send for RipHandle {}
// SAFETY: as above.
unsafe impl Sync for RipHandle {}

impl RipHandle {
    /// RIP or EIP of the vCPU that this thread runs.
    fn read(&self, api: &Api) -> u64 {
        thread_local! {
            /// Made once for each thread, and never freed.
            static BUFFER: Cell<*mut GByteArray> = const { Cell::new(std::ptr::null_mut()) };
        }
        let mut buffer = BUFFER.get();
        if buffer.is_null() {
            // SAFETY: may be called at any time.
            buffer = unsafe { (api.byte_array_new)() };
            BUFFER.set(buffer);
        }
        read(api, self.0, buffer, Register::Rip)
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
    /// Where the registers are, if that is known.
    pub fn direct(&self) -> Option<&Direct> {
        self.direct.as_ref()
    }

    /// A register, zero-extended.
    #[inline]
    pub fn read(&mut self, api: &Api, whose: Whose, register: Register) -> u64 {
        let direct = self.direct.as_ref().filter(|_| whose == Whose::Own);
        match direct.and_then(|direct| direct.read(register)) {
            Some(value) => value,
            None => self.read_by_api(api, register),
        }
    }

    #[cold]
    fn read_by_api(&mut self, api: &Api, register: Register) -> u64 {
        read(api, self.handles[register as usize], self.buffer, register)
    }

    /// The handle of RIP.
    pub fn rip_handle(&self) -> RipHandle {
        RipHandle(self.handles[Register::Rip as usize])
    }

    /// The low 16 bits of a register.
    #[inline]
    pub fn read_u16(&mut self, api: &Api, whose: Whose, register: Register) -> u16 {
        let place = self.low_bits[register as usize];
        if whose == Whose::Own && !place.is_null() {
            // SAFETY: as in `Direct::load`; x86 stores the low bits first.
            return unsafe { place.read_volatile() };
        }
        self.read(api, whose, register) as u16
    }

    /// RIP or EIP of the vCPU that runs, whichever it is.
    #[inline]
    pub fn rip(&mut self, api: &Api, whose: Whose) -> u64 {
        let place = self.low_bits[Register::Rip as usize];
        if whose == Whose::Own && !place.is_null() {
            // SAFETY: as in `Direct::load`: RIP has the size of a general register.
            return unsafe {
                match self.general_size {
                    8 => place.cast::<u64>().read_volatile(),
                    _ => place.cast::<u32>().read_volatile().into(),
                }
            };
        }
        self.rip_elsewhere(api)
    }

    #[cold]
    fn rip_elsewhere(&mut self, api: &Api) -> u64 {
        let layout = self.direct.as_ref().map(|direct| *direct.layout());
        match layout.and_then(Direct::of_this_thread).and_then(|direct| direct.read(Register::Rip))
        {
            Some(rip) => rip,
            None => self.read_by_api(api, Register::Rip),
        }
    }

    /// Writes a general register.
    #[inline]
    pub fn write(&mut self, api: &Api, whose: Whose, register: Register, value: u64) {
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

/// Reads a register of the vCPU that this thread runs.
fn read(
    api: &Api,
    handle: *mut qemu_plugin_register,
    buffer: *mut GByteArray,
    register: Register,
) -> u64 {
    // QEMU appends to the buffer.
    // SAFETY: `buffer` is a live GByteArray of ours; shortening it is setting its length.
    unsafe { (*buffer).len = 0 };
    // SAFETY: a handle from QEMU and a buffer of ours, in a callback that was registered as one that
    // reads registers.
    let read = unsafe {
        match api.read_register {
            ReadRegister::Length(function) => function(handle, buffer) > 0,
            ReadRegister::Success(function) => function(handle, buffer),
        }
    };
    assert!(read, "QEMU offered the register {register:?} and cannot read it");
    // SAFETY: `buffer` is a live GByteArray of ours, whose `len` bytes QEMU has just written.
    let bytes =
        unsafe { std::slice::from_raw_parts((*buffer).data.cast_const(), (*buffer).len as usize) };
    // The guest's byte order is x86's. One load each: QEMU has just stored the value in one piece.
    match (bytes.first_chunk::<8>(), bytes.first_chunk::<4>()) {
        (Some(quad), _) => u64::from_le_bytes(*quad),
        (None, Some(double)) => u32::from_le_bytes(*double).into(),
        (None, None) => panic!("QEMU gave {} bytes for {register:?}", bytes.len()),
    }
}
