//! One vCPU's registers: in place if their locations are known, otherwise through the plugin API.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_uint};

use qemu_plugin_sys::{GByteArray, qemu_plugin_register};

use super::api::{Api, ReadRegister, WriteRegister};
use crate::internals::{CpuLayout, CpuState, Direct};
use crate::register::Register;

/// A register that this QEMU does not offer.
#[derive(Debug, thiserror::Error)]
#[error("this QEMU does not let plugins read the register {0:?}")]
pub(super) struct MissingRegister(Register);

/// The first members of `qemu_plugin_reg_descriptor`, the same in all API levels. The array's element size
/// says how far apart the descriptors are.
#[repr(C)]
struct Descriptor {
    handle: *mut qemu_plugin_register,
    name: *const c_char,
}

/// One vCPU's registers: where they are, if that is known, and the handles by which QEMU copies their
/// values into a buffer.
pub(super) struct RegisterFile {
    direct: Option<Direct>,
    handles: [*mut qemu_plugin_register; Register::ALL.len()],
    buffer: *mut GByteArray,
    /// The size of a general register of the target, in bytes, whatever the mode.
    general_size: usize,
    /// Pointers to the low bits of each register; null where the offset is unknown.
    low_bits: [*const u16; Register::ALL.len()],
}

// SAFETY: only the thread that runs the vCPU uses the `X86CPU` and the buffer (see `Vcpus`). The handles
// are numbers in disguise (QEMU's register index + 1), valid on any thread.
unsafe impl Send for RegisterFile {}

/// The handles of registers, which are the same on all vCPUs, for callbacks that do not name their vCPU.
pub(super) struct RegisterHandles(Handles);

// SAFETY: numbers in disguise, valid on any thread (see `RegisterFile`).
unsafe impl Send for RegisterHandles {}
// SAFETY: as above.
unsafe impl Sync for RegisterHandles {}

impl RegisterHandles {
    /// Reads a register of the vCPU that this thread runs.
    pub fn read(&self, api: &Api, register: Register) -> u64 {
        thread_local! {
            /// Made once for each thread, and never freed.
            static BUFFER: Cell<*mut GByteArray> = const { Cell::new(std::ptr::null_mut()) };
        }
        let mut buffer = BUFFER.get();
        if buffer.is_null() {
            // SAFETY: may be called at any time.
            buffer = unsafe { (api.glib.g_byte_array_new)() };
            BUFFER.set(buffer);
        }
        read(api, self.0[register as usize], buffer, register)
    }
}

/// Says whether a thread runs only one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VcpuThread {
    /// The thread runs only the file's own vCPU.
    Own,
    /// The thread runs several vCPUs. Only QEMU knows which one it runs now.
    Shared,
}

impl RegisterFile {
    /// The registers of the vCPU in the initialization callback. `cpu` is null if QEMU does not report it.
    pub fn of_current_vcpu(
        api: &Api,
        cpu: *mut CpuState,
        layout: Option<CpuLayout>,
    ) -> Result<RegisterFile, MissingRegister> {
        let (handles, general_size) = find_handles(api)?;
        let mut file = RegisterFile {
            direct: None,
            handles,
            // SAFETY: may be called at any time; the array is never freed.
            buffer: unsafe { (api.glib.g_byte_array_new)() },
            general_size,
            low_bits: [std::ptr::null(); Register::ALL.len()],
        };
        let layout = layout.filter(|_| !cpu.is_null());
        // SAFETY: the vCPU that this thread runs, and that this file is of; one that is plugged in again
        // gets another file (see `Vcpus::begin`).
        let direct = layout.map(|layout| unsafe { Direct::new(cpu, layout) });
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

    /// The registers in place, if their offsets are known.
    #[inline]
    pub fn direct(&self) -> Option<&Direct> {
        self.direct.as_ref()
    }

    /// Reads a register, zero-extended.
    #[inline]
    pub fn read(&mut self, api: &Api, thread: VcpuThread, register: Register) -> u64 {
        let direct = self.direct.as_ref().filter(|_| thread == VcpuThread::Own);
        match direct.and_then(|direct| direct.read(register)) {
            Some(value) => value,
            None => self.read_by_api(api, register),
        }
    }

    #[cold]
    fn read_by_api(&self, api: &Api, register: Register) -> u64 {
        read(api, self.handles[register as usize], self.buffer, register)
    }

    /// The handles of all registers.
    pub fn handles(&self) -> RegisterHandles {
        RegisterHandles(self.handles)
    }

    /// Reads the low 16 bits of a register.
    #[inline]
    pub fn read_u16(&mut self, api: &Api, thread: VcpuThread, register: Register) -> u16 {
        let place = self.low_bits[register as usize];
        if thread == VcpuThread::Own && !place.is_null() {
            // SAFETY: in the `X86CPU`, where x86's low bits come first. Volatile as in `Direct::load`: only
            // this thread writes it, but by generated code.
            return unsafe { place.read_volatile() };
        }
        self.read(api, thread, register) as u16
    }

    /// Reads RIP or EIP of the vCPU that runs, whichever it is.
    #[inline]
    pub fn rip(&mut self, api: &Api, thread: VcpuThread) -> u64 {
        let place = self.low_bits[Register::Rip as usize];
        if thread == VcpuThread::Own && !place.is_null() {
            // SAFETY: as in `read_u16`; RIP has the size of a general register.
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

    /// Writes a general register, in a callback that writes registers.
    #[inline]
    pub fn write(&mut self, api: &Api, thread: VcpuThread, register: Register, value: u64) {
        let direct = self.direct.as_ref().filter(|_| thread == VcpuThread::Own);
        if !direct.is_some_and(|direct| direct.write(register, value)) {
            self.write_by_api(api, register, value);
        }
    }

    #[cold]
    fn write_by_api(&mut self, api: &Api, register: Register, value: u64) {
        let handle = self.handles[register as usize];
        let size = self.general_size;
        let bytes = value.to_le_bytes();
        // SAFETY: `buffer` is a live GByteArray of ours, which has room for `size` bytes after the first
        // call; GLib moves it if it had not. The handle is QEMU's, in a callback that was registered as
        // one that writes registers.
        let written = unsafe {
            (api.glib.g_byte_array_set_size)(self.buffer, size as c_uint);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), (*self.buffer).data, size);
            match &api.write_register {
                Some(WriteRegister::Length(functions)) => {
                    (functions.qemu_plugin_write_register)(handle, self.buffer) > 0
                }
                Some(WriteRegister::Success(functions)) => {
                    (functions.qemu_plugin_write_register)(handle, self.buffer)
                }
                None => false,
            }
        };
        assert!(written, "QEMU offered the register {register:?} and cannot write it");
    }
}

type Handles = [*mut qemu_plugin_register; Register::ALL.len()];

/// Finds the handle of each register, and the size of a general register in bytes.
fn find_handles(api: &Api) -> Result<(Handles, usize), MissingRegister> {
    // SAFETY: this is the initialization callback, where it may be called.
    let array = unsafe { (api.register_list.qemu_plugin_get_registers)() };
    // SAFETY: QEMU returns a valid array, which nobody else has.
    let (data, len, stride) = unsafe {
        let stride = (api.glib.g_array_get_element_size)(array) as usize;
        ((*array).data, (*array).len as usize, stride)
    };
    let mut found = [None; Register::ALL.len()];
    let mut is_64_bit = false;
    for index in 0..len {
        // SAFETY: `index` is below the array's length and `stride` is its element size; each element
        // begins with the members of `Descriptor`, whose name is a C string for ever.
        let (handle, name) = unsafe {
            let descriptor = data.add(index * stride).cast::<Descriptor>();
            ((*descriptor).handle, CStr::from_ptr((*descriptor).name))
        };
        is_64_bit |= name == c"rax";
        for register in Register::ALL {
            let place = &mut found[register as usize];
            // A handle may be null and valid, so that null does not mean that none was found.
            if register.names().contains(&name) && place.is_none() {
                *place = Some(handle);
            }
        }
    }
    // SAFETY: our array, used no more; the names in it are not part of it.
    unsafe { (api.glib.g_array_free)(array, 1) };
    let mut handles = [std::ptr::null_mut(); Register::ALL.len()];
    for register in Register::ALL {
        handles[register as usize] = found[register as usize].ok_or(MissingRegister(register))?;
    }
    Ok((handles, if is_64_bit { 8 } else { 4 }))
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
            ReadRegister::Length(functions) => {
                (functions.qemu_plugin_read_register)(handle, buffer) > 0
            }
            ReadRegister::Success(functions) => {
                (functions.qemu_plugin_read_register)(handle, buffer)
            }
        }
    };
    assert!(read, "QEMU offered the register {register:?} and cannot read it");
    // SAFETY: `buffer` is a live GByteArray of ours, whose `len` bytes QEMU has just written.
    let bytes =
        unsafe { std::slice::from_raw_parts((*buffer).data.cast_const(), (*buffer).len as usize) };
    // x86's byte order. One load each: QEMU has just stored the value in one piece.
    match (bytes.first_chunk::<8>(), bytes.first_chunk::<4>()) {
        (Some(quad), _) => u64::from_le_bytes(*quad),
        (None, Some(double)) => u32::from_le_bytes(*double).into(),
        (None, None) => panic!("QEMU gave {} bytes for {register:?}", bytes.len()),
    }
}
